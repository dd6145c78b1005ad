//! Issues agents' certificates in the name of the hub's intermediate.

use std::time::Duration;

use phusa_protocol::digest::Digest;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::identity::{GENERATION_PREFIX, agent_uri};
use phusa_protocol::ids::AgentId;
use phusa_protocol::time::Timestamp;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose, SanType,
};

use rustls_pki_types::CertificateDer;

use super::facts::Facts;
use super::files::{not_made, set_validity};

/// A clock may be this wrong before a new certificate is not yet valid; less for short ones.
const SKEW_MAX: Duration = Duration::from_secs(3_600);

/// What issues agents' certificates.
pub struct Issuing {
    issuer: Issuer<'static, KeyPair>,
    /// What stands between a leaf and the root, PEM; empty where the root itself issues.
    between: String,
    fingerprint: Digest,
    ends: Timestamp,
    validity: Duration,
}

/// A certificate as it was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// It and those between it and the root, PEM, leaf first.
    pub chain: String,
    /// What it says.
    pub facts: Facts,
}

impl std::fmt::Debug for Issuing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuing").field("ends", &self.ends).finish_non_exhaustive()
    }
}

impl Issuing {
    /// From the intermediate's certificate and key, PEM.
    ///
    /// # Errors
    /// When they are none.
    pub fn read(certificate: &str, key: &str, validity: Duration) -> Result<Self, Fault> {
        let key = KeyPair::from_pem(key).map_err(|error| {
            Fault::because(Code::SecretUnreadable, "issuing_key_file is no private key", error)
        })?;
        let facts = Facts::of_pem(certificate.as_bytes())?;
        let Some(first) = facts.first().filter(|first| first.is_ca) else {
            let what = "issuing_certificate_file holds no certificate that may sign others";
            return Err(Fault::new(Code::SecretUnreadable, what));
        };
        let between = if first.is_root { String::new() } else { certificate.trim().to_owned() };
        let issuer = Issuer::from_ca_cert_pem(certificate, key).map_err(not_made)?;
        Ok(Self {
            issuer,
            between,
            fingerprint: first.fingerprint,
            ends: first.not_after,
            validity,
        })
    }

    /// A certificate for the key of this request (PKCS #10, PEM), which must be signed with it.
    /// Nothing else of the request is looked at.
    ///
    /// # Errors
    /// `enrol_refused` when the request is none, `config_invalid` when the intermediate has ended.
    pub fn issue(
        &self,
        agent: &AgentId,
        csr: &str,
        (generation, now): (u64, Timestamp),
    ) -> Result<Certificate, Fault> {
        let asked = CertificateSigningRequestParams::from_pem(csr).map_err(|error| {
            Fault::because(Code::EnrolRefused, "the certificate request cannot be used", error)
        })?;
        self.lives(now)?;
        let mut params = CertificateParams::new(Vec::new()).map_err(not_made)?;
        let uri = agent_uri(agent).try_into().map_err(not_made)?;
        params.subject_alt_names.push(SanType::URI(uri));
        params.distinguished_name.push(DnType::CommonName, agent.to_string());
        let unit = format!("{GENERATION_PREFIX}{generation}");
        params.distinguished_name.push(DnType::OrganizationalUnitName, unit);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let skew = SKEW_MAX.min(self.validity / 20);
        let skew = i64::try_from(skew.as_micros()).unwrap_or(0);
        let begin = Timestamp::from_micros(now.micros() - skew);
        set_validity(&mut params, begin, now.after(self.validity).min(self.ends));
        let issued = params.signed_by(&asked.public_key, &self.issuer).map_err(not_made)?;
        let facts = Facts::read(issued.der())?;
        let chain = format!("{}\n{}\n", issued.pem().trim(), self.between);
        Ok(Certificate { chain: chain.trim().to_owned() + "\n", facts })
    }

    /// A certificate of the hub itself for this key: for these hosts, for so long, but no longer than
    /// the intermediate lives.
    ///
    /// # Errors
    /// `config_invalid` when the intermediate has ended.
    pub(crate) fn own(
        &self,
        hosts: &[String],
        key: &KeyPair,
        (life, now): (Duration, Timestamp),
    ) -> Result<(CertificateDer<'static>, Facts), Fault> {
        self.lives(now)?;
        let mut params = hub_params(hosts)?;
        let begin = now.before(SKEW_MAX.min(life / 20));
        set_validity(&mut params, begin, now.after(life).min(self.ends));
        let made = params.signed_by(key, &self.issuer).map_err(not_made)?;
        Ok((made.der().clone(), Facts::read(made.der())?))
    }

    /// SHA-256 of its certificate.
    pub(crate) fn fingerprint(&self) -> Digest {
        self.fingerprint
    }

    /// The moment after which it signs no more.
    pub(crate) fn ends(&self) -> Timestamp {
        self.ends
    }

    fn lives(&self, now: Timestamp) -> Result<(), Fault> {
        if now >= self.ends {
            let what = format!("the hub's intermediate has ended at {}", self.ends);
            return Err(Fault::new(Code::ConfigInvalid, what));
        }
        Ok(())
    }
}

/// What every certificate of the hub itself says.
pub(super) fn hub_params(hosts: &[String]) -> Result<CertificateParams, Fault> {
    let mut params = CertificateParams::new(hosts.to_vec()).map_err(not_made)?;
    params.distinguished_name.push(DnType::CommonName, "phusa-hub");
    // It is also what the hub shows to a broker that it dials.
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// What the certificate of a broker says, toward agents and hub alike. It is nobody's who dials.
pub(super) fn broker_params(hosts: &[String]) -> Result<CertificateParams, Fault> {
    let mut params = hub_params(hosts)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "phusa-broker");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_of_the_agent_that_was_meant_whatever_its_request_says() {
        let root = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        set_validity(
            &mut params,
            Timestamp::from_micros(0),
            Timestamp::now().after(Duration::from_secs(86_400)),
        );
        let pem = params.self_signed(&root).unwrap().pem();
        let validity = Duration::from_secs(60);
        let issuing = Issuing::read(&pem, &root.serialize_pem(), validity).unwrap();
        let key = KeyPair::generate().unwrap();
        let wish = CertificateParams::new(vec!["hub.example".to_owned()]).unwrap();
        let csr = wish.serialize_request(&key).unwrap().pem().unwrap();
        let agent = AgentId::try_from("H57.12/may-1".to_owned()).unwrap();
        let now = Timestamp::now();
        let facts = issuing.issue(&agent, &csr, (7, now)).unwrap().facts;
        assert_eq!((facts.generation, facts.subject.as_str()), (Some(7), "H57.12/may-1"));
        assert!(facts.hosts.is_empty() && !facts.is_ca && !facts.is_root);
        assert!(facts.not_before <= now && facts.not_after.since(now) <= validity);
        let altered = csr.replacen('M', "N", 3);
        let refused = issuing.issue(&agent, &altered, (8, now)).unwrap_err();
        assert_eq!(refused.code, Code::EnrolRefused);
        let late = now.after(Duration::from_secs(2 * 86_400));
        assert_eq!(issuing.issue(&agent, &csr, (8, late)).unwrap_err().code, Code::ConfigInvalid);
    }
}
