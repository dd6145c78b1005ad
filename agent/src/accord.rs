//! What was agreed, checked and kept: the version of a contract that its owner and the hub both
//! signed, and the category lists it names.
//!
//! An agent delivers under nothing else. At every greeting the hub shows both signatures under the
//! contract in the agency's own file ([`Accord::settle`]): so a hub can add nothing to what the
//! file says, and a file alone is not enough either. What held is kept below the state folder; one
//! number stands for one text from then on, whatever a hub says later.

use std::fs;
use std::path::{Path, PathBuf};

use phusa_protocol::contract::Contract;
use phusa_protocol::contract::consent::Agreement;
use phusa_protocol::digest::Digest;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::hello::Terms;
use phusa_protocol::ids::{AgentId, DatasetId};
use phusa_protocol::keys::PublicKey;
use serde::{Deserialize, Serialize};

use crate::disk::{Disk as _, RealDisk, disk_code};
use crate::mapping::terms::AgreedList;

/// What one dataset's agent holds an agreement against.
#[derive(Debug, Clone)]
pub struct Accord {
    /// The contract in the agency's own file.
    pub contract: Contract,
    /// The hub's pinned key.
    pub hub: PublicKey,
    /// This agent.
    pub agent: AgentId,
    /// Its own key.
    pub own: PublicKey,
    /// The state folder.
    pub state_dir: PathBuf,
    /// The lists the contract names, as the mapping looks them up.
    pub lists: Vec<AgreedList>,
}

/// What is kept of an agreement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The version.
    pub contract: Contract,
    /// Both signatures.
    pub agreement: Agreement,
}

impl Accord {
    /// Whether the hub shows that owner and hub both signed exactly the agency's own contract.
    ///
    /// # Errors
    /// `contract_unsigned` with what does not hold.
    pub fn verify(&self, terms: &Terms) -> Result<Kept, Fault> {
        let (dataset, number) = (&self.contract.dataset, self.contract.number());
        let what = || format!("contract {dataset} version {number}");
        let Some(agreement) = &terms.agreement else {
            let why = "the hub shows no signatures under it".to_owned();
            return Err(Fault::because(Code::ContractUnsigned, what(), why));
        };
        let kept = kept(&self.state_dir, dataset);
        // What this agent signed under a key it had before was settled here under that key.
        let known = kept.as_ref().is_some_and(|kept| kept.agreement.owner == agreement.owner);
        let holds = match known {
            true => agreement.holds(&self.contract, &self.hub),
            false => agreement.verify(&self.contract, &self.hub, (&self.agent, &self.own)),
        };
        holds.map_err(|bad| Fault::because(Code::ContractUnsigned, what(), bad))?;
        if let Some(kept) = kept
            && kept.contract.number() == number
            && kept.contract.fingerprint() != self.contract.fingerprint()
        {
            let why = format!(
                "under this number {} was agreed here before; other content needs a number of its \
                 own",
                kept.contract.fingerprint()
            );
            return Err(Fault::because(Code::ContractUnsigned, what(), why));
        }
        Ok(Kept { contract: self.contract.clone(), agreement: agreement.as_ref().clone() })
    }

    /// As [`Accord::verify`], and keeps what holds.
    ///
    /// # Errors
    /// `contract_unsigned`; `disk_full`, `disk_failed`.
    pub fn settle(&self, terms: &Terms) -> Result<(), Fault> {
        let settled = self.verify(terms)?;
        if kept(&self.state_dir, &self.contract.dataset).as_ref() == Some(&settled) {
            return Ok(());
        }
        let text = serde_json::to_vec_pretty(&settled)
            .map_err(|error| Fault::because(Code::Bug, "cannot write an agreement", error))?;
        put(&contracts(&self.state_dir), &file_name(&self.contract.dataset), &text)
    }

    /// The lists of which the hub has another content in force than is known here.
    #[must_use]
    pub fn stale(&self, terms: &Terms) -> Vec<(AgreedList, Digest)> {
        let stale = |list: &AgreedList| {
            let digest = *terms.lists.get(list.name())?;
            (list.digest() != Some(digest)).then(|| (list.clone(), digest))
        };
        self.lists.iter().filter_map(stale).collect()
    }

    /// Takes over a list that the hub sent, and keeps it.
    ///
    /// # Errors
    /// `protocol_version` when it is not what the greeting announced; `disk_full`, `disk_failed`.
    pub fn take(&self, list: &AgreedList, digest: Digest, body: &[u8]) -> Result<(), Fault> {
        if Digest::of(body) != digest || !list.take(body) {
            let what = format!("list {} is not the one that the hub announced", list.name());
            return Err(Fault::new(Code::ProtocolVersion, what));
        }
        put(&lists(&self.state_dir), &list.file_name(), body)
    }
}

/// The folder of kept category lists.
#[must_use]
pub fn lists(state_dir: &Path) -> PathBuf {
    state_dir.join("lists")
}

/// What is kept of a dataset's agreement; `None` also when it cannot be read, for then the next
/// greeting shows it again.
#[must_use]
pub fn kept(state_dir: &Path, dataset: &DatasetId) -> Option<Kept> {
    serde_json::from_slice(&fs::read(contracts(state_dir).join(file_name(dataset))).ok()?).ok()
}

/// The folder of kept agreements.
#[must_use]
pub fn contracts(state_dir: &Path) -> PathBuf {
    state_dir.join("contracts")
}

fn file_name(dataset: &DatasetId) -> String {
    format!("{dataset}.json")
}

/// Written beside, synced, renamed: what stands there is whole. Should a crash lose it, the next
/// greeting brings it again.
fn put(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), Fault> {
    let temporary = folder.join(format!("{name}.tmp"));
    let written = RealDisk
        .create_folder(folder)
        .and_then(|()| RealDisk.write_synced(&temporary, bytes))
        .and_then(|()| RealDisk.rename(&temporary, &folder.join(name)))
        .and_then(|()| RealDisk.sync_folder(folder));
    written.map_err(|error| {
        let what = format!("cannot write {}", folder.join(name).display());
        Fault::because(disk_code(&error), what, error)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use phusa_protocol::contract::consent::SignedConsent;
    use phusa_protocol::keys::SigningKey;

    use super::*;

    const CONTRACT: &str = "dataset = \"cong_dan.nguoi\"\nversion = 1\ntitle_vi = \"N\"\n\
        owner = \"H57.12\"\nlegal_basis = \"QĐ 1\"\nsharing = \"default\"\nfrequency = \"15m\"\n\
        retention = \"30d\"\nkey = [\"id\"]\n\
        field = [{ name = \"id\", type = \"int8\", class = \"N\", name_vi = \"Mã\" }]\n";

    fn terms(agreement: Option<Agreement>) -> Terms {
        let dataset = DatasetId::new("cong_dan.nguoi").unwrap();
        Terms {
            dataset,
            refused: None,
            committed: None,
            agreement: agreement.map(Box::new),
            lists: BTreeMap::new(),
        }
    }

    #[test]
    fn a_version_is_settled_once_and_its_number_stands_for_one_text() {
        let folder = tempfile::tempdir().unwrap();
        let (hub, own) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let agent = AgentId::try_from("H57.12/may-1".to_owned()).unwrap();
        let accord = |text: &str| Accord {
            contract: Contract::from_toml(text).unwrap(),
            hub: hub.public(),
            agent: agent.clone(),
            own: own.public(),
            state_dir: folder.path().to_path_buf(),
            lists: Vec::new(),
        };
        let agreed = |of: &Accord| {
            let owner = SignedConsent::of_owner(&of.contract, &agent, &own);
            Agreement { hub: SignedConsent::of_hub(&of.contract, &owner, &hub), owner }
        };
        let first = accord(CONTRACT);
        let refused = first.settle(&terms(None)).unwrap_err();
        assert_eq!(refused.code, Code::ContractUnsigned);
        let signed = agreed(&first);
        let shown = || terms(Some(signed.clone()));
        first.settle(&shown()).unwrap();
        first.settle(&shown()).unwrap();
        assert!(kept(folder.path(), &first.contract.dataset).is_some());

        let other_key = SigningKey::generate().unwrap().public();
        let rotated = Accord { own: other_key, ..accord(CONTRACT) };
        rotated.settle(&shown()).unwrap();
        let lost = tempfile::tempdir().unwrap();
        let lost = Accord { state_dir: lost.path().to_path_buf(), ..rotated };
        let refused = lost.settle(&shown()).unwrap_err();
        assert!(refused.chain().contains("this agent's key did not make"), "{}", refused.chain());

        let other = accord(&CONTRACT.replace("15m", "20m"));
        let refused = other.settle(&shown()).unwrap_err();
        assert!(refused.chain().contains("for another contract"), "{}", refused.chain());
        let refused = other.settle(&terms(Some(agreed(&other)))).unwrap_err();
        assert!(refused.chain().contains("was agreed here before"), "{}", refused.chain());
        let next = CONTRACT.replace("15m", "20m").replace("version = 1", "version = 1\nminor = 1");
        let next = accord(&next);
        next.settle(&terms(Some(agreed(&next)))).unwrap();
    }

    #[test]
    fn a_list_is_taken_only_as_it_was_announced_and_is_known_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let key = SigningKey::generate().unwrap().public();
        let list = AgreedList::new("gender");
        let accord = Accord {
            contract: Contract::from_toml(CONTRACT).unwrap(),
            hub: key,
            agent: AgentId::try_from("H57.12/may-1".to_owned()).unwrap(),
            own: key,
            state_dir: folder.path().to_path_buf(),
            lists: vec![list.clone()],
        };
        let body = br#"{"code":[{"code":"1","name":"Nam"}]}"#;
        let mut terms = terms(None);
        terms.lists.insert("gender".to_owned(), Digest::of(body));
        let [(stale, digest)] = <[_; 1]>::try_from(accord.stale(&terms)).unwrap();
        assert!(accord.take(&stale, digest, b"{}").is_err());
        accord.take(&stale, digest, body).unwrap();
        assert!(accord.stale(&terms).is_empty());
        let again = AgreedList::new("gender");
        again.recall(&lists(folder.path()));
        assert_eq!(again.digest(), list.digest());
    }
}
