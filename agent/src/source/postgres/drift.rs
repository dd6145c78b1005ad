//! What the catalogue tells and the log does not: partitions that came or went by themselves, and
//! columns that were given another width.
//!
//! The catalogue is looked at while the log is followed. Rows that changed in such a way are in no
//! log, so the only cure is to read the table anew.

use std::collections::{BTreeMap, BTreeSet};

use phusa_protocol::fault::{Code, Fault};
use serde::{Deserialize, Serialize};

use super::session::{Session, get};
use super::target::Target;

/// The partitions of a table, those of partitions included.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Partitions {
    /// The file of each, by its number: truncating or rewriting one gives it another.
    files: BTreeMap<u32, u32>,
    /// Those that were made as partitions, so that all they hold came through the log.
    #[serde(skip)]
    grown: BTreeSet<u32>,
}

impl Partitions {
    /// Looks them up; reads the catalogue only, and locks no table.
    pub(super) async fn find(session: &Session, table: u32) -> Result<Self, Fault> {
        // A table that is attached has all its columns written anew, and one that was made as a
        // partition has some as they were made: together with the hidden ones, which are never
        // altered, by the command that made it a partition. (Seen the same on 12 to 18. Where
        // every column was altered since, the table is read anew for nothing.)
        let sql = "with recursive tree (oid, since) as ( \
                     select inhrelid, xmin from pg_inherits where inhparent = $1 \
                     union all \
                     select i.inhrelid, i.xmin from pg_inherits i join tree t on i.inhparent = t.oid) \
                   select t.oid, c.relfilenode, \
                          exists (select from pg_attribute a join pg_attribute h using (attrelid) \
                                  where a.attrelid = t.oid and a.attnum > 0 \
                                    and h.attname = 'tableoid' and h.xmin = t.since \
                                    and a.xmin = t.since and a.cmin = h.cmin) \
                   from tree t join pg_class c on c.oid = t.oid";
        let mut found = Self::default();
        for row in session.rows("cannot look up partitions", sql, &[&table]).await? {
            let oid: u32 = get(&row, 0)?;
            found.files.insert(oid, get(&row, 1)?);
            if get(&row, 2)? {
                found.grown.insert(oid);
            }
        }
        Ok(found)
    }

    /// What happened to them since `before` that is in no log, if anything did.
    pub(super) fn untold_since(&self, before: &Self) -> Option<String> {
        for (oid, file) in &before.files {
            match self.files.get(oid) {
                None => return Some(format!("partition {oid} was detached or dropped")),
                Some(now) if now != file => {
                    return Some(format!("partition {oid} was truncated or rewritten"));
                }
                Some(_) => {}
            }
        }
        let new = self
            .files
            .keys()
            .find(|oid| !before.files.contains_key(oid) && !self.grown.contains(oid));
        new.map(|oid| format!("table {oid} was attached as a partition, with what it held"))
    }
}

/// The column that is read with another width than `target` knows, if there is one. One that has
/// another type, or is gone, the log tells of.
pub(super) async fn rewidened(session: &Session, target: &Target) -> Result<Option<String>, Fault> {
    let sql = "select attname::text, atttypid, format_type(atttypid, atttypmod) \
               from pg_attribute where attrelid = $1 and attnum > 0 and not attisdropped";
    let rows = session.rows("cannot look up columns", sql, &[&target.oid]).await?;
    let mut types = BTreeMap::new();
    for row in &rows {
        types.insert(get::<String>(row, 0)?, (get::<u32>(row, 1)?, get::<String>(row, 2)?));
    }
    let (known, numbers) = (target.columns.iter(), target.types.iter());
    let differs = known.zip(numbers).find(|(column, numbers)| {
        types.get(&column.name).is_some_and(|(type_oid, name)| {
            *type_oid == numbers.type_oid && *name != column.type_name
        })
    });
    Ok(differs.map(|(column, _)| column.name.clone()))
}

/// The fault that leads to a new epoch.
pub(super) fn gap(target: &Target, what: &str) -> Fault {
    let (schema, table) = (&target.selection.schema, &target.selection.table);
    Fault::new(Code::SourceGap, format!("{schema}.{table}: {what}, which is in no log"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partitions(files: &[(u32, u32)], grown: &[u32]) -> Partitions {
        let (files, grown) = (files.iter().copied().collect(), grown.iter().copied().collect());
        Partitions { files, grown }
    }

    #[test]
    fn only_what_the_log_tells_may_happen_to_a_partition() {
        let check = |now: &[(u32, u32)], grown: &[u32], untold: Option<&str>| {
            let before = partitions(&[(1, 10), (2, 20)], &[]);
            let said = partitions(now, grown).untold_since(&before);
            assert_eq!(said.as_deref(), untold, "{now:?}");
        };
        check(&[(1, 10), (2, 20)], &[], None);
        check(&[(1, 10), (2, 20), (3, 30)], &[3], None);
        check(&[(1, 10), (2, 20)], &[1, 2], None);
        check(&[(1, 10)], &[], Some("partition 2 was detached or dropped"));
        check(&[(1, 10), (2, 21)], &[], Some("partition 2 was truncated or rewritten"));
        let attached = Some("table 3 was attached as a partition, with what it held");
        check(&[(1, 10), (2, 20), (3, 30)], &[1], attached);
    }

    #[test]
    fn how_a_partition_was_made_is_not_kept() {
        let kept = serde_json::to_string(&partitions(&[(1, 10)], &[1])).unwrap();
        assert_eq!(kept, r#"{"files":{"1":10}}"#);
    }
}
