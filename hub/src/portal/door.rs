//! Lets browsers in: from the networks that are named, by TLS 1.3, bounded in number and time.

use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use phusa_protocol::fault::{Code, Fault};
use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::From;
use crate::config::plan::portal::PortalPlan;
use crate::listen::gate::{Bounds, Entrant, Gate};

/// Connections at once: a browser opens a handful.
const CONNECTIONS_MAX: usize = 512;

/// Time for a handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Time for a request's head, and between two requests of a connection.
const HEAD_MAX: Duration = Duration::from_secs(30);

/// A connection is closed after so long, whatever it does: no page takes longer.
const CONNECTION_MAX: Duration = Duration::from_secs(600);

/// The port people's browsers connect to.
pub struct Door {
    gate: Gate,
    tls: TlsAcceptor,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("gate", &self.gate).finish_non_exhaustive()
    }
}

impl Door {
    /// Opens the port.
    ///
    /// # Errors
    /// When certificate or key is none, or the port is taken.
    pub async fn open(plan: &PortalPlan) -> Result<Self, Fault> {
        let tls = TlsAcceptor::from(Arc::new(tls_config(plan)?));
        let door = (plan.listen, "people");
        // An office is behind one address; still it leaves half to the others.
        let bounds = Bounds { most: CONNECTIONS_MAX, from_one: CONNECTIONS_MAX / 2 };
        let gate = Gate::open(door, &plan.allowed_networks, bounds).await?;
        Ok(Self { gate, tls })
    }

    /// Accepts until `stop`; requests under way are finished.
    pub async fn run(self, router: Router, tasks: TaskTracker, stop: CancellationToken) {
        while let Some(Entrant { stream, address, place }) = self.gate.next(&stop).await {
            let router = router.clone().layer(Extension(From(address.ip())));
            let serving = serve(self.tls.clone(), stream, router, stop.clone());
            tasks.spawn(async move {
                let _place = place;
                if tokio::time::timeout(CONNECTION_MAX, serving).await.is_err() {
                    debug!("A person's connection was closed after {CONNECTION_MAX:?}");
                }
            });
        }
    }
}

async fn serve(tls: TlsAcceptor, stream: TcpStream, router: Router, stop: CancellationToken) {
    let stream = match tokio::time::timeout(HANDSHAKE_MAX, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        // Browsers that do not know the certificate yet break off here; that is no news.
        Ok(Err(error)) => return debug!(%error, "A browser's TLS failed: {error}"),
        Err(_) => return debug!("A browser's TLS took too long"),
    };
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX).max_buf_size(32 << 10);
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "A person's connection ended: {error}");
    }
}

/// TLS 1.3 only, nothing resumed.
///
/// # Errors
/// When certificate or key of the plan is none.
pub fn tls_config(plan: &PortalPlan) -> Result<ServerConfig, Fault> {
    let wrong = |what: &str, error: Box<dyn std::error::Error + Send + Sync>| {
        Fault::because(Code::SecretUnreadable, format!("[portal] {what} is unusable"), error)
    };
    let chain = CertificateDer::pem_slice_iter(&plan.certificate_pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong("certificate_file", error.into()))?;
    let key = PrivateKeyDer::from_pem_slice(&plan.key_pem.0)
        .map_err(|error| wrong("key_file", error.into()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| wrong("TLS 1.3", error.into()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| wrong("certificate_file with key_file", error.into()))?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
