//! A client made by hand: any certificate, any version of TLS, any bytes.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use phusa_protocol::hello::Refusal;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long the hub may take to answer on a busy machine.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// A certificate chain and its key, PEM.
#[derive(Debug, Clone)]
pub(crate) struct Papers {
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Papers {
    /// Those in an agent's folder.
    pub(crate) fn of(folder: &Path) -> Self {
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        Self { chain: read("agent.pem"), key: read("agent.key") }
    }
}

/// A client that trusts the roots in `folder` and shows these papers, or none.
pub(crate) fn config(
    folder: &Path,
    papers: Option<&Papers>,
    version: &'static SupportedProtocolVersion,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(folder.join("ca.pem")).unwrap() {
        roots.add(root.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    let Some(papers) = papers else { return builder.with_no_client_auth() };
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(papers.chain.as_bytes()).collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(papers.key.as_bytes()).unwrap();
    builder.with_client_auth_cert(chain, key).unwrap()
}

/// A connection to the hub.
pub(crate) async fn connect(
    port: u16,
    config: &Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(Arc::clone(config)).connect(name, tcp).await
}

/// Sends these bytes and reads until the hub closes; the error is TLS's or the line's.
pub(crate) async fn exchange(
    port: u16,
    config: ClientConfig,
    bytes: &[u8],
) -> Result<String, String> {
    let mut stream = connect(port, &Arc::new(config)).await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    let talk = async {
        stream.write_all(bytes).await?;
        stream.flush().await?;
        stream.read_to_end(&mut answer).await
    };
    let ended = tokio::time::timeout(ANSWERS_WITHIN, talk).await;
    let text = String::from_utf8_lossy(&answer).into_owned();
    match ended {
        // A connection that was cut may end without a farewell; what it said counts.
        _ if !text.is_empty() => Ok(text),
        Ok(Ok(_)) => Ok(text),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("open after {ANSWERS_WITHIN:?}")),
    }
}

/// A request that asks the hub to close afterwards.
pub(crate) fn post(path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// The refusal in an answer.
pub(crate) fn refusal(answer: &str) -> Refusal {
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}
