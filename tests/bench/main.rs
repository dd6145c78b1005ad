//! `phusa-bench`: the same rows by the plain COPY pipe, by PostgreSQL's own logical replication, by
//! movers that others wrote, and by Phù Sa, on the same servers in the same run; medians and ratios
//! as a table.

mod curves;
mod fleet;
mod footprint;
mod lab;
mod mapping;
mod maria;
mod log;
mod meter;
mod movers;
mod ours;
mod peers;
mod proof;
mod reconcile;
mod report;
mod safety;
mod visitor;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use phusa_tests::latency::{self, Rate};
use phusa_tests::registry::Table;
use phusa_tests::workload::Plan;

use lab::{Engine, Lab, Outcome};
use maria::{Chameleon, ClientPipe, Pgloader};
use meter::measured;
use movers::{Mover, Pipe, Replication, Target};
use ours::Ours;
use peers::{Peer, Program};
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
    /// Agents of the work `fleet`
    #[arg(long, default_value_t = 1_000)]
    agents: u16,
    /// Of the work `source-safety`: a folder on another disk than the sources', such as `/dev/shm`,
    /// for agent, hub and warehouse
    #[arg(long)]
    elsewhere: Option<PathBuf>,
    /// Of the work `source-safety`: the sources
    #[arg(long, value_delimiter = ',', default_value = "postgresql,mariadb")]
    sources: Vec<Engine>,
    /// Of the work `source-safety`: beside what the own work goes on
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "nothing,log-reader,capped,unguarded,full-read,streaming"
    )]
    beside: Vec<safety::Beside>,
    /// Of the work `curves`: what grows
    #[arg(long, value_delimiter = ',', default_value = "rows,columns,datasets,log,agents")]
    axes: Vec<curves::Axis>,
    /// Of the work `curves`: rows and entries at the end; datasets are a ten-thousandth of it
    #[arg(long, default_value_t = 1_000_000)]
    max: u64,
    /// Of the work `curves`: where the drawings go
    #[arg(long, default_value = "docs/images")]
    drawings: PathBuf,
    /// What to measure
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "snapshot,catch-up,latency,footprint,maria-snapshot,maria-catch-up,reconcile,mapping"
    )]
    work: Vec<Work>,
    /// Who takes part
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "pipe,replication,pgloader,chameleon,dlt,sling,phusa"
    )]
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
    /// Rows through the agent's mapping, without any server
    Mapping,
    /// The snapshot from MariaDB
    MariaSnapshot,
    /// The catch-up from MariaDB's binlog
    MariaCatchUp,
    /// Comparing all rows when nothing has changed, at PostgreSQL and at MariaDB
    Reconcile,
    /// The transfer log's files: appends, checkpoints, proofs; alone, without databases
    Log,
    /// From an entry of the transfer log to its proof in the agent's hands
    Proof,
    /// What the agent costs the source's own work, and which locks it holds
    SourceSafety,
    /// What a row, a column, a dataset and an entry cost as their number grows, as drawings too; alone
    Curves,
    /// What agents that report cost the hub, and how soon trouble is shown; alone, without databases
    Fleet,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Who {
    /// `COPY … | COPY …`, binary, one connection; at MariaDB its client's text into `COPY`
    Pipe,
    /// PostgreSQL's logical replication
    Replication,
    /// pgloader, where it is installed
    Pgloader,
    /// `pg_chameleon`, where it is installed
    Chameleon,
    /// dlt, where it is installed
    Dlt,
    /// sling, where it is installed
    Sling,
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
    if arguments.work == [Work::Fleet] {
        fleet::take(arguments.agents, &mut report).await?;
        report.print();
        return Ok(());
    }
    if arguments.work.contains(&Work::Mapping) {
        mapping::take(size.repeat, &mut report);
    }
    if arguments.work.iter().all(|work| *work == Work::Mapping) {
        report.print();
        return Ok(());
    }
    if arguments.work == [Work::Curves] {
        return curves::take(&arguments.axes, arguments.max, &arguments.drawings).await;
    }
    if arguments.work == [Work::SourceSafety] {
        let lab = Lab::start_apart(arguments.elsewhere.as_deref()).await?;
        let sizes = (arguments.quick, arguments.rows, size.repeat);
        let what = (&*arguments.sources, &*arguments.beside);
        safety::take(&lab, what, sizes, &mut report).await?;
        return Ok(());
    }
    eprintln!("loading {} citizens and {} dossiers", size.rows, size.rows);
    let mut lab = Lab::start(size.rows).await?;
    for work in &arguments.work {
        let alone = [Work::Snapshot, Work::CatchUp, Work::Latency, Work::Mapping, Work::Proof];
        if !alone.contains(work) {
            lab.add_maria()?;
        }
        for round in 1..=work.rounds(size) {
            eprintln!("{work:?}, round {round}");
            for who in &arguments.movers {
                turn(*work, *who, &lab, size, &mut report).await?;
            }
        }
    }
    report.print();
    Ok(())
}

/// One mover's turn at a work, if it takes part in that.
async fn turn(work: Work, who: Who, lab: &Lab, size: Size, report: &mut Report) -> Outcome<()> {
    use Work::{
        CatchUp, Footprint, Latency, MariaCatchUp, MariaSnapshot, Proof, Reconcile, Snapshot,
    };
    match (who, work) {
        (Who::Pipe, Snapshot) => take(work, lab, Pipe::new(), size, report).await,
        (Who::Pipe, MariaSnapshot) => take(work, lab, ClientPipe::new(), size, report).await,
        (Who::Replication, Snapshot | CatchUp | Latency) => {
            take(work, lab, Replication::new(), size, report).await
        }
        (Who::Pgloader, MariaSnapshot) => match Pgloader::new() {
            Some(mover) => take(work, lab, mover, size, report).await,
            None => not_there("pgloader"),
        },
        (Who::Chameleon, MariaCatchUp) => match Chameleon::new() {
            Some(mover) => take(work, lab, mover, size, report).await,
            None => not_there("pg_chameleon"),
        },
        (Who::Dlt, Snapshot | MariaSnapshot) => peer(Program::Dlt, work, lab, size, report).await,
        (Who::Sling, Snapshot | MariaSnapshot) => {
            peer(Program::Sling, work, lab, size, report).await
        }
        (Who::Phusa, Footprint) => footprint::take(lab, size.rows, report).await,
        (Who::Phusa, Proof) => proof::take(lab, report).await,
        (Who::Phusa, Reconcile) => {
            reconcile::take(lab, Engine::PostgreSql, report).await?;
            reconcile::take(lab, Engine::MariaDb, report).await
        }
        (Who::Phusa, Snapshot | CatchUp | Latency) => {
            take(work, lab, Ours::new(Engine::PostgreSql), size, report).await
        }
        (Who::Phusa, MariaSnapshot | MariaCatchUp) => {
            take(work, lab, Ours::new(Engine::MariaDb), size, report).await
        }
        _ => Ok(()),
    }
}

async fn peer(
    program: Program,
    work: Work,
    lab: &Lab,
    size: Size,
    report: &mut Report,
) -> Outcome<()> {
    let from = if work == Work::Snapshot { Engine::PostgreSql } else { Engine::MariaDb };
    match Peer::new(program, from) {
        Some(mover) => take(work, lab, mover, size, report).await,
        None => not_there(program.title()),
    }
}

fn not_there(name: &str) -> Outcome<()> {
    eprintln!(
        "  {name} is not installed and does not take part; packaging/setup --peers installs it"
    );
    Ok(())
}

impl Work {
    /// Catch-up repeats itself on one set-up; the footprint is taken once; mapping needs no lab.
    fn rounds(self, size: Size) -> usize {
        match self {
            Self::Snapshot | Self::Latency | Self::MariaSnapshot => size.repeat,
            Self::CatchUp
            | Self::MariaCatchUp
            | Self::Footprint
            | Self::Reconcile
            | Self::Proof => 1,
            Self::Mapping | Self::Log | Self::Fleet | Self::SourceSafety | Self::Curves => 0,
        }
    }

    /// What it is called in the table.
    fn title(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::CatchUp => "catch-up",
            Self::Latency => "latency",
            Self::Footprint => "footprint",
            Self::MariaSnapshot => "MariaDB snapshot",
            Self::MariaCatchUp => "MariaDB catch-up",
            Self::Reconcile => "reconcile",
            Self::Mapping => "mapping",
            Self::Log => "log",
            Self::Proof => "proof",
            Self::Fleet => "fleet",
            Self::SourceSafety => "source-safety",
            Self::Curves => "curves",
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
        Work::Snapshot | Work::MariaSnapshot => {
            snapshot(work, lab, &target, &mut mover, report).await?;
        }
        Work::CatchUp | Work::MariaCatchUp => {
            catch_up(work, lab, &target, &mut mover, (size, report)).await?;
        }
        Work::Latency => latency(lab, &target, &mut mover, size, report).await?,
        Work::Footprint
        | Work::Reconcile
        | Work::Mapping
        | Work::Log
        | Work::Proof
        | Work::SourceSafety
        | Work::Curves
        | Work::Fleet => {}
    }
    mover.finish(lab, &target).await?;
    lab.drop_slots();
    Ok(())
}

async fn snapshot(
    work: Work,
    lab: &Lab,
    target: &Target,
    mover: &mut impl Mover,
    report: &mut Report,
) -> Outcome<()> {
    mover.prepare(lab, target, &[Table::Citizens]).await?;
    lab.settle();
    let processes = mover.processes(lab, target);
    let (cost, moved) =
        measured(lab.servers(mover.reads()), processes, mover.read_all(lab, target)).await;
    moved?;
    let same = lab.is_same(target, Table::Citizens, mover.names()).await?;
    report.add(Figure::rate(work.title(), mover.title(), lab.rows, cost, same));
    Ok(())
}

async fn catch_up(
    work: Work,
    lab: &Lab,
    target: &Target,
    mover: &mut impl Mover,
    (size, report): (Size, &mut Report),
) -> Outcome<()> {
    mover.prepare(lab, target, &Table::ALL).await?;
    mover.read_all(lab, target).await?;
    let Size { changes, large, .. } = size;
    for _ in 0..size.repeat.min(mover.rounds_max()) {
        mover.pause(lab, target).await?;
        let plan = Plan { changes, large, ..Plan::default() };
        let done = lab.change(&plan).await?;
        lab.settle();
        let processes = mover.processes(lab, target);
        let (cost, moved) =
            measured(lab.servers(mover.reads()), processes, mover.drain(lab, target, done.marker))
                .await;
        moved?;
        let mut same = true;
        for table in Table::ALL {
            same &= lab.is_same(target, table, mover.names()).await?;
        }
        report.add(Figure::rate(work.title(), mover.title(), done.changes, cost, same));
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
    let (cost, found) = measured(lab.servers(mover.reads()), processes, work).await;
    report.add(Figure::latency(mover.title(), found?, cost));
    Ok(())
}
