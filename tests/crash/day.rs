//! The long form: a random workload on every way of following an engine, with random `kill -9` of
//! agent, hub and database; a short form of it runs always for engines that `points` does not kill.

mod calm;
mod far;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use phusa_tests::database::{Server, Version, connect_with};
use phusa_tests::mysql::{Flavour, MySqlServer, mysql_programs, why_no_mysql};
use phusa_tests::office::{Followed, Office, Row, Way, share};
use phusa_tests::process::wait_until;
use phusa_tests::province::{ARRIVES_WITHIN, Province};
use phusa_tests::random::Random;
use phusa_tests::tds::SqlServer;
use phusa_tests::world::AGENCY;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clerk::{BLOCK, Clerk, Done, IDS};
use crate::scene::wait_for_batches;
use crate::witness::{Block, Witness};

/// Small batches, and rows that are compared all the while.
const SETTINGS: &str = "[guard]\nchunk_rows = 100\nreconcile_interval = \"500ms\"\n\
                        watermark_interval = \"200ms\"\n\n\
                        [batch]\nbatch_rows_max = 60\nbatch_linger = \"10ms\"\n";

/// Rows of the table that is changed as a whole.
const BLOCK_ROWS: i64 = 120;

/// Kills of the short form.
const SHORT_KILLS: u64 = 12;

/// How many batches pass at most between two kills.
const BATCHES_MAX: u64 = 40;

/// How long the soak is to last, in minutes.
fn minutes() -> Option<u64> {
    std::env::var("PHUSA_SOAK_MINUTES").ok()?.parse().ok()
}

/// What a process holds.
#[derive(Debug, Clone, Copy)]
struct Held {
    files: u64,
    mib: u64,
}

impl Held {
    /// Of the process with this id.
    fn by(id: u32) -> Self {
        let files = std::fs::read_dir(format!("/proc/{id}/fd")).map_or(0, |all| all.count() as u64);
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = resident.and_then(|of| of.split_whitespace().next()?.parse::<u64>().ok());
        Self { files, mib: kib.unwrap_or(0) / 1024 }
    }
}

/// Runs a day with threads of its own, whatever it holds up.
fn alone(day: impl Future<Output = ()>) {
    let mut threads = tokio::runtime::Builder::new_multi_thread();
    let runtime = threads.worker_threads(1).enable_all().build().expect("threads");
    runtime.block_on(day);
}

/// When a day of kills is over.
#[derive(Debug, Clone, Copy)]
enum Until {
    Kills(u64),
    Minutes(u64),
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dozen_kills_of_agent_hub_and_mariadb_lose_nothing() {
    let server = Arc::new(MySqlServer::start(Flavour::MariaDb, ""));
    Day::begins("mariadb", server.database()).await.goes_on(Until::Kills(SHORT_KILLS)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dozen_kills_of_agent_hub_and_sql_server_lose_nothing() {
    let server = SqlServer::start("bi-mat");
    Day::begins("sqlserver", server).await.goes_on(Until::Kills(SHORT_KILLS)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_day_of_random_work_and_random_kills_loses_nothing() {
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse().ok());
    let Some(minutes) = number("PHUSA_CRASH_MINUTES") else {
        println!("the long form needs PHUSA_CRASH_MINUTES and PHUSA_CRASH_ENGINE");
        return;
    };
    let until = Until::Minutes(minutes);
    let engine = std::env::var("PHUSA_CRASH_ENGINE").unwrap_or_else(|_| "postgres".to_owned());
    match engine.as_str() {
        "postgres" => {
            let server = Arc::new(Server::start(Version::V15.or_given(), ""));
            Day::begins(&engine, server.database()).await.goes_on(until).await;
        }
        "mariadb" => {
            let server = Arc::new(MySqlServer::start(Flavour::MariaDb, ""));
            Day::begins(&engine, server.database()).await.goes_on(until).await;
        }
        "mysql" => {
            if mysql_programs().is_none() {
                println!("MySQL was not fetched: {:?}", why_no_mysql());
                return;
            }
            let server = Arc::new(MySqlServer::start(Flavour::MySql, ""));
            Day::begins(&engine, server.database()).await.goes_on(until).await;
        }
        "sqlserver" => {
            Day::begins(&engine, SqlServer::start("bi-mat")).await.goes_on(until).await;
        }
        other => {
            panic!("PHUSA_CRASH_ENGINE={other} is none of postgres, mariadb, mysql, sqlserver")
        }
    }
}

/// An office at work, an agent and a hub with its own warehouse.
struct Day<O> {
    engine: String,
    province: Province,
    office: Arc<O>,
    followed: Vec<Followed>,
    random: Random,
    seed: u64,
    began: Instant,
    kills: BTreeMap<&'static str, u64>,
}

impl<O: Office + Send + Sync + 'static> Day<O> {
    /// Loads the tables and starts hub and agent.
    async fn begins(engine: &str, office: O) -> Self {
        let mut day = Self::prepared(engine, office);
        day.province.start_hub();
        day.province.start_agent(AGENCY);
        day
    }

    /// Loads the tables; neither hub nor agent runs.
    fn prepared(engine: &str, office: O) -> Self {
        let seed = std::env::var("PHUSA_CRASH_SEED").ok().and_then(|text| text.parse().ok());
        let unlike_others = || u64::from(std::process::id()) ^ u64::from(office.port());
        let seed = seed.unwrap_or_else(unlike_others);
        println!("{engine}: PHUSA_CRASH_SEED={seed}");
        for &way in office.ways() {
            let count = if way == BLOCK { BLOCK_ROWS } else { i64::try_from(IDS).unwrap_or(0) };
            let row = |id| Row { id, part: id % 8, name: format!("Lê Thị {id}"), number: 0 };
            office.create(way, &(1..=count).map(row).collect::<Vec<_>>());
        }
        let mut province = Province::new();
        let shared = share(&mut province, &office, SETTINGS);
        for (way, why) in &shared.refused {
            println!("{engine}: {} is not possible: {why}", way.name());
        }
        Self {
            engine: engine.to_owned(),
            province,
            office: Arc::new(office),
            followed: shared.followed,
            random: Random::new(seed, 3),
            seed,
            began: Instant::now(),
            kills: BTreeMap::new(),
        }
    }

    /// Kills until the day is over, and then looks whether both ends are the same.
    async fn goes_on(mut self, until: Until) {
        let clerk = Clerk::begins(Arc::clone(&self.office), self.followed.clone(), self.seed);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let block = Block { dataset: "thu.dan_doc", number: "so", rows: BLOCK_ROWS };
        let witness = Witness::of(block);
        tasks.spawn(witness.clone().look(self.province.warehouse_config(), stop.clone()));
        while !self.is_over(until) {
            wait_for_batches(&self.province, self.random.between(1, BATCHES_MAX)).await;
            self.kill_someone();
        }
        let done = clerk.ends();
        let same = self.wait_until_same().await;
        stop.cancel();
        tasks.close();
        tasks.wait().await;
        self.province.verify_log();
        assert_eq!(witness.halves(), Vec::<String>::new());
        assert!(self.province.agent_process(AGENCY).stop().success());
        let epochs = self.epochs().await;
        assert!(self.province.hub_process().stop().success());
        self.tell(done, &same, witness.generations());
        let again: Vec<_> = epochs.iter().filter(|(_, epoch)| *epoch != 1).collect();
        assert!(again.is_empty(), "a kill is no reason to read anew: {again:?}");
    }

    fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    fn is_over(&self, until: Until) -> bool {
        match until {
            Until::Kills(count) => self.kills.values().sum::<u64>() >= count,
            Until::Minutes(count) => self.began.elapsed() >= Duration::from_secs(60 * count),
        }
    }

    /// One of them, or the agent together with another one; each comes back at once.
    fn kill_someone(&mut self) {
        let (agent, hub) = (self.random.chance(50), self.random.chance(30));
        let source = self.random.chance(25) || !(agent || hub);
        assert!(self.province.agent_process(AGENCY).is_running(), "the agent ended by itself");
        assert!(self.province.hub_process().is_running(), "the hub ended by itself");
        let mut who = Vec::new();
        if agent {
            self.province.agent_process(AGENCY).kill();
            who.push("agent");
        }
        if source {
            self.office.kill();
            who.push("database");
        }
        if hub {
            self.province.hub_process().kill();
            who.push("hub");
        }
        println!("{:6.1} s  {} killed", self.began.elapsed().as_secs_f64(), who.join(", "));
        for victim in who {
            *self.kills.entry(victim).or_default() += 1;
        }
        if source {
            self.office.resume();
        }
        if hub {
            self.province.start_hub_with(&[]);
        }
        if agent {
            self.province.start_agent(AGENCY);
        }
    }

    /// Waits until the warehouse has every row as the source has it; how many each table has.
    async fn wait_until_same(&self) -> Vec<(Way, u64)> {
        let mut same = Vec::new();
        for Followed { way, .. } in &self.followed {
            let dataset = format!("thu.{}", way.table());
            let records = self.province.wait_until_identical(AGENCY, &dataset).await;
            let sql =
                format!("select concat_ws('|', id, nhom, ten, so) from {dataset} order by id");
            let wanted = self.office.lines(*way);
            wait_until(
                &format!("{dataset} to be the same row by row"),
                ARRIVES_WITHIN,
                async || {
                    let client = connect_with(&self.province.warehouse_config()).await.ok()?;
                    let rows = client.query(&sql, &[]).await.ok()?;
                    let found: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
                    (found == wanted).then_some(())
                },
            )
            .await;
            same.push((*way, records));
        }
        same
    }

    /// The epoch each dataset is in.
    async fn epochs(&self) -> Vec<(String, i64)> {
        let client = connect_with(&self.province.warehouse_config()).await.expect("the warehouse");
        let sql = "select dataset, max(epoch) from phusa.streams group by dataset order by dataset";
        let rows = client.query(sql, &[]).await.expect("the streams");
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    fn tell(&self, done: Done, same: &[(Way, u64)], generations: usize) {
        let Done { transactions, changes, unconfirmed } = done;
        let seconds = self.began.elapsed().as_secs_f64();
        println!("{}: seed {}, {seconds:.0} s, killed: {:?}", self.engine, self.seed, self.kills);
        println!("  {transactions} transactions of {changes} changes, {unconfirmed} not confirmed");
        match generations {
            0 => println!("  the log is verified"),
            count => println!("  {count} whole states were seen, no half; the log is verified"),
        }
        for (way, records) in same {
            println!("  {}: {records} records, identical", way.name());
        }
    }
}
