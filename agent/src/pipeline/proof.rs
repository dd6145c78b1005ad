//! Source and warehouse compared by digests, and what differs named (HU-03): for `verify` and for
//! the proofs that are due by themselves.
//!
//! Rows on their way differ for a moment at one end, so a record counts as different only when it
//! was found so twice, with the same digests. Keys stay at the agency.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use phusa_protocol::PROTOCOL_VERSION;
use phusa_protocol::batch::Phase;
use phusa_protocol::change::{BodyWriter, Change, Op, runs};
use phusa_protocol::digest::RowsDigest;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::proof::{BITS_MAX, NAMED_MAX, Print, Proof, Question, Summary};
use phusa_protocol::row::Tuple;
use phusa_protocol::time::Timestamp;
use phusa_protocol::value::Field;
use tokio::time::sleep;

use super::repair::{self, Key};
use super::sample::{each_row, mapping, scan, scan_mapped};
use super::wiring;
use crate::config::plan::{DatasetPlan, Plan};
use crate::mapping::Bound;
use crate::source::{Block, Column, Resume, Source};
use crate::transport::https::Hub;

/// How often both ends are looked at before what still differs is believed.
const LOOKS_MAX: u64 = 4;

/// Between two looks, times their number: longer than a change is on its way.
pub const PAUSE: Duration = Duration::from_secs(2);

/// Questions for rows in one look; each reads a whole table at the hub.
const QUESTIONS_MAX: usize = 4;

/// Records that are read again one by one; where more differ, the whole dataset is.
pub const RECORDS_MAX: usize = 5_000;

/// Digests of one record at the source and in the warehouse.
pub type Ends = (Option<u128>, Option<u128>);

/// Records that differ, by the tuple of their key.
pub type Differences = BTreeMap<Vec<u8>, Ends>;

/// What a comparison came to.
#[derive(Debug)]
pub struct Outcome {
    /// All rows at the source, as mapping lets them through.
    pub source: RowsDigest,
    /// All rows of this agency in the warehouse.
    pub warehouse: RowsDigest,
    /// What differs.
    pub differences: Differences,
    /// Whether all that differs is among them.
    pub complete: bool,
}

impl Outcome {
    /// Whether both ends were found the same.
    #[must_use]
    pub fn is_identical(&self) -> bool {
        self.source == self.warehouse && self.complete && self.differences.is_empty()
    }

    /// Whether anything differs for longer than a change is on its way.
    #[must_use]
    pub fn differs(&self) -> bool {
        !self.differences.is_empty() || !self.complete
    }
}

/// One dataset that is compared.
#[derive(Debug)]
pub struct Comparing<'a, S> {
    /// The agent's plan.
    pub plan: &'a Plan,
    /// Which of its datasets.
    pub dataset: &'a DatasetPlan,
    /// Where its rows come from.
    pub source: &'a S,
    /// Where they went.
    pub hub: &'a Hub,
}

impl<S: Source> Comparing<'_, S> {
    /// Compares, and reports to the hub what it came to.
    ///
    /// # Errors
    /// The source's or the hub's fault.
    pub async fn prove(&self) -> Result<Outcome, Fault> {
        let outcome = self.compare().await?;
        let named = u64::try_from(outcome.differences.len()).unwrap_or(u64::MAX);
        let proof = Proof {
            protocol: PROTOCOL_VERSION,
            agent: self.plan.agent.clone(),
            dataset: self.dataset.dataset().clone(),
            contract: self.dataset.contract.fingerprint(),
            source: outcome.source,
            warehouse: outcome.warehouse,
            differing: if outcome.complete { named } else { named.max(1) },
            compared_at: Timestamp::now(),
        };
        self.hub.report(&proof).await?;
        Ok(outcome)
    }

    /// Compares, and tells nobody.
    ///
    /// # Errors
    /// The source's or the hub's fault.
    pub async fn compare(&self) -> Result<Outcome, Fault> {
        let mut before: Option<Differences> = None;
        let mut look = 1;
        loop {
            let source = self.summary().await?;
            let answer = self.hub.digest(&self.question(Vec::new())).await?;
            let warehouse = Summary::from_parts(source.bits(), &answer.parts);
            let parts = source.differing(&warehouse);
            let (source, warehouse) = (source.total(), warehouse.total());
            if parts.is_empty() {
                let differences = Differences::new();
                return Ok(Outcome { source, warehouse, differences, complete: true });
            }
            let (mut differences, complete) = self.name(&parts).await?;
            let found = differences.len();
            if let Some(before) = &before {
                differences.retain(|key, ends| before.get(key) == Some(ends));
                if differences.len() == found || look >= LOOKS_MAX {
                    return Ok(Outcome { source, warehouse, differences, complete });
                }
            }
            before = Some(differences);
            sleep(PAUSE.saturating_mul(u32::try_from(look).unwrap_or(1))).await;
            look += 1;
        }
    }

    fn question(&self, named: Vec<u32>) -> Question {
        Question {
            protocol: PROTOCOL_VERSION,
            agent: self.plan.agent.clone(),
            dataset: self.dataset.dataset().clone(),
            contract: self.dataset.contract.fingerprint(),
            bits: BITS_MAX,
            named,
        }
    }

    async fn summary(&self) -> Result<Summary, Fault> {
        let mut summary = Summary::new(BITS_MAX);
        self.each_print(|print| summary.add(&print)).await?;
        Ok(summary)
    }

    async fn each_print(&self, mut take: impl FnMut(Print)) -> Result<(), Fault> {
        let key = self.dataset.contract.key_indexes();
        let mut lost = false;
        scan_mapped(self.source, self.dataset, None, |mapped| {
            each_row(mapped.shareable.body(), |row| {
                match Print::of(row, &key) {
                    Some(print) => take(print),
                    None => lost = true,
                }
                Ok(())
            })
        })
        .await?;
        let no_key = || Fault::new(Code::Bug, "a mapped row has no key");
        if lost { Err(no_key()) } else { Ok(()) }
    }

    /// The records that differ in these parts, and whether that is all of them.
    async fn name(&self, parts: &[(u32, u64)]) -> Result<(Differences, bool), Fault> {
        let (questions, mut complete) = questions(parts);
        let asked: BTreeSet<u32> = questions.iter().flatten().copied().collect();
        let mut differences = Differences::new();
        for named in questions {
            let answer = self.hub.digest(&self.question(named)).await?;
            complete &= answer.complete;
            for row in answer.named {
                let wrong = || Fault::new(Code::ProtocolVersion, "a key of the hub is no key");
                differences.insert(row.key().ok_or_else(wrong)?, (None, Some(row.row)));
            }
        }
        self.each_print(|print| {
            if asked.contains(&print.part(BITS_MAX)) {
                differences.entry(print.key).or_default().0 = Some(print.row.sum);
            }
        })
        .await?;
        differences.retain(|_, (source, warehouse)| source != warehouse);
        Ok((differences, complete))
    }

    /// Has the running agent read again the records that differ, and no others; false where that
    /// cannot be: too many, not all of them known, or one whose key at the source cannot be told.
    ///
    /// # Errors
    /// The source's fault; `disk_failed`.
    pub async fn ask_for_records(&self, outcome: &Outcome) -> Result<bool, Fault> {
        if !outcome.complete || outcome.differences.len() > RECORDS_MAX {
            return Ok(false);
        }
        let Some(keys) = self.source_keys(&outcome.differences).await? else { return Ok(false) };
        let seal = wiring::spool_settings(self.plan)?.key;
        repair::request_records(&self.plan.state_dir, self.dataset.dataset(), &seal, &keys)?;
        Ok(true)
    }

    /// The keys at the source of these records; `None` where one cannot be told.
    ///
    /// What mapping made of a key is not undone: each row of the source is mapped once more, and the
    /// key of one that is wanted is noted as it came. Of a record that only the warehouse has there
    /// is no such row; its key is taken for the source's where mapping makes just that of it.
    async fn source_keys(&self, wanted: &Differences) -> Result<Option<Vec<Key>>, Fault> {
        let key = self.dataset.contract.key_indexes();
        let at_source = &self.dataset.selection.key;
        let mapping = mapping(self.source, self.dataset).await?;
        let mut bound: Option<(Arc<[Column]>, Bound)> = None;
        let mut found: BTreeMap<Vec<u8>, Key> = BTreeMap::new();
        scan(self.source, self.dataset, None, |block| {
            if bound.as_ref().is_none_or(|(columns, _)| !Arc::ptr_eq(columns, &block.columns)) {
                bound = Some((Arc::clone(&block.columns), mapping.bind(&block.columns)?));
            }
            let Some((columns, bound)) = &bound else { return Ok(()) };
            let body = block.body.clone();
            if prints(bound, block, &key)?.iter().all(|print| !wanted.contains_key(&print.key)) {
                return Ok(());
            }
            each_row(&body, |row| {
                let one = single(columns, Op::Snapshot, row.as_bytes());
                for print in prints(bound, one, &key)? {
                    if wanted.contains_key(&print.key)
                        && let Some(parts) = parts_of(row, at_source)
                    {
                        found.insert(print.key, parts);
                    }
                }
                Ok(())
            })
        })
        .await?;
        let Some((columns, bound)) = &bound else { return Ok(None) };
        for key in wanted.keys().filter(|key| !found.contains_key(*key)).collect::<Vec<_>>() {
            let Some(parts) = same_at_source(bound, columns, key)? else { return Ok(None) };
            found.insert(key.clone(), parts);
        }
        Ok(Some(found.into_values().collect()))
    }
}

/// What mapping lets through of a block of a full read.
fn prints(bound: &Bound, block: Block, key: &[usize]) -> Result<Vec<Print>, Fault> {
    let mapped = bound.apply(block)?;
    let mut prints = Vec::new();
    each_row(mapped.shareable.body(), |row| {
        prints.extend(Print::of(row, key));
        Ok(())
    })?;
    Ok(prints)
}

/// The parts of a key in the warehouse, where the source's own key is the same bytes: mapping makes
/// just this key of them.
fn same_at_source(
    bound: &Bound,
    columns: &Arc<[Column]>,
    key: &[u8],
) -> Result<Option<Key>, Fault> {
    let Ok(tuple) = Tuple::take(&mut &*key) else { return Ok(None) };
    let Some(parts) = parts_of(tuple, &(0..tuple.field_count()).collect::<Vec<_>>()) else {
        return Ok(None);
    };
    // A key that the source's types cannot hold is no fault here: it is another one there.
    let Ok(mapped) = bound.apply(single(columns, Op::Delete, key)) else { return Ok(None) };
    let changes = runs(mapped.shareable.body()).flatten().flat_map(|run| run.changes());
    let is_same =
        |change: Change<'_>| matches!(change, Change::Delete(made) if made.as_bytes() == key);
    Ok(changes.flatten().any(is_same).then_some(parts))
}

fn parts_of(row: Tuple<'_>, places: &[usize]) -> Option<Key> {
    let fields: Vec<Field<'_>> = row.fields().collect();
    let part = |&place: &usize| match fields.get(place) {
        Some(Field::Value(bytes)) => Some(bytes.to_vec()),
        Some(Field::Null | Field::Unchanged) | None => None,
    };
    places.iter().map(part).collect()
}

/// A block of one row.
fn single(columns: &Arc<[Column]>, op: Op, row: &[u8]) -> Block {
    let (mut body, now) = (BodyWriter::default(), Timestamp::now());
    body.begin_row(op).extend_from_slice(row);
    Block {
        number: 1,
        columns: Arc::clone(columns),
        body: body.finish().0,
        phase: Phase::Read,
        tx_open: false,
        position: String::new(),
        resume: Resume(Vec::new()),
        read_at: now,
        source_time: now,
    }
}

/// Parts in as many questions as are asked, each for as many rows as one answer names; and whether
/// all parts are among them.
fn questions(parts: &[(u32, u64)]) -> (Vec<Vec<u32>>, bool) {
    let most = u64::try_from(NAMED_MAX).unwrap_or(u64::MAX);
    let (mut questions, mut named, mut asked) = (Vec::new(), Vec::new(), 0);
    for &(part, rows) in parts {
        if !named.is_empty() && asked + rows > most {
            questions.push(std::mem::take(&mut named));
            asked = 0;
        }
        if questions.len() >= QUESTIONS_MAX {
            return (questions, false);
        }
        named.push(part);
        asked += rows;
    }
    if !named.is_empty() {
        questions.push(named);
    }
    (questions, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_question_asks_for_more_rows_than_an_answer_names() {
        let check = |parts: &[(u32, u64)], expected: &[&[u32]], complete: bool| {
            let (asked, all) = questions(parts);
            assert_eq!(
                (asked.iter().map(Vec::as_slice).collect::<Vec<_>>(), all),
                (expected.to_vec(), complete)
            );
        };
        check(&[], &[], true);
        check(&[(1, 10), (2, 3_990), (3, 1)], &[&[1, 2], &[3]], true);
        check(&[(1, 9_000), (2, 1)], &[&[1], &[2]], true);
        let many: Vec<(u32, u64)> = (0..6).map(|part| (part, 4_000)).collect();
        check(&many, &[&[0], &[1], &[2], &[3]], false);
    }
}
