//! Accepts connections with mutual TLS and hands on (`AgentId`, frames).
//!
//! An address outside `allowed_networks` is closed before a byte is read (CT-22). Then TLS 1.3 with
//! a certificate of the agents' CA, no resumption (so that a changed register and an expired
//! certificate act on every connection), then HTTP/1.1. Connections, handshakes and idle time are
//! bounded. A hub that enrols lets a few connections without a certificate in, to [`enrol`] alone.
//!
//! A connection is cut where it stands when its agent is suspended, revoked or locked, and when its
//! certificate ends.

pub(crate) mod gate;
pub mod enrol;
pub mod https;
pub mod log;
pub mod release;
pub mod own;
pub mod identity;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgentId;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use self::gate::{Bounds, Entrant, Gate};
use self::own::Own;
use crate::SECURITY;
use crate::config::plan::Plan;
use crate::config::register::Register;
use crate::ingest::Caller;
use crate::ingest::check::admit;
use crate::views::metrics::Metrics;
use identity::{NoIdentity, Shown};
use phusa_protocol::time::Timestamp;

/// Connections at once: a thousand agents with a window each.
const CONNECTIONS_MAX: usize = 4_096;

/// Connections without a certificate at once; a whole province enrols in less than an hour.
const STRANGERS_MAX: usize = 64;

/// How long one may stay: a request and its answer.
const STRANGER_MAX: Duration = Duration::from_secs(60);

/// A connection is begun anew at least this often.
const CONNECTION_MAX: Duration = Duration::from_secs(30 * 86_400);

/// A handshake takes two round trips; whoever needs longer is not an agent.
pub(crate) const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// How long, and with how many bytes, a connection without a handshake is still listened to.
const PARTING_MAX: (Duration, u64) = (Duration::from_secs(1), 64 * 1024);

/// How long a connection may be idle or dribble a request's head. Longer than agents keep an idle
/// connection (90 s), so that it is the agent that closes.
const HEAD_MAX: Duration = Duration::from_secs(120);

/// The largest head of a request, and what is read of a body at once. An agent's has some hundred
/// bytes; a thousand connections that each held back the end of their head would take this much each.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The agent its certificate names, or why it names none.
    pub identity: Result<AgentId, NoIdentity>,
    /// Where it comes from.
    pub address: SocketAddr,
    /// What else its certificate says.
    pub shown: Option<Shown>,
}

impl Peer {
    /// The caller that `agent`, which this is, becomes.
    pub(crate) fn caller(&self, agent: &AgentId) -> Caller {
        let generation = self.shown.and_then(|shown| shown.generation);
        Caller { agent: agent.clone(), address: self.address.ip(), generation }
    }

    /// Whether it may go on speaking.
    fn is_admitted(&self, register: &Register) -> bool {
        self.identity.as_ref().is_ok_and(|agent| admit(register, &self.caller(agent)).is_ok())
    }
}

/// The port agents connect to.
pub struct Listener {
    gate: Gate,
    tls: TlsAcceptor,
    strangers: Arc<Semaphore>,
    register: watch::Receiver<Arc<Register>>,
    metrics: Metrics,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("gate", &self.gate).finish_non_exhaustive()
    }
}

/// One accepted connection before its handshake.
struct Connection {
    entrant: Entrant,
    tls: TlsAcceptor,
    router: Router,
    strangers: Arc<Semaphore>,
    register: watch::Receiver<Arc<Register>>,
    metrics: Metrics,
}

impl Listener {
    /// Opens the port.
    ///
    /// # Errors
    /// When certificates or keys are none, or the port is taken.
    pub async fn open(
        (plan, own): (&Plan, &Arc<Own>),
        register: watch::Receiver<Arc<Register>>,
        metrics: Metrics,
    ) -> Result<Self, Fault> {
        let tls = TlsAcceptor::from(Arc::new(tls_config(plan, own)?));
        let door = (plan.listen, "agents");
        let bounds = Bounds { most: CONNECTIONS_MAX, from_one: plan.connections_per_address_max };
        let gate = Gate::open(door, &plan.allowed_networks, bounds).await?;
        let strangers = Arc::new(Semaphore::new(STRANGERS_MAX));
        Ok(Self { gate, tls, strangers, register, metrics })
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// When the operating system does not say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.gate.address()
    }

    /// Accepts until `stop`; open connections then finish the request they are in.
    pub async fn run(self, router: Router, tasks: TaskTracker, stop: CancellationToken) {
        while let Some(entrant) = self.gate.next(&stop).await {
            let connection = Connection {
                entrant,
                tls: self.tls.clone(),
                router: router.clone(),
                strangers: Arc::clone(&self.strangers),
                register: self.register.clone(),
                metrics: self.metrics.clone(),
            };
            tasks.spawn(connection.serve(stop.clone()));
        }
    }
}

impl Connection {
    async fn serve(self, stop: CancellationToken) {
        // Batches are large, receipts small: neither wants to wait for the other's segment.
        let Entrant { stream, address, place: _place } = self.entrant;
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "TCP_NODELAY was refused");
        }
        let handshake = self.tls.accept(stream).into_fallible();
        let handshake = tokio::time::timeout(HANDSHAKE_MAX, handshake);
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            handshake = handshake => match handshake {
                Ok(Ok(stream)) => stream,
                Ok(Err((error, stream))) => {
                    handshake_failed(address, &error);
                    part(stream).await;
                    return;
                }
                Err(_) => {
                    warn!(%address, "TLS with {address} took longer than {HANDSHAKE_MAX:?}");
                    return;
                }
            },
        };
        let peer = peer_of(&stream, address);
        let _stranger = match (&peer.identity, self.strangers.try_acquire()) {
            (Ok(_), _) => None,
            (Err(_), Ok(permit)) => Some(permit),
            (Err(_), Err(_)) => {
                warn!(target: SECURITY, %address, "Closed a connection without a certificate from {address}: {STRANGERS_MAX} are open");
                return;
            }
        };
        self.metrics.connection(true);
        let speaking = Speaking { peer, register: self.register, stop };
        speaking.run(stream, self.router).await;
        self.metrics.connection(false);
    }
}

/// Says why a handshake failed; a certificate that is not believed is an event of security, a line
/// that broke is not.
pub(crate) fn handshake_failed(address: SocketAddr, error: &std::io::Error) {
    use rustls::Error::{InvalidCertificate, NoCertificatesPresented, PeerIncompatible};
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let code = if matches!(inner, Some(InvalidCertificate(_) | NoCertificatesPresented)) {
        Code::OwnCertificate
    } else if matches!(inner, Some(PeerIncompatible(_))) {
        Code::ProtocolVersion
    } else {
        return warn!(%address, %error, "TLS with {address} failed: {error}");
    };
    warn!(target: SECURITY, %code, %address, %error, "TLS with {address} failed: {error}");
}

/// Ends a connection whose handshake failed so that the alert arrives.
///
/// Closing with unread bytes makes the kernel send RST, and a reset connection loses what was sent
/// before it (RFC 9293 §3.10.7.4): the agent would hear of a broken line, not of its certificate.
pub(crate) async fn part(mut stream: TcpStream) {
    let drain = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(PARTING_MAX.1), &mut tokio::io::sink()).await
    };
    if !matches!(tokio::time::timeout(PARTING_MAX.0, drain).await, Ok(Ok(_))) {
        debug!("A connection without a handshake was cut");
    }
}

/// A connection after its handshake.
struct Speaking {
    peer: Peer,
    register: watch::Receiver<Arc<Register>>,
    stop: CancellationToken,
}

impl Speaking {
    /// Serves requests until the other side leaves, the hub stops, or this peer may speak no longer.
    async fn run(mut self, stream: TlsStream<TcpStream>, router: Router) {
        let mut http = http1::Builder::new();
        let head_max = if self.peer.identity.is_ok() { HEAD_MAX } else { HANDSHAKE_MAX };
        http.timer(TokioTimer::new()).header_read_timeout(head_max).max_buf_size(HEAD_BYTES_MAX);
        let router = router.layer(from_fn(whole)).layer(Extension(self.peer.clone()));
        let service = TowerToHyperService::new(router);
        let connection = http.serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            why = may_no_longer(&self.peer, &mut self.register) => {
                let (address, agent) = (self.peer.address, self.peer.identity.as_ref().ok());
                warn!(target: SECURITY, %address, ?agent, "Cut a connection from {address}: {why}");
                return;
            }
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            debug!(%error, "A connection ended: {error}");
        }
    }
}

/// Lets a request through whose end is told in one way alone: two that differ are how one request
/// is hidden in another.
async fn whole(request: Request, next: Next) -> Response {
    let chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
    let lengths = request.headers().get_all(header::CONTENT_LENGTH).iter().count();
    if !chunked && lengths <= 1 {
        return next.run(request).await;
    }
    let what = "a body is told by one Content-Length, and not by Transfer-Encoding";
    warn!(target: SECURITY, code = %Code::FrameDamaged, "Refused a request: {what}");
    let mut response = https::answer(&https::refusal(Code::FrameDamaged, what));
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Waits until a peer that spoke may do so no longer.
pub(crate) async fn may_no_longer(
    peer: &Peer,
    register: &mut watch::Receiver<Arc<Register>>,
) -> &'static str {
    let left = peer.shown.map(|shown| shown.not_after.since(Timestamp::now()));
    let ends = tokio::time::sleep(left.unwrap_or(STRANGER_MAX).min(CONNECTION_MAX));
    let mut ends = std::pin::pin!(ends);
    // One that may not speak from the beginning is told why with each request.
    let mut spoke = peer.is_admitted(&register.borrow_and_update());
    loop {
        tokio::select! {
            () = ends.as_mut() => return "its certificate has ended, or it was open too long",
            changed = register.changed() => {
                if changed.is_err() {
                    return "the hub ends";
                }
                let may = peer.is_admitted(&register.borrow_and_update());
                if spoke && !may {
                    return "its agent may speak no longer";
                }
                spoke = may;
            }
        }
    }
}

pub(crate) fn peer_of(stream: &TlsStream<TcpStream>, address: SocketAddr) -> Peer {
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let Some(leaf) = chain.first() else {
        return Peer { identity: Err(NoIdentity::Absent), address, shown: None };
    };
    Peer { identity: identity::agent_of(leaf), address, shown: identity::shown(leaf) }
}

/// How the hub dials others that trust its CA: its own certificate, TLS 1.3 alone.
///
/// # Errors
/// `secret_unreadable` when `ca_file` holds no certificates.
pub fn client_tls_config(plan: &Plan, own: &Arc<Own>) -> Result<ClientConfig, Fault> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable("TLS 1.3", error))?
        .with_root_certificates(roots(plan)?)
        .with_client_cert_resolver(Arc::<Own>::clone(own));
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

fn roots(plan: &Plan) -> Result<RootCertStore, Fault> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&plan.ca_pem) {
        let certificate = certificate.map_err(|error| unusable("ca_file", error))?;
        roots.add(certificate).map_err(|error| unusable("ca_file", error))?;
    }
    Ok(roots)
}

fn unusable(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> Fault {
    Fault::because(Code::SecretUnreadable, format!("{what} is unusable"), error)
}

/// TLS 1.3 only, nothing resumed; a certificate is required, but of a hub that enrols, whose routes
/// require it.
///
/// # Errors
/// When a certificate or key of the plan is none.
pub fn tls_config(plan: &Plan, own: &Arc<Own>) -> Result<ServerConfig, Fault> {
    let mut verifier = WebPkiClientVerifier::builder(Arc::new(roots(plan)?));
    if plan.issuing.is_some() {
        // Whoever is to be enrolled has none yet; everything else asks for one.
        verifier = verifier.allow_unauthenticated();
    }
    let verifier = verifier.build().map_err(|error| unusable("ca_file", error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable("TLS 1.3", error))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::<Own>::clone(own));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
