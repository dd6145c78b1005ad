//! `Collector`: somebody who is told of security events by syslog over TCP, and is strict about it.

use std::sync::{Arc, Mutex, PoisonError};

use phusa_protocol::time::Timestamp;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::syslog::{self, Message};

/// What came, in order, each with the moment it came.
type Received = Arc<Mutex<Vec<Result<(Timestamp, Message), String>>>>;

/// A running collector; with this value it is gone, whatever it has not read.
#[derive(Debug)]
pub struct Collector {
    received: Received,
    _stop: DropGuard,
}

impl Collector {
    /// Listens on this loopback port.
    ///
    /// # Panics
    /// When it is taken.
    pub async fn start(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("the collector's port");
        let (received, stop) = (Received::default(), CancellationToken::new());
        let (own, until, tasks) = (Arc::clone(&received), stop.clone(), TaskTracker::new());
        tasks.clone().spawn(async move {
            while let Some(Ok((line, _))) = until.run_until_cancelled(listener.accept()).await {
                let (own, until) = (Arc::clone(&own), until.clone());
                tasks.spawn(async move {
                    until.run_until_cancelled(listen(line, &own)).await;
                });
            }
        });
        Self { received, _stop: stop.drop_guard() }
    }

    /// What came so far.
    ///
    /// # Panics
    /// When something came that is not RFC 5424.
    #[must_use]
    pub fn received(&self) -> Vec<(Timestamp, Message)> {
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner).clone();
        received.into_iter().map(|one| one.expect("RFC 5424")).collect()
    }

    /// The numbers of entries that came so far, in the order they came.
    #[must_use]
    pub fn numbers(&self) -> Vec<u64> {
        let number = |(_, message): &(_, Message)| message.data.get("number")?.parse().ok();
        self.received().iter().filter_map(number).collect()
    }
}

async fn listen(mut line: TcpStream, received: &Received) {
    let mut bytes = Vec::new();
    while line.read_buf(&mut bytes).await.is_ok_and(|read| read > 0) {
        let now = Timestamp::now();
        loop {
            let taken = syslog::take(&mut bytes);
            let mut received = received.lock().unwrap_or_else(PoisonError::into_inner);
            match taken {
                Ok(Some(message)) => received.push(Ok((now, message))),
                Ok(None) => break,
                Err(why) => return received.push(Err(why)),
            }
        }
    }
}
