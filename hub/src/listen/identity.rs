//! Pure: client certificate to `AgentId`, or the reason not.

use phusa_protocol::identity::AGENT_URI_PREFIX;
use phusa_protocol::ids::{AgencyId, AgentId, BadName};
use phusa_protocol::time::Timestamp;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::identity::facts::Facts;

/// What a certificate says of its holder, beyond the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Its generation; none of one that was not issued by enrolment.
    pub generation: Option<u64>,
    /// The moment after which it is not valid.
    pub not_after: Timestamp,
}

/// What a certificate (DER) says beyond the name; `None` when it cannot be read.
#[must_use]
pub fn shown(certificate: &[u8]) -> Option<Shown> {
    let facts = Facts::read(certificate).ok()?;
    Some(Shown { generation: facts.generation, not_after: facts.not_after })
}

/// Why a certificate names no agent. The chain itself was checked before, by TLS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoIdentity {
    /// The connection came without a certificate.
    #[error("no certificate was shown")]
    Absent,
    /// The bytes are no certificate.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// Not exactly one URI among the alternative names.
    #[error("the certificate has {0} URI names; an agent's has one")]
    UriCount(usize),
    /// The URI is not an agent's.
    #[error("the certificate's URI is not spiffe://phusa/agency/<agency>/agent/<name>")]
    Form,
    /// The URI has the right form but a name in it is none.
    #[error("the certificate's URI names no valid agent")]
    Name(#[from] BadName),
}

/// The agent a certificate (DER) was issued to.
///
/// # Errors
/// [`NoIdentity`] with the reason.
pub fn agent_of(certificate: &[u8]) -> Result<AgentId, NoIdentity> {
    let (_, certificate) =
        X509Certificate::from_der(certificate).map_err(|_| NoIdentity::Unreadable)?;
    let names = certificate.subject_alternative_name().map_err(|_| NoIdentity::Unreadable)?;
    let names = names.map(|extension| extension.value.general_names.as_slice());
    let mut uris = Vec::new();
    for name in names.unwrap_or_default() {
        if let GeneralName::URI(uri) = name {
            uris.push(*uri);
        }
    }
    let [uri] = uris.as_slice() else { return Err(NoIdentity::UriCount(uris.len())) };
    agent_in(uri)
}

fn agent_in(uri: &str) -> Result<AgentId, NoIdentity> {
    let path = uri.strip_prefix(AGENT_URI_PREFIX).ok_or(NoIdentity::Form)?;
    let (agency, name) = path.split_once("/agent/").ok_or(NoIdentity::Form)?;
    Ok(AgentId::new(AgencyId::new(agency)?, name)?)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;
    use phusa_protocol::identity::agent_uri;

    fn certificate(uris: &[&str]) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["may-1.example".to_owned()]).unwrap();
        for uri in uris {
            params.subject_alt_names.push(SanType::URI((*uri).try_into().unwrap()));
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn a_certificate_names_one_agent_or_says_why_not() {
        let check = |uris: &[&str], expected: Result<&str, &str>| {
            let found = agent_of(&certificate(uris));
            let found = found.map(|a| a.to_string()).map_err(|error| error.to_string());
            let found = found.as_ref().map(String::as_str).map_err(String::as_str);
            assert_eq!(found, expected, "{uris:?}");
        };
        let form = "the certificate's URI is not spiffe://phusa/agency/<agency>/agent/<name>";
        check(&["spiffe://phusa/agency/H57.12/agent/may-1"], Ok("H57.12/may-1"));
        check(&[], Err("the certificate has 0 URI names; an agent's has one"));
        let two = ["spiffe://phusa/agency/A/agent/b", "spiffe://phusa/agency/C/agent/d"];
        check(&two, Err("the certificate has 2 URI names; an agent's has one"));
        check(&["https://phusa/agency/H57.12/agent/may-1"], Err(form));
        check(&["spiffe://other/agency/H57.12/agent/may-1"], Err(form));
        check(&["spiffe://phusa/agency/H57.12"], Err(form));
        let name = "the certificate's URI names no valid agent";
        check(&["spiffe://phusa/agency/H57.12/agent/"], Err(name));
        check(&["spiffe://phusa/agency/H57.12/agent/a/agent/b"], Err(name));
    }

    #[test]
    fn the_uri_that_is_issued_is_the_uri_that_is_read() {
        let agent = AgentId::try_from("H57.12/may-1".to_owned()).unwrap();
        assert_eq!(agent_of(&certificate(&[&agent_uri(&agent)])), Ok(agent));
        assert_eq!(agent_of(b"not a certificate"), Err(NoIdentity::Unreadable));
    }
}
