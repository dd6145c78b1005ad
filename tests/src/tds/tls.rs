//! TLS as SQL Server speaks it: the handshake travels inside PRELOGIN packets, everything after it
//! as it is.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::wire::{self, PRELOGIN};

/// A fatal alert of TLS 1.0: the versions that were offered are not spoken here.
const OLD_ALERT: [u8; 7] = [0x15, 3, 1, 0, 2, 2, 70];

/// How a server protects its connections.
#[derive(Debug, Clone)]
pub enum Encryption {
    /// Not at all.
    None,
    /// TLS 1.2, as servers before 2022 do inside TDS 7.
    Tls(Arc<ServerConfig>),
    /// TLS 1.0 alone, as servers do that were never updated.
    Old,
}

impl Encryption {
    /// TLS with a certificate chain and its key in PEM files.
    ///
    /// # Panics
    /// When they are none.
    #[must_use]
    pub fn with(certificates: &Path, key: &Path) -> Self {
        let chain = CertificateDer::pem_file_iter(certificates).expect("certificates");
        let chain = chain.collect::<Result<Vec<_>, _>>().expect("certificates");
        let key = PrivateKeyDer::from_pem_file(key).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS12])
            .expect("TLS 1.2")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a certificate and its key");
        Self::Tls(Arc::new(config))
    }

    /// What the greeting says of it: required, or not supported.
    pub(super) fn announced(&self) -> u8 {
        match self {
            Self::None => 2,
            Self::Tls(_) | Self::Old => 3,
        }
    }
}

/// A connection after its greeting.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Stream {
    /// Goes through the handshake, where there is one; `None` when the other side does not.
    pub(super) fn after_handshake(mut socket: TcpStream, encryption: &Encryption) -> Option<Self> {
        let config = match encryption {
            Encryption::None => return Some(Self::Plain(socket)),
            Encryption::Old => {
                wire::receive(&mut socket)?;
                wire::send(&mut socket, PRELOGIN, &OLD_ALERT);
                return None;
            }
            Encryption::Tls(config) => Arc::clone(config),
        };
        let mut connection = ServerConnection::new(config).ok()?;
        while connection.is_handshaking() {
            let (_, body) = wire::receive(&mut socket)?;
            let mut rest = body.as_slice();
            while !rest.is_empty() {
                connection.read_tls(&mut rest).ok()?;
                let processed = connection.process_new_packets();
                let mut out = Vec::new();
                while connection.wants_write() {
                    connection.write_tls(&mut out).ok()?;
                }
                if !out.is_empty() && !wire::send(&mut socket, PRELOGIN, &out) {
                    return None;
                }
                processed.ok()?;
            }
        }
        Some(Self::Tls(Box::new(StreamOwned::new(connection, socket))))
    }
}

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(bytes),
            Self::Tls(stream) => stream.read(bytes),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
