//! What the service manager is told: ready, alive, stopping; by systemd's notify socket, if there is one.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Sends one line such as `READY=1` to `$NOTIFY_SOCKET`; nothing happens without it.
pub fn notify(line: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let sent = UnixDatagram::unbound().and_then(|socket| socket.send_to(line.as_bytes(), path));
    if let Err(error) = sent {
        tracing::warn!(%error, "Cannot tell the service manager {line}");
    }
}

/// Tells the service manager that this process lives, three times in the span it waits for; nothing where
/// it does not ask (`WATCHDOG_USEC`). A process that hangs is ended and started anew by it.
pub async fn watchdog(stop: CancellationToken) {
    let asked = std::env::var("WATCHDOG_USEC").ok().and_then(|micros| micros.parse().ok());
    let Some(span) = asked.map(Duration::from_micros).filter(|span| !span.is_zero()) else {
        return;
    };
    while stop.run_until_cancelled(tokio::time::sleep(span / 3)).await.is_some() {
        notify("WATCHDOG=1");
    }
}
