//! `Scene`: a province under steady load whose processes are killed, and the witness who looks at
//! the warehouse all the while.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use phusa_tests::database::{Database, Server, Version, connect_with};
use phusa_tests::process::{Process, wait_until};
use phusa_tests::province::{Dataset, Province, Reader};
use phusa_tests::registry::{Share, Table};
use phusa_tests::workload::{self, Plan};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::witness::{Block, Witness};

pub(crate) const AGENCY: &str = "H57.12";

/// Rows of the table that each transaction of the writer changes as a whole.
const BLOCK_ROWS: i64 = 240;

const PROBE: Block = Block { dataset: "danh_muc.probe", number: "seq", rows: BLOCK_ROWS };

/// Batches so small that the full read has hundreds and every writer's transaction spans five.
const SMALL_BATCHES: &str = "[batch]\nbatch_rows_max = 50\nbatch_linger = \"10ms\"\n";

/// The full read is held back, so that it is still under way when it is killed the last time.
const SLOW_READ: &str = "[guard]\nrows_per_second_max = 150\n";

/// The witness has looked long enough when it has seen more whole states than this.
const SEEN_MIN: usize = 5;

/// How long a process may take to pass a point that lies on its way.
const PASSES_WITHIN: Duration = Duration::from_secs(240);

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Victim {
    Agent,
    Hub,
}

/// Three datasets under load, and what was killed so far.
pub(crate) struct Scene {
    pub(crate) province: Province,
    pub(crate) database: Database,
    pub(crate) kills: u64,
    /// Points at which a process has killed itself.
    pub(crate) hit: BTreeSet<&'static str>,
    began: Instant,
    load: CancellationToken,
    tasks: TaskTracker,
    witness: Witness,
}

impl Scene {
    /// Loads the source and brings the hub up; the agent does not run yet.
    pub(crate) async fn new(rows: u64) -> Self {
        let database = Arc::new(Server::start(Version::V15, "")).database();
        let client = database.connect().await;
        workload::load(&client, rows, rows, 11).await.unwrap();
        let fill =
            format!("insert into probe select i, 0, 'x' from generate_series(2, {BLOCK_ROWS}) i");
        client.batch_execute(&fill).await.unwrap();
        let mut province = Province::new();
        let mut datasets =
            Table::ALL.map(|t| Dataset::of_registry(t, AGENCY, Share::Agreed)).to_vec();
        datasets.push(Dataset {
            id: "danh_muc.probe".to_owned(),
            contract: workload::probe_contract(AGENCY),
            mapping: workload::probe_mapping("../contracts/danh_muc.probe.toml"),
        });
        let settings = format!("{SMALL_BATCHES}\n{SLOW_READ}");
        let reader = Reader { agency: AGENCY, database: &database, settings: &settings };
        province.add_agent(reader, &datasets);
        province.start_hub();
        let (load, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(write(database.url(), load.clone()));
        let (kills, hit, witness) = (0, BTreeSet::new(), Witness::of(PROBE));
        Self { province, database, kills, hit, began: Instant::now(), load, tasks, witness }
    }

    /// Lets the witness look from now on.
    pub(crate) fn watch(&self) {
        let (config, stop) = (self.province.warehouse_config(), self.load.clone());
        self.tasks.spawn(self.witness.clone().look(config, stop));
    }

    /// Waits until so many batches more are at the hub, which must be there.
    pub(crate) async fn wait_for_batches(&self, count: u64) {
        wait_for_batches(&self.province, count).await;
    }

    /// The full read goes on as fast as it can from the agent's next start.
    pub(crate) fn hurry(&self) {
        let file = self.province.agent_config(AGENCY);
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace(SLOW_READ, "")).unwrap();
    }

    /// Starts the victim so that it kills itself at the `nth` passing of `point`, and waits until
    /// it has.
    pub(crate) async fn die_at(&mut self, victim: Victim, point: &'static str, nth: u64) {
        let wanted = format!("{point}:{nth}");
        let environment = [("PHUSA_FAILPOINT", wanted.as_str())];
        match victim {
            Victim::Agent => self.province.start_agent_with(AGENCY, &environment),
            Victim::Hub => self.province.launch_hub(&environment),
        }
        self.stir().await;
        let process = self.process(victim);
        let what = format!("{victim:?} to pass {wanted}");
        let ended = wait_until(&what, PASSES_WITHIN, async || process.ended()).await;
        let said = process.log();
        assert_eq!(ended.signal(), Some(9), "{victim:?} ended otherwise: {ended}\n{said}");
        println!("{:6.1} s  {victim:?} died at {wanted}", self.began.elapsed().as_secs_f64());
        self.hit.insert(point);
        self.kills += 1;
    }

    /// Starts the victim as everyone does.
    pub(crate) fn revive(&mut self, victim: Victim) {
        match victim {
            Victim::Agent => self.province.start_agent(AGENCY),
            Victim::Hub => self.province.start_hub_with(&[]),
        }
    }

    /// `kill -9`, wherever it is just now.
    pub(crate) fn kill(&mut self, victim: Victim) {
        self.process(victim).kill();
        println!("{:6.1} s  {victim:?} was killed", self.began.elapsed().as_secs_f64());
        self.kills += 1;
    }

    /// `kill -9` to the source server, and its restart.
    pub(crate) fn kill_source(&mut self) {
        self.database.server().kill();
        println!("{:6.1} s  the source was killed", self.began.elapsed().as_secs_f64());
        self.kills += 1;
        self.database.server().resume();
    }

    pub(crate) fn process(&mut self, victim: Victim) -> &mut Process {
        match victim {
            Victim::Agent => self.province.agent_process(AGENCY),
            Victim::Hub => self.province.hub_process(),
        }
    }

    /// Some ordinary transactions in the registry.
    pub(crate) async fn stir(&self) {
        let client = self.database.connect().await;
        let plan = Plan { changes: 120, transaction_max: 80, ..Plan::default() };
        workload::run(&client, &plan).await.unwrap();
        // The workload commits without waiting for the disk; a source that is killed next must not
        // forget how far it came.
        let flush = "set synchronous_commit = on; update workload set seq = seq";
        client.batch_execute(flush).await.unwrap();
    }

    /// Drops a dataset's slot, as an administrator might: a gap, so that it is read anew.
    pub(crate) async fn drop_slot(&self, dataset: &str) {
        let client = self.database.connect().await;
        let like = format!("%{}", dataset.replace('.', "\\_"));
        let sql = "select pg_terminate_backend(active_pid) from pg_replication_slots
                   where slot_name like $1 and active";
        client.query(sql, &[&like]).await.unwrap();
        let sql = "select pg_drop_replication_slot(slot_name) from pg_replication_slots
                   where slot_name like $1 and not active";
        wait_until("the slot to be dropped", PASSES_WITHIN, async || {
            client.query(sql, &[&like]).await.is_ok_and(|rows| !rows.is_empty()).then_some(())
        })
        .await;
    }

    /// Waits until every dataset is consistent in the warehouse.
    pub(crate) async fn wait_until_live(&self) {
        let sql = "select coalesce(bool_and(consistent_at is not null), false) and count(*) = 3
                   from phusa.streams";
        wait_until("every dataset to be consistent", PASSES_WITHIN, async || {
            let client = connect_with(&self.province.warehouse_config()).await.ok()?;
            client.query_one(sql, &[]).await.ok()?.get::<_, bool>(0).then_some(())
        })
        .await;
    }

    /// The epoch each dataset is in.
    pub(crate) async fn epochs(&self) -> Vec<i64> {
        let client = connect_with(&self.province.warehouse_config()).await.unwrap();
        let rows = client.query("select epoch from phusa.streams order by dataset", &[]).await;
        rows.unwrap().iter().map(|row| row.get(0)).collect()
    }

    /// Waits until everything has arrived; the writer keeps still meanwhile.
    pub(crate) async fn wait_until_identical(&self) {
        for dataset in [Table::Citizens.dataset(), Table::Dossiers.dataset(), "danh_muc.probe"] {
            self.province.wait_until_identical(AGENCY, dataset).await;
        }
    }

    /// The end: everything identical, the log whole, nothing seen half.
    pub(crate) async fn conclude(mut self) {
        self.stir().await;
        wait_until("the witness to see its fill", PASSES_WITHIN, async || {
            (self.witness.generations() > SEEN_MIN).then_some(())
        })
        .await;
        self.load.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.wait_until_identical().await;
        self.province.verify_log();
        assert_eq!(self.witness.halves(), Vec::<String>::new());
        let (kills, seconds) = (self.kills, self.began.elapsed().as_secs_f64());
        let generations = self.witness.generations();
        assert!(self.process(Victim::Agent).stop().success());
        assert!(self.process(Victim::Hub).stop().success());
        println!("{kills} kills in {seconds:.0} s; the witness saw {generations} whole states");
    }
}

/// Waits until so many batches more than now are at the hub; what is then killed is in their midst. How
/// many are there then. Each of them must come within [`PASSES_WITHIN`].
pub(crate) async fn wait_for_batches(province: &Province, count: u64) -> u64 {
    let sql = "select count(*) from phusa.transfers where kind = 'push'";
    let (mut wanted, mut newest) = (None, 0);
    loop {
        newest =
            wait_until(&format!("a batch after {newest} at the hub"), PASSES_WITHIN, async || {
                let client = connect_with(&province.warehouse_config()).await.ok()?;
                let row = client.query_one(sql, &[]).await.ok()?;
                let there = u64::try_from(row.get::<_, i64>(0)).unwrap_or(0);
                (there > newest).then_some(there)
            })
            .await;
        if newest >= *wanted.get_or_insert(newest + count) {
            return newest;
        }
    }
}

/// Changes every row of the table in one transaction, again and again, whatever happens to the
/// server.
async fn write(url: String, stop: CancellationToken) {
    let config: tokio_postgres::Config = url.parse().unwrap();
    while !stop.is_cancelled() {
        if let Ok(client) = connect_with(&config).await {
            while !stop.is_cancelled()
                && client.batch_execute("update probe set seq = seq + 1").await.is_ok()
            {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
