//! The agent's key and certificate, and the one CA it trusts, as a TLS 1.3 client configuration.

use std::path::Path;
use std::sync::Arc;

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgentId;
use phusa_protocol::time::Timestamp;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// What an identity is made of.
#[derive(Debug, Clone, Copy)]
pub struct Files<'a> {
    /// The CA whose signature the hub's certificate must bear; no other is trusted.
    pub ca: &'a Path,
    /// This agent's certificate, leaf first.
    pub certificate: &'a Path,
    /// Its private key, as PEM text.
    pub key: &'a [u8],
}

/// The client side of mutual TLS: version 1.3 only, this CA only, no resumption of old sessions.
///
/// # Errors
/// `secret_unreadable` when a file is missing or is not what it should be.
pub fn client_config(files: Files<'_>) -> Result<rustls::ClientConfig, Fault> {
    let mut roots = rustls::RootCertStore::empty();
    for ca in certificates(files.ca)? {
        roots.add(ca).map_err(|error| unreadable(files.ca, error))?;
    }
    let chain = certificates(files.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(files.key)
        .map_err(|error| unreadable(files.certificate, error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| Fault::because(Code::Bug, "cannot choose TLS 1.3", error))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|error| unreadable(files.certificate, error))?;
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// The moment after which the first certificate of the file is no longer valid.
///
/// # Errors
/// `secret_unreadable` when it cannot be read.
pub fn valid_until(file: &Path) -> Result<Timestamp, Fault> {
    let chain = certificates(file)?;
    let leaf = chain.first().map(AsRef::as_ref).unwrap_or_default();
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|error| unreadable(file, error))?;
    let seconds = leaf.validity().not_after.timestamp();
    Ok(Timestamp::from_micros(seconds.saturating_mul(1_000_000)))
}

/// The agent that the first certificate of the file names.
///
/// # Errors
/// `secret_unreadable` when it cannot be read or names no agent.
pub fn agent_of(file: &Path) -> Result<AgentId, Fault> {
    let chain = certificates(file)?;
    let leaf = chain.first().map(AsRef::as_ref).unwrap_or_default();
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|error| unreadable(file, error))?;
    let names = leaf.subject_alternative_name().map_err(|error| unreadable(file, error))?;
    let names = names.into_iter().flat_map(|names| &names.value.general_names);
    let named = names.filter_map(|name| {
        let GeneralName::URI(uri) = name else { return None };
        uri.strip_prefix(AGENT_URI_PREFIX)?.split_once("/agent/")
    });
    let mut agents =
        named.filter_map(|(agency, name)| AgentId::try_from(format!("{agency}/{name}")).ok());
    agents.next().ok_or_else(|| {
        let what = format!("{} names no agent", file.display());
        Fault::new(Code::SecretUnreadable, what)
    })
}

/// What the name of every agent in its certificate begins with.
const AGENT_URI_PREFIX: &str = "spiffe://phusa/agency/";

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let all = CertificateDer::pem_file_iter(file).map_err(|error| unreadable(file, error))?;
    let all: Vec<_> = all.collect::<Result<_, _>>().map_err(|error| unreadable(file, error))?;
    if all.is_empty() {
        let what = format!("{} holds no certificate", file.display());
        return Err(Fault::new(Code::SecretUnreadable, what));
    }
    Ok(all)
}

fn unreadable(file: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Fault {
    Fault::because(Code::SecretUnreadable, format!("cannot use {}", file.display()), error)
}

/// The fault that a failed connection amounts to, told by the TLS error among its causes.
#[must_use]
pub fn connection_code(error: &(dyn std::error::Error + 'static)) -> Code {
    let mut cause = Some(error);
    while let Some(error) = cause {
        // An I/O error hands on the error inside it as its text, not as its source.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = error
            .downcast_ref::<rustls::Error>()
            .or_else(|| inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()));
        match tls {
            Some(rustls::Error::AlertReceived(_)) => return Code::OwnCertificate,
            Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
                return Code::HubCertificate;
            }
            Some(_) | None => {}
        }
        cause = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    Code::HubUnreachable
}
