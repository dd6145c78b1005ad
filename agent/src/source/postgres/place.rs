//! `Place`: what [`Resume`] holds for this engine, and whether a source still reaches back to it.

use std::fmt;

use phusa_protocol::fault::{Code, Fault};
use serde::{Deserialize, Serialize};

use super::drift::Partitions;
use crate::source::Resume;
use crate::source::snapshot::Reading;

/// A position in the source's log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug, Serialize, Deserialize)]
pub(super) struct Lsn(pub(super) u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl Lsn {
    /// Reads `16/B374D848`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (high, low) = text.split_once('/')?;
        let high = u64::from(u32::from_str_radix(high, 16).ok()?);
        Some(Self((high << 32) | u64::from(u32::from_str_radix(low, 16).ok()?)))
    }
}

/// Which server and which history of it a position belongs to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Identity {
    /// Given to a cluster when it was made.
    pub(super) system: String,
    /// Rises with each promotion and each recovery to a point in time.
    pub(super) timeline: u32,
    /// The database's number: one that was dropped and made again has another.
    pub(super) database: u32,
    /// The table's number, for the same reason.
    pub(super) table: u32,
    /// Stands for the columns that are read and their types.
    pub(super) columns: String,
    /// Stands for the publication as it was last altered: what is written while it does not carry
    /// the table is in no log.
    pub(super) publication: String,
    /// The table's partitions; `None` was written by a version that did not look at them.
    #[serde(default)]
    pub(super) partitions: Option<Partitions>,
}

/// Where a capture stands.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) identity: Identity,
    pub(super) slot: String,
    pub(super) stage: Stage,
}

/// What a capture is doing.
#[derive(Clone, Serialize, Deserialize)]
pub(super) enum Stage {
    /// The full read; the log is followed from `start` afterwards.
    Reading { start: Lsn, reading: Reading },
    /// The log.
    Following(Following),
}

/// Where a capture stands in the log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Following {
    /// Everything committed before this was handed on.
    pub(super) at: Lsn,
    /// The transaction after it that was handed on in part.
    pub(super) open: Option<OpenTx>,
    /// Changes before this may already be in the full read.
    pub(super) settle_until: Option<Lsn>,
    /// Whether the blocks so far told that the dataset is consistent.
    pub(super) told_live: bool,
}

/// A transaction that a block's end cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct OpenTx {
    /// Where its commit record begins.
    pub(super) final_lsn: Lsn,
    /// How many of its changes were handed on.
    pub(super) changes: u64,
}

/// What the server says of the slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SlotState {
    /// Whether the log it needs is still there.
    pub(super) usable: bool,
    /// Up to where it was confirmed.
    pub(super) confirmed: Lsn,
}

impl Place {
    /// The opaque form.
    pub(super) fn seal(&self) -> Resume {
        // Plain fields and maps with number keys: serialising cannot fail. An empty form would be
        // refused by `open` and lead to a new epoch.
        Resume(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads the opaque form.
    pub(super) fn open(resume: &Resume) -> Result<Self, Fault> {
        serde_json::from_slice(&resume.0).map_err(|_| {
            Fault::new(Code::SourceGap, "the place to resume from was written by another version")
        })
    }

    /// Up to where the slot may have been confirmed by this agent.
    fn durable(&self) -> Lsn {
        match &self.stage {
            Stage::Reading { start, .. } => *start,
            Stage::Following(following) => following.at,
        }
    }

    /// Whether the source still is what it was and its log reaches back to here.
    ///
    /// # Errors
    /// `source_gap`, saying what changed.
    pub(super) fn check(&self, now: &Identity, slot: Option<&SlotState>) -> Result<(), Fault> {
        let gap = |what: String| Err(Fault::new(Code::SourceGap, what));
        let name = &self.slot;
        if now.system != self.identity.system {
            return gap("the server is another one than when reading stopped".to_owned());
        }
        if now.timeline != self.identity.timeline {
            let (old, new) = (self.identity.timeline, now.timeline);
            return gap(format!("the server went from timeline {old} to {new}"));
        }
        if (now.database, now.table) != (self.identity.database, self.identity.table) {
            return gap("the table was made anew since reading stopped".to_owned());
        }
        if now.columns != self.identity.columns {
            return gap("columns have other types than when reading stopped".to_owned());
        }
        if now.publication != self.identity.publication {
            return gap("its publication was altered since reading stopped".to_owned());
        }
        let partitions = now.partitions.as_ref().zip(self.identity.partitions.as_ref());
        if let Some(untold) = partitions.and_then(|(now, before)| now.untold_since(before)) {
            return gap(format!("{untold} since reading stopped"));
        }
        match slot {
            None => gap(format!("replication slot {name} is gone")),
            Some(slot) if !slot.usable => gap(format!("replication slot {name} lost its log")),
            Some(slot) if slot.confirmed > self.durable() => gap(format!(
                "replication slot {name} was moved to {} by someone else; this agent was at {}",
                slot.confirmed,
                self.durable()
            )),
            Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        let (system, publication) = ("7".to_owned(), "3 1".to_owned());
        let columns = "id int4".to_owned();
        let partitions = Some(Partitions::default());
        Identity { system, timeline: 1, database: 5, table: 9, columns, publication, partitions }
    }

    fn place() -> Place {
        let following = Following { at: Lsn(100), open: None, settle_until: None, told_live: true };
        let stage = Stage::Following(following);
        Place { identity: identity(), slot: "phusa_1".to_owned(), stage }
    }

    #[test]
    fn only_the_same_history_is_resumed() {
        let check = |identity: Identity, slot: Option<(bool, u64)>, fine: bool| {
            let slot = slot.map(|(usable, at)| SlotState { usable, confirmed: Lsn(at) });
            let result = place().check(&identity, slot.as_ref());
            assert_eq!(result.is_ok(), fine, "{identity:?} {slot:?}");
            assert!(result.err().is_none_or(|fault| fault.code == Code::SourceGap));
        };
        check(identity(), Some((true, 100)), true);
        check(identity(), Some((true, 40)), true);
        check(identity(), Some((true, 101)), false);
        check(identity(), Some((false, 40)), false);
        check(identity(), None, false);
        check(Identity { system: "8".to_owned(), ..identity() }, Some((true, 100)), false);
        check(Identity { timeline: 2, ..identity() }, Some((true, 100)), false);
        check(Identity { table: 10, ..identity() }, Some((true, 100)), false);
        let columns = "id int8".to_owned();
        check(Identity { columns, ..identity() }, Some((true, 100)), false);
        let publication = "3 2".to_owned();
        check(Identity { publication, ..identity() }, Some((true, 100)), false);
        let attached = serde_json::from_str(r#"{"files":{"1":10}}"#).unwrap();
        check(Identity { partitions: attached, ..identity() }, Some((true, 100)), false);
        check(Identity { partitions: None, ..identity() }, Some((true, 100)), true);
    }

    #[test]
    fn a_place_comes_back_and_a_foreign_one_is_a_gap() {
        let again = Place::open(&place().seal()).unwrap();
        assert_eq!(again.identity, identity());
        let fault = Place::open(&Resume(b"{}".to_vec())).err().unwrap();
        assert_eq!(fault.code, Code::SourceGap);
    }

    #[test]
    fn positions_are_written_as_the_server_does() {
        let lsn = Lsn::parse("16/B374D848").unwrap();
        assert_eq!(lsn.to_string(), "16/B374D848");
        assert_eq!(Lsn::parse("16"), None);
    }
}
