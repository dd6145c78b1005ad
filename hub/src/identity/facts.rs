//! What a certificate says: whose it is, how long, which generation.

use phusa_protocol::digest::Digest;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::identity::GENERATION_PREFIX;
use phusa_protocol::time::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Serialize;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// A certificate as people compare it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// Its subject's name.
    pub subject: String,
    /// SHA-256 of it.
    pub fingerprint: Digest,
    /// From when it is valid.
    pub not_before: Timestamp,
    /// The moment after which it is not.
    pub not_after: Timestamp,
    /// Whether it may sign others.
    pub is_ca: bool,
    /// Whether it signed itself.
    pub is_root: bool,
    /// Host names and addresses it is for.
    pub hosts: Vec<String>,
    /// The generation of an enrolled agent's.
    pub generation: Option<u64>,
}

impl Facts {
    /// Reads one certificate.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn read(der: &[u8]) -> Result<Self, Fault> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(unreadable)?;
        let name = |common: &x509_parser::x509::X509Name<'_>| {
            let first = common.iter_common_name().next();
            first.and_then(|name| name.as_str().ok()).unwrap_or_default().to_owned()
        };
        let units = certificate.subject().iter_organizational_unit();
        let generation = units
            .filter_map(|unit| unit.as_str().ok()?.strip_prefix(GENERATION_PREFIX)?.parse().ok())
            .next();
        let names = certificate.subject_alternative_name().map_err(unreadable)?;
        let names = names.into_iter().flat_map(|names| &names.value.general_names);
        let moment = |time: x509_parser::time::ASN1Time| {
            Timestamp::from_micros(time.timestamp().saturating_mul(1_000_000))
        };
        Ok(Self {
            subject: name(certificate.subject()),
            fingerprint: Digest::of(der),
            not_before: moment(certificate.validity().not_before),
            not_after: moment(certificate.validity().not_after),
            is_ca: certificate.is_ca(),
            is_root: certificate.subject() == certificate.issuer(),
            hosts: names.filter_map(host).collect(),
            generation,
        })
    }

    /// Every certificate of a PEM text, in its order.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn of_pem(pem: &[u8]) -> Result<Vec<Self>, Fault> {
        let each = CertificateDer::pem_slice_iter(pem);
        each.map(|found| Self::read(&found.map_err(unreadable)?)).collect()
    }
}

fn host(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(std::net::IpAddr::from);
            let any = four.or_else(|_| <[u8; 16]>::try_from(*bytes).map(std::net::IpAddr::from));
            any.ok().map(|address| address.to_string())
        }
        GeneralName::OtherName(..)
        | GeneralName::RFC822Name(_)
        | GeneralName::X400Address(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EDIPartyName(_)
        | GeneralName::URI(_)
        | GeneralName::RegisteredID(_)
        | GeneralName::Invalid(..) => None,
    }
}

fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> Fault {
    Fault::because(Code::SecretUnreadable, "a certificate cannot be read", error)
}
