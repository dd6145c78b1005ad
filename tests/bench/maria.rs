//! MariaDB as a source, and the movers that others wrote for it: a pipe between the two clients,
//! pgloader, and `pg_chameleon`.

use std::fs::{self, Permissions};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use phusa_tests::folder::Folder;
use phusa_tests::mysql::{Flavour, MySqlDatabase, MySqlServer};
use phusa_tests::process::{Process, run, wait_until};
use phusa_tests::province::Readable as _;
use phusa_tests::registry::Table;
use phusa_tests::registry::columns::Column;
use phusa_tests::workload::{self, Done, Plan};
use tokio_postgres::Client;

use crate::lab::{Engine, Lab, Outcome};
use crate::movers::{Mover, Names, Target, WITHIN, wait_for_marker};

/// Durable, and with the memory that the PostgreSQL servers have.
const SETTINGS: &str = "
innodb_buffer_pool_size=1G
innodb_log_file_size=1G
innodb_flush_log_at_trx_commit=1
sync_binlog=1
max_allowed_packet=1G
";

/// The login of other movers, and its password.
pub(crate) const LOGIN: &str = "bench";

/// A server with the registry as PostgreSQL has it.
pub(crate) struct Maria {
    database: MySqlDatabase,
}

impl Maria {
    /// Starts it and copies the tables of `from`.
    pub(crate) fn start(from: &phusa_tests::database::Database) -> Outcome<Self> {
        let server = Arc::new(MySqlServer::start(Flavour::MariaDb, SETTINGS));
        let database = server.database();
        // The two servers' clients run as different users.
        let between = Folder::new();
        fs::set_permissions(between.path(), Permissions::from_mode(0o777))?;
        for table in Table::ALL {
            let file = between.path().join(format!("{}.tsv", table.name()));
            let columns: Vec<String> = table.columns().iter().map(in_postgres).collect();
            let columns = columns.join(", ");
            let copy =
                format!("\\copy (select {columns} from {}) to '{}'", table.name(), file.display());
            from.psql(&copy);
            let columns: Vec<String> = table.columns().iter().map(ddl).collect();
            let names = table.columns().iter();
            let names: Vec<String> = names
                .map(|column| {
                    if column.kind == "bytea" { "@bytes" } else { column.name }.to_owned()
                })
                .collect();
            let bytes = table.columns().iter().find(|column| column.kind == "bytea");
            let set = bytes.map(|column| format!(" set {} = unhex(@bytes)", column.name));
            database.sql(&format!(
                "set time_zone = '+00:00'; create table {0} ({1}); \
                 load data local infile '{2}' into table {0} character set utf8mb4 ({3}){4}",
                table.name(),
                columns.join(", "),
                file.display(),
                names.join(", "),
                set.unwrap_or_default(),
            ));
        }
        database.sql(&format!(
            "create table workload (seq bigint); insert into workload values (0); \
             create user {LOGIN}@'%' identified by '{LOGIN}'; grant all on *.* to {LOGIN}@'%'"
        ));
        Ok(Self { database })
    }

    /// The tables.
    pub(crate) fn database(&self) -> &MySqlDatabase {
        &self.database
    }

    /// The server's process.
    pub(crate) fn process_id(&self) -> Option<u32> {
        self.database.server().process_id()
    }

    /// Changes PostgreSQL behind `client`, and then this in the same way.
    pub(crate) async fn follow(&self, client: &Client, plan: &Plan) -> Outcome<Done> {
        let file = self.database.server().folder().join("workload.sql");
        let mut script = BufWriter::new(fs::File::create(&file)?);
        script.write_all(
            b"set time_zone = '+00:00', sql_mode = concat(@@sql_mode, ',NO_BACKSLASH_ESCAPES');\n",
        )?;
        let mut written = Ok(());
        let done = workload::run_and_show(client, plan, |sql| {
            if written.is_ok() {
                written = writeln!(script, "{};", in_mysql(sql));
            }
        })
        .await?;
        written?;
        script.into_inner()?.sync_all()?;
        let mut client = self.database.server().client();
        client.args(["--database", self.database.name(), "--execute"]);
        tokio::task::block_in_place(|| run(client.arg(format!("source {}", file.display()))));
        fs::remove_file(&file)?;
        Ok(done)
    }
}

/// A column as `COPY` writes it for `LOAD DATA`.
fn in_postgres(column: &Column) -> String {
    match column.kind {
        "bytea" => format!("encode({}, 'hex')", column.name),
        "timestamptz" => {
            format!("to_char({} at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')", column.name)
        }
        _ => column.name.to_owned(),
    }
}

/// A column as MariaDB has it.
fn ddl(column: &Column) -> String {
    let null = if column.is_required() { "" } else { " null" };
    let sql = column.sql.replace("jsonb", "json").replace("bytea", "varbinary(32)");
    format!("{} {}{null}", column.name, sql.replace("timestamptz", "timestamp(6)"))
}

/// A statement of the workload as MariaDB takes it: its bytes and its moments are written otherwise.
fn in_mysql(sql: &str) -> String {
    let quoted = sql.split('\'').enumerate().map(|(index, part)| match part.strip_prefix("\\x") {
        Some(hex) if index % 2 == 1 => format!("\u{1}{hex}"),
        _ if index % 2 == 1 && is_moment(part) => part.trim_end_matches('Z').replace('T', " "),
        _ => part.to_owned(),
    });
    quoted.collect::<Vec<_>>().join("'").replace("'\u{1}", "x'")
}

/// Whether it is written as `2026-01-02T03:04:05.000100Z`.
fn is_moment(text: &str) -> bool {
    text.len() > 19 && text.as_bytes().get(10) == Some(&b'T') && text.ends_with('Z')
}

/// `SELECT` of one client into `COPY` of the other, as text.
pub(crate) struct ClientPipe {
    tables: Vec<Table>,
}

impl ClientPipe {
    pub(crate) fn new() -> Self {
        Self { tables: Vec::new() }
    }
}

impl Mover for ClientPipe {
    fn title(&self) -> &'static str {
        "client pipe"
    }

    fn reads(&self) -> Engine {
        Engine::MariaDb
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
        let database = lab.maria()?.database();
        for table in &self.tables {
            let columns = table.columns().iter().map(|column| match column.kind {
                // The client escapes what it prints, so one backslash becomes the two of COPY.
                "bytea" => format!("concat(char(92), 'x', hex({}))", column.name),
                "timestamptz" => format!("concat({}, '+00')", column.name),
                _ => column.name.to_owned(),
            });
            let columns: Vec<String> = columns.collect();
            let select = format!(
                "set time_zone = '+00:00'; select {} from {}",
                columns.join(", "),
                table.name()
            );
            // Not `--raw`: tabs and line ends within values are to stay within them.
            let script = "mariadb --no-defaults --user=root --skip-column-names --batch --quick \
                --default-character-set=utf8mb4 --socket=\"$1\" \"$2\" --execute \"$3\" |
                \"$0\" -XqAt -d \"$4\" -c \"copy $5 from stdin (null 'NULL')\"";
            let psql = lab.target.version().programs().join("psql");
            let mut shell = Command::new("bash");
            shell.args(["-o", "pipefail", "-c", script]).arg(psql);
            shell.arg(database.server().folder().join("s")).args([database.name(), &select]);
            shell.args([&target.url(), table.name()]);
            tokio::task::block_in_place(|| run(&mut shell));
        }
        Ok(())
    }
}

/// pgloader, as its manual says for MySQL.
pub(crate) struct Pgloader {
    tables: Vec<Table>,
}

impl Pgloader {
    /// It, where its package is installed.
    pub(crate) fn new() -> Option<Self> {
        let there = PathBuf::from("/usr/bin/pgloader").exists();
        there.then_some(Self { tables: Vec::new() })
    }
}

impl Mover for Pgloader {
    fn title(&self) -> &'static str {
        "pgloader"
    }

    fn reads(&self) -> Engine {
        Engine::MariaDb
    }

    fn names(&self) -> Names {
        Names::Same
    }

    async fn prepare(&mut self, _lab: &Lab, _target: &Target, tables: &[Table]) -> Outcome<()> {
        self.tables = tables.into();
        Ok(())
    }

    async fn read_all(&mut self, lab: &Lab, target: &Target) -> Outcome<()> {
        let database = lab.maria()?.database();
        let folder = Folder::new();
        let names: Vec<String> =
            self.tables.iter().map(|table| format!("'{}'", table.name())).collect();
        let job = format!(
            "LOAD DATABASE FROM mysql://{LOGIN}:{LOGIN}@127.0.0.1:{}/{} INTO {}\n\
             WITH include drop, create tables, create indexes, no foreign keys, reset no sequences,\n\
             workers = 2, concurrency = 1, batch rows = 25000, prefetch rows = 25000\n\
             CAST type json to jsonb drop typemod,\n\
             type varbinary to bytea drop typemod using byte-vector-to-bytea\n\
             INCLUDING ONLY TABLE NAMES MATCHING {}\n\
             ALTER SCHEMA '{}' RENAME TO 'public';\n",
            database.port(),
            database.name(),
            target.url().replace("postgres://", "pgsql://"),
            names.join(", "),
            database.name(),
        );
        let file = folder.path().join("job.load");
        fs::write(&file, job)?;
        let mut command = Command::new("pgloader");
        command.arg("--root-dir").arg(folder.path()).arg(&file);
        tokio::task::block_in_place(|| run(&mut command));
        Ok(())
    }
}

/// `pg_chameleon`, which follows the binlog; as a user of its own, because it refuses to be root.
pub(crate) struct Chameleon {
    folder: Arc<Folder>,
    running: Option<Process>,
}

/// Where `packaging/setup --peers` puts it.
const CHAMELEON: &str = "/var/cache/phusa/peers/chameleon";

impl Chameleon {
    /// It, where it is installed.
    pub(crate) fn new() -> Option<Self> {
        let there = PathBuf::from(CHAMELEON).join("bin/chameleon").exists();
        there.then(|| Self { folder: Arc::new(Folder::new()), running: None })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "/usr/bin/python3"]);
        command.arg(format!("{CHAMELEON}/bin/chameleon")).args(arguments);
        command.env("HOME", self.folder.path()).env("PYTHONPATH", CHAMELEON);
        command.current_dir(self.folder.path());
        command
    }

    fn call(&self, arguments: &[&str]) {
        tokio::task::block_in_place(|| run(&mut self.command(arguments)));
    }
}

impl Mover for Chameleon {
    fn title(&self) -> &'static str {
        "pg_chameleon"
    }

    fn reads(&self) -> Engine {
        Engine::MariaDb
    }

    fn names(&self) -> Names {
        Names::InBench
    }

    fn rounds_max(&self) -> usize {
        1
    }

    async fn prepare(&mut self, lab: &Lab, target: &Target, _tables: &[Table]) -> Outcome<()> {
        run(Command::new("chown").arg("nobody").arg(self.folder.path()));
        self.call(&["set_configuration_files"]);
        let database = lab.maria()?.database();
        let own = self.folder.path().join(".pg_chameleon");
        let (_, password) = target.server().url_and_password(target.name());
        let settings = format!(
            "pid_dir: '{0}/pid/'\nlog_dir: '{0}/logs/'\nlog_dest: file\nlog_level: info\n\
             log_days_keep: 10\nrollbar_key: ''\nrollbar_env: ''\ntype_override:\n\
             pg_conn: {{host: 127.0.0.1, port: '{1}', user: {password}, password: {password}, \
             database: {2}, charset: utf8}}\n\
             sources:\n  maria:\n    \
             db_conn: {{host: 127.0.0.1, port: '{3}', user: {LOGIN}, password: {LOGIN}, \
             charset: utf8, connect_timeout: 10}}\n    \
             schema_mappings: {{{4}: bench}}\n    limit_tables:\n    skip_tables:\n    \
             grant_select_to: []\n    lock_timeout: 120s\n    my_server_id: 100\n    \
             replica_batch_size: 10000\n    replay_max_rows: 10000\n    \
             batch_retention: 1 day\n    copy_max_memory: 300M\n    copy_mode: file\n    \
             out_dir: {0}\n    sleep_loop: 1\n    on_error_replay: continue\n    \
             on_error_read: continue\n    auto_maintenance: disabled\n    gtid_enable: false\n    \
             type: mysql\n    keep_existing_schema: No\n",
            own.display(),
            target.server().port(),
            target.name(),
            database.port(),
            database.name(),
        );
        fs::write(own.join("configuration/default.yml"), settings)?;
        self.call(&["create_replica_schema", "--config", "default"]);
        self.call(&["add_source", "--config", "default", "--source", "maria"]);
        Ok(())
    }

    async fn read_all(&mut self, _lab: &Lab, _target: &Target) -> Outcome<()> {
        self.call(&["init_replica", "--config", "default", "--source", "maria", "--debug"]);
        Ok(())
    }

    /// It does not run until it is to drain.
    async fn pause(&mut self, _lab: &Lab, _target: &Target) -> Outcome<()> {
        Ok(())
    }

    async fn drain(&mut self, _lab: &Lab, target: &Target, marker: u64) -> Outcome<()> {
        let mut command =
            self.command(&["start_replica", "--config", "default", "--source", "maria", "--debug"]);
        self.running = Some(Process::start(&self.folder, "chameleon", &mut command));
        wait_for_marker(target, self.names(), marker).await;
        Ok(())
    }

    async fn finish(&mut self, _lab: &Lab, _target: &Target) -> Outcome<()> {
        let Some(mut process) = self.running.take() else { return Ok(()) };
        let family = crate::meter::family(process.id());
        self.call(&["stop_replica", "--config", "default", "--source", "maria"]);
        process.kill();
        // Its children outlive it, and its own way to stop them does not always.
        for id in family.iter().copied().filter(|id| phusa_tests::process::is_running(*id)) {
            phusa_tests::process::kill(id);
        }
        wait_until("the end of pg_chameleon", WITHIN, async || {
            family.iter().all(|id| !phusa_tests::process::is_running(*id)).then_some(())
        })
        .await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::in_mysql;

    #[test]
    fn bytes_and_moments_are_written_as_mariadb_takes_them() {
        assert_eq!(
            in_mysql(r"values (1, '\xab01', '2026-01-02T03:04:05.000100Z', 'T''Z', 'a: Z')"),
            "values (1, x'ab01', '2026-01-02 03:04:05.000100', 'T''Z', 'a: Z')"
        );
    }
}
