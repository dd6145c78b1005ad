//! What an office does to the registry all day, the same for the same seed: 60 % updates of one to
//! three columns, 25 % inserts, 15 % deletes, in transactions of 1 to 100 rows, now and then a
//! large one, and at the end a marker.
//!
//! Runs are counted in the source itself. Rows that a run inserts are those the next run deletes;
//! the first deletes from the 40 % that nothing refers to.

use std::time::{Duration, Instant};

use phusa_protocol::time::Timestamp;
use serde::Serialize;
use tokio_postgres::{Client, Error};

use crate::random::Random;
use crate::registry::{self, CUTOFF, Share, Table};

/// How far apart the ids of different runs stand.
const RUN_IDS: u64 = 10_000_000;

/// The table that remembers how much was loaded and how often a workload ran.
const STATE: &str = "
create table workload (id int primary key, seq bigint not null, loaded bigint not null, seed bigint not null);
create table probe (id int primary key, seq bigint not null, note text);
insert into probe values (1, 0, '');
";

/// How much to do, and of what.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The tables to change; others are left alone.
    pub tables: Vec<Table>,
    /// Single-row changes in all.
    pub changes: u64,
    /// Rows of the one large update transaction in the middle; 0 for none.
    pub large: u64,
    /// Rows of the largest ordinary transaction.
    pub transaction_max: u64,
    /// Changes a second; `None` is as fast as it goes.
    pub per_second: Option<u64>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            tables: Table::ALL.into(),
            changes: 1_000,
            large: 0,
            transaction_max: 100,
            per_second: None,
        }
    }
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Done {
    /// The marker the last transaction left; see [`marker_of`].
    pub marker: u64,
    /// Rows changed, as far as they existed.
    pub changes: u64,
    /// Transactions committed.
    pub transactions: u64,
    /// Seconds it took.
    pub seconds: f64,
}

/// Makes the tables of the registry and fills them; tables with 0 rows are not made.
///
/// # Errors
/// What PostgreSQL says.
pub async fn load(client: &Client, citizens: u64, dossiers: u64, seed: u64) -> Result<(), Error> {
    client.batch_execute(STATE).await?;
    for (table, rows) in [(Table::Citizens, citizens), (Table::Dossiers, dossiers)] {
        if rows > 0 {
            client.batch_execute(&table.ddl()).await?;
            registry::load(client, table, rows, seed).await?;
        }
    }
    if citizens > 0 && dossiers > 0 && registry::linked(dossiers) <= citizens {
        let link = "alter table dossiers add constraint dossiers_citizen_fk
                    foreign key (citizen_id) references citizens (id);
                    create index dossiers_citizen_id on dossiers (citizen_id)";
        client.batch_execute(link).await?;
    }
    let loaded = citizens.max(dossiers);
    client.batch_execute(&format!("insert into workload values (1, 0, {loaded}, {seed})")).await?;
    client.batch_execute("vacuum (freeze, analyze)").await
}

/// Does what `plan` says to the database behind `client`.
///
/// # Errors
/// What PostgreSQL says.
pub async fn run(client: &Client, plan: &Plan) -> Result<Done, Error> {
    run_and_show(client, plan, |_| {}).await
}

/// Like [`run`]; `show` is given every transaction as SQL, before it is done.
///
/// # Errors
/// What PostgreSQL says.
pub async fn run_and_show(
    client: &Client,
    plan: &Plan,
    mut show: impl FnMut(&str),
) -> Result<Done, Error> {
    let state = client.query_one("select seq, loaded, seed from workload", &[]).await?;
    let [run, loaded, seed] =
        [0, 1, 2].map(|index| u64::try_from(state.get::<_, i64>(index)).unwrap_or(0));
    client.batch_execute("set synchronous_commit = off").await?;
    let start = Instant::now();
    let mut work = Work::new(plan, Place { run, loaded, seed });
    let mut done = Done { marker: run + 1, changes: 0, transactions: 0, seconds: 0.0 };
    while let Some(transaction) = work.next_transaction() {
        let sql = format!("begin;{};commit", transaction.statements.join(";"));
        show(&sql);
        client.batch_execute(&sql).await?;
        done.changes += transaction.changes;
        done.transactions += 1;
        wait_for_turn(plan, done.changes, start).await;
    }
    let sql = work.ending();
    show(&sql);
    client.batch_execute(&sql).await?;
    done.transactions += 1;
    done.seconds = start.elapsed().as_secs_f64();
    Ok(done)
}

async fn wait_for_turn(plan: &Plan, changes: u64, start: Instant) {
    if let Some(rate) = plan.per_second {
        let due = start + Duration::from_millis(changes * 1_000 / rate.max(1));
        tokio::time::sleep_until(due.into()).await;
    }
}

/// The column whose value in row 1 ends with the number of the run that last ended.
#[must_use]
pub fn marker_of(table: Table) -> (&'static str, &'static str) {
    match table {
        Table::Citizens => ("household_no", "so_ho"),
        Table::Dossiers => ("procedure_code", "ma_thu_tuc"),
    }
}

/// The text the marker column has once run `marker` has ended.
#[must_use]
pub fn marker_text(marker: u64) -> String {
    format!("M{marker}")
}

/// The contract of the small table for measuring latency.
#[must_use]
pub fn probe_contract(owner: &str) -> String {
    let field = |name: &str, kind: &str| {
        format!(
            "\n[[field]]\nname = \"{name}\"\ntype = \"{kind}\"\nclass = \"P\"\nname_vi = \"{name}\"\n"
        )
    };
    let head = Table::Citizens.contract(owner, Share::Everything);
    let head = head.split("\n[[field]]").next().unwrap_or_default();
    let head = head.replace("cong_dan.citizens", "danh_muc.probe");
    [head, field("id", "int4"), field("seq", "int8"), field("note", "text")].concat()
}

/// The mapping of the small table for measuring latency.
#[must_use]
pub fn probe_mapping(contract_file: &str) -> String {
    let field = |name| format!("\n[[field]]\nfrom = \"{name}\"\nto = \"{name}\"\nclass = \"P\"\n");
    let head = format!(
        "dataset = \"danh_muc.probe\"\ncontract = \"{contract_file}\"\ntable = \"public.probe\"\n"
    );
    [head, field("id"), field("seq"), field("note")].concat()
}

/// Where a run stands among all runs.
#[derive(Debug, Clone, Copy)]
struct Place {
    run: u64,
    loaded: u64,
    seed: u64,
}

struct Transaction {
    statements: Vec<String>,
    changes: u64,
}

#[derive(Clone, Copy)]
enum Change {
    Update,
    Insert,
    Delete,
}

/// Of 100 changes, how many are of which kind in which table.
const MIX: [(u64, Table, Change); 6] = [
    (42, Table::Citizens, Change::Update),
    (18, Table::Dossiers, Change::Update),
    (13, Table::Citizens, Change::Insert),
    (12, Table::Dossiers, Change::Insert),
    (7, Table::Citizens, Change::Delete),
    (8, Table::Dossiers, Change::Delete),
];

struct Work<'a> {
    plan: &'a Plan,
    place: Place,
    random: Random,
    clock: Timestamp,
    changed: u64,
    large_done: bool,
    inserted: [u64; 2],
    deleted: [u64; 2],
}

impl<'a> Work<'a> {
    fn new(plan: &'a Plan, place: Place) -> Self {
        let Place { run, loaded, seed } = place;
        let doomed = match run {
            0 => registry::linked(loaded),
            _ => loaded + (run - 1) * RUN_IDS,
        };
        Self {
            plan,
            place,
            random: Random::new(seed, 1_000_003 + run),
            clock: Timestamp::from_micros(CUTOFF).after(Duration::from_secs(86_400 * (run + 1))),
            changed: 0,
            large_done: plan.large == 0,
            inserted: [loaded + run * RUN_IDS; 2],
            deleted: [doomed; 2],
        }
    }

    fn next_transaction(&mut self) -> Option<Transaction> {
        if !self.large_done && self.changed >= self.plan.changes / 2 {
            self.large_done = true;
            return Some(self.large_transaction());
        }
        let left = self.plan.changes.saturating_sub(self.changed);
        let size = self.random.between(1, self.plan.transaction_max).min(left);
        let statements: Vec<String> = (0..size).map(|_| self.statement()).collect();
        self.changed += size;
        (size > 0).then_some(Transaction { statements, changes: size })
    }

    fn large_transaction(&mut self) -> Transaction {
        let rows = self.plan.large.min(self.place.loaded);
        let first = self.random.between(1, self.place.loaded - rows + 1);
        let (last, at) = (first + rows - 1, self.tick());
        let update = match self.plan.tables.first() {
            Some(Table::Dossiers) => "dossiers set fee = 160000 - fee",
            Some(Table::Citizens) | None => "citizens set marital_code = 1 + marital_code % 4",
        };
        let sql =
            format!("update {update}, updated_at = '{at}' where id between {first} and {last}");
        Transaction { statements: vec![sql], changes: rows }
    }

    fn statement(&mut self) -> String {
        let (table, change) = self.pick();
        let at = self.tick();
        let random = &mut self.random;
        let linked = registry::linked(self.place.loaded);
        let slot = usize::from(table == Table::Dossiers);
        match change {
            Change::Update => {
                let sets = assignments(table, random).join(", ");
                let id = random.between(1, linked);
                format!("update {} set {sets}, updated_at = '{at}' where id = {id}", table.name())
            }
            Change::Insert => {
                self.inserted[slot] += 1;
                let id = self.inserted[slot];
                let row = match table {
                    Table::Citizens => registry::citizen(random, id, Some(at)),
                    Table::Dossiers => {
                        let citizen = random.between(1, linked);
                        registry::dossier(random, id, citizen, Some(at))
                    }
                };
                format!("insert into {} values ({})", table.name(), registry::literals(&row))
            }
            Change::Delete => {
                self.deleted[slot] += 1;
                format!("delete from {} where id = {}", table.name(), self.deleted[slot])
            }
        }
    }

    fn pick(&mut self) -> (Table, Change) {
        let mix = MIX.iter().filter(|(_, table, _)| self.plan.tables.contains(table));
        let mut point = self.random.below(mix.clone().map(|(weight, ..)| weight).sum());
        for (weight, table, change) in mix {
            match point.checked_sub(*weight) {
                Some(rest) => point = rest,
                None => return (*table, *change),
            }
        }
        (Table::Citizens, Change::Update)
    }

    fn tick(&mut self) -> Timestamp {
        self.clock = self.clock.after(Duration::from_micros(100));
        self.clock
    }

    /// The last transaction: marks the end in every table and counts the run.
    fn ending(&self) -> String {
        let marker = self.place.run + 1;
        let mark = |table: &Table| {
            let (column, text) = (marker_of(*table).0, marker_text(marker));
            format!("update {} set {column} = '{text}' where id = 1;", table.name())
        };
        let marks: String = self.plan.tables.iter().map(mark).collect();
        format!("begin;{marks}update workload set seq = {marker};commit")
    }
}

/// One to three columns of a table and their new values.
fn assignments(table: Table, random: &mut Random) -> Vec<String> {
    let count = random.between(1, 3);
    let columns: &[&str] = match table {
        Table::Citizens => &["phone", "address", "income", "marital_code", "notes", "attributes"],
        Table::Dossiers => &["status", "fee_paid", "remarks", "officer"],
    };
    let first = random.below(columns.len() as u64);
    (0..count)
        .map(|step| {
            let at = usize::try_from((first + step) % columns.len() as u64).unwrap_or(0);
            format!("{} = '{}'", columns[at], value(columns[at], random))
        })
        .collect()
}

fn value(column: &str, random: &mut Random) -> String {
    match column {
        "phone" => format!("08{:08}", random.below(100_000_000)),
        "address" => registry::address(random),
        "income" => registry::income(random),
        "marital_code" => random.between(1, 4).to_string(),
        "attributes" => registry::attributes(random),
        "status" => registry::status(random).to_owned(),
        "fee_paid" => format!("{}0000.00", random.below(9)),
        "officer" => registry::officer(random),
        _ => registry::note(random).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::{Server, Version};
    use phusa_protocol::contract::Contract;

    #[test]
    fn the_contract_of_the_probe_is_sound() {
        assert_eq!(Contract::from_toml(&probe_contract("H57.12")).unwrap().fields.len(), 3);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_registry_is_loaded_and_changed_the_same_way_twice() {
        let server = Server::shared(Version::V15);
        let mut ends = Vec::new();
        for _ in 0..2 {
            let database = server.database();
            let client = database.connect().await;
            load(&client, 2_000, 2_000, 7).await.unwrap();
            let plan = Plan { changes: 3_000, large: 500, ..Plan::default() };
            for marker in 1..=2 {
                let done = run(&client, &plan).await.unwrap();
                assert_eq!((done.marker, done.changes), (marker, 3_500));
            }
            ends.push(
                database.psql("select md5(string_agg(c::text, '' order by id)) from citizens c"),
            );
            let marked = "select household_no from citizens where id = 1";
            assert_eq!(database.psql(marked).trim(), marker_text(2));
        }
        assert_eq!(ends[0], ends[1]);
    }
}
