//! `Gate`: a port that lets connections in from the networks named, so many at once. What it turns away
//! is an event of security.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::network::Network;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::SECURITY;

/// How long to pause after the operating system refused a connection (no file handles left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A port.
#[derive(Debug)]
pub(crate) struct Gate {
    tcp: TcpListener,
    allowed: Vec<Network>,
    permits: Arc<Semaphore>,
    most: usize,
    whose: &'static str,
}

/// A connection that was let in, before its handshake.
#[derive(Debug)]
pub(crate) struct Entrant {
    pub(crate) stream: TcpStream,
    pub(crate) address: SocketAddr,
    /// Its place among those that are open; held for as long as it is.
    pub(crate) place: OwnedSemaphorePermit,
}

impl Gate {
    /// Opens a port for connections of `whose` from `allowed`, at most `most` at once.
    ///
    /// # Errors
    /// `config_invalid` when the port cannot be had.
    pub(crate) async fn open(
        (listen, whose): (SocketAddr, &'static str),
        allowed: &[Network],
        most: usize,
    ) -> Result<Self, Fault> {
        let tcp = TcpListener::bind(listen).await.map_err(|error| {
            let what = format!("cannot listen on {listen} for connections of {whose}");
            Fault::because(Code::ConfigInvalid, what, error)
        })?;
        let permits = Arc::new(Semaphore::new(most));
        Ok(Self { tcp, allowed: allowed.to_vec(), permits, most, whose })
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// When the operating system does not say.
    pub(crate) fn address(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// The next connection that is let in; `None` from `stop` on.
    pub(crate) async fn next(&self, stop: &CancellationToken) -> Option<Entrant> {
        loop {
            match stop.run_until_cancelled(self.tcp.accept()).await? {
                Ok((stream, address)) => {
                    if let Some(place) = self.place_for(address) {
                        return Some(Entrant { stream, address, place });
                    }
                }
                Err(error) => {
                    warn!(%error, "Cannot accept a connection of {}: {error}", self.whose);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn place_for(&self, address: SocketAddr) -> Option<OwnedSemaphorePermit> {
        let Self { allowed, most, whose, .. } = self;
        if !allowed.iter().any(|network| network.contains(address.ip())) {
            let code = Code::NetworkNotAllowed;
            warn!(target: SECURITY, %code, %address, "Closed a connection of {whose} from {address}, outside allowed_networks");
            return None;
        }
        let place = Arc::clone(&self.permits).try_acquire_owned().ok();
        if place.is_none() {
            warn!(target: SECURITY, %address, "Closed a connection of {whose} from {address}: {most} are open");
        }
        place
    }
}
