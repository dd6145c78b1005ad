//! What the hub signs itself: which targets are in force, and that this is the newest word.

use std::time::Duration;

use phusa_protocol::fault::Fault;
use phusa_protocol::keys::PublicKey;
use phusa_protocol::time::Timestamp;
use serde::Serialize;
use tough::schema::{Role as _, RoleType, Root};

use super::metadata::{self, ONLINE_VALID};
use super::store::{Store, put};
use super::{refused, wrong};

/// Signed anew when less than this is left: once a day, with six days for whoever has to mend the hub.
const SIGN_BEFORE: Duration = Duration::from_secs(6 * 86_400);

/// Days before an end at which it is told.
pub const TOLD_DAYS: [u64; 4] = [30, 14, 7, 1];

/// Whether the root lets this key sign snapshot and timestamp.
pub(super) fn may_sign(root: &Root, key: &PublicKey) -> Result<bool, Fault> {
    let id = metadata::key_id(key)?;
    let named = |role| {
        let keys = root.roles.get(&role);
        keys.is_some_and(|keys| keys.keyids.iter().any(|one| metadata::hex(one) == id))
    };
    Ok(named(RoleType::Snapshot) && named(RoleType::Timestamp))
}

/// Signs snapshot and timestamp of the newest targets.
///
/// # Errors
/// `release_refused` when there are none, `disk_failed`.
pub fn sign(store: &Store, now: Timestamp) -> Result<(), Fault> {
    let key = store.online_key()?;
    let targets = store.targets()?.ok_or_else(|| refused("there are no targets"))?;
    let next = |newest: Option<u64>| newest.map_or(1, |newest| newest.saturating_add(1));
    let until = now.after(ONLINE_VALID);
    let number = next(store.snapshot()?.map(|snapshot| snapshot.signed.version().get()));
    let mut snapshot = metadata::snapshot(number, until, targets.signed.version().get())?;
    metadata::sign(&mut snapshot, &key)?;
    let snapshot = metadata::bytes(&snapshot);
    put(&store.metadata().join(format!("{number}.snapshot.json")), &snapshot)?;
    let version = next(store.timestamp()?.map(|stamp| stamp.signed.version().get()));
    let mut stamp = metadata::timestamp(version, until, (number, &snapshot))?;
    metadata::sign(&mut stamp, &key)?;
    put(&store.metadata().join("timestamp.json"), &metadata::bytes(&stamp))
}

/// Signs anew where the end is near; `true` when it did.
///
/// # Errors
/// As [`sign`].
pub fn renew(store: &Store, now: Timestamp) -> Result<bool, Fault> {
    if !store.is_begun() {
        return Ok(false);
    }
    let _alone = store.lock()?;
    let Some(ends) = ends(store)? else { return Ok(false) };
    let near = now.after(SIGN_BEFORE);
    let due = ends.iter().any(|end| end.is_online && end.until < near);
    if due {
        sign(store, now)?;
    }
    Ok(due)
}

/// When a role ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct End {
    /// `root`, `targets`, `snapshot` or `timestamp`.
    pub role: String,
    /// Its version.
    pub version: u64,
    /// When it ends.
    pub until: Timestamp,
    /// Whether the hub signs it itself.
    pub is_online: bool,
}

impl End {
    /// Whole days that are left; 0 on the last day and after the end.
    #[must_use]
    pub fn days(&self, now: Timestamp) -> u64 {
        self.until.since(now).as_secs() / 86_400
    }

    /// The step of the countdown that was reached: the smallest of [`TOLD_DAYS`] it is within. The
    /// hub's own roles are told of on their last day alone: until then it signs them itself.
    #[must_use]
    pub fn step(&self, now: Timestamp) -> Option<u64> {
        let days = self.days(now);
        let steps = if self.is_online { &TOLD_DAYS[3..] } else { &TOLD_DAYS[..] };
        steps.iter().copied().filter(|step| days < *step).min()
    }
}

/// When each role ends; `None` before the first publication.
///
/// # Errors
/// When the metadata cannot be read.
pub fn ends(store: &Store) -> Result<Option<Vec<End>>, Fault> {
    let (Some(root), Some(targets), Some(snapshot), Some(stamp)) =
        (store.root()?, store.targets()?, store.snapshot()?, store.timestamp()?)
    else {
        return Ok(None);
    };
    let end = |role: &str, version: u64, expires: String, is_online: bool| {
        let until = Timestamp::try_from(expires).map_err(wrong("a role's end is no moment"))?;
        Ok(End { role: role.to_owned(), version, until, is_online })
    };
    Ok(Some(vec![
        end("root", root.signed.version().get(), rfc(&root.signed.expires()), false)?,
        end("targets", targets.signed.version().get(), rfc(&targets.signed.expires()), false)?,
        end("snapshot", snapshot.signed.version().get(), rfc(&snapshot.signed.expires()), true)?,
        end("timestamp", stamp.signed.version().get(), rfc(&stamp.signed.expires()), true)?,
    ]))
}

fn rfc(moment: &impl Serialize) -> String {
    let value = serde_json::to_value(moment).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}
