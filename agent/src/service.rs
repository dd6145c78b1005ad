//! What the service manager is told: ready, stopping; by systemd's notify socket, if there is one.

use std::os::unix::net::UnixDatagram;

/// Sends one line such as `READY=1` to `$NOTIFY_SOCKET`; nothing happens without it.
pub fn notify(line: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let sent = UnixDatagram::unbound().and_then(|socket| socket.send_to(line.as_bytes(), path));
    if let Err(error) = sent {
        tracing::warn!(%error, "Cannot tell the service manager {line}");
    }
}
