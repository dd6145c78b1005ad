//! What the operating system asks of the hub, and what systemd is told.

use std::path::PathBuf;

use phusa_protocol::fault::{Code, Fault};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use super::DRAIN_MAX;

/// Waits for the operating system's word to stop; whatever else it asks for is done meanwhile.
pub(super) async fn until_stopped(signals: &mut Signals, reload: impl AsyncFn()) {
    notify("READY=1");
    while signals.next().await == Asked::Reload {
        reload().await;
    }
    notify("STOPPING=1");
    info!("Stopping: batches in flight have {DRAIN_MAX:?} to finish");
}

/// What the operating system asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Stop,
    Reload,
}

pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, Fault> {
        let on = |kind| {
            signal(kind).map_err(|e| Fault::because(Code::Bug, "cannot listen for signals", e))
        };
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            hangup: on(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }
}

/// Tells systemd, where it asked to be told (`sd_notify`).
fn notify(state: &str) {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let Some(path) = std::env::var_os("NOTIFY_SOCKET").map(PathBuf::from) else { return };
    let bytes = path.as_os_str().as_bytes();
    let address = match bytes.split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name),
        Some(_) | None => SocketAddr::from_pathname(&path),
    };
    let sent = address.and_then(|to| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &to));
    if let Err(error) = sent {
        warn!(%error, "systemd could not be told {state}: {error}");
    }
}
