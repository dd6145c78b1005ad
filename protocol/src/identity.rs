//! How an agent comes by its certificate: what it asks and what the hub answers when it is
//! enrolled, when it renews, and when it comes back after its certificate has ended.
//!
//! The one-time code never travels: what is asked carries an HMAC under a key made of it. A renewal
//! is believed because of the certificate of its connection, a recovery because of a signature with
//! the key that was bound to the identity at enrolment.

use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::batch::canonical_json;
use crate::digest::Digest;
use crate::hex;
use crate::ids::AgentId;
use crate::keys::{PublicKey, Signature, SigningKey};
use crate::time::Timestamp;

/// What the URI of every agent begins with.
pub const AGENT_URI_PREFIX: &str = "spiffe://phusa/agency/";

/// What the organisational unit of an agent's certificate begins with; its generation follows.
pub const GENERATION_PREFIX: &str = "generation ";

/// How long after its certificate's end an agent may still come back with its bound key, in days.
pub const RECOVERY_DAYS_MAX: u32 = 180;

/// The form of these messages.
const V: u32 = 1;

/// The URI under which an agent's certificate names it.
#[must_use]
pub fn agent_uri(agent: &AgentId) -> String {
    format!("{AGENT_URI_PREFIX}{}/agent/{}", agent.agency(), agent.name())
}

/// A one-time code, as an operator hands it over: number, secret and the CA's fingerprint, on one
/// line. It is not printed by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct OneTimeCode {
    /// Says which invitation it is; travels.
    pub invitation: String,
    /// The SHA-256 of the root certificate the hub's must descend from.
    pub ca: Digest,
    secret: [u8; 16],
}

/// A text that is no one-time code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a one-time code is three groups of 16, 32 and 64 digits 0-9 a-f with `-` between them")]
pub struct BadCode;

/// Key of the HMACs that a code allows; what the hub keeps of a code.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CodeKey([u8; 32]);

impl OneTimeCode {
    /// A new code under this CA.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn generate(ca: Digest) -> Result<Self, getrandom::Error> {
        let (mut invitation, mut secret) = ([0; 8], [0; 16]);
        getrandom::fill(&mut invitation)?;
        getrandom::fill(&mut secret)?;
        Ok(Self { invitation: hex::encode(&invitation), ca, secret })
    }

    /// What messages are authenticated with.
    #[must_use]
    pub fn key(&self) -> CodeKey {
        CodeKey(*Digest::of_pair(b"phusa enrolment v1\0", &self.secret).as_bytes())
    }
}

impl fmt::Display for OneTimeCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.invitation, hex::encode(&self.secret), self.ca)
    }
}

impl fmt::Debug for OneTimeCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OneTimeCode({})", self.invitation)
    }
}

impl FromStr for OneTimeCode {
    type Err = BadCode;
    fn from_str(text: &str) -> Result<Self, BadCode> {
        let text = text.trim().to_ascii_lowercase();
        let mut parts = text.split('-');
        let mut next = || parts.next().ok_or(BadCode);
        let (invitation, secret, ca) = (next()?, next()?, next()?);
        hex::decode::<8>(invitation).ok_or(BadCode)?;
        let secret = hex::decode(secret).ok_or(BadCode)?;
        let ca = Digest::from_bytes(hex::decode(ca).ok_or(BadCode)?);
        if parts.next().is_some() {
            return Err(BadCode);
        }
        Ok(Self { invitation: invitation.to_owned(), ca, secret })
    }
}

impl CodeKey {
    /// From what was kept.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// What is kept; whoever has it can use the code.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn mac(&self, bytes: &[u8]) -> Hmac<Sha256> {
        let mut block = [0; 64];
        if let Some(start) = block.first_chunk_mut() {
            *start = self.0;
        }
        let mut mac = Hmac::<Sha256>::new(&block.into());
        mac.update(bytes);
        mac
    }
}

impl fmt::Debug for CodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodeKey(secret)")
    }
}

/// What an agent asks to be enrolled with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolAsked {
    /// Form of this message; 1.
    pub v: u32,
    /// Which code.
    pub invitation: String,
    /// Who it believes to be; absent where it takes the name the code was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// A PKCS #10 request (PEM) for its TLS key. Names in it are not looked at.
    pub csr: String,
    /// The key its batches are signed with.
    pub signing_key: PublicKey,
    /// The key that is bound to the identity, for recovery.
    pub recovery_key: PublicKey,
    /// Version of its program.
    pub agent_version: String,
}

/// An [`EnrolAsked`] whose sender has the code and both keys. The body of `POST /v1/enrol`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrol {
    /// What is asked.
    pub asked: EnrolAsked,
    /// HMAC-SHA-256 of its canonical JSON under the code.
    pub mac: Digest,
    /// Signatures of the same bytes by `signing_key` and `recovery_key`.
    pub proofs: [Signature; 2],
}

impl Enrol {
    /// Asks with this code and these keys; the public keys in `asked` are set here.
    #[must_use]
    pub fn new(
        code: &OneTimeCode,
        agent: Option<AgentId>,
        csr: String,
        (signing, recovery): (&SigningKey, &SigningKey),
        agent_version: &str,
    ) -> Self {
        let asked = EnrolAsked {
            v: V,
            invitation: code.invitation.clone(),
            agent,
            csr,
            signing_key: signing.public(),
            recovery_key: recovery.public(),
            agent_version: agent_version.to_owned(),
        };
        let bytes = canonical_json(&asked);
        let mac = code.key().mac(&bytes).finalize().into_bytes();
        let proofs = [signing.sign(&bytes), recovery.sign(&bytes)];
        Self { asked, mac: Digest::from_bytes(mac.into()), proofs }
    }

    /// Whether its sender has the code.
    #[must_use]
    pub fn has_code(&self, key: &CodeKey) -> bool {
        let mac = key.mac(&canonical_json(&self.asked));
        self.asked.v == V && mac.verify_slice(self.mac.as_bytes()).is_ok()
    }

    /// Whether its sender has both keys that it names.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        let bytes = canonical_json(&self.asked);
        let [signing, recovery] = &self.proofs;
        self.asked.signing_key.verifies(&bytes, signing)
            && self.asked.recovery_key.verifies(&bytes, recovery)
            && self.asked.signing_key != self.asked.recovery_key
    }

    /// What stays the same when it is asked again.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let asked = &self.asked;
        let keys = [asked.signing_key, asked.recovery_key].map(String::from).concat();
        Digest::of_pair(asked.csr.as_bytes(), keys.as_bytes())
    }
}

/// Asks for the next certificate, under the present one. The body of `POST /v1/renew`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Renew {
    /// Form of this message; 1.
    pub v: u32,
    /// Who asks; must be the name in the certificate.
    pub agent: AgentId,
    /// A PKCS #10 request (PEM) for a new TLS key.
    pub csr: String,
}

/// Asks for a certificate after the last one has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecoverAsked {
    /// Form of this message; 1.
    pub v: u32,
    /// Who asks.
    pub agent: AgentId,
    /// The generation of the certificate that has ended.
    pub generation: u64,
    /// A PKCS #10 request (PEM) for a new TLS key.
    pub csr: String,
}

/// A [`RecoverAsked`] whose sender has the bound key. The body of `POST /v1/recover`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recover {
    /// What is asked.
    pub asked: RecoverAsked,
    /// Signature of its canonical JSON with the bound key.
    pub signature: Signature,
}

impl Renew {
    /// Asks for the next certificate.
    #[must_use]
    pub fn new(agent: AgentId, csr: String) -> Self {
        Self { v: V, agent, csr }
    }

    /// Whether it is of the form this program speaks.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.v == V
    }
}

impl Recover {
    /// Asks with the bound key.
    #[must_use]
    pub fn new(agent: AgentId, generation: u64, csr: String, key: &SigningKey) -> Self {
        let asked = RecoverAsked { v: V, agent, generation, csr };
        let signature = key.sign(&canonical_json(&asked));
        Self { asked, signature }
    }

    /// Whether its sender has the bound key.
    #[must_use]
    pub fn is_signed(&self, key: &PublicKey) -> bool {
        self.asked.v == V && key.verifies(&canonical_json(&self.asked), &self.signature)
    }
}

/// A certificate and what its holder trusts: the answer to all three.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// Whose.
    pub agent: AgentId,
    /// The how many-th certificate of this identity; a copy of a disk is found by it.
    pub generation: u64,
    /// The moment after which it is no longer valid.
    pub not_after: Timestamp,
    /// The agent's certificate and those between it and the root, PEM, leaf first.
    pub certificate: String,
    /// Every root the agent trusts from now on, PEM.
    pub ca: String,
    /// The key that signs receipts.
    pub hub_key: PublicKey,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_one_line_and_comes_back_from_it() {
        let code = OneTimeCode::generate(Digest::of(b"root")).unwrap();
        let text = code.to_string();
        assert_eq!(text.len(), 16 + 1 + 32 + 1 + 64);
        assert_eq!(text.to_uppercase().parse(), Ok(code.clone()));
        assert!(!format!("{code:?} {:?}", code.key()).contains(&text[17..49]));
        for bad in ["", "a-b-c", &text[1..], &format!("{text}-00"), &text[..82]] {
            assert_eq!(bad.parse::<OneTimeCode>(), Err(BadCode), "{bad}");
        }
    }

    #[test]
    fn only_who_has_code_and_keys_can_ask() {
        let code = OneTimeCode::generate(Digest::ZERO).unwrap();
        let other = OneTimeCode::generate(Digest::ZERO).unwrap();
        let [signing, recovery] = [1, 2].map(|_| SigningKey::generate().unwrap());
        let ask =
            |csr: &str| Enrol::new(&code, None, csr.to_owned(), (&signing, &recovery), "0.1.0");
        let asked = ask("csr");
        assert!(asked.has_code(&code.key()) && asked.has_keys());
        assert!(!asked.has_code(&other.key()));
        assert_eq!(asked.digest(), ask("csr").digest());
        assert_ne!(asked.digest(), ask("another").digest());
        let mut altered = asked.clone();
        altered.asked.recovery_key = signing.public();
        assert!(!altered.has_code(&code.key()) && !altered.has_keys());
        let mut stolen = asked;
        stolen.proofs.swap(0, 1);
        assert!(!stolen.has_keys());
    }

    #[test]
    fn a_recovery_is_signed_with_the_bound_key() {
        let [bound, other] = [1, 2].map(|_| SigningKey::generate().unwrap());
        let agent = AgentId::try_from("H57.12/may-1".to_owned()).unwrap();
        let mut asked = Recover::new(agent, 3, "csr".to_owned(), &bound);
        assert!(asked.is_signed(&bound.public()) && !asked.is_signed(&other.public()));
        asked.asked.generation = 4;
        assert!(!asked.is_signed(&bound.public()));
    }
}
