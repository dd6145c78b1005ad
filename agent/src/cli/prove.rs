//! `verify`: source and warehouse are compared by digests, and what differs is named and mended
//! (HU-03).
//!
//! Keys are shown and written at the agency alone.

use std::process::ExitCode;
use std::time::Duration;

use phusa_protocol::digest::RowsDigest;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::row::Tuple;
use phusa_protocol::value::Field;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::look::chosen;
use super::say;
use crate::config::plan::Plan;
use crate::mapping::preview::render;
use crate::pipeline::proof::{Comparing, Differences, Ends, Outcome, PAUSE};
use crate::pipeline::{repair, wiring};
use crate::source::any::AnySource;
use crate::status;
use crate::transport::https::Hub;

/// Records named on the screen; the file names all of them.
const SHOWN_MAX: usize = 20;

/// How long a repair is waited for.
const REPAIR_MAX: Duration = Duration::from_secs(1_800);

/// How long both ends may differ after single records were read again: as long as they are on
/// their way.
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// `phusa-agent verify`.
pub(super) async fn verify(
    plan: &Plan,
    wanted: Option<&str>,
    as_json: bool,
    mend: bool,
) -> Result<ExitCode, Fault> {
    let hub = Hub::new(wiring::hub_settings(plan)?)?;
    let source = wiring::source(plan)?;
    let mut all_same = true;
    for dataset in chosen(plan, wanted)? {
        let proving = Proving(Comparing { plan, dataset, source: &source, hub: &hub });
        let mut outcome = proving.0.prove().await?;
        proving.tell(&outcome, as_json)?;
        if mend && outcome.differs() {
            outcome = proving.mend(&outcome).await?;
            proving.tell(&outcome, as_json)?;
        }
        all_same &= !outcome.differs();
    }
    Ok(if all_same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A comparison that a person asked for.
struct Proving<'a>(Comparing<'a, AnySource>);

impl Proving<'_> {
    /// Has the running agent read again what differs, and waits until both ends are the same: the
    /// records alone where that can be, and the whole dataset otherwise or where it did not help.
    async fn mend(&self, outcome: &Outcome) -> Result<Outcome, Fault> {
        let (state_dir, id) = (&self.0.plan.state_dir, self.0.dataset.dataset());
        let until = Instant::now() + REPAIR_MAX;
        if self.0.ask_for_records(outcome).await? {
            // Without a running agent the wish stays, and is fulfilled when one is started.
            status::ask(state_dir).await?;
            while repair::is_asked_for_records(state_dir, id) && Instant::now() < until {
                sleep(PAUSE).await;
            }
            let settled = self.settle(Instant::now() + SETTLE_MAX).await?;
            if !settled.differs() {
                return self.0.prove().await;
            }
        }
        repair::request(state_dir, id)?;
        status::ask(state_dir).await?;
        while repair::is_requested(state_dir, id) && Instant::now() < until {
            sleep(PAUSE).await;
        }
        self.settle(until).await?;
        self.0.prove().await
    }

    /// Compares until nothing differs, or until the time is over.
    async fn settle(&self, until: Instant) -> Result<Outcome, Fault> {
        loop {
            let outcome = self.0.compare().await?;
            if !outcome.differs() || Instant::now() >= until {
                return Ok(outcome);
            }
            sleep(PAUSE).await;
        }
    }

    fn tell(&self, outcome: &Outcome, as_json: bool) -> Result<(), Fault> {
        let Outcome { source, warehouse, differences, complete } = outcome;
        let (id, identical) = (self.0.dataset.dataset(), outcome.is_identical());
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
        let folder = self.0.plan.state_dir.join("proofs");
        let path = folder.join(format!("{}.txt", self.0.dataset.dataset()));
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
        let fields = &self.0.dataset.contract.fields;
        let kinds = self.0.dataset.contract.key_indexes();
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
