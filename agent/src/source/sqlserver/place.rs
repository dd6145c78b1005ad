//! `Place`: what [`Resume`] holds for this engine, and whether a source still reaches back to it.

use std::fmt::Write as _;

use phusa_protocol::fault::{Code, Fault};
use serde::{Deserialize, Serialize};

use crate::source::Resume;
use crate::source::snapshot::Reading;

/// A position in what tells of changes: a version of change tracking, a log sequence number of
/// change data capture, or a row version. All are numbers that only rise.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub(super) struct Mark(pub(super) u128);

/// Bytes of a log sequence number, and of a row version.
const LSN_BYTES: usize = 10;
const ROW_VERSION_BYTES: usize = 8;

impl Mark {
    /// A version of change tracking; there is none below 0.
    pub(super) fn of_version(version: i64) -> Self {
        Self(u128::from(version.max(0).unsigned_abs()))
    }

    /// The version it was made of.
    pub(super) fn version(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }

    /// A log sequence number or a row version as it lies.
    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(0, |sum, byte| sum << 8 | u128::from(*byte)))
    }

    /// The log sequence number it was made of.
    pub(super) fn lsn(self) -> Vec<u8> {
        self.last_bytes(LSN_BYTES)
    }

    /// The row version it was made of.
    pub(super) fn row_version(self) -> Vec<u8> {
        self.last_bytes(ROW_VERSION_BYTES)
    }

    fn last_bytes(self, count: usize) -> Vec<u8> {
        self.0.to_be_bytes().iter().skip(16 - count).copied().collect()
    }
}

// In text, because the JSON of a place has no number of this size.
impl Serialize for Mark {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Mark {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

/// What tells of the changes of a table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Log {
    /// Change tracking: which keys changed since a version.
    Tracking,
    /// Change data capture: every change as the log had it.
    Captured {
        /// The capture instance.
        instance: String,
    },
    /// The table's row version: which rows were written since. Deletes are not seen.
    RowVersion {
        /// Its column.
        column: String,
    },
}

impl Log {
    /// A position as it stands in the transfer log.
    pub(super) fn position(&self, at: Mark) -> String {
        match self {
            Self::Tracking => format!("ct:{}", at.version()),
            Self::Captured { .. } => hex("cdc:", &at.lsn()),
            Self::RowVersion { .. } => hex("rv:", &at.row_version()),
        }
    }
}

fn hex(prefix: &str, bytes: &[u8]) -> String {
    let mut out = prefix.to_owned();
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// Which database, which history of it, and which table a position belongs to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Identity {
    /// When the database was made or restored, and its recovery fork where the login may see it: a
    /// restored database counts on from an older version, and would give wrong changes.
    pub(super) database: String,
    /// The table's number and when it was made.
    pub(super) table: String,
    /// Stands for the columns that are read and their types.
    pub(super) columns: String,
    /// What tells of changes.
    pub(super) log: Log,
}

/// Where a capture stands.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) identity: Identity,
    pub(super) stage: Stage,
}

/// What a capture is doing.
#[derive(Clone, Serialize, Deserialize)]
pub(super) enum Stage {
    /// The full read; changes are followed from `start` afterwards.
    Reading { start: Mark, reading: Reading },
    /// The changes.
    Following(Following),
}

/// Where a capture stands in the changes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Following {
    /// Everything up to this was handed on.
    pub(super) at: Mark,
    /// What comes after it and was handed on in part.
    pub(super) open: Option<Open>,
    /// Changes before this may already be in the full read.
    pub(super) settle_until: Option<Settle>,
    /// Whether the blocks so far told that the dataset is consistent.
    pub(super) told_live: bool,
}

/// A set of changes that a block's end cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Open {
    /// Where it ends.
    pub(super) end: Mark,
    /// How many of its changes were handed on.
    pub(super) changes: u64,
}

/// When what the full read may have seen early is behind.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Settle {
    /// At this position.
    At(Mark),
    /// Once the log has been read up to this time of the server's clock: change data capture comes
    /// later than the commit, and no position of the log can be asked for in advance.
    Past(String),
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

    /// Whether it belongs to the source as it is now.
    pub(super) fn check(&self, now: &Identity) -> Result<(), Fault> {
        let gap = |what: &str| Err(Fault::new(Code::SourceGap, what));
        if now.database != self.identity.database {
            return gap("the database was restored or made anew since reading stopped");
        }
        if now.table != self.identity.table {
            return gap("the table was made anew since reading stopped");
        }
        if now.columns != self.identity.columns {
            return gap("columns have other types than when reading stopped");
        }
        if now.log != self.identity.log {
            return gap("changes are found in another way than when reading stopped");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        let text = str::to_owned;
        let (database, table, columns) = (text("2026 a"), text("7 2026"), text("id int"));
        Identity { database, table, columns, log: Log::Tracking }
    }

    fn place() -> Place {
        let open = Some(Open { end: Mark(9), changes: 2 });
        let settle_until = Some(Settle::At(Mark(u128::MAX >> 48)));
        let following = Following { at: Mark(7), open, settle_until, told_live: false };
        Place { identity: identity(), stage: Stage::Following(following) }
    }

    #[test]
    fn only_the_same_history_is_resumed() {
        let check = |identity: Identity, fine: bool| {
            let result = place().check(&identity);
            assert_eq!(result.is_ok(), fine, "{identity:?}");
            assert!(result.err().is_none_or(|fault| fault.code == Code::SourceGap));
        };
        check(identity(), true);
        check(Identity { database: "2026 b".to_owned(), ..identity() }, false);
        check(Identity { table: "8 2026".to_owned(), ..identity() }, false);
        check(Identity { columns: "id bigint".to_owned(), ..identity() }, false);
        let log = Log::Captured { instance: "dbo_t".to_owned() };
        check(Identity { log, ..identity() }, false);
    }

    #[test]
    fn a_place_comes_back_and_a_foreign_one_is_a_gap() {
        let again = Place::open(&place().seal()).unwrap();
        assert_eq!(again.identity, identity());
        assert!(matches!(again.stage, Stage::Following(following) if following.at == Mark(7)));
        let fault = Place::open(&Resume(b"{}".to_vec())).err().unwrap();
        assert_eq!(fault.code, Code::SourceGap);
    }

    #[test]
    fn positions_keep_their_order_and_their_bytes() {
        let lsn = [0, 0, 0x2b, 0, 0, 1, 0x90, 0, 0, 4];
        let mark = Mark::of_bytes(&lsn);
        assert_eq!(mark.lsn(), lsn);
        assert!(mark < Mark::of_bytes(&[0, 0, 0x2b, 0, 0, 1, 0x90, 0, 0, 5]));
        let log = Log::Captured { instance: String::new() };
        assert_eq!(log.position(mark), "cdc:00002b00000190000004");
        assert_eq!(Log::Tracking.position(Mark::of_version(42)), "ct:42");
        assert_eq!(Mark::of_version(-1).version(), 0);
    }
}
