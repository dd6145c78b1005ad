//! What the agent costs the source's own work: how many transactions a second the source does alone,
//! beside an agent's full read, and beside its streaming; and which locks the agent holds meanwhile.
//!
//! The source and its own work share the first processor; agent, hub and warehouse have the second, so
//! that what is seen is the work done at the source and not a machine that is too small for all.

use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use phusa_tests::database::Version;
use phusa_tests::process::{output, run, wait_until};
use phusa_tests::province::{Dataset, Readable as _};
use phusa_tests::random::Random;
use phusa_tests::workload::probe_contract;

use crate::lab::{Engine, Lab, Outcome};
use crate::movers::{Mover as _, Target, WITHIN};
use crate::ours::{AGENCY, Ours};
use crate::report::{Figure, Report};

/// The table of the source's own work, as a dataset.
const DATASET: &str = "danh_muc.accounts";

/// Connections of the source's own work.
const CLIENTS: usize = 4;

/// What an agency may set where its server has nothing to spare.
const CAP: &str = "[guard]\nrows_per_second_max = 20000\n";

/// A read that gives way to nobody, as all were before decision 0027.
const NO_RESTS: &str = "[guard]\nwork_loss_max_percent = 100\n";

/// Of the source and its own work.
const PRIORITY: &str = "-15";

/// Between two looks at the locks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long the source's own work goes on before the streaming beside it is measured: the agent looks
/// every ten seconds how often others commit.
const WARM: u64 = 25;

/// How much of everything.
#[derive(Debug, Clone, Copy)]
struct Size {
    rows: u64,
    seconds: u64,
    /// Beside streaming: strides lie up to 20 s apart (decision 0030), and a stretch must hold some.
    streaming_seconds: u64,
    /// Seconds of the own work before they begin.
    warm: u64,
    rounds: usize,
}

/// What a source did within a stretch.
#[derive(Debug, Clone, Default)]
struct Seen {
    per_second: f64,
    /// Lock modes of the agent's login, or rows locked by it.
    locks: Vec<String>,
    /// How many looks found one of its statements under way.
    looks_busy: usize,
    /// What the agent's sessions used of the source's processor; PostgreSQL only.
    used: f64,
}

/// What the source's own work goes on beside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Beside {
    /// A program on the other processor that touches nothing
    Nothing,
    /// The server's own program that reads its log
    LogReader,
    /// A full read with a cap on its rows
    Capped,
    /// A full read without rests
    Unguarded,
    /// A full read with the guard's defaults
    FullRead,
    /// Streaming of what the own work changes, with the guard's defaults
    Streaming,
}

impl Beside {
    fn title(self) -> &'static str {
        match self {
            Self::Nothing => "beside a program on the other processor that touches nothing",
            Self::LogReader => "beside the server's own program that reads its log",
            Self::Capped => "beside a capped full read",
            Self::Unguarded => "beside a full read without rests",
            Self::FullRead => "beside a full read",
            Self::Streaming => "beside its streaming",
        }
    }

    /// Seconds of the own work before it is counted, beside this and alone before and after.
    fn warm(self) -> u64 {
        if self == Self::Streaming { WARM } else { 0 }
    }

    /// This size, with stretches as long as what is seen beside this takes.
    fn stretch_of(self, size: Size) -> Size {
        let seconds = if self == Self::Streaming { size.streaming_seconds } else { size.seconds };
        Size { warm: self.warm(), seconds, ..size }
    }

    fn settings(self) -> &'static str {
        match self {
            Self::Capped => CAP,
            Self::Unguarded => NO_RESTS,
            Self::Nothing | Self::LogReader | Self::FullRead | Self::Streaming => "",
        }
    }
}

/// One stretch of a round; alone where it is beside nothing.
#[derive(Debug)]
struct Stretch {
    beside: Option<Beside>,
    warm: u64,
    seen: Seen,
}

/// The stretches of a kind in one round, each with its ratio to those alone before and after it; one
/// alone is held against the one before.
fn ratios(round: &[Stretch], kind: Option<Beside>) -> Vec<(&Seen, f64)> {
    let mut found = Vec::new();
    for (at, stretch) in round.iter().enumerate() {
        let alone = |one: &&Stretch| one.beside.is_none() && one.warm == stretch.warm;
        let before = round.get(..at).into_iter().flatten().rfind(alone);
        let after = round.get(at..).into_iter().flatten().find(alone);
        if let (true, Some(before), Some(after)) = (stretch.beside == kind, before, after) {
            let [before, after] = [before.seen.per_second, after.seen.per_second];
            let alone = if kind.is_none() { before } else { f64::midpoint(before, after) };
            found.push((&stretch.seen, stretch.seen.per_second / alone));
        }
    }
    found
}

/// Measures the engines in turn and prints the table.
pub(crate) async fn take(
    lab: &Lab,
    (engines, besides): (&[Engine], &[Beside]),
    (quick, rows, repeat): (bool, Option<u64>, usize),
    report: &mut Report,
) -> Outcome<()> {
    let (usual, seconds, streaming_seconds) =
        if quick { (200_000, 4, 4) } else { (3_000_000, 15, 60) };
    let rows = rows.unwrap_or(usual);
    let size = Size { rows, seconds, streaming_seconds, warm: 0, rounds: repeat };
    println!(
        "| source | its own work | transactions/s, medians of {repeat} | ratio to alone, median of the rounds (least to most) | the agent's sessions, % of the source's processor | locks of the agent beyond AccessShare | looks that found it reading |"
    );
    println!("|---|---|---|---|---|---|---|");
    for &engine in engines {
        fill(lab, engine, rows)?;
        pin(lab, engine)?;
        let mut rounds = Vec::new();
        for round in 1..=size.rounds {
            eprintln!("source-safety, {}, round {round}", engine.title());
            rounds.push(round_of(lab, engine, besides, size).await?);
        }
        for kind in [None].into_iter().chain(besides.iter().copied().map(Some)) {
            print(engine, kind, &rounds, report);
        }
    }
    Ok(())
}

/// One line of the table.
fn print(engine: Engine, kind: Option<Beside>, rounds: &[Vec<Stretch>], report: &mut Report) {
    let name = kind.map_or("alone", Beside::title);
    let (all, mut ratios): (Vec<&Seen>, Vec<f64>) =
        rounds.iter().flat_map(|round| ratios(round, kind)).unzip();
    ratios.sort_by(f64::total_cmp);
    let ends = (ratios.first().copied(), ratios.last().copied());
    let (least, most) = (ends.0.unwrap_or(f64::NAN), ends.1.unwrap_or(f64::NAN));
    let ratio = median(ratios);
    let rate = median(all.iter().map(|seen| seen.per_second).collect());
    let used = match engine {
        Engine::PostgreSql => {
            format!("{:.1}", 100.0 * median(all.iter().map(|s| s.used).collect()))
        }
        Engine::MariaDb => "not told".to_owned(),
    };
    let mut locks: Vec<&str> = all.iter().flat_map(|s| &s.locks).map(String::as_str).collect();
    locks.sort_unstable();
    locks.dedup();
    let locks = if locks.is_empty() { "none".to_owned() } else { locks.join(", ") };
    let busy: usize = all.iter().map(|seen| seen.looks_busy).sum();
    let title = engine.title();
    println!(
        "| {title} | {name} | {rate:.0} | {ratio:.3} ({least:.3} to {most:.3}) | {used} | {locks} | {busy} |"
    );
    report.add(Figure::plain("source-safety", name, ratio, "of alone"));
}

/// The table of the source's own work.
fn fill(lab: &Lab, engine: Engine, rows: u64) -> Outcome<()> {
    match engine {
        Engine::PostgreSql => lab.source.psql(&format!(
            "create table accounts (id int4 primary key, seq int8 not null, note text not null);
             insert into accounts select n, 0, repeat('x', 84) from generate_series(1, {rows}) n;
             analyze accounts"
        )),
        Engine::MariaDb => lab.maria()?.database().sql(&format!(
            "create table accounts (id int primary key, seq bigint not null, note varchar(84) not null);
             insert into accounts select seq, 0, repeat('x', 84) from seq_1_to_{rows}"
        )),
    };
    Ok(())
}

/// The source keeps to the first processor, this program and all it starts to the second. Where that
/// is allowed, the source and its own work come before whatever else runs on this machine.
fn pin(lab: &Lab, engine: Engine) -> Outcome<()> {
    let to = |processor: &str, id: u32| {
        let id = id.to_string();
        run(Command::new("taskset").args(["--all-tasks", "--pid", "--cpu-list", processor, &id]));
    };
    to("1", std::process::id());
    let [source, target] = lab.servers(engine);
    for id in crate::meter::family(source) {
        to("0", id);
        // A process may have ended meanwhile.
        let threads = std::fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten();
        for thread in threads.flatten() {
            let mut first = Command::new("renice");
            first.args(["--priority", PRIORITY, "--pid"]).arg(thread.file_name());
            output(&mut first);
        }
    }
    crate::meter::family(target).into_iter().for_each(|id| to("1", id));
    Ok(())
}

/// One stretch of each kind, and alone before and after it.
async fn round_of(
    lab: &Lab,
    engine: Engine,
    besides: &[Beside],
    size: Size,
) -> Outcome<Vec<Stretch>> {
    let mut round: Vec<Stretch> = Vec::new();
    for &kind in besides {
        let size = kind.stretch_of(size);
        let last = round.last();
        if last.is_none_or(|last| last.beside.is_some() || last.warm != size.warm) {
            round.push(alone(lab, engine, size).await?);
        }
        let seen = match kind {
            Beside::Nothing | Beside::LogReader => other(lab, engine, kind, size).await?,
            _ => ours(lab, engine, kind, size).await?,
        };
        round.push(Stretch { beside: Some(kind), warm: size.warm, seen });
        lab.drop_slots();
        round.push(alone(lab, engine, size).await?);
    }
    Ok(round)
}

async fn alone(lab: &Lab, engine: Engine, size: Size) -> Outcome<Stretch> {
    lab.settle();
    Ok(Stretch { beside: None, warm: size.warm, seen: stretch(lab, engine, size).await? })
}

/// Beside somebody else's program.
async fn other(lab: &Lab, engine: Engine, kind: Beside, size: Size) -> Outcome<Seen> {
    if kind == Beside::LogReader {
        let mut reader = log_reader(lab, engine)?;
        let seen = stretch(lab, engine, size).await?;
        reader.kill()?;
        reader.wait()?;
        return Ok(seen);
    }
    // A thread of this program, which keeps to the second processor and ends with it.
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    let idle = std::thread::spawn(move || while !asked.load(Ordering::Relaxed) {});
    let seen = stretch(lab, engine, size).await;
    stop.store(true, Ordering::Relaxed);
    idle.join().map_err(|_| "the idle thread broke off")?;
    seen
}

/// Beside agent and hub.
async fn ours(lab: &Lab, engine: Engine, kind: Beside, size: Size) -> Outcome<Seen> {
    lab.settle();
    let target = lab.fresh_target();
    let mut ours = Ours::by(engine, "log", kind.settings());
    ours.prepare_one(lab, &target, &dataset(lab, engine)?)?;
    ours.start_agent();
    if kind == Beside::Streaming {
        wait_for_rows(&target, i64::try_from(size.rows)?).await;
        lab.settle();
    }
    let seen = stretch(lab, engine, size).await?;
    ours.finish(lab, &target).await?;
    Ok(seen)
}

/// The program that comes with the server, reading the log of the table into nothing.
fn log_reader(lab: &Lab, engine: Engine) -> Outcome<std::process::Child> {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", "1"]);
    match engine {
        Engine::PostgreSql => {
            lab.source.psql("drop publication if exists own_reader");
            lab.source.psql("create publication own_reader for table accounts");
            // In a transaction of its own, as the server wants it.
            lab.source.psql("select pg_create_logical_replication_slot('own_reader', 'pgoutput')");
            command.arg(Version::V15.programs().join("pg_recvlogical"));
            command.args(["--slot", "own_reader", "--start", "--option", "proto_version=1"]);
            command.args(["--option", "publication_names=own_reader", "--file", "/dev/null"]);
            command.arg("--dbname").arg(lab.source.url());
        }
        Engine::MariaDb => {
            let database = lab.maria()?.database();
            let status = database.sql("show master status");
            let file = status.split_whitespace().next().ok_or("no log")?.to_owned();
            let socket = database.server().folder().join("s");
            command.args(["mariadb-binlog", "--no-defaults", "--user=root", "--stop-never"]);
            command.arg("--read-from-remote-server").arg("--socket").arg(socket).arg(file);
        }
    }
    Ok(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
}

async fn wait_for_rows(target: &Target, rows: i64) {
    let client = target.connect().await;
    let sql = "select 1 from phusa.streams where dataset = $1 and rows >= $2";
    wait_until("the full read", WITHIN, async || {
        client.query_opt(sql, &[&DATASET, &rows]).await.ok().flatten()
    })
    .await;
}

/// The table as a dataset; the contract is that of the small table for measuring latency.
fn dataset(lab: &Lab, engine: Engine) -> Outcome<Dataset> {
    let schema = match engine {
        Engine::PostgreSql => "public",
        Engine::MariaDb => lab.maria()?.database().schema(),
    };
    let field = |name| format!("\n[[field]]\nfrom = \"{name}\"\nto = \"{name}\"\nclass = \"P\"\n");
    let head = format!(
        "dataset = \"{DATASET}\"\ncontract = \"../contracts/{DATASET}.toml\"\ntable = \"{schema}.accounts\"\n"
    );
    Ok(Dataset {
        id: DATASET.to_owned(),
        contract: probe_contract(AGENCY).replace("danh_muc.probe", DATASET),
        mapping: [head, field("id"), field("seq"), field("note")].concat(),
    })
}

/// The source's own work for a while, with looks at what the agent holds.
async fn stretch(lab: &Lab, engine: Engine, size: Size) -> Outcome<Seen> {
    let user = match engine {
        Engine::PostgreSql => phusa_tests::province::login(&lab.source),
        Engine::MariaDb => phusa_tests::province::login(lab.maria()?.database()),
    };
    let mut own = match engine {
        Engine::PostgreSql => pgbench(lab, size)?,
        Engine::MariaDb => loops(lab, size)?,
    };
    tokio::time::sleep(Duration::from_secs(size.warm)).await;
    let used = || -> f64 {
        let [server, _] = lab.servers(engine);
        crate::meter::workers(server, &[&user]).into_iter().filter_map(crate::meter::own_cpu).sum()
    };
    let (before, used_before) = (done(lab, engine)?, used());
    let began = Instant::now();
    let mut seen = Seen::default();
    let source = lab.source().await;
    while began.elapsed() < Duration::from_secs(size.seconds) {
        tokio::time::sleep(LOOK_EVERY).await;
        let found = match engine {
            Engine::PostgreSql => {
                let sql = "select coalesce(string_agg(distinct l.mode, ', ') filter (where \
                           l.locktype in ('relation', 'tuple', 'page', 'extend') and l.mode <> \
                           'AccessShareLock'), ''), count(distinct a.pid) filter (where a.state = \
                           'active' and a.backend_type = 'client backend') from pg_stat_activity a left join pg_locks l using (pid) \
                           where a.usename = $1";
                let row = source.query_one(sql, &[&user]).await?;
                let active: i64 = row.get(1);
                (row.get::<_, String>(0), active > 0)
            }
            Engine::MariaDb => {
                let sql = format!(
                    "select coalesce(sum(t.trx_rows_locked + t.trx_tables_locked), 0), \
                     coalesce(sum(p.command in ('Query', 'Execute', 'Fetch')), 0) from information_schema.processlist p \
                     left join information_schema.innodb_trx t on t.trx_mysql_thread_id = p.id \
                     where p.user = '{user}'"
                );
                let said = lab.maria()?.database().sql(&sql);
                let mut parts = said.split_whitespace();
                let locked = parts.next().filter(|count| *count != "0");
                let locked = locked.map(|count| format!("{count} rows and tables"));
                (locked.unwrap_or_default(), parts.next().is_some_and(|busy| busy != "0"))
            }
        };
        seen.looks_busy += usize::from(found.1);
        seen.locks.extend((!found.0.is_empty()).then_some(found.0));
    }
    let after = done(lab, engine)?;
    let span = began.elapsed().as_secs_f64();
    seen.per_second = (after - before) / span;
    seen.used = (used() - used_before).max(0.0) / span;
    for process in &mut own {
        process.kill()?;
        process.wait()?;
    }
    Ok(seen)
}

/// How many of its own transactions the source has done: each raises one row's count by one.
fn done(lab: &Lab, engine: Engine) -> Outcome<f64> {
    // Statistics lag by up to a second in PostgreSQL 15 and cost nothing, which a sum would not.
    let text = match engine {
        Engine::PostgreSql => {
            lab.source.psql("select n_tup_upd from pg_stat_user_tables where relname = 'accounts'")
        }
        Engine::MariaDb => lab.maria()?.database().sql(
            "select variable_value from information_schema.global_status where variable_name = \
             'HANDLER_UPDATE'",
        ),
    };
    Ok(text.trim().parse()?)
}

/// pgbench with a short transaction of the usual kind, longer than it is needed.
fn pgbench(lab: &Lab, size: Size) -> Outcome<Vec<std::process::Child>> {
    let file = lab.source.server().data().join("own-work.sql");
    let rows = size.rows;
    std::fs::write(
        &file,
        format!(
            "\\set a random(1, {rows})\n\\set b random(1, {rows})\nbegin;\n\
             update accounts set seq = seq + 1 where id = :a;\n\
             select seq from accounts where id = :b;\ncommit;\n"
        ),
    )?;
    let seconds = (size.warm + size.seconds + 60).to_string();
    let mut command = Command::new("nice");
    command
        .args(["-n", PRIORITY, "taskset", "--cpu-list", "0"])
        .arg(Version::V15.programs().join("pgbench"));
    command.args(["--no-vacuum", "--client", &CLIENTS.to_string(), "--time", &seconds]);
    command.arg("--protocol=prepared").arg("--file").arg(&file).arg(lab.source.url());
    Ok(vec![command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?])
}

/// The same by MariaDB's own client, from scripts that are longer than they are needed.
fn loops(lab: &Lab, size: Size) -> Outcome<Vec<std::process::Child>> {
    let database = lab.maria()?.database();
    let mut children = Vec::new();
    for stream in 0..CLIENTS as u64 {
        let file = database.server().folder().join(format!("own-work-{stream}.sql"));
        if !file.exists() {
            let (mut random, mut script) = (Random::new(1, stream), String::new());
            for _ in 0..200_000 {
                let [a, b] = [random.between(1, size.rows), random.between(1, size.rows)];
                writeln!(
                    script,
                    "begin; update accounts set seq = seq + 1 where id = {a}; \
                     select seq from accounts where id = {b}; commit;"
                )?;
            }
            std::fs::write(&file, script)?;
        }
        let client = database.server().client();
        let mut command = Command::new("nice");
        command.args(["-n", PRIORITY, "taskset", "--cpu-list", "0"]);
        command.arg(client.get_program()).args(client.get_args());
        command.args(["--database", database.name()]).stdin(std::fs::File::open(&file)?);
        children.push(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    }
    Ok(children)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
