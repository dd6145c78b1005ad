//! What people do: begin, add a program, sign, change who signs, publish.
//!
//! Each step leaves a draft that is carried to the next person; nothing is served before `publish` has
//! counted the signatures.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use phusa_protocol::digest::Digest;
use phusa_protocol::fault::Fault;
use phusa_protocol::keys::{PublicKey, SigningKey};
use phusa_protocol::release::Facts;
use phusa_protocol::time::Timestamp;
use tough::schema::{Role as _, RoleType, Root, Signed, Targets};

use super::metadata::{self, OFFLINE_VALID, Signers};
use super::store::{Store, disk, put, read, remove, rename};
use super::{online, refused, wrong};
use crate::identity::files::{make_dir, signing_key};

/// The largest program, in bytes.
pub const PROGRAM_BYTES_MAX: u64 = 256 << 20;

const ROOT: &str = "root.json";
const TARGETS: &str = "targets.json";
const ONLINE: &str = "online.key";

/// Who signs from now on.
#[derive(Debug, Clone)]
pub struct People {
    /// Public keys of those who may say who signs.
    pub root: Vec<PublicKey>,
    /// Public keys of those who may say which programs run.
    pub targets: Vec<PublicKey>,
    /// How many of each must sign.
    pub threshold: u64,
}

impl People {
    fn signers(self, online: PublicKey) -> Signers {
        let Self { root, targets, threshold } = self;
        Signers { root, targets, threshold, online }
    }
}

/// Begins: drafts of a first root and of targets without a program.
///
/// # Errors
/// `release_refused` when something was published before, or too few can sign.
pub fn init(store: &Store, people: People, now: Timestamp) -> Result<Vec<PathBuf>, Fault> {
    if store.is_begun() {
        return Err(refused("releases have begun already: use rotate-root to change who signs"));
    }
    store.make()?;
    let until = now.after(OFFLINE_VALID);
    let root = metadata::root(1, until, &people.signers(store.online_key()?.public()))?;
    let targets = metadata::targets(1, until)?;
    let files = [store.draft().join(ROOT), store.draft().join(TARGETS)];
    put(&files[0], &metadata::bytes(&root))?;
    put(&files[1], &metadata::bytes(&targets))?;
    Ok(files.to_vec())
}

/// Adds a program to the draft of targets, whose signatures it loses; begins one where there is none.
///
/// # Errors
/// `release_refused` when releases have not begun, the program is too large or its version is there.
pub fn add(store: &Store, program: &Path, facts: &Facts, now: Timestamp) -> Result<PathBuf, Fault> {
    store.make()?;
    let file = store.draft().join(TARGETS);
    let before = match read::<Targets>(&file)? {
        Some(draft) => draft,
        None => store.targets()?.ok_or_else(|| refused("releases have not begun: use init"))?,
    };
    let name = facts.target_name();
    if before.signed.targets.keys().any(|known| known.raw() == name) {
        return Err(refused(format!("{name} is there already: give the program another version")));
    }
    if facts.min_version > facts.version {
        return Err(refused("min_version is above the version itself"));
    }
    let bytes = program_bytes(program)?;
    let digest = Digest::of(&bytes);
    let target = format!("{}.{name}", metadata::hex(digest.as_bytes()));
    put(&store.draft().join("targets").join(target), &bytes)?;
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let version = next(store.targets()?.map(|targets| targets.signed.version().get()));
    let until = now.after(OFFLINE_VALID);
    let draft = metadata::with_target(&before, (version, until), (length, digest), facts)?;
    put(&file, &metadata::bytes(&draft))?;
    Ok(file)
}

fn program_bytes(program: &Path) -> Result<Vec<u8>, Fault> {
    let failed = disk(format!("cannot read {}", program.display()));
    let mut bytes = Vec::new();
    let file = File::open(program).map_err(&failed)?;
    file.take(PROGRAM_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(&failed)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > PROGRAM_BYTES_MAX || bytes.is_empty() {
        let what = format!("{} is empty or larger than {PROGRAM_BYTES_MAX}", program.display());
        return Err(refused(what));
    }
    Ok(bytes)
}

fn next(newest: Option<u64>) -> u64 {
    newest.map_or(1, |newest| newest.saturating_add(1))
}

/// Drafts a root that names others, or the same for another year; with `new_online` also another key of
/// the hub. Targets are drafted anew, for whoever signs them now.
///
/// # Errors
/// `release_refused` when releases have not begun or too few can sign.
pub fn rotate(
    store: &Store,
    people: People,
    new_online: bool,
    now: Timestamp,
) -> Result<Vec<PathBuf>, Fault> {
    store.make()?;
    let begun = |found: Option<u64>| found.ok_or_else(|| refused("releases have not begun"));
    let version = begun(store.root()?.map(|root| root.signed.version().get()))?;
    let online = match new_online {
        true => signing_key(&store.draft().join(ONLINE))?,
        false => store.online_key()?,
    };
    let until = now.after(OFFLINE_VALID);
    let root = metadata::root(version.saturating_add(1), until, &people.signers(online.public()))?;
    let file = store.draft().join(ROOT);
    put(&file, &metadata::bytes(&root))?;
    let Some(targets) = store.targets()? else { return Ok(vec![file]) };
    let again = store.draft().join(TARGETS);
    if !again.exists() {
        let version = targets.signed.version().get().saturating_add(1);
        let renewed = metadata::renewed(&targets, version, until)?;
        put(&again, &metadata::bytes(&renewed))?;
    }
    Ok(vec![file, again])
}

/// Signs a draft, wherever it lies; what kind of file it is, it says itself.
///
/// # Errors
/// `release_refused` when it is no draft, `disk_failed`.
pub fn sign(file: &Path, key: &SigningKey) -> Result<(), Fault> {
    let none = || refused(format!("{} is no draft of root or targets", file.display()));
    let text = fs::read(file).map_err(disk(format!("cannot read {}", file.display())))?;
    let value: serde_json::Value = serde_json::from_slice(&text).map_err(|_| none())?;
    let bytes = match value.pointer("/signed/_type").and_then(|kind| kind.as_str()) {
        Some("root") => {
            let mut root: Signed<Root> = serde_json::from_value(value).map_err(wrong("no root"))?;
            metadata::sign(&mut root, key)?;
            metadata::bytes(&root)
        }
        Some("targets") => {
            let mut targets: Signed<Targets> =
                serde_json::from_value(value).map_err(wrong("no targets"))?;
            metadata::sign(&mut targets, key)?;
            metadata::bytes(&targets)
        }
        Some(_) | None => return Err(none()),
    };
    put(file, &bytes)
}

/// What was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Version of the root in force.
    pub root: u64,
    /// Version of the targets in force.
    pub targets: u64,
}

/// Counts signatures, puts the drafts into force and signs snapshot and timestamp.
///
/// # Errors
/// `release_refused` with who is missing; nothing is changed then.
pub fn publish(store: &Store, now: Timestamp) -> Result<Published, Fault> {
    store.make()?;
    let _alone = store.lock()?;
    let (old, draft) = (store.root()?, read::<Root>(&store.draft().join(ROOT))?);
    if let Some(draft) = &draft {
        follows(old.as_ref(), draft)?;
    }
    let is_new_root = draft.is_some();
    let root = draft.or(old).ok_or_else(|| refused("releases have not begun: use init"))?;
    let draft = read::<Targets>(&store.draft().join(TARGETS))?;
    let is_new_targets = draft.is_some();
    let targets = match draft {
        Some(draft) => draft,
        None => store.targets()?.ok_or_else(|| refused("there are no targets"))?,
    };
    signed_enough(&root.signed, &targets, RoleType::Targets)?;
    let key = match store.draft().join(ONLINE) {
        file if is_new_root && file.exists() => signing_key(&file)?,
        _ => store.online_key()?,
    };
    if !online::may_sign(&root.signed, &key.public())? {
        return Err(refused("the root names another online key than this hub's"));
    }
    move_programs(store)?;
    let published =
        Published { root: root.signed.version().get(), targets: targets.signed.version().get() };
    if is_new_root {
        put(
            &store.metadata().join(format!("{}.root.json", published.root)),
            &metadata::bytes(&root),
        )?;
        let online = store.draft().join(ONLINE);
        if online.exists() {
            rename(&online, &store.online_key_file())?;
        }
        remove(&store.draft().join(ROOT))?;
    }
    if is_new_targets {
        let file = store.metadata().join(format!("{}.targets.json", published.targets));
        put(&file, &metadata::bytes(&targets))?;
        remove(&store.draft().join(TARGETS))?;
    }
    online::sign(store, now)?;
    Ok(published)
}

/// A root follows on the one before: signed by enough of those named there, and of those it names.
fn follows(old: Option<&Signed<Root>>, new: &Signed<Root>) -> Result<(), Fault> {
    let expected = next(old.map(|old| old.signed.version().get()));
    if new.signed.version().get() != expected {
        let what = format!("the draft is root {}, not {expected}", new.signed.version());
        return Err(refused(what));
    }
    if let Some(old) = old {
        signed_enough(&old.signed, new, RoleType::Root)?;
    }
    signed_enough(&new.signed, new, RoleType::Root)
}

fn signed_enough<T>(root: &Root, signed: &Signed<T>, role: RoleType) -> Result<(), Fault>
where
    T: tough::schema::Role,
{
    let (have, must) = metadata::missing(root, signed, role);
    let what = format!("{role} {}: {have} of {must} signatures are there", signed.signed.version());
    root.verify_role(signed).map_err(wrong(&what))
}

fn move_programs(store: &Store) -> Result<(), Fault> {
    let from = store.draft().join("targets");
    make_dir(&store.targets_dir())?;
    let entries = fs::read_dir(&from).map_err(disk(format!("cannot list {}", from.display())))?;
    for entry in entries.flatten() {
        rename(&entry.path(), &store.targets_dir().join(entry.file_name()))?;
    }
    Ok(())
}
