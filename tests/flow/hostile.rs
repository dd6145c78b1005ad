//! A hub in wrong hands: it has the hub's own certificate and answers out of turn, without end, too
//! slowly, with receipts that are none. The agent keeps its memory and its spool, and goes on when the
//! good hub returns.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use phusa_protocol::digest::Digest;
use phusa_protocol::fault::Code;
use phusa_protocol::hello::{Committed, Hello, Refusal, Terms, Welcome};
use phusa_protocol::ids::{Epoch, Seq};
use phusa_protocol::keys::SigningKey;
use phusa_protocol::receipt::{Receipt, SignedReceipt};
use phusa_protocol::time::Timestamp;
use phusa_tests::process::wait_until;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::house::{AGENCY, AGENT, DATASET, House, edit};

/// How a hub in wrong hands answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trick {
    /// Closes each connection at once.
    Closes,
    /// Says something that is not TLS.
    NoTls,
    /// Says something that is not HTTP.
    NoHttp,
    /// A head of an answer that never ends.
    EndlessHead,
    /// A body that never ends.
    EndlessBody,
    /// A body that is announced as a tebibyte.
    HugeBody,
    /// A byte a second.
    Dribbles,
    /// Takes the question and says nothing.
    Silent,
    /// Sends the agent elsewhere.
    Redirects,
    /// Says of zeros that they are packed.
    Packed,
    /// Asks it to come again at the end of time, with words that act on a terminal.
    Later,
    /// A welcome for a dataset nobody asked about, and a receipt where a welcome is due.
    OutOfTurn,
    /// Welcomes, and then gives receipts under another key.
    ForgedReceipts,
    /// Welcomes, and then gives receipts for another batch.
    OtherReceipts,
}

const TRICKS: [Trick; 14] = [
    // The agent has been welcomed by the good hub, so that it sends at once.
    Trick::ForgedReceipts,
    Trick::OtherReceipts,
    Trick::Closes,
    Trick::NoTls,
    Trick::NoHttp,
    Trick::EndlessHead,
    Trick::EndlessBody,
    Trick::HugeBody,
    Trick::Dribbles,
    Trick::Silent,
    Trick::Redirects,
    Trick::Packed,
    Trick::Later,
    Trick::OutOfTurn,
];

/// The wrong hub, on the good one's port; it ends with this value.
struct WrongHub {
    heard: Arc<AtomicUsize>,
    receipts: Arc<AtomicUsize>,
    _stop: DropGuard,
}

impl WrongHub {
    async fn start(house: &House, trick: Trick) -> Self {
        let folder = house.province.hub_folder();
        let chain = CertificateDer::pem_file_iter(folder.join("hub.pem")).unwrap();
        let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_file(folder.join("hub.key")).unwrap();
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
        let tls = TlsAcceptor::from(Arc::new(config.unwrap()));
        let address = ("127.0.0.1", house.province.hub_port());
        let listener = wait_until("the hub's port", Duration::from_secs(30), async || {
            TcpListener::bind(address).await.ok()
        });
        let (listener, stop) = (listener.await, CancellationToken::new());
        let (heard, until) = (Arc::new(AtomicUsize::new(0)), stop.clone());
        let receipts = Arc::new(AtomicUsize::new(0));
        let (tasks, counted) = (TaskTracker::new(), Arc::clone(&heard));
        let own_key = std::fs::read_to_string(folder.join("signing.key")).unwrap();
        let desk =
            Desk { trick, own_key, heard: Arc::clone(&heard), receipts: Arc::clone(&receipts) };
        tasks.clone().spawn(async move {
            while let Some(Ok((mut tcp, _))) = until.run_until_cancelled(listener.accept()).await {
                let (tls, heard, until) = (tls.clone(), Arc::clone(&counted), until.clone());
                let desk = desk.clone();
                let speaking = async move {
                    match trick {
                        Trick::Closes => drop(heard.fetch_add(1, Ordering::Relaxed)),
                        Trick::NoTls => {
                            heard.fetch_add(1, Ordering::Relaxed);
                            let _cut = tcp.write_all(&[0x41; 1 << 16]).await;
                        }
                        _ => {
                            let Ok(stream) = tls.accept(tcp).await else { return };
                            let _cut = desk.answer(stream).await;
                        }
                    }
                };
                tasks.spawn(async move { until.run_until_cancelled(speaking).await });
            }
        });
        Self { heard, receipts, _stop: stop.drop_guard() }
    }

    /// Waits until the agent has spoken to it so often.
    async fn was_heard(&self, times: usize, trick: Trick) {
        wait_until(&format!("the agent to meet {trick:?}"), Duration::from_secs(90), async || {
            (self.heard.load(Ordering::Relaxed) >= times).then_some(())
        })
        .await;
    }
}

/// Reads a request: its path and its body.
async fn request<S: AsyncRead + Unpin>(stream: &mut S) -> std::io::Result<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let length = head.to_ascii_lowercase();
    let length = length.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
    stream.read_exact(&mut body).await?;
    Ok((path, body))
}

async fn say<S: AsyncWrite + Unpin>(
    stream: &mut S,
    (status, more): (&str, &str),
    body: &[u8],
) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 {status}\r\n{more}Content-Length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).await?;
    stream.flush().await
}

/// What answers are made of.
#[derive(Clone)]
struct Desk {
    trick: Trick,
    /// The hub's own key: whoever has its machine has that too.
    own_key: String,
    heard: Arc<AtomicUsize>,
    receipts: Arc<AtomicUsize>,
}

/// Sends the same for as long as it is taken.
async fn endless<S: AsyncWrite + Unpin>(
    stream: &mut S,
    head: &str,
    piece: &[u8],
    pause: Duration,
) -> std::io::Result<()> {
    stream.write_all(head.as_bytes()).await?;
    loop {
        stream.write_all(piece).await?;
        stream.flush().await?;
        // The pace of whoever is slow on purpose; nothing waits for it.
        tokio::time::sleep(pause).await;
    }
}

impl Desk {
    /// Answers requests of one connection as the trick wants.
    async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut stream: S,
    ) -> std::io::Result<()> {
        let (ok, spaces) = (("200 OK", ""), [b' '; 1 << 16]);
        let chunk = [b"10000\r\n", &spaces[..], b"\r\n"].concat();
        let (none, second) = (Duration::ZERO, Duration::from_secs(1));
        loop {
            let (path, body) = request(&mut stream).await?;
            self.heard.fetch_add(1, Ordering::Relaxed);
            let (greets, delivers) = (path == "/v1/hello", path == "/v1/batch");
            let (head, piece, pause) = match self.trick {
                Trick::NoHttp => ("", &spaces[..], none),
                Trick::EndlessHead => ("HTTP/1.1 200 OK\r\nX: ", &spaces[..], none),
                Trick::EndlessBody => {
                    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &chunk[..], none)
                }
                Trick::HugeBody => {
                    ("HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n", &spaces[..], none)
                }
                Trick::Dribbles => {
                    ("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", &b" "[..], second)
                }
                Trick::Silent => return std::future::pending().await,
                Trick::Closes | Trick::NoTls => return Ok(()),
                Trick::Redirects => {
                    let to = ("307 Temporary Redirect", "Location: https://127.0.0.1:1/\r\n");
                    say(&mut stream, to, b"").await?;
                    continue;
                }
                Trick::Packed => {
                    say(&mut stream, ("200 OK", "Content-Encoding: gzip\r\n"), &spaces).await?;
                    continue;
                }
                Trick::Later => {
                    say(&mut stream, ("503 Service Unavailable", ""), &later()).await?;
                    continue;
                }
                Trick::OutOfTurn if greets => {
                    say(&mut stream, ok, &self.receipt(&body)).await?;
                    continue;
                }
                Trick::OutOfTurn => {
                    say(&mut stream, ok, &welcome(b"{}")).await?;
                    continue;
                }
                Trick::ForgedReceipts | Trick::OtherReceipts => {
                    let answered = match (greets, delivers) {
                        (true, _) => say(&mut stream, ok, &welcome(&body)).await,
                        (_, true) => say(&mut stream, ok, &self.receipt(&body)).await,
                        _ => say(&mut stream, ("404 Not Found", ""), b"").await,
                    };
                    answered?;
                    continue;
                }
            };
            return endless(&mut stream, head, piece, pause).await;
        }
    }

    /// A receipt under a key that is nobody's, or under the hub's for nothing that was sent.
    fn receipt(&self, body: &[u8]) -> Vec<u8> {
        self.receipts.fetch_add(1, Ordering::Relaxed);
        let batch = phusa_protocol::frame::decode(body);
        let of_batch = batch.map(|batch| batch.signed.digest()).unwrap_or(Digest::ZERO);
        let forged = self.trick == Trick::ForgedReceipts;
        let receipt = Receipt {
            v: 1,
            agent: AGENT.to_owned().try_into().unwrap(),
            dataset: phusa_protocol::ids::DatasetId::new(DATASET).unwrap(),
            epoch: Epoch(1),
            seq: Seq(2),
            header: if forged { of_batch } else { Digest::of(body) },
            transfer: 1,
            committed_at: Timestamp::now(),
        };
        let nobodys = "CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg=";
        let key = if forged { nobodys } else { self.own_key.trim() };
        let key = SigningKey::from_text(key).unwrap();
        serde_json::to_vec(&SignedReceipt::sign(receipt, &key)).unwrap()
    }
}

fn later() -> Vec<u8> {
    let what = format!("\u{1b}[2J{}", "chờ ".repeat(100_000));
    let (code, wait) = (Code::HubBusy, Some(u64::MAX));
    serde_json::to_vec(&Refusal { code, what, expected: None, retry_after_ms: wait }).unwrap()
}

/// A welcome to whatever was asked, as if the first batch alone had been committed.
fn welcome(hello: &[u8]) -> Vec<u8> {
    let asked = serde_json::from_slice::<Hello>(hello);
    let offers = asked.map(|hello| hello.datasets).unwrap_or_default();
    let committed = Some(Committed { epoch: Epoch(1), seq: Seq(1), header: Digest::ZERO });
    let terms = |offer: phusa_protocol::hello::Offer| -> Terms {
        let terms = serde_json::json!({
            "dataset": offer.dataset, "refused": null, "committed": committed,
        });
        serde_json::from_value(terms).unwrap()
    };
    let welcome = Welcome {
        protocol: 1,
        hub_version: "9.9.9".to_owned(),
        answered_at: Timestamp::now(),
        datasets: offers.into_iter().map(terms).collect(),
    };
    serde_json::to_vec(&welcome).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_in_wrong_hands_costs_an_agent_neither_memory_nor_rows() {
    // Another test of this program may have installed it already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut house = House::new("", "");
    let config = house.province.agent_config(AGENCY);
    edit(&config, "[hub]\n", "[hub]\nrequest_timeout = \"5s\"\n");
    house.province.start_hub();
    house.province.start_agent(AGENCY);
    assert_eq!(house.settle().await, 200);
    house.province.hub_process().stop();
    for (rows, trick) in (201..).zip(TRICKS) {
        let hub = WrongHub::start(&house, trick).await;
        // Something to send, so that it does speak.
        let insert = format!("insert into people values ({rows}, 'mới', '0912', 'kín')");
        house.database.psql(&insert);
        if trick != Trick::ForgedReceipts {
            // It would come back more and more seldom.
            house.restart_agent();
        }
        hub.was_heard(2, trick).await;
        let [heard, receipts] = [&hub.heard, &hub.receipts].map(|of| of.load(Ordering::Relaxed));
        println!("{trick:?}: {heard} requests, {receipts} receipts");
        assert!(trick != Trick::ForgedReceipts || receipts > 0);
        house.agent_took_at_most(200 << 10);
        let log = house.province.agent_process(AGENCY).log();
        assert!(!log.contains("\u{1b}[2J"), "nothing acts on a terminal");
        let longest = log.lines().map(str::len).max().unwrap_or(0);
        assert!(longest < 8_192, "{trick:?}: a line of {longest} bytes");
    }
    house.province.start_hub_with(&[]);
    house.nothing_is_lost(214).await;
}
