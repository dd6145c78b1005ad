//! How long the log's proof takes: from an entry, committed with its rows, to the agent that holds
//! its inclusion in a tree that enough witnesses signed.

use std::time::{Duration, Instant};

use phusa_tests::process::wait_until;

use crate::lab::{Engine, Lab, Outcome};
use crate::movers::{Mover as _, WITHIN};
use crate::ours::Ours;
use crate::report::{Figure, Report};

/// Entries that are waited for, one after the other.
const SAMPLES: u32 = 40;

/// Between two looks whether the entry is there.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Takes the spans; each sample is a change of one row, and so a batch and an entry of its own.
pub(crate) async fn take(lab: &Lab, report: &mut Report) -> Outcome<()> {
    let target = lab.fresh_target();
    let mut ours = Ours::new(Engine::PostgreSql);
    ours.prepare_probe(lab, &target).await?;
    let (source, seen) = (lab.source().await, target.connect().await);
    let sql = "select count(*) from phusa.transfers where kind = 'push'";
    let mut spans = Vec::new();
    let mut entries: i64 = seen.query_one(sql, &[]).await?.get(0);
    proven(&ours, entries).await;
    for sample in 1..=SAMPLES {
        source.execute("update probe set seq = $1 where id = 1", &[&i64::from(sample)]).await?;
        let before = entries;
        while entries == before {
            entries = seen.query_one(sql, &[]).await?.get(0);
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let committed = Instant::now();
        proven(&ours, entries).await;
        spans.push(committed.elapsed().as_secs_f64() * 1e3);
    }
    spans.sort_by(f64::total_cmp);
    let at = |percent: usize| spans.get((spans.len() * percent / 100).min(spans.len() - 1));
    for (who, percent) in [("entry to proof, p50", 50), ("entry to proof, p99", 99)] {
        report.add(Figure::plain("log", who, at(percent).copied().unwrap_or(f64::NAN), "ms"));
    }
    ours.finish(lab, &target).await
}

/// Waits until the agent holds so many proofs.
async fn proven(ours: &Ours, entries: i64) {
    wait_until("the proof", WITHIN, async || {
        let proven = ours.status()?["log"]["proven"].as_i64()?;
        (proven >= entries).then_some(())
    })
    .await;
}
