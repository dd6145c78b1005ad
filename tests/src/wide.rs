//! `Wide`: a relay that is as slow, lossy and narrow as a line across a province, and that can be cut or
//! led to another server.
//!
//! It works on the streams that TCP carries, so a lost packet shows as what TCP makes of it: everything
//! behind it waits until it was sent again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::random::Random;

/// What a packet carries.
const PACKET_BYTES: usize = 1_400;

/// How long a sender waits before it sends a lost packet again: RFC 6298's lower bound in use, and a
/// round trip.
const AGAIN_AFTER: Duration = Duration::from_millis(280);

/// Bytes on their way in one direction of one connection, as in a socket's buffers.
const ON_THE_WAY_MAX: usize = 256 << 10;

/// What a line is like.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// From one end to the other.
    pub delay: Duration,
    /// More or less than that.
    pub jitter: Duration,
    /// Packets in a hundred that are lost.
    pub loss_percent: u64,
    /// In each direction, shared by all connections.
    pub bits_per_second: u64,
}

/// 40 ms ± 5, 2 % lost, 2 Mbit/s: a bad day of a district's line.
pub const DISTRICT: Line = Line {
    delay: Duration::from_millis(40),
    jitter: Duration::from_millis(5),
    loss_percent: 2,
    bits_per_second: 2_000_000,
};

/// A running relay; it ends with this value.
#[derive(Debug)]
pub struct Wide {
    port: u16,
    shared: Arc<Shared>,
    _stop: DropGuard,
}

#[derive(Debug)]
struct Shared {
    line: Line,
    to: watch::Sender<u16>,
    cut: watch::Sender<bool>,
    random: Mutex<Random>,
    /// When each direction has sent what it was given.
    busy_until: [Mutex<Instant>; 2],
}

impl Wide {
    /// To the server on loopback port `to`; `seed` decides what is lost.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn start(to: u16, line: Line, seed: u64) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("its number").port();
        let shared = Arc::new(Shared {
            line,
            to: watch::Sender::new(to),
            cut: watch::Sender::new(false),
            random: Mutex::new(Random::new(seed, 9)),
            busy_until: [Mutex::new(Instant::now()), Mutex::new(Instant::now())],
        });
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (own, until) = (Arc::clone(&shared), stop.clone());
        tasks.clone().spawn(async move {
            while let Some(Ok((client, _))) = until.run_until_cancelled(listener.accept()).await {
                let (shared, until) = (Arc::clone(&own), until.clone());
                tasks.spawn(async move {
                    until.run_until_cancelled(shared.connect(client)).await;
                });
            }
        });
        Self { port, shared, _stop: stop.drop_guard() }
    }

    /// The loopback port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Lets nothing through, without ending a connection; `false` lets it through again.
    pub fn cut(&self, cut: bool) {
        self.shared.cut.send_replace(cut);
    }

    /// Leads connections to come to another server.
    pub fn lead_to(&self, port: u16) {
        self.shared.to.send_replace(port);
    }
}

impl Shared {
    async fn connect(self: Arc<Self>, client: TcpStream) {
        self.joined().await;
        let to = *self.to.borrow();
        let Ok(server) = TcpStream::connect(("127.0.0.1", to)).await else { return };
        // Nothing may be held back that the line did not hold back.
        if client.set_nodelay(true).is_err() || server.set_nodelay(true).is_err() {
            return;
        }
        let ((client, to_client), (server, to_server)) = (client.into_split(), server.into_split());
        tokio::join!(self.carry(client, to_server, 0), self.carry(server, to_client, 1));
    }

    /// Waits until the two ends can hear each other.
    async fn joined(&self) {
        // The sender lives as long as this.
        let _open = self.cut.subscribe().wait_for(|cut| !cut).await.is_ok();
    }

    /// Carries one direction of one connection.
    async fn carry(&self, mut from: OwnedReadHalf, to: OwnedWriteHalf, direction: usize) {
        let (sent, arriving) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(ON_THE_WAY_MAX));
        let send = async {
            let mut packet = vec![0; PACKET_BYTES];
            let mut last = Instant::now();
            while let Ok(read @ 1..) = from.read(&mut packet).await {
                let Ok(held) =
                    room.clone().acquire_many_owned(u32::try_from(read).unwrap_or(1)).await
                else {
                    break;
                };
                // What was sent before arrives before.
                last = self.arrives(read, direction).max(last);
                if sent.send((last, packet[..read].to_vec(), held)).is_err() {
                    break;
                }
            }
            drop(sent);
        };
        tokio::join!(send, self.arrive(arriving, to));
    }

    async fn arrive<P>(
        &self,
        mut arriving: mpsc::UnboundedReceiver<(Instant, Vec<u8>, P)>,
        mut to: OwnedWriteHalf,
    ) {
        while let Some((at, bytes, _held)) = arriving.recv().await {
            tokio::time::sleep_until(at).await;
            self.joined().await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        // The other side may have gone first.
        let _ = to.shutdown().await;
    }

    /// When a packet that is sent now is there.
    fn arrives(&self, bytes: usize, direction: usize) -> Instant {
        let Line { delay, jitter, loss_percent, bits_per_second } = self.line;
        let takes = Duration::from_micros(bytes as u64 * 8 * 1_000_000 / bits_per_second);
        let sent = {
            let mut busy = locked(&self.busy_until[direction]);
            *busy = (*busy).max(Instant::now()) + takes;
            *busy
        };
        let mut random = locked(&self.random);
        let more = u64::try_from(jitter.as_micros()).unwrap_or(0);
        let mut at = sent + delay + Duration::from_micros(random.below(2 * more + 1)) - jitter;
        while random.chance(loss_percent) {
            at += AGAIN_AFTER;
        }
        at
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is carried keeps its order, and takes as long as the line says.
    #[tokio::test]
    async fn what_goes_by_arrives_whole_late_and_in_order() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let wide = Wide::start(listener.local_addr().unwrap().port(), DISTRICT, 7).await;
        let said: Vec<u8> = (0..60_000_u32).map(|at| at.to_le_bytes()[0]).collect();
        let expected = said.clone();
        let began = Instant::now();
        let hears = async {
            let (mut server, _) = listener.accept().await.unwrap();
            let mut heard: Vec<u8> = Vec::new();
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = server.read(&mut bytes).await {
                heard.extend_from_slice(&bytes[..read]);
            }
            heard
        };
        let says = async {
            let mut client = TcpStream::connect(("127.0.0.1", wide.port())).await.unwrap();
            client.write_all(&said).await.unwrap();
            client.shutdown().await.unwrap();
            client
        };
        let (heard, _client) = tokio::join!(hears, says);
        assert!(heard == expected, "{} of {} bytes", heard.len(), expected.len());
        // 60,000 bytes at 2 Mbit/s, and the way.
        assert!(began.elapsed() >= Duration::from_millis(240 + 35), "{:?}", began.elapsed());
    }
}
