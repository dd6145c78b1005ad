//! `verify`: source and warehouse are compared by digests, and what differs is named and mended
//! (HU-03).
//!
//! Rows on their way differ for a moment at one end, so a record counts as different only when it
//! was found so twice, with the same digests. Keys are shown and written at the agency alone.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Duration;

use phusa_protocol::PROTOCOL_VERSION;
use phusa_protocol::digest::RowsDigest;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::proof::{BITS_MAX, NAMED_MAX, Print, Proof, Question, Summary};
use phusa_protocol::row::Tuple;
use phusa_protocol::time::Timestamp;
use phusa_protocol::value::Field;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::look::{chosen, scan_mapped};
use super::say;
use crate::config::plan::{DatasetPlan, Plan};
use crate::mapping::preview::render;
use crate::pipeline::sample::each_row;
use crate::pipeline::{repair, wiring};
use crate::status;
use crate::transport::https::Hub;

/// How often both ends are looked at before what still differs is believed.
const LOOKS_MAX: u64 = 4;

/// Between two looks, times their number: longer than a change is on its way.
const PAUSE: Duration = Duration::from_secs(2);

/// Questions for rows in one look; each reads a whole table at the hub.
const QUESTIONS_MAX: usize = 4;

/// Records named on the screen; the file names all of them.
const SHOWN_MAX: usize = 20;

/// How long a repair is waited for.
const REPAIR_MAX: Duration = Duration::from_secs(1_800);

/// Digests of one record at the source and in the warehouse.
type Ends = (Option<u128>, Option<u128>);

/// Records that differ, by the tuple of their key.
type Differences = BTreeMap<Vec<u8>, Ends>;

/// What a comparison came to.
struct Outcome {
    source: RowsDigest,
    warehouse: RowsDigest,
    differences: Differences,
    /// Whether all that differs is among them.
    complete: bool,
}

impl Outcome {
    fn is_identical(&self) -> bool {
        self.source == self.warehouse && self.complete && self.differences.is_empty()
    }

    /// Whether anything differs for longer than a change is on its way.
    fn differs(&self) -> bool {
        !self.differences.is_empty() || !self.complete
    }
}

/// `phusa-agent verify`.
pub(super) async fn verify(
    plan: &Plan,
    wanted: Option<&str>,
    as_json: bool,
    mend: bool,
) -> Result<ExitCode, Fault> {
    let hub = Hub::new(wiring::hub_settings(plan)?)?;
    let mut all_same = true;
    for dataset in chosen(plan, wanted)? {
        let comparing = Comparing { plan, dataset, hub: &hub };
        let mut outcome = comparing.prove().await?;
        comparing.tell(&outcome, as_json)?;
        if mend && outcome.differs() {
            outcome = comparing.mend().await?;
            comparing.tell(&outcome, as_json)?;
        }
        all_same &= !outcome.differs();
    }
    Ok(if all_same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Comparing<'a> {
    plan: &'a Plan,
    dataset: &'a DatasetPlan,
    hub: &'a Hub,
}

impl Comparing<'_> {
    /// Compares, and reports to the hub what it came to.
    async fn prove(&self) -> Result<Outcome, Fault> {
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

    async fn compare(&self) -> Result<Outcome, Fault> {
        let mut before: Option<Differences> = None;
        let mut look = 1;
        loop {
            let source = self.source().await?;
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

    async fn source(&self) -> Result<Summary, Fault> {
        let mut summary = Summary::new(BITS_MAX);
        self.each_print(|print| summary.add(&print)).await?;
        Ok(summary)
    }

    async fn each_print(&self, mut take: impl FnMut(Print)) -> Result<(), Fault> {
        let key = self.dataset.contract.key_indexes();
        let mut lost = false;
        let source = wiring::source(self.plan)?;
        scan_mapped(&source, self.dataset, None, |mapped| {
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

    /// Has the running agent read the dataset anew, and waits until both ends are the same.
    async fn mend(&self) -> Result<Outcome, Fault> {
        let (state_dir, id) = (&self.plan.state_dir, self.dataset.dataset());
        repair::request(state_dir, id)?;
        // Without one the wish stays, and is fulfilled when one is started.
        status::ask(state_dir).await?;
        let until = Instant::now() + REPAIR_MAX;
        while repair::is_requested(state_dir, id) && Instant::now() < until {
            sleep(PAUSE).await;
        }
        loop {
            let outcome = self.compare().await?;
            if !outcome.differs() || Instant::now() >= until {
                return self.prove().await;
            }
            sleep(PAUSE).await;
        }
    }

    fn tell(&self, outcome: &Outcome, as_json: bool) -> Result<(), Fault> {
        let Outcome { source, warehouse, differences, complete } = outcome;
        let (id, identical) = (self.dataset.dataset(), outcome.is_identical());
        let file = self.write(differences)?;
        if as_json {
            let hex = |digest: &RowsDigest| format!("{:032x}", digest.sum);
            let there = json!({ "rows": warehouse.rows, "sum": hex(warehouse) });
            let line = json!({
                "dataset": id, "rows": source.rows, "sum": hex(source), "warehouse": there,
                "identical": identical, "differing": differences.len(), "complete": complete,
            });
            say(&line.to_string());
            return Ok(());
        }
        let rows = source.rows;
        if identical {
            say(&format!(
                "✓ {id}: {rows} bản ghi giống hệt ở kho · rows identical in the warehouse"
            ));
            return Ok(());
        }
        if !outcome.differs() {
            say(&format!(
                "~ {id}: đang thay đổi, không bản ghi nào khác lâu dài · it is changing, and no record differs for long"
            ));
            return Ok(());
        }
        let more = if *complete { "" } else { " và nữa · and more" };
        say(&format!("✗ {id}: {} bản ghi khác · records differ{more}", differences.len()));
        for (key, ends) in differences.iter().take(SHOWN_MAX) {
            say(&format!("  {}: {}", self.key(key), words(*ends)));
        }
        if differences.len() > SHOWN_MAX {
            say(&format!("  … {}", file.display()));
        }
        Ok(())
    }

    /// Every record that differs, in a file that stays at the agency; an older one is replaced.
    fn write(&self, differences: &Differences) -> Result<std::path::PathBuf, Fault> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let folder = self.plan.state_dir.join("proofs");
        let path = folder.join(format!("{}.txt", self.dataset.dataset()));
        let line =
            |(key, ends): (&Vec<u8>, &Ends)| format!("{}\t{}\n", self.key(key), words(*ends));
        let text: String = differences.iter().map(line).collect();
        let write = || {
            std::fs::create_dir_all(&folder)?;
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            std::io::Write::write_all(&mut options.open(&path)?, text.as_bytes())
        };
        write().map_err(|error| {
            Fault::because(Code::DiskFailed, format!("cannot write {}", path.display()), error)
        })?;
        Ok(path)
    }

    fn key(&self, mut key: &[u8]) -> String {
        let fields = &self.dataset.contract.fields;
        let kinds = self.dataset.contract.key_indexes();
        let kinds = kinds.iter().filter_map(|&index| fields.get(index)).map(|field| field.kind);
        let Ok(tuple) = Tuple::take(&mut key) else { return "?".to_owned() };
        let shown = tuple.fields().zip(kinds).map(|(field, kind)| match field {
            Field::Value(bytes) => render(kind, bytes),
            Field::Null | Field::Unchanged => "∅".to_owned(),
        });
        shown.collect::<Vec<_>>().join(" | ")
    }
}

fn words(ends: Ends) -> &'static str {
    match ends {
        (Some(_), None) => "chỉ ở nguồn · only at the source",
        (None, Some(_)) => "chỉ ở kho · only in the warehouse",
        (_, _) => "khác giá trị · values differ",
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
