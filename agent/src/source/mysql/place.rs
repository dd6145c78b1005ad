//! `Place`: what [`Resume`] holds for this engine, and whether a server still reaches back to it.

use std::collections::BTreeMap;
use std::fmt;

use phusa_protocol::fault::{Code, Fault};
use serde::{Deserialize, Serialize};

use super::gtid::GtidSet;
use crate::source::Resume;
use crate::source::snapshot::Reading;

/// Where the first event of each file of the log stands.
pub(super) const FILE_START: u64 = 4;

/// How positions of a server are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Tracking {
    /// MySQL with `gtid_mode = ON`: by the set of transactions taken in. Another server that has
    /// them all can go on from there.
    Gtid,
    /// By file and offset.
    File,
    /// By file and offset; that they belong to the same history is proved by MariaDB's own
    /// transaction numbers at that offset.
    FileWithDomains,
}

/// The last transaction of each of MariaDB's domains: server and number.
pub(super) type Domains = BTreeMap<u32, (u32, u64)>;

/// A position between two transactions.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Position {
    pub(super) file: String,
    pub(super) offset: u64,
    /// With [`Tracking::Gtid`]: everything taken in.
    pub(super) gtids: GtidSet,
    /// With [`Tracking::FileWithDomains`]: everything taken in.
    pub(super) domains: Domains,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.offset)
    }
}

impl Position {
    /// Whether everything before `mark` was taken in.
    pub(super) fn has_reached(&self, mark: &Self, tracking: Tracking) -> bool {
        match tracking {
            Tracking::Gtid => self.gtids.holds(&mark.gtids),
            Tracking::File | Tracking::FileWithDomains => {
                (file_number(&self.file), self.offset) >= (file_number(&mark.file), mark.offset)
            }
        }
    }
}

/// The number at the end of `bin.000017`.
fn file_number(name: &str) -> u64 {
    name.rsplit_once('.').and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

/// Reads `0-1-5,3-7-12` of MariaDB.
pub(super) fn domains(text: &str) -> Option<Domains> {
    let one = |text: &str| {
        let mut parts = text.trim().split('-');
        let domain = parts.next()?.parse().ok()?;
        let server = parts.next()?.parse().ok()?;
        Some((domain, (server, parts.next()?.parse().ok()?)))
    };
    text.split(',').filter(|part| !part.trim().is_empty()).map(one).collect()
}

/// Which server, and what of it, a position belongs to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Identity {
    /// MySQL's `server_uuid`; empty with MariaDB, which has none.
    pub(super) server: String,
    pub(super) tracking: Tracking,
    /// Stands for the columns that are read and their types.
    pub(super) columns: String,
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
    /// The full read; the log is followed from `start` afterwards.
    Reading { start: Position, reading: Reading },
    /// The log.
    Following(Following),
}

/// Where a capture stands in the log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Following {
    /// Everything committed before this was handed on.
    pub(super) at: Position,
    /// The transaction after it that was handed on in part.
    pub(super) open: Option<OpenTx>,
    /// Changes before this may already be in the full read.
    pub(super) settle_until: Option<Position>,
    /// Whether the blocks so far told that the dataset is consistent.
    pub(super) told_live: bool,
    /// Prepared transactions by name, and whether they changed the table.
    pub(super) prepared: BTreeMap<String, bool>,
}

/// A transaction that a block's end cut.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct OpenTx {
    /// Its name, where the server gives transactions one.
    pub(super) name: String,
    /// How many of its changes were handed on.
    pub(super) changes: u64,
}

/// What the server says of the log it has.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Reach {
    /// Its files with their lengths.
    pub(super) files: Vec<(String, u64)>,
    /// With [`Tracking::Gtid`]: what is no longer in its files, and all it ever had.
    pub(super) purged: GtidSet,
    pub(super) executed: GtidSet,
    /// With [`Tracking::FileWithDomains`]: the transactions before the place's offset, where the
    /// server knows the offset.
    pub(super) domains: Option<Domains>,
}

impl Place {
    /// The opaque form.
    pub(super) fn seal(&self) -> Resume {
        // Plain fields and maps with number or text keys: serialising cannot fail. An empty form
        // would be refused by `open` and lead to a new epoch.
        Resume(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads the opaque form.
    pub(super) fn open(resume: &Resume) -> Result<Self, Fault> {
        serde_json::from_slice(&resume.0).map_err(|_| {
            Fault::new(Code::SourceGap, "the place to resume from was written by another version")
        })
    }

    /// From where the log is needed.
    pub(super) fn position(&self) -> &Position {
        match &self.stage {
            Stage::Reading { start, .. } => start,
            Stage::Following(following) => &following.at,
        }
    }

    /// Whether the source still is what it was and its log reaches back to here.
    ///
    /// # Errors
    /// `source_gap`, saying what changed.
    pub(super) fn check(&self, now: &Identity, reach: &Reach) -> Result<(), Fault> {
        let gap = |what: String| Err(Fault::new(Code::SourceGap, what));
        if now.columns != self.identity.columns {
            return gap("columns have other types than when reading stopped".to_owned());
        }
        if now.tracking != self.identity.tracking {
            return gap("the server tells positions in another way than before".to_owned());
        }
        let position = self.position();
        if now.tracking == Tracking::Gtid {
            if !reach.executed.holds(&position.gtids) {
                return gap("the server does not have what was read from it before".to_owned());
            }
            if !position.gtids.holds(&reach.purged) {
                return gap("the server has purged log that was not read yet".to_owned());
            }
            return Ok(());
        }
        if now.server != self.identity.server {
            return gap("the server is another one than when reading stopped".to_owned());
        }
        let Some((_, length)) = reach.files.iter().find(|(file, _)| *file == position.file) else {
            return gap(format!("log file {} is not there any more", position.file));
        };
        if *length < position.offset {
            return gap(format!("log file {} is shorter than what was read", position.file));
        }
        if u32::try_from(position.offset).is_err() {
            return gap(format!("the server cannot go on beyond 4 GiB of {}", position.file));
        }
        let is_other = reach.domains.as_ref() != Some(&position.domains);
        if now.tracking == Tracking::FileWithDomains && is_other {
            return gap(format!("log file {} is not the one that was read", position.file));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn identity(tracking: Tracking) -> Identity {
        Identity { server: UUID.to_owned(), tracking, columns: "id int".to_owned() }
    }

    fn place(tracking: Tracking) -> Place {
        let at = Position {
            file: "bin.000002".to_owned(),
            offset: 100,
            gtids: GtidSet::parse(&format!("{UUID}:1-9")).unwrap(),
            domains: domains("0-1-5").unwrap(),
        };
        let following = Following {
            at,
            open: None,
            settle_until: None,
            told_live: true,
            prepared: BTreeMap::new(),
        };
        Place { identity: identity(tracking), stage: Stage::Following(following) }
    }

    fn reach(file: &str, length: u64) -> Reach {
        Reach {
            files: vec![(file.to_owned(), length)],
            executed: GtidSet::parse(&format!("{UUID}:1-12")).unwrap(),
            domains: domains("0-1-5"),
            ..Reach::default()
        }
    }

    #[test]
    fn a_file_that_is_gone_short_or_another_is_a_gap() {
        let check = |tracking: Tracking, now: Identity, reach: Reach, words: Option<&str>| {
            let result = place(tracking).check(&now, &reach);
            assert!(result.as_ref().err().is_none_or(|fault| fault.code == Code::SourceGap));
            let what = result.err().map(|fault| fault.what).unwrap_or_default();
            assert_eq!(!what.is_empty(), words.is_some(), "{what}");
            assert!(what.contains(words.unwrap_or_default()), "{what}");
        };
        let file = Tracking::File;
        check(file, identity(file), reach("bin.000002", 100), None);
        check(file, identity(file), reach("bin.000003", 100), Some("is not there any more"));
        check(file, identity(file), reach("bin.000002", 99), Some("shorter"));
        let other = Identity { server: "x".to_owned(), ..identity(file) };
        check(file, other, reach("bin.000002", 100), Some("another one"));
        let retyped = Identity { columns: "id bigint".to_owned(), ..identity(file) };
        check(file, retyped, reach("bin.000002", 100), Some("other types"));
        let mariadb = Tracking::FileWithDomains;
        check(mariadb, identity(mariadb), reach("bin.000002", 100), None);
        let other = Reach { domains: domains("0-2-5"), ..reach("bin.000002", 100) };
        check(mariadb, identity(mariadb), other, Some("not the one that was read"));
        check(file, identity(mariadb), reach("bin.000002", 100), Some("another way"));
    }

    #[test]
    fn with_transaction_names_another_server_may_go_on_if_it_has_them_all() {
        let check = |executed: &str, purged: &str, fine: bool| {
            let set = |text: &str| GtidSet::parse(text).unwrap();
            let reach = Reach { executed: set(executed), purged: set(purged), ..Reach::default() };
            let now = Identity { server: "another".to_owned(), ..identity(Tracking::Gtid) };
            assert_eq!(
                place(Tracking::Gtid).check(&now, &reach).is_ok(),
                fine,
                "{executed} {purged}"
            );
        };
        let range = |range: &str| format!("{UUID}:{range}");
        check(&range("1-9"), "", true);
        check(&range("1-20"), &range("1-9"), true);
        check(&range("1-20"), &range("1-10"), false);
        check(&range("1-8"), "", false);
    }

    #[test]
    fn a_place_comes_back_and_a_foreign_one_is_a_gap() {
        let again = Place::open(&place(Tracking::Gtid).seal()).unwrap();
        assert_eq!(again.position(), place(Tracking::Gtid).position());
        let fault = Place::open(&Resume(b"{}".to_vec())).err().unwrap();
        assert_eq!(fault.code, Code::SourceGap);
    }

    #[test]
    fn files_are_ordered_by_their_number() {
        let at = |file: &str, offset: u64| Position {
            file: file.to_owned(),
            offset,
            ..Position::default()
        };
        let reached = |left: Position, right: Position| left.has_reached(&right, Tracking::File);
        assert!(reached(at("bin.1000000", 4), at("bin.999999", 9)));
        assert!(!reached(at("bin.000002", 99), at("bin.000003", 4)));
        assert!(reached(at("bin.000003", 4), at("bin.000003", 4)));
    }
}
