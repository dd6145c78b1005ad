//! How fast rows are compared when nothing has changed, with SELECT alone.

use std::time::{Duration, Instant};

use phusa_tests::process::wait_until;
use phusa_tests::registry::Table;

use crate::lab::{Engine, Lab, Outcome};
use crate::meter::own_cpu;
use crate::movers::{Mover as _, WITHIN};
use crate::ours::Ours;
use crate::report::{Figure, Report};

/// The shortest wait between two passes.
const OFTEN: &str = "[guard]\nreconcile_interval = \"100ms\"\n";

/// As a span.
const PAUSE: Duration = Duration::from_millis(100);

/// Passes that are measured.
const PASSES: u64 = 3;

/// Takes the rate of a pass over `citizens` at one source.
pub(crate) async fn take(lab: &Lab, from: Engine, report: &mut Report) -> Outcome<()> {
    let target = lab.fresh_target();
    let mut ours = Ours::by(from, "reconcile", OFTEN);
    ours.prepare(lab, &target, &[Table::Citizens]).await?;
    ours.read_all(lab, &target).await?;
    let begun = pass_after(&ours, 0).await;
    let id = ours.agent_id();
    let first = pass_after(&ours, begun).await;
    let (start, cpu) = (Instant::now(), own_cpu(id).unwrap_or(0.0));
    let last = pass_after(&ours, first + PASSES - 1).await;
    let count = u32::try_from(last - first)?;
    let seconds = (start.elapsed() - PAUSE * count).as_secs_f64() / f64::from(count);
    let cpu = (own_cpu(id).unwrap_or(0.0) - cpu) / f64::from(count);
    let same = lab.is_same(&target, Table::Citizens, ours.names()).await?;
    report.add(Figure::pass(from.title(), lab.rows, seconds, cpu, same));
    ours.finish(lab, &target).await
}

/// The count of passes, once it is above `count`.
async fn pass_after(ours: &Ours, count: u64) -> u64 {
    wait_until("a pass", WITHIN, async || {
        let status = ours.status()?;
        status["datasets"][0]["passes"].as_u64().filter(|now| *now > count)
    })
    .await
}
