//! `Mover`: one way to bring rows from the source to the target, and the two that others wrote.

use std::process::Command;
use std::time::Duration;

use phusa_tests::database::Database;
use phusa_tests::process::{run, wait_until};
use phusa_tests::registry::Table;
use phusa_tests::workload::{marker_of, marker_text};

use crate::lab::{Engine, Lab, Outcome};
use crate::meter::{Processes, family, workers};

/// The database rows are moved into.
pub(crate) type Target = Database;

/// How long a mover may take for anything.
pub(crate) const WITHIN: Duration = Duration::from_secs(1_200);

/// What tables and columns are called at the target.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Names {
    /// As at the source.
    Same,
    /// As at the source, in the schema `bench`.
    InBench,
    /// As in the contract.
    Agreed,
}

impl Names {
    /// A table and its columns.
    pub(crate) fn of(self, table: Table) -> (String, Vec<&'static str>) {
        let columns = table.columns().iter();
        let name = match self {
            Self::Same => table.name().to_owned(),
            Self::InBench => format!("bench.{}", table.name()),
            Self::Agreed => table.dataset().to_owned(),
        };
        let columns = match self {
            Self::Same | Self::InBench => columns.map(|column| column.name).collect(),
            Self::Agreed => columns.map(|column| column.field).collect(),
        };
        (name, columns)
    }

    fn marker(self, table: Table) -> &'static str {
        match self {
            Self::Same | Self::InBench => marker_of(table).0,
            Self::Agreed => marker_of(table).1,
        }
    }
}

/// One way to move rows. The order of calls: prepare, `read_all`, then pause and drain in turn,
/// then finish; or `prepare_probe`, then finish.
pub(crate) trait Mover {
    /// What it is called in the table.
    fn title(&self) -> &'static str;

    /// What it reads.
    fn reads(&self) -> Engine {
        Engine::PostgreSql
    }

    /// What it calls tables at the target.
    fn names(&self) -> Names;

    /// The small table for latency, at the target.
    fn probe(&self) -> &'static str {
        "probe"
    }

    /// Its processes, whenever asked; by default all that this program has started but servers.
    fn processes(&self, lab: &Lab, _target: &Target) -> Processes {
        let [source, target] = lab.servers(self.reads());
        let others = [std::process::id(), source, target];
        Box::new(move || {
            let mut ids = family(std::process::id());
            ids.retain(|id| !others.contains(id));
            ids
        })
    }

    /// How often it can catch up on one set-up within the time that anybody has.
    fn rounds_max(&self) -> usize {
        usize::MAX
    }

    /// Does what need not be measured: tables with their keys, certificates, rights.
    async fn prepare(&mut self, lab: &Lab, target: &Target, tables: &[Table]) -> Outcome<()>;

    /// From its start until every row is there.
    async fn read_all(&mut self, lab: &Lab, target: &Target) -> Outcome<()>;

    /// Stops, so that changes pile up.
    async fn pause(&mut self, _lab: &Lab, _target: &Target) -> Outcome<()> {
        Err(format!("{} carries no changes", self.title()).into())
    }

    /// From its start until the end of run `marker` is there in every table.
    async fn drain(&mut self, _lab: &Lab, _target: &Target, _marker: u64) -> Outcome<()> {
        Err(format!("{} carries no changes", self.title()).into())
    }

    /// Carries the small table for latency, and is up to date with it.
    async fn prepare_probe(&mut self, _lab: &Lab, _target: &Target) -> Outcome<()> {
        Err(format!("{} is not measured for latency", self.title()).into())
    }

    /// Ends and leaves nothing behind.
    async fn finish(&mut self, _lab: &Lab, _target: &Target) -> Outcome<()> {
        Ok(())
    }
}

/// Waits until every table shows the marker of the run that ended last.
pub(crate) async fn wait_for_marker(target: &Target, names: Names, marker: u64) {
    let client = target.connect().await;
    let text = marker_text(marker);
    for table in Table::ALL {
        let (name, column) = (names.of(table).0, names.marker(table));
        let sql = format!("select 1 from {name} where id = 1 and {column} = $1");
        wait_until("the marker", WITHIN, async || {
            client.query_opt(&sql, &[&text]).await.ok().flatten()
        })
        .await;
    }
}

/// `COPY … TO STDOUT | COPY … FROM STDIN`, binary, over one connection each.
pub(crate) struct Pipe {
    tables: Vec<Table>,
}

impl Pipe {
    pub(crate) fn new() -> Self {
        Self { tables: Vec::new() }
    }
}

impl Mover for Pipe {
    fn title(&self) -> &'static str {
        "COPY pipe"
    }

    fn names(&self) -> Names {
        Names::Same
    }

    async fn prepare(&mut self, _lab: &Lab, target: &Target, tables: &[Table]) -> Outcome<()> {
        self.tables = tables.into();
        for table in tables {
            target.psql(&table.ddl());
        }
        Ok(())
    }

    async fn read_all(&mut self, lab: &Lab, target: &Target) -> Outcome<()> {
        for table in &self.tables {
            let script = "\"$0\" -XqAt -d \"$1\" -c \"copy $3 to stdout (format binary)\" |
                \"$0\" -XqAt -d \"$2\" -c \"copy $3 from stdin (format binary)\"";
            let psql = lab.target.version().programs().join("psql");
            let mut shell = Command::new("bash");
            shell.args(["-o", "pipefail", "-c", script]).arg(psql);
            shell.args([&lab.source.url(), &target.url(), table.name()]);
            tokio::task::block_in_place(|| run(&mut shell));
        }
        Ok(())
    }
}

/// PostgreSQL's own logical replication.
pub(crate) struct Replication {
    tables: String,
}

impl Replication {
    pub(crate) fn new() -> Self {
        Self { tables: String::new() }
    }

    async fn subscribe(&self, lab: &Lab, target: &Target) -> Outcome<()> {
        lab.source.psql("drop publication if exists bench_pub");
        lab.source.psql(&format!("create publication bench_pub for table {}", self.tables));
        let client = target.connect().await;
        let from = lab.source.url();
        let sql =
            format!("create subscription bench_sub connection '{from}' publication bench_pub");
        client.batch_execute(&sql).await?;
        let ready = "select 1 from pg_subscription_rel having bool_and(srsubstate = 'r')";
        wait_until("the first copy", WITHIN, async || {
            client.query_opt(ready, &[]).await.ok().flatten()
        })
        .await;
        Ok(())
    }
}

impl Mover for Replication {
    fn title(&self) -> &'static str {
        "logical replication"
    }

    fn names(&self) -> Names {
        Names::Same
    }

    fn processes(&self, lab: &Lab, _target: &Target) -> Processes {
        let [source, target] = lab.servers(self.reads());
        Box::new(move || {
            let mut ids = workers(target, &["logical replication worker"]);
            ids.extend(workers(source, &["walsender"]));
            ids
        })
    }

    async fn prepare(&mut self, _lab: &Lab, target: &Target, tables: &[Table]) -> Outcome<()> {
        for table in tables {
            target.psql(&table.ddl());
        }
        let names: Vec<&str> = tables.iter().map(|table| table.name()).collect();
        self.tables = names.join(", ");
        Ok(())
    }

    async fn read_all(&mut self, lab: &Lab, target: &Target) -> Outcome<()> {
        self.subscribe(lab, target).await
    }

    async fn pause(&mut self, lab: &Lab, target: &Target) -> Outcome<()> {
        target.connect().await.batch_execute("alter subscription bench_sub disable").await?;
        let server = lab.target.process_id().unwrap_or(0);
        wait_until("the worker's end", WITHIN, async || {
            workers(server, &["logical replication worker"]).is_empty().then_some(())
        })
        .await;
        Ok(())
    }

    async fn drain(&mut self, _lab: &Lab, target: &Target, marker: u64) -> Outcome<()> {
        target.connect().await.batch_execute("alter subscription bench_sub enable").await?;
        wait_for_marker(target, self.names(), marker).await;
        Ok(())
    }

    async fn prepare_probe(&mut self, lab: &Lab, target: &Target) -> Outcome<()> {
        target.psql("create table probe (id int primary key, seq bigint not null, note text)");
        "probe".clone_into(&mut self.tables);
        self.subscribe(lab, target).await
    }

    async fn finish(&mut self, _lab: &Lab, target: &Target) -> Outcome<()> {
        let client = target.connect().await;
        client.batch_execute("drop subscription if exists bench_sub").await?;
        Ok(())
    }
}
