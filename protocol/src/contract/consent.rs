//! `Agreement`: one version of a contract, signed by its owner and by the hub (CT-15).
//!
//! The **owner** signs with the key of one of its agents. The **hub** signs after it: that this
//! version is agreed, and that the owner's key is the one it has in its register under that name.
//! So an agent needs nothing but the hub's pinned key to check both: what it trusts the hub for is
//! *whose key that is*, and nothing else. Where the signing key is the agent's own, it does not
//! have to trust even that ([`Agreement::verify`]).

use serde::{Deserialize, Serialize};

use super::{Contract, Number};
use crate::batch::canonical_json;
use crate::digest::Digest;
use crate::ids::{AgentId, DatasetId};
use crate::keys::{PublicKey, Signature, SigningKey};
use crate::time::Timestamp;

/// Who speaks in a consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The agency that owns the dataset.
    Owner,
    /// The hub.
    Hub,
}

/// What one side states. No batch header, receipt or entry has these fields and no others, so a
/// signature over one is worth nothing as a signature over another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consent {
    /// Form of this statement; 1.
    pub v: u32,
    /// Which dataset.
    pub dataset: DatasetId,
    /// Major version of the contract.
    pub version: u32,
    /// Its minor version.
    pub minor: u32,
    /// Its fingerprint: all of its meaning.
    pub contract: Digest,
    /// Who speaks.
    pub side: Side,
    /// For the owner: the agent whose key signs. For the hub: absent.
    pub agent: Option<AgentId>,
    /// For the hub: digest of the owner's consent that it vouches for. For the owner: absent.
    pub owner_consent: Option<Digest>,
    /// The key that signs.
    pub key: PublicKey,
    /// When, by the signer's clock; for people.
    pub signed_at: Timestamp,
}

/// A consent with its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedConsent {
    /// What is stated.
    pub consent: Consent,
    /// The signature over its canonical JSON.
    pub signature: Signature,
}

/// A version that both signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agreement {
    /// The owner's consent.
    pub owner: SignedConsent,
    /// The hub's, over it.
    pub hub: SignedConsent,
}

/// A version as it is proposed, and the one in force. `POST /v1/contract/proposed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// What is proposed, if anything is.
    pub proposed: Option<Contract>,
    /// Who has signed it so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub consents: Vec<SignedConsent>,
    /// What is in force, if anything is.
    pub in_force: Option<Contract>,
}

/// Which dataset is asked for. The body of `POST /v1/contract/proposed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// [`crate::PROTOCOL_VERSION`] of the agent.
    pub protocol: u32,
    /// Who asks.
    pub agent: AgentId,
    /// Which dataset.
    pub dataset: DatasetId,
}

/// Why a consent or an agreement does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadConsent {
    /// It is of another version, dataset or fingerprint.
    #[error("the signature is for another contract than this one")]
    OtherContract,
    /// Not the owner's agent, or not the hub, where it should be.
    #[error("it was not signed by an agent of the owner named in the contract")]
    NotTheOwner,
    /// The signature is not of the key.
    #[error("the signature is not that of the key beside it")]
    Forged,
    /// The hub's part is not signed with the hub's key.
    #[error("it is not signed with the hub's key")]
    NotTheHub,
    /// The hub vouches for another consent of the owner than the one beside it.
    #[error("the hub vouches for another signature of the owner")]
    OtherOwnerConsent,
    /// The owner's part claims to be this agent's and is not signed with its key.
    #[error("it claims this agent's signature, which this agent's key did not make")]
    NotOurs,
}

impl SignedConsent {
    /// The owner's consent, by one of its agents.
    #[must_use]
    pub fn of_owner(contract: &Contract, agent: &AgentId, key: &SigningKey) -> Self {
        Self::sign(contract, (Side::Owner, Some(agent.clone()), None), key)
    }

    /// The hub's consent to what the owner has signed.
    #[must_use]
    pub fn of_hub(contract: &Contract, owner: &Self, key: &SigningKey) -> Self {
        Self::sign(contract, (Side::Hub, None, Some(owner.digest())), key)
    }

    fn sign(
        contract: &Contract,
        (side, agent, owner_consent): (Side, Option<AgentId>, Option<Digest>),
        key: &SigningKey,
    ) -> Self {
        let consent = Consent {
            v: 1,
            dataset: contract.dataset.clone(),
            version: contract.version,
            minor: contract.minor,
            contract: contract.fingerprint(),
            side,
            agent,
            owner_consent,
            key: key.public(),
            signed_at: Timestamp::now(),
        };
        let signature = key.sign(&canonical_json(&consent));
        Self { consent, signature }
    }

    /// The SHA-256 of the statement and its signature.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&canonical_json(self))
    }

    /// The version it is for.
    #[must_use]
    pub fn number(&self) -> Number {
        Number { major: self.consent.version, minor: self.consent.minor }
    }

    /// Whether the key beside it made this signature.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.consent.key.verifies(&canonical_json(&self.consent), &self.signature)
    }

    /// Whether it is an owner's consent to exactly this contract, signed with the key beside it.
    /// Whose key that is, the hub's register says.
    ///
    /// # Errors
    /// [`BadConsent`].
    pub fn is_owners(&self, contract: &Contract) -> Result<&AgentId, BadConsent> {
        self.is_for(contract)?;
        let agent = self.consent.agent.as_ref().filter(|_| self.consent.side == Side::Owner);
        let agent = agent.filter(|agent| *agent.agency() == contract.owner);
        let agent = agent.ok_or(BadConsent::NotTheOwner)?;
        if self.is_signed() { Ok(agent) } else { Err(BadConsent::Forged) }
    }

    fn is_for(&self, contract: &Contract) -> Result<(), BadConsent> {
        let said = &self.consent;
        let same = said.v == 1
            && said.dataset == contract.dataset
            && self.number() == contract.number()
            && said.contract == contract.fingerprint();
        if same { Ok(()) } else { Err(BadConsent::OtherContract) }
    }
}

impl Agreement {
    /// Whether owner and hub both agreed to exactly this contract, as an agent sees it that knows
    /// the hub's key, its own name and its own key.
    ///
    /// # Errors
    /// [`BadConsent`], naming the first thing that does not hold.
    pub fn verify(
        &self,
        contract: &Contract,
        hub: &PublicKey,
        own: (&AgentId, &PublicKey),
    ) -> Result<(), BadConsent> {
        let is_ours = self.owner.consent.agent.as_ref() == Some(own.0);
        if is_ours && self.owner.consent.key != *own.1 {
            return Err(BadConsent::NotOurs);
        }
        self.holds(contract, hub)
    }

    /// Whether owner and hub both agreed to exactly this contract; whose the owner's key is, the
    /// hub vouches.
    ///
    /// # Errors
    /// [`BadConsent`], naming the first thing that does not hold.
    pub fn holds(&self, contract: &Contract, hub: &PublicKey) -> Result<(), BadConsent> {
        self.owner.is_owners(contract)?;
        self.hub.is_for(contract)?;
        if self.hub.consent.side != Side::Hub || self.hub.consent.key != *hub {
            return Err(BadConsent::NotTheHub);
        }
        if !self.hub.is_signed() {
            return Err(BadConsent::NotTheHub);
        }
        if self.hub.consent.owner_consent != Some(self.owner.digest()) {
            return Err(BadConsent::OtherOwnerConsent);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::tests::SAMPLE;

    fn key(byte: u8) -> SigningKey {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode([byte; 32]);
        SigningKey::from_text(&text).unwrap()
    }

    fn agent(name: &str) -> AgentId {
        AgentId::try_from(name.to_owned()).unwrap()
    }

    #[test]
    fn only_what_owner_and_hub_both_signed_is_agreed() {
        let contract = Contract::from_toml(SAMPLE).unwrap();
        let (hub, own) = (key(8), key(7));
        let me = agent("H57.12/may-1");
        let owner = SignedConsent::of_owner(&contract, &me, &own);
        let good = Agreement { hub: SignedConsent::of_hub(&contract, &owner, &hub), owner };
        let verify = |agreement: &Agreement, contract: &Contract| {
            agreement.verify(contract, &hub.public(), (&me, &own.public()))
        };
        assert_eq!(verify(&good, &contract), Ok(()));

        let longer = Contract::from_toml(&SAMPLE.replace("15m", "20m")).unwrap();
        assert_eq!(verify(&good, &longer), Err(BadConsent::OtherContract));

        let owner = SignedConsent::of_owner(&contract, &agent("H57.13/may-1"), &own);
        let foreign = Agreement { hub: SignedConsent::of_hub(&contract, &owner, &hub), owner };
        assert_eq!(verify(&foreign, &contract), Err(BadConsent::NotTheOwner));

        let owner = SignedConsent::of_owner(&contract, &me, &key(9));
        let slipped = Agreement { hub: SignedConsent::of_hub(&contract, &owner, &hub), owner };
        assert_eq!(verify(&slipped, &contract), Err(BadConsent::NotOurs));
        let other = agent("H57.12/may-2");
        let seen = slipped.verify(&contract, &hub.public(), (&other, &key(3).public()));
        assert_eq!(seen, Ok(()), "whose key that is, others take from the hub");

        let mut forged = good.clone();
        forged.owner.signature = key(9).sign(b"x");
        assert_eq!(verify(&forged, &contract), Err(BadConsent::Forged));
        let mut alone = good.clone();
        alone.hub = SignedConsent::of_hub(&contract, &alone.owner, &key(9));
        assert_eq!(verify(&alone, &contract), Err(BadConsent::NotTheHub));
        let mut own_hub = good.clone();
        own_hub.hub = own_hub.owner.clone();
        assert_eq!(verify(&own_hub, &contract), Err(BadConsent::NotTheHub));
        let later = SignedConsent::of_owner(&contract, &agent("H57.12/may-2"), &own);
        let swapped = Agreement { owner: later, hub: good.hub };
        assert_eq!(verify(&swapped, &contract), Err(BadConsent::OtherOwnerConsent));
    }
}
