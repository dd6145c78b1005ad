//! `Gate`: a port that lets connections in from the networks named, so many at once, and from each
//! address no more than its share. What it turns away is an event of security.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::network::Network;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::SECURITY;

/// How long to pause after the operating system refused a connection (no file handles left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections turned away that are told one by one in [`TOLD_EVERY`]: far above what a fault makes.
/// The rest of a flood is counted and told with the next.
const TOLD_MAX: u32 = 30;

/// See [`TOLD_MAX`].
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// How many connections may be open at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// In all.
    pub(crate) most: usize,
    /// From one address; an agency may be behind one.
    pub(crate) from_one: usize,
}

/// A port.
#[derive(Debug)]
pub(crate) struct Gate {
    tcp: TcpListener,
    allowed: Vec<Network>,
    permits: Arc<Semaphore>,
    open: Addresses,
    bounds: Bounds,
    whose: &'static str,
    told: Mutex<Told>,
}

/// How many connections are open from which address.
#[derive(Debug, Clone, Default)]
struct Addresses(Arc<Mutex<BTreeMap<IpAddr, usize>>>);

impl Addresses {
    /// Counts one in, unless there are `most` of it already.
    fn enter(&self, address: IpAddr, most: usize) -> bool {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(address).or_default();
        // One that was just put there has none, and the bound is not nought.
        let enters = *count < most;
        *count += usize::from(enters);
        enters
    }

    fn leave(&self, address: IpAddr) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(count) = open.get_mut(&address) else { return };
        *count = count.saturating_sub(1);
        if *count == 0 {
            open.remove(&address);
        }
    }
}

/// A place among the connections that are open; given back when this goes.
#[derive(Debug)]
pub(crate) struct Place {
    address: IpAddr,
    open: Addresses,
    _of_all: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.leave(self.address);
    }
}

/// What was told of those turned away.
#[derive(Debug)]
struct Told {
    since: Instant,
    count: u32,
    left_out: u64,
}

impl Told {
    /// Whether to tell of one more; if so, how many were not told of before it.
    fn take(&mut self, now: Instant) -> Option<u64> {
        if now.duration_since(self.since) >= TOLD_EVERY {
            (self.since, self.count) = (now, 0);
        }
        if self.count >= TOLD_MAX {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.count += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// A connection that was let in, before its handshake.
#[derive(Debug)]
pub(crate) struct Entrant {
    pub(crate) stream: TcpStream,
    pub(crate) address: SocketAddr,
    /// Its place among those that are open; held for as long as it is.
    pub(crate) place: Place,
}

impl Gate {
    /// Opens a port for connections of `whose` from `allowed`, within `bounds`.
    ///
    /// # Errors
    /// `config_invalid` when the port cannot be had.
    pub(crate) async fn open(
        (listen, whose): (SocketAddr, &'static str),
        allowed: &[Network],
        bounds: Bounds,
    ) -> Result<Self, Fault> {
        let tcp = TcpListener::bind(listen).await.map_err(|error| {
            let what = format!("cannot listen on {listen} for connections of {whose}");
            Fault::because(Code::ConfigInvalid, what, error)
        })?;
        let permits = Arc::new(Semaphore::new(bounds.most));
        let (allowed, open) = (allowed.to_vec(), Addresses::default());
        let told = Mutex::new(Told { since: Instant::now(), count: 0, left_out: 0 });
        Ok(Self { tcp, allowed, permits, open, bounds, whose, told })
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

    fn place_for(&self, address: SocketAddr) -> Option<Place> {
        let Self { bounds, whose, .. } = self;
        let ip = address.ip().to_canonical();
        if !self.allowed.iter().any(|network| network.contains(address.ip())) {
            if let Some(left_out) = self.tell() {
                let code = Code::NetworkNotAllowed;
                warn!(target: SECURITY, %code, %address, left_out, "Closed a connection of {whose} from {address}, outside allowed_networks");
            }
            return None;
        }
        if !self.open.enter(ip, bounds.from_one) {
            if let Some(left_out) = self.tell() {
                let most = bounds.from_one;
                warn!(target: SECURITY, %address, left_out, "Closed a connection of {whose} from {address}: {most} are open from there (connections_per_address_max)");
            }
            return None;
        }
        let Ok(of_all) = Arc::clone(&self.permits).try_acquire_owned() else {
            self.open.leave(ip);
            if let Some(left_out) = self.tell() {
                let most = bounds.most;
                warn!(target: SECURITY, %address, left_out, "Closed a connection of {whose} from {address}: {most} are open");
            }
            return None;
        };
        Some(Place { address: ip, open: self.open.clone(), _of_all: of_all })
    }

    /// Whether this one is told of; if so, how many before it were not.
    fn tell(&self) -> Option<u64> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_told_with_the_next() {
        let start = Instant::now();
        let mut told = Told { since: start, count: 0, left_out: 0 };
        assert!((0..TOLD_MAX).all(|_| told.take(start) == Some(0)));
        assert!((0..7).all(|_| told.take(start).is_none()));
        assert_eq!(told.take(start + TOLD_EVERY), Some(7));
        assert_eq!(told.take(start + TOLD_EVERY), Some(0));
    }

    #[test]
    fn an_address_has_its_share_and_is_forgotten_when_it_left() {
        let (open, here) = (Addresses::default(), IpAddr::from([10, 0, 0, 1]));
        let there = IpAddr::from([10, 0, 0, 2]);
        assert!(open.enter(here, 2) && open.enter(here, 2) && !open.enter(here, 2));
        assert!(open.enter(there, 2));
        open.leave(here);
        assert!(open.enter(here, 2));
        [here, here, there].into_iter().for_each(|address| open.leave(address));
        assert!(open.0.lock().unwrap().is_empty());
    }
}
