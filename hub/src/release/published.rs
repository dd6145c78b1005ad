//! What is published, for people: which programs, and who signed them.

use phusa_protocol::fault::Fault;
use phusa_protocol::release::{Facts, Version};
use serde::Serialize;
use tough::schema::{RoleType, Target};

use super::metadata::hex;
use super::store::Store;

/// A program that agents may be assigned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Program {
    /// Its version.
    pub version: Version,
    /// What it runs on.
    pub system: String,
    /// The oldest version that may still run beside it.
    pub min_version: Version,
    /// Its length in bytes.
    pub length: u64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
    /// Whether it is older than the oldest that may still run: agents refuse it.
    pub is_too_old: bool,
}

/// A person's key, and what it signed of what is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Signer {
    /// The name of the key in the metadata: the SHA-256 of its public half.
    pub key: String,
    /// Whether it may say who signs, and signed the root in force.
    pub root: Option<bool>,
    /// Whether it may say which programs run, and signed the targets in force.
    pub targets: Option<bool>,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Published {
    /// The programs, the newest first.
    pub programs: Vec<Program>,
    /// Who may sign, and did.
    pub signers: Vec<Signer>,
    /// How many must sign the root, and the targets.
    pub thresholds: (u64, u64),
}

/// What is in force; `None` before the first publication.
///
/// # Errors
/// When the metadata cannot be read.
pub fn look(store: &Store) -> Result<Option<Published>, Fault> {
    let (Some(root), Some(targets)) = (store.root()?, store.targets()?) else { return Ok(None) };
    let facts = |target: &Target| {
        let custom =
            target.custom.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        serde_json::from_value::<Facts>(serde_json::Value::Object(custom)).ok()
    };
    let all = targets.signed.targets.values();
    let mut programs: Vec<Program> = all
        .filter_map(|target| {
            let Facts { version, system, min_version, .. } = facts(target)?;
            let (length, sha256) = (target.length, hex(&target.hashes.sha256));
            Some(Program { version, system, min_version, length, sha256, is_too_old: false })
        })
        .collect();
    programs.sort_by_key(|one| std::cmp::Reverse(one.version));
    let floor = programs.iter().map(|one| one.min_version).max();
    for one in &mut programs {
        one.is_too_old = floor.is_some_and(|floor| one.version < floor);
    }
    let keys = |role: RoleType| {
        let keys = root.signed.roles.get(&role);
        let names = keys.map(|keys| keys.keyids.iter().map(|id| hex(id)).collect::<Vec<_>>());
        (names.unwrap_or_default(), keys.map_or(0, |keys| keys.threshold.get()))
    };
    let ((of_root, root_min), (of_targets, targets_min)) =
        (keys(RoleType::Root), keys(RoleType::Targets));
    let signed_root: Vec<String> = root.signatures.iter().map(|one| hex(&one.keyid)).collect();
    let signed: Vec<String> = targets.signatures.iter().map(|one| hex(&one.keyid)).collect();
    let mut names: Vec<&String> = of_root.iter().chain(&of_targets).collect();
    names.sort();
    names.dedup();
    let signers = names.into_iter().map(|key| Signer {
        key: key.clone(),
        root: of_root.contains(key).then(|| signed_root.contains(key)),
        targets: of_targets.contains(key).then(|| signed.contains(key)),
    });
    Ok(Some(Published {
        programs,
        signers: signers.collect(),
        thresholds: (root_min, targets_min),
    }))
}
