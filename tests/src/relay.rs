//! `Relay`: a listener between two parties that keeps all they say, and changes it when told to.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use phusa_protocol::frame;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// What was said in one direction of one connection.
type Tape = Arc<Mutex<Vec<u8>>>;

/// What both directions share.
#[derive(Debug, Clone, Default)]
struct Desk {
    tapes: Arc<Mutex<Vec<Tape>>>,
    tampers: Arc<AtomicBool>,
    lies_about_time: Arc<AtomicBool>,
    parted: watch::Sender<bool>,
}

/// A running relay; it ends with this value.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    desk: Desk,
    _stop: DropGuard,
}

/// Keys for ending the TLS of one side and beginning that of the other.
#[derive(Clone)]
struct Tls {
    accept: TlsAcceptor,
    connect: TlsConnector,
}

impl Relay {
    /// Between a client and the server on loopback port `to`, byte for byte.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn plain(to: u16) -> Self {
        Self::start(&[to], None).await
    }

    /// Between clients and several servers, byte for byte: each connection goes to the next of them that
    /// answers.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn among(to: &[u16]) -> Self {
        Self::start(to, None).await
    }

    /// Between an agent and the hub on loopback port `to`, with the keys of both, so that it reads
    /// what was handed to TLS.
    ///
    /// # Panics
    /// When it cannot listen, or the folders hold no such keys.
    pub async fn inside_tls(to: u16, hub: &Path, agent: &Path) -> Self {
        Self::start(&[to], Some(Tls::of(hub, agent))).await
    }

    async fn start(to: &[u16], tls: Option<Tls>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("its number").port();
        let (desk, stop) = (Desk::default(), CancellationToken::new());
        let (own, until) = (desk.clone(), stop.clone());
        let tasks = TaskTracker::new();
        let mut to = to.to_vec();
        tasks.clone().spawn(async move {
            while let Some(Ok((client, _))) = until.run_until_cancelled(listener.accept()).await {
                let (desk, tls, until) = (own.clone(), tls.clone(), until.clone());
                let order = to.clone();
                to.rotate_left(1);
                tasks.spawn(async move {
                    until.run_until_cancelled(desk.connect(client, order, tls)).await;
                });
            }
        });
        Self { port, desk, _stop: stop.drop_guard() }
    }

    /// The loopback port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What was said so far: one text per connection and direction.
    #[must_use]
    pub fn tapes(&self) -> Vec<Vec<u8>> {
        let tapes = locked(&self.desk.tapes).clone();
        tapes.iter().map(|tape| locked(tape).clone()).collect()
    }

    /// The bodies of all batches that went by, unpacked.
    #[must_use]
    pub fn bodies(&self) -> Vec<Vec<u8>> {
        self.tapes().iter().flat_map(|tape| bodies(tape)).collect()
    }

    /// Changes one byte of the next batch's body.
    pub fn tamper_once(&self) {
        self.desk.tampers.store(true, Ordering::Relaxed);
    }

    /// Keeps all that is said to itself, without ending a connection, as a line does that is cut on its
    /// way; `false` lets it through again.
    pub fn part(&self, parted: bool) {
        self.desk.parted.send_replace(parted);
    }

    /// From now on the hub's clock seems a century ahead.
    pub fn lie_about_time(&self) {
        self.desk.lies_about_time.store(true, Ordering::Relaxed);
    }
}

impl Tls {
    fn of(hub: &Path, agent: &Path) -> Self {
        let provider = || Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let ca = |folder: &Path| {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(chain(&folder.join("ca.pem")));
            roots
        };
        let key = |file| PrivateKeyDer::from_pem_file(file).expect("a key");
        let verifier = WebPkiClientVerifier::builder_with_provider(ca(hub).into(), provider());
        let server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_client_cert_verifier(verifier.build().expect("a verifier"))
            .with_single_cert(chain(&hub.join("hub.pem")), key(hub.join("hub.key")));
        let client = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(ca(agent))
            .with_client_auth_cert(chain(&agent.join("agent.pem")), key(agent.join("agent.key")));
        Self {
            accept: Arc::new(server.expect("the hub's keys")).into(),
            connect: Arc::new(client.expect("the agent's keys")).into(),
        }
    }
}

impl Desk {
    async fn connect(self, client: TcpStream, to: Vec<u16>, tls: Option<Tls>) {
        self.joined().await;
        let mut server = None;
        for port in to {
            server = TcpStream::connect(("127.0.0.1", port)).await.ok();
            if server.is_some() {
                break;
            }
        }
        let Some(server) = server else { return };
        let Some(tls) = tls else { return self.pass_both(client, server).await };
        let name = ServerName::try_from("127.0.0.1").expect("an address");
        let Ok(client) = tls.accept.accept(client).await else { return };
        let Ok(server) = tls.connect.connect(name, server).await else { return };
        self.pass_both(client, server).await;
    }

    async fn pass_both<C, S>(&self, client: C, server: S)
    where
        C: AsyncRead + AsyncWrite,
        S: AsyncRead + AsyncWrite,
    {
        let ((from_client, to_client), (from_server, to_server)) = (split(client), split(server));
        tokio::join!(self.pass(from_client, to_server), self.pass(from_server, to_client));
    }

    async fn pass(&self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
        let tape = Tape::default();
        locked(&self.tapes).push(Arc::clone(&tape));
        let mut buffer = vec![0; 1 << 16];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            let said = &mut buffer[..read];
            locked(&tape).extend_from_slice(said);
            self.change(said);
            self.joined().await;
            if to.write_all(said).await.is_err() || to.flush().await.is_err() {
                break;
            }
        }
        // The other side may have gone first.
        let _ = to.shutdown().await;
    }

    /// Waits until the two parties can hear each other.
    async fn joined(&self) {
        // The sender lives as long as this.
        let _open = self.parted.subscribe().wait_for(|parted| !parted).await.is_ok();
    }

    fn change(&self, said: &mut [u8]) {
        if self.tampers.load(Ordering::Relaxed)
            && let Some(end) = end_of_frame(said)
            && let Some(last) = said.get_mut(end - 1)
        {
            *last ^= 1;
            self.tampers.store(false, Ordering::Relaxed);
        }
        if self.lies_about_time.load(Ordering::Relaxed) {
            let year = b"\"answered_at\":\"2";
            let at = said.windows(year.len()).position(|window| window == year);
            if let Some(century) = at.and_then(|at| said.get_mut(at + year.len())) {
                *century = b'1';
            }
            // "date: Thu, 26 Nov 2026 …"
            let date = b"\r\ndate: ";
            let at = said.windows(date.len()).position(|window| window == date);
            if let Some(century) = at.and_then(|at| said.get_mut(at + date.len() + 13)) {
                *century = b'1';
            }
        }
    }
}

fn chain(file: &Path) -> Vec<CertificateDer<'static>> {
    let found = CertificateDer::pem_file_iter(file).expect("a certificate file");
    found.collect::<Result<_, _>>().expect("certificates")
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The bodies of the frames in what was said; a frame stands in one piece in its request.
fn bodies(said: &[u8]) -> Vec<Vec<u8>> {
    let starts = said.windows(frame::MAGIC.len()).enumerate();
    let starts = starts.filter(|(_, window)| *window == frame::MAGIC).map(|(at, _)| at);
    starts
        .filter_map(|at| frame::unpack(&frame::decode(whole_frame(&said[at..])?).ok()?).ok())
        .collect()
}

/// Where the first frame ends that stands in this piece as a whole.
fn end_of_frame(said: &[u8]) -> Option<usize> {
    let at = said.windows(frame::MAGIC.len()).position(|window| window == frame::MAGIC)?;
    Some(at + whole_frame(&said[at..])?.len())
}

/// As many bytes as the frame at the beginning says it has.
fn whole_frame(said: &[u8]) -> Option<&[u8]> {
    let length = |at: usize| {
        let bytes = said.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_be_bytes(bytes)).ok()
    };
    let body =
        8 + length(4)? + phusa_protocol::keys::SIGNATURE_BYTES + phusa_protocol::batch::SALT_BYTES;
    said.get(..body + 4 + length(body)?)
}
