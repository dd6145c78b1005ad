//! `phusa-bench`: the same rows by the plain COPY pipe, by PostgreSQL's own logical replication and
//! by Phù Sa, on the same two servers in the same run; medians and ratios as a table.

mod footprint;
mod lab;
mod log;
mod meter;
mod movers;
mod ours;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use phusa_tests::latency::{self, Rate};
use phusa_tests::registry::Table;
use phusa_tests::workload::{self, Plan};

use lab::{Lab, Outcome};
use meter::measured;
use movers::{Mover, Pipe, Replication, Target};
use ours::Ours;
use report::{Figure, Report};

/// Measures Phù Sa beside the COPY pipe and PostgreSQL's logical replication.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Small sizes, once each
    #[arg(long)]
    quick: bool,
    /// Rows of each table
    #[arg(long)]
    rows: Option<u64>,
    /// How often each figure is taken; medians are printed
    #[arg(long)]
    repeat: Option<usize>,
    /// What to measure
    #[arg(long, value_delimiter = ',', default_value = "snapshot,catch-up,latency,footprint")]
    work: Vec<Work>,
    /// Who takes part
    #[arg(long, value_delimiter = ',', default_value = "pipe,replication,phusa")]
    movers: Vec<Who>,
    /// Every single figure as a line of JSON is added to this file
    #[arg(long, default_value = "bench.jsonl")]
    json: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Work {
    /// Every row of `citizens` into an empty table with its key
    Snapshot,
    /// Mixed changes and one large transaction, made while the mover was stopped
    CatchUp,
    /// Commit to visible at 200 transactions a second
    Latency,
    /// Memory and CPU of the agent
    Footprint,
    /// The transfer log's files: appends, checkpoints, proofs; alone, without databases
    Log,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Who {
    /// `COPY … | COPY …`, binary, one connection
    Pipe,
    /// PostgreSQL's logical replication
    Replication,
    /// Agent and hub
    Phusa,
}

/// How much of everything.
#[derive(Debug, Clone, Copy)]
struct Size {
    rows: u64,
    changes: u64,
    large: u64,
    rate: Rate,
    repeat: usize,
}

impl Size {
    fn of(arguments: &Arguments) -> Self {
        let rows = arguments.rows.unwrap_or(if arguments.quick { 50_000 } else { 1_000_000 });
        let repeat = arguments.repeat.unwrap_or(if arguments.quick { 1 } else { 5 });
        let seconds = if arguments.quick { 5 } else { 30 };
        let rate = Rate { per_second: 200, seconds };
        Self { rows, changes: rows / 2, large: rows / 5, rate, repeat }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match bench(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("phusa-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn bench(arguments: &Arguments) -> Outcome<()> {
    let size = Size::of(arguments);
    if arguments.work == [Work::Log] {
        return log::take(arguments.quick, &arguments.json);
    }
    let mut report = Report::new(&arguments.json);
    eprintln!("loading {} citizens and {} dossiers", size.rows, size.rows);
    let lab = Lab::start(size.rows).await?;
    let takes_part = |who| arguments.movers.contains(&who);
    for work in &arguments.work {
        for round in 1..=work.rounds(size) {
            eprintln!("{work:?}, round {round}");
            if takes_part(Who::Pipe) && *work == Work::Snapshot {
                take(*work, &lab, Pipe::new(), size, &mut report).await?;
            }
            if takes_part(Who::Replication) && *work != Work::Footprint {
                take(*work, &lab, Replication::new(), size, &mut report).await?;
            }
            if takes_part(Who::Phusa) {
                match work {
                    Work::Footprint => footprint::take(&lab, size.rows, &mut report).await?,
                    _ => take(*work, &lab, Ours::new(), size, &mut report).await?,
                }
            }
        }
    }
    report.print();
    Ok(())
}

impl Work {
    /// Catch-up repeats itself on one set-up; the footprint is taken once.
    fn rounds(self, size: Size) -> usize {
        match self {
            Self::Snapshot | Self::Latency => size.repeat,
            Self::CatchUp | Self::Footprint => 1,
            Self::Log => 0,
        }
    }
}

async fn take(
    work: Work,
    lab: &Lab,
    mut mover: impl Mover,
    size: Size,
    report: &mut Report,
) -> Outcome<()> {
    let target = lab.fresh_target();
    match work {
        Work::Snapshot => snapshot(lab, &target, &mut mover, report).await?,
        Work::CatchUp => catch_up(lab, &target, &mut mover, size, report).await?,
        Work::Latency => latency(lab, &target, &mut mover, size, report).await?,
        Work::Footprint | Work::Log => {}
    }
    mover.finish(lab, &target).await?;
    lab.drop_slots();
    Ok(())
}

async fn snapshot(
    lab: &Lab,
    target: &Target,
    mover: &mut impl Mover,
    report: &mut Report,
) -> Outcome<()> {
    mover.prepare(lab, target, &[Table::Citizens]).await?;
    lab.settle();
    let processes = mover.processes(lab, target);
    let (cost, moved) = measured(lab, processes, mover.read_all(lab, target)).await;
    moved?;
    let same = lab.is_same(target, Table::Citizens, mover.names()).await?;
    report.add(Figure::rate("snapshot", mover.title(), lab.rows, cost, same));
    Ok(())
}

async fn catch_up(
    lab: &Lab,
    target: &Target,
    mover: &mut impl Mover,
    size: Size,
    report: &mut Report,
) -> Outcome<()> {
    mover.prepare(lab, target, &Table::ALL).await?;
    mover.read_all(lab, target).await?;
    let Size { changes, large, .. } = size;
    for _ in 0..size.repeat {
        mover.pause(lab, target).await?;
        let plan = Plan { changes, large, ..Plan::default() };
        let done = workload::run(&lab.source().await, &plan).await?;
        lab.settle();
        let processes = mover.processes(lab, target);
        let (cost, moved) = measured(lab, processes, mover.drain(lab, target, done.marker)).await;
        moved?;
        let mut same = true;
        for table in Table::ALL {
            same &= lab.is_same(target, table, mover.names()).await?;
        }
        report.add(Figure::rate("catch-up", mover.title(), done.changes, cost, same));
    }
    Ok(())
}

async fn latency(
    lab: &Lab,
    target: &Target,
    mover: &mut impl Mover,
    size: Size,
    report: &mut Report,
) -> Outcome<()> {
    mover.prepare_probe(lab, target).await?;
    lab.settle();
    let (source, seen) = (lab.source().await, target.connect().await);
    let table = mover.probe();
    let processes = mover.processes(lab, target);
    let work = latency::measure(&source, &seen, table, size.rate);
    let (cost, found) = measured(lab, processes, work).await;
    report.add(Figure::latency(mover.title(), found?, cost));
    Ok(())
}
