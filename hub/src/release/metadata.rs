//! The four roles of TUF as values: made from plain facts, signed, checked, written as JSON.
//!
//! The types, the canonical form that is signed and the counting of signatures are those of `tough`, the
//! library agents verify with.

use std::time::Duration;

use phusa_protocol::digest::Digest;
use phusa_protocol::fault::Fault;
use phusa_protocol::keys::{PublicKey, SigningKey};
use phusa_protocol::release::Facts;
use phusa_protocol::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tough::schema::decoded::{Decoded, Hex};
use tough::schema::key::Key;
use tough::schema::{Role, RoleType, Root, Signature, Signed, Snapshot, Targets};

use super::{refused, wrong};

/// The version of TUF's specification that is written.
const SPEC: &str = "1.0.31";

/// How long root and targets hold: a year, in which people meet once.
pub const OFFLINE_VALID: Duration = Duration::from_secs(365 * 86_400);

/// How long snapshot and timestamp hold: for so long a new release can be held back unseen.
pub const ONLINE_VALID: Duration = Duration::from_secs(7 * 86_400);

/// Who signs what.
#[derive(Debug, Clone)]
pub struct Signers {
    /// Who may say who signs.
    pub root: Vec<PublicKey>,
    /// Who may say which programs run.
    pub targets: Vec<PublicKey>,
    /// How many of each must.
    pub threshold: u64,
    /// The hub's own key of snapshot and timestamp.
    pub online: PublicKey,
}

/// A moment as TUF writes it: whole seconds.
#[must_use]
pub fn moment(at: Timestamp) -> String {
    let text = at.to_string();
    text.get(..19).map_or(text.clone(), |seconds| format!("{seconds}Z"))
}

fn key(public: &PublicKey) -> Result<Key, Fault> {
    let public = hex(public.as_bytes());
    let key = json!({"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": public}});
    serde_json::from_value(key).map_err(wrong("cannot write a key for TUF"))
}

/// The name of a key in metadata.
///
/// # Errors
/// When it cannot be written.
pub fn key_id(public: &PublicKey) -> Result<String, Fault> {
    let id = key(public)?.key_id().map_err(wrong("cannot name a key for TUF"))?;
    Ok(hex(&id.into_vec()))
}

/// Bytes as TUF writes them.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unsigned<T: DeserializeOwned>(signed: Value) -> Result<Signed<T>, Fault> {
    let whole = json!({"signed": signed, "signatures": []});
    serde_json::from_value(whole).map_err(wrong("cannot write metadata of TUF"))
}

/// A root: who signs what.
///
/// # Errors
/// When there are fewer signers than must sign, or one of them twice.
pub fn root(version: u64, until: Timestamp, signers: &Signers) -> Result<Signed<Root>, Fault> {
    let mut keys = serde_json::Map::new();
    let mut ids = |of: &[PublicKey]| -> Result<Vec<String>, Fault> {
        let mut found = Vec::new();
        for public in of {
            let value = serde_json::to_value(key(public)?).unwrap_or_default();
            let id = key_id(public)?;
            if found.contains(&id) {
                return Err(refused("the same key stands twice for one role"));
            }
            keys.insert(id.clone(), value);
            found.push(id);
        }
        Ok(found)
    };
    let (root, targets) = (ids(&signers.root)?, ids(&signers.targets)?);
    let online = ids(&[signers.online])?;
    let fewest = u64::try_from(root.len().min(targets.len())).unwrap_or(u64::MAX);
    if signers.threshold < 1 || fewest < signers.threshold {
        return Err(refused(format!("{} must sign, {fewest} can", signers.threshold)));
    }
    let of = |ids: &[String], threshold: u64| json!({"keyids": ids, "threshold": threshold});
    unsigned(json!({
        "_type": "root", "spec_version": SPEC, "version": version, "expires": moment(until),
        "consistent_snapshot": true, "keys": keys,
        "roles": {
            "root": of(&root, signers.threshold), "targets": of(&targets, signers.threshold),
            "snapshot": of(&online, 1), "timestamp": of(&online, 1),
        },
    }))
}

/// Targets without a program.
///
/// # Errors
/// When they cannot be written.
pub fn targets(version: u64, until: Timestamp) -> Result<Signed<Targets>, Fault> {
    unsigned(json!({
        "_type": "targets", "spec_version": SPEC, "version": version, "expires": moment(until),
        "targets": {},
    }))
}

/// The same targets with one program more, of another version and without signatures.
///
/// # Errors
/// When they cannot be written.
pub fn with_target(
    before: &Signed<Targets>,
    (version, until): (u64, Timestamp),
    (length, digest): (u64, Digest),
    facts: &Facts,
) -> Result<Signed<Targets>, Fault> {
    let mut value = serde_json::to_value(&before.signed).unwrap_or_default();
    let target = json!({
        "length": length, "hashes": {"sha256": hex(digest.as_bytes())}, "custom": facts,
    });
    if let Some(targets) = value.get_mut("targets").and_then(Value::as_object_mut) {
        targets.insert(facts.target_name(), target);
    }
    set(&mut value, version, until);
    unsigned(value)
}

/// The same targets, of another version and end, without signatures.
///
/// # Errors
/// When they cannot be written.
pub fn renewed(
    before: &Signed<Targets>,
    version: u64,
    until: Timestamp,
) -> Result<Signed<Targets>, Fault> {
    let mut value = serde_json::to_value(&before.signed).unwrap_or_default();
    set(&mut value, version, until);
    unsigned(value)
}

fn set(value: &mut Value, version: u64, until: Timestamp) {
    if let Some(object) = value.as_object_mut() {
        object.insert("version".to_owned(), version.into());
        object.insert("expires".to_owned(), moment(until).into());
    }
}

/// A snapshot: which targets are in force.
///
/// # Errors
/// When it cannot be written.
pub fn snapshot(version: u64, until: Timestamp, targets: u64) -> Result<Signed<Snapshot>, Fault> {
    unsigned(json!({
        "_type": "snapshot", "spec_version": SPEC, "version": version, "expires": moment(until),
        "meta": {"targets.json": {"version": targets}},
    }))
}

/// A timestamp: which snapshot is the newest.
///
/// # Errors
/// When it cannot be written.
pub fn timestamp(
    version: u64,
    until: Timestamp,
    (number, snapshot): (u64, &[u8]),
) -> Result<Signed<tough::schema::Timestamp>, Fault> {
    let digest = hex(Digest::of(snapshot).as_bytes());
    let meta = json!({
        "version": number, "length": snapshot.len(), "hashes": {"sha256": digest},
    });
    unsigned(json!({
        "_type": "timestamp", "spec_version": SPEC, "version": version, "expires": moment(until),
        "meta": {"snapshot.json": meta},
    }))
}

/// Adds a signature; a key signs once.
///
/// # Errors
/// When the canonical form cannot be made.
pub fn sign<T: Role>(signed: &mut Signed<T>, key: &SigningKey) -> Result<(), Fault> {
    let form = signed.signed.canonical_form().map_err(wrong("cannot write metadata of TUF"))?;
    let id = hex_decoded(&key_id(&key.public())?)?;
    signed.signatures.retain(|one| one.keyid != id);
    let sig: Decoded<Hex> = key.sign(&form).as_bytes().to_vec().into();
    signed.signatures.push(Signature { keyid: id, sig });
    Ok(())
}

fn hex_decoded(text: &str) -> Result<Decoded<Hex>, Fault> {
    serde_json::from_value(text.into()).map_err(wrong("cannot name a key for TUF"))
}

/// Who of `role` has not signed yet, and how many must.
#[must_use]
pub fn missing<T: Role>(root: &Root, signed: &Signed<T>, role: RoleType) -> (usize, u64) {
    let Some(keys) = root.roles.get(&role) else { return (0, u64::MAX) };
    let have = keys.keyids.iter().filter(|id| signed.signatures.iter().any(|s| s.keyid == **id));
    (have.count(), keys.threshold.get())
}

/// As it is written.
#[must_use]
pub fn bytes<T: Serialize>(signed: &Signed<T>) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(signed).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}
