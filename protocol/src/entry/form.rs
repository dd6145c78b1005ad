//! Which parts an entry of a kind has, and which it has not.

use super::act::Act;
use super::{Entry, Kind};

/// Whether an entry says only what its kind may say.
///
/// # Errors
/// What it says besides, or leaves out.
pub(super) fn check(entry: &Entry) -> Result<(), String> {
    if entry.compared.is_some() != (entry.kind == Kind::Proof) {
        return Err("only a proof may say what a comparison came to".to_owned());
    }
    if entry.restored.is_some() != (entry.kind == Kind::Restore) {
        return Err("only a restore may say what was lost".to_owned());
    }
    if entry.identity.is_some() != (entry.kind == Kind::Identity) {
        return Err("only a step of an identity may say which".to_owned());
    }
    let acts = matches!(entry.kind, Kind::Backup | Kind::Read | Kind::Export | Kind::Destroy);
    if entry.act.as_ref().map(Act::kind) != acts.then_some(entry.kind) {
        return Err("says that something else was done than its kind".to_owned());
    }
    let taken = entry.deed.as_ref().map(|deed| deed.taken.is_some());
    let expected = match entry.kind {
        Kind::Disclose => Some(true),
        Kind::Operator => Some(false),
        Kind::Push
        | Kind::Refuse
        | Kind::Contract
        | Kind::Category
        | Kind::Proof
        | Kind::Restore
        | Kind::Identity
        | Kind::Backup
        | Kind::Read
        | Kind::Export
        | Kind::Destroy => None,
    };
    if taken != expected {
        return Err("only a disclosure or an operator's deed may say who did what".to_owned());
    }
    Ok(())
}
