//! The agent's key and certificate, and the one CA it trusts, as a TLS 1.3 client configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::identity::{AGENT_URI_PREFIX, GENERATION_PREFIX};
use phusa_protocol::ids::AgentId;
use phusa_protocol::time::Timestamp;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::config::secret::SecretFile;

/// Where an identity's files are.
#[derive(Debug, Clone)]
pub struct Files {
    /// The CA whose signature the hub's certificate must bear; no other is trusted.
    pub ca: PathBuf,
    /// This agent's certificate, leaf first.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: SecretFile,
}

/// An agent's certificate with its key, and whom it trusts.
#[derive(Clone)]
pub struct Identity {
    /// Every root that is trusted, PEM.
    pub ca: Vec<u8>,
    /// The certificate and those between it and the root, PEM, leaf first.
    pub chain: Vec<u8>,
    /// Its private key, PEM.
    pub key: Vec<u8>,
    /// Where it was read.
    pub from: PathBuf,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("from", &self.from).finish_non_exhaustive()
    }
}

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// The agent it names, if it names one.
    pub agent: Option<AgentId>,
    /// From when it is valid.
    pub not_before: Timestamp,
    /// The moment after which it is not.
    pub not_after: Timestamp,
    /// Its generation; none of one that was not issued by enrolment.
    pub generation: Option<u64>,
}

impl Identity {
    /// Reads the files, as they were written at enrolment or by hand.
    ///
    /// # Errors
    /// `secret_unreadable` when one is missing.
    pub fn read(files: &Files) -> Result<Self, Fault> {
        let read = |file: &Path| std::fs::read(file).map_err(|error| unreadable(file, error));
        Ok(Self {
            ca: read(&files.ca)?,
            chain: read(&files.certificate)?,
            key: files.key.load()?.bytes().to_vec(),
            from: files.certificate.clone(),
        })
    }

    /// The client side of mutual TLS: version 1.3 only, this CA only, no resumption of old sessions.
    ///
    /// # Errors
    /// `secret_unreadable` when a part is not what it should be.
    pub fn client_config(&self) -> Result<rustls::ClientConfig, Fault> {
        let chain = certificates(&self.chain, &self.from)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| unreadable(&self.from, error))?;
        let config = tls13()?.with_root_certificates(self.roots()?);
        let config = config.with_client_auth_cert(chain, key);
        Ok(unresumed(config.map_err(|error| unreadable(&self.from, error))?))
    }

    /// The same without a certificate of one's own, for one that has ended.
    ///
    /// # Errors
    /// `secret_unreadable` when the roots are none.
    pub fn stranger_config(&self) -> Result<rustls::ClientConfig, Fault> {
        let config = tls13()?.with_root_certificates(self.roots()?);
        Ok(unresumed(config.with_no_client_auth()))
    }

    /// What its certificate says.
    ///
    /// # Errors
    /// `secret_unreadable` when it cannot be read.
    pub fn leaf(&self) -> Result<Leaf, Fault> {
        leaf(&self.chain, &self.from)
    }

    fn roots(&self) -> Result<rustls::RootCertStore, Fault> {
        let mut roots = rustls::RootCertStore::empty();
        for ca in certificates(&self.ca, &self.from)? {
            roots.add(ca).map_err(|error| unreadable(&self.from, error))?;
        }
        Ok(roots)
    }
}

/// A client configuration of TLS 1.3 alone.
///
/// # Errors
/// When this build has none.
pub(super) fn tls13()
-> Result<rustls::ConfigBuilder<rustls::ClientConfig, rustls::WantsVerifier>, Fault> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| Fault::because(Code::Bug, "cannot choose TLS 1.3", error))
}

pub(super) fn unresumed(mut config: rustls::ClientConfig) -> rustls::ClientConfig {
    config.resumption = rustls::client::Resumption::disabled();
    config
}

/// The agent that the first certificate of the file names.
///
/// # Errors
/// `secret_unreadable` when it cannot be read or names no agent.
pub fn agent_of(file: &Path) -> Result<AgentId, Fault> {
    let pem = std::fs::read(file).map_err(|error| unreadable(file, error))?;
    leaf(&pem, file)?.agent.ok_or_else(|| {
        let what = format!("{} names no agent", file.display());
        Fault::new(Code::SecretUnreadable, what)
    })
}

fn leaf(pem: &[u8], file: &Path) -> Result<Leaf, Fault> {
    let chain = certificates(pem, file)?;
    let der = chain.first().map(AsRef::as_ref).unwrap_or_default();
    let (_, leaf) = X509Certificate::from_der(der).map_err(|error| unreadable(file, error))?;
    let names = leaf.subject_alternative_name().map_err(|error| unreadable(file, error))?;
    let names = names.into_iter().flat_map(|names| &names.value.general_names);
    let named = names.filter_map(|name| {
        let GeneralName::URI(uri) = name else { return None };
        uri.strip_prefix(AGENT_URI_PREFIX)?.split_once("/agent/")
    });
    let mut agents =
        named.filter_map(|(agency, name)| AgentId::try_from(format!("{agency}/{name}")).ok());
    let mut units = leaf.subject().iter_organizational_unit().filter_map(|unit| {
        unit.as_str().ok()?.strip_prefix(GENERATION_PREFIX)?.parse::<u64>().ok()
    });
    let moment = |time: x509_parser::time::ASN1Time| {
        Timestamp::from_micros(time.timestamp().saturating_mul(1_000_000))
    };
    Ok(Leaf {
        agent: agents.next(),
        not_before: moment(leaf.validity().not_before),
        not_after: moment(leaf.validity().not_after),
        generation: units.next(),
    })
}

fn certificates(pem: &[u8], file: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let all = CertificateDer::pem_slice_iter(pem);
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
