//! What one server is, what its log holds, and where that log stands.

use std::collections::BTreeMap;
use std::time::Duration;

use phusa_protocol::fault::{Code, Fault};

use super::Flavour;
use super::gtid::GtidSet;
use super::place::{Domains, FILE_START, Position, Reach, Tracking, domains};
use super::session::{Session, by_name, get};

/// What one server is.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) flavour: Flavour,
    /// For people.
    pub(super) shown: String,
    version: (u32, u32, u32),
    variables: BTreeMap<String, String>,
    /// Whether it follows another server, where the login may know.
    replica: Option<bool>,
}

/// The settings that matter, by any of their names.
const VARIABLES: &str = "'version', 'version_comment', 'server_uuid', 'log_bin', 'binlog_format', \
    'binlog_row_image', 'binlog_row_metadata', 'log_slave_updates', 'log_replica_updates', \
    'binlog_row_value_options', 'binlog_transaction_compression', 'gtid_mode', \
    'binlog_expire_logs_seconds', 'expire_logs_days', 'read_only', 'rpl_semi_sync_master_enabled', \
    'rpl_semi_sync_source_enabled', 'rpl_semi_sync_master_timeout', \
    'rpl_semi_sync_source_timeout', 'time_zone', 'system_time_zone', 'wsrep_on', \
    'group_replication_group_name'";

/// How long a commit may take between the log and the table, where nothing says it is over.
const COMMIT_WAIT: Duration = Duration::from_secs(2);

impl Server {
    /// Asks the server what it is.
    pub(super) async fn inspect(session: &mut Session) -> Result<Self, Fault> {
        let doing = "cannot ask the server what it is";
        let sql = format!("show global variables where variable_name in ({VARIABLES})");
        let mut variables = BTreeMap::new();
        for row in session.rows(doing, &sql).await? {
            variables.insert(get::<String>(&row, 0)?.to_lowercase(), get::<String>(&row, 1)?);
        }
        let text = variables.get("version").cloned().unwrap_or_default();
        let is_mariadb = text.contains("MariaDB");
        let flavour = if is_mariadb { Flavour::MariaDb } else { Flavour::MySql };
        let name = if is_mariadb { "MariaDB" } else { "MySQL" };
        let number = text.split('-').next().unwrap_or_default();
        let shown = format!("{name} {number}");
        let version = version(number);
        let mut server = Self { flavour, shown, version, variables, replica: None };
        server.replica = server.ask_replica(session).await?;
        if server.replica == Some(true) {
            server.shown += " (replica)";
        }
        Ok(server)
    }

    async fn ask_replica(&self, session: &mut Session) -> Result<Option<bool>, Fault> {
        let sql = match self.flavour {
            Flavour::MariaDb => "show all slaves status",
            Flavour::MySql if self.version >= (8, 0, 22) => "show replica status",
            Flavour::MySql => "show slave status",
        };
        let rows = session.rows_if_allowed("cannot ask whom the server follows", sql).await?;
        Ok(rows.map(|rows| !rows.is_empty()))
    }

    fn says(&self, variable: &str) -> Option<&str> {
        self.variables.get(variable).map(String::as_str)
    }

    fn is_on(&self, variable: &str) -> bool {
        self.says(variable).is_some_and(|value| value.eq_ignore_ascii_case("on") || value == "1")
    }

    /// How positions of this server are told.
    pub(super) fn tracking(&self) -> Tracking {
        match self.flavour {
            Flavour::MariaDb => Tracking::FileWithDomains,
            Flavour::MySql if self.is_on("gtid_mode") => Tracking::Gtid,
            Flavour::MySql => Tracking::File,
        }
    }

    /// MySQL's name for itself; empty with MariaDB.
    pub(super) fn uuid(&self) -> String {
        self.says("server_uuid").unwrap_or_default().to_owned()
    }

    /// Whether rows come here from transactions at other servers, which are not seen while open.
    pub(super) fn is_written_elsewhere(&self) -> bool {
        let in_group =
            self.says("group_replication_group_name").is_some_and(|name| !name.is_empty());
        self.replica.unwrap_or(self.is_on("read_only")) || self.is_on("wsrep_on") || in_group
    }

    /// By which clock it reads times that name none.
    pub(super) fn wall_clock(&self) -> &str {
        let zone = self.says("time_zone").filter(|zone| *zone != "SYSTEM");
        zone.or_else(|| self.says("system_time_zone")).unwrap_or("SYSTEM")
    }

    /// Whether the log names columns and labels.
    pub(super) fn names_columns(&self) -> bool {
        self.says("binlog_row_metadata").is_some_and(|value| value.eq_ignore_ascii_case("full"))
    }

    /// Whether the log has whole rows.
    pub(super) fn has_whole_rows(&self) -> bool {
        self.says("binlog_row_image").is_none_or(|value| value.eq_ignore_ascii_case("full"))
    }

    /// Whether transactions may be packed in the log, and whether they are unless a session says
    /// otherwise.
    pub(super) fn packs_transactions(&self) -> Option<bool> {
        let can = self.flavour == Flavour::MySql && self.version >= (8, 0, 20);
        can.then(|| self.is_on("binlog_transaction_compression"))
    }

    /// Whether the oldest version that is read is met.
    pub(super) fn is_known(&self) -> bool {
        self.version >= self.oldest()
    }

    fn oldest(&self) -> (u32, u32, u32) {
        match self.flavour {
            Flavour::MariaDb => (10, 4, 0),
            Flavour::MySql => (5, 7, 0),
        }
    }

    /// The right to ask where the log stands, by the name this server has for it.
    pub(super) fn position_right(&self) -> &'static str {
        match self.flavour {
            Flavour::MariaDb if self.version >= (10, 5, 2) => "BINLOG MONITOR",
            Flavour::MariaDb | Flavour::MySql => "REPLICATION CLIENT",
        }
    }

    /// Whether it has a role that everyone has.
    pub(super) fn has_public(&self) -> bool {
        self.flavour == Flavour::MariaDb && self.version >= (10, 11, 0)
    }

    /// The versions that differ in nothing but mended faults.
    pub(super) fn series(&self) -> String {
        let (major, minor, _) = self.version;
        format!("{:?} {major}.{minor}", self.flavour)
    }

    /// The fault of a server that is too old to be read.
    pub(super) fn version_fault(&self) -> Option<Fault> {
        let what = || format!("{} is older than MySQL 5.7 or MariaDB 10.4", self.shown);
        (!self.is_known()).then(|| Fault::new(Code::SourceVersion, what()))
    }

    /// What keeps its log from being followed, with the statements that mend it.
    pub(super) fn log_faults(&self) -> Vec<(Fault, Option<String>)> {
        let mut faults = Vec::new();
        let mut wrong = |what: String, cure: Option<&str>| {
            faults.push((Fault::new(Code::SourceSetting, what), cure.map(str::to_owned)));
        };
        if !self.is_on("log_bin") {
            let what = "log_bin is OFF: the server keeps no log of changes; start it with log_bin";
            wrong(what.to_owned(), None);
        }
        let format = self.says("binlog_format").unwrap_or("ROW");
        if !format.eq_ignore_ascii_case("row") {
            let what = format!("binlog_format is {format}, ROW is needed");
            wrong(what, Some("set global binlog_format = 'ROW';"));
        }
        if self.says("binlog_row_value_options").is_some_and(|value| !value.is_empty()) {
            let what = "binlog_row_value_options is PARTIAL_JSON: the log has parts of values";
            let cure = "set global binlog_row_value_options = '';";
            wrong(what.to_owned(), Some(cure));
        }
        let follows = self.replica.unwrap_or(self.is_on("read_only"));
        if follows && !self.is_on("log_slave_updates") && !self.is_on("log_replica_updates") {
            let what = "this replica does not log what it replicates; start it with \
                        log_replica_updates (log_slave_updates), or connect to the primary";
            wrong(what.to_owned(), None);
        }
        faults
    }

    /// For how long the log is kept.
    pub(super) fn kept(&self) -> String {
        let days = self.says("expire_logs_days").and_then(|days| days.parse::<f64>().ok());
        let seconds = self.says("binlog_expire_logs_seconds").and_then(|text| text.parse().ok());
        let kept = seconds.filter(|kept| *kept > 0.0).or(days.map(|days| days * 86_400.0));
        match kept.filter(|kept| *kept > 0.0) {
            Some(kept) => format!(
                "the server keeps its log for {:.1} hours; an agent that is away for longer reads \
                 everything again",
                kept / 3_600.0
            ),
            None => "the server keeps its log until someone purges it".to_owned(),
        }
    }

    /// What is worth knowing of the log.
    pub(super) fn facts(&self) -> Vec<String> {
        let how = match self.tracking() {
            Tracking::Gtid => "by transaction names (gtid_mode = ON)",
            Tracking::File => "by file and offset (gtid_mode is not ON)",
            Tracking::FileWithDomains => "by file and offset, proved by transaction numbers",
        };
        let mut facts = vec![format!("capture: row binlog, {how}"), self.kept()];
        if !self.names_columns() {
            let what = "binlog_row_metadata is not FULL: after an ALTER of a table it may have to \
                        be read again";
            facts.push(what.to_owned());
        }
        if !self.has_whole_rows() {
            let what = "binlog_row_image is not FULL: rows with left-out columns are completed \
                        from the table";
            facts.push(what.to_owned());
        }
        if self.is_on("binlog_transaction_compression") {
            let what = "binlog_transaction_compression is ON: a transaction is unpacked in memory \
                        as a whole, and for one beyond 256 MiB the table is read anew";
            facts.push(what.to_owned());
        }
        facts
    }

    /// Where the log stands now.
    pub(super) async fn end_of_log(&self, session: &mut Session) -> Result<Position, Fault> {
        let doing = "cannot ask where the log stands";
        let is_new = self.flavour == Flavour::MySql && self.version >= (8, 2, 0);
        let sql = if is_new { "show binary log status" } else { "show master status" };
        let rows = session.rows(doing, sql).await?;
        let row = rows.first().ok_or_else(|| {
            Fault::new(Code::SourceSetting, "the server keeps no log of changes (log_bin)")
        })?;
        let (file, offset) = (get::<String>(row, 0)?, get::<u64>(row, 1)?);
        let mut position = Position { file, offset, ..Position::default() };
        if self.tracking() == Tracking::Gtid {
            position.gtids = gtids(by_name::<String>(row, "Executed_Gtid_Set"))?;
        }
        Ok(position)
    }

    /// A position of which everything before is in the tables for whoever reads from now on. What
    /// is after it may be in them as well.
    pub(super) async fn start_of_log(&self, session: &mut Session) -> Result<Position, Fault> {
        match self.tracking() {
            // A transaction gets into this set after it is in the tables.
            Tracking::Gtid => self.end_of_log(session).await,
            Tracking::FileWithDomains => self.snapshot_position(session).await,
            Tracking::File => {
                let position = self.end_of_log(session).await?;
                // The log has a transaction a moment before the tables do, and longer where the
                // server first waits for a replica.
                tokio::time::sleep(COMMIT_WAIT + self.semi_sync_wait()).await;
                Ok(position)
            }
        }
    }

    fn semi_sync_wait(&self) -> Duration {
        let is_on = ["master", "source"]
            .iter()
            .any(|word| self.is_on(&format!("rpl_semi_sync_{word}_enabled")));
        let wait = ["rpl_semi_sync_master_timeout", "rpl_semi_sync_source_timeout"]
            .iter()
            .find_map(|name| self.says(name)?.parse().ok());
        Duration::from_millis(if is_on { wait.unwrap_or(10_000) } else { 0 })
    }

    /// MariaDB tells the position that belongs to a snapshot, without a lock.
    async fn snapshot_position(&self, session: &mut Session) -> Result<Position, Fault> {
        let doing = "cannot ask where the log stood at a snapshot";
        session.run(doing, "start transaction with consistent snapshot, read only").await?;
        let rows = session.rows(doing, "show status like 'binlog_snapshot_%'").await?;
        let value = |name: &str| {
            let named = rows.iter().find(|row| {
                get::<String>(row, 0).is_ok_and(|found| found.eq_ignore_ascii_case(name))
            });
            named.and_then(|row| get::<String>(row, 1).ok()).filter(|value| !value.is_empty())
        };
        let (file, offset) = (value("binlog_snapshot_file"), value("binlog_snapshot_position"));
        session.run(doing, "rollback").await?;
        let offset = offset.and_then(|offset| offset.parse().ok());
        let mut position = match (file, offset) {
            (Some(file), Some(offset)) => Position { file, offset, ..Position::default() },
            _ => self.end_of_log(session).await?,
        };
        position.domains = self.domains_at(session, &position).await?.ok_or_else(|| {
            Fault::new(Code::SourceSetting, "the server does not know its own log's position")
        })?;
        Ok(position)
    }

    /// MariaDB's transactions before an offset; `None` where there is no such offset.
    async fn domains_at(
        &self,
        session: &mut Session,
        position: &Position,
    ) -> Result<Option<Domains>, Fault> {
        // The name came from the server; it holds no quote.
        let file: String = position.file.chars().filter(|letter| *letter != '\'').collect();
        let sql = format!("select binlog_gtid_pos('{file}', {})", position.offset);
        let doing = "cannot ask which transactions come before an offset of the log";
        let Some(rows) = session.rows_if_allowed(doing, &sql).await? else { return Ok(None) };
        let text = match rows.first() {
            Some(row) => get::<Option<String>>(row, 0)?,
            None => None,
        };
        Ok(text.as_deref().and_then(domains))
    }

    /// `MariaDB`'s transactions before a file of its log.
    pub(super) async fn domains_before(
        &self,
        session: &mut Session,
        file: &str,
    ) -> Result<Option<Domains>, Fault> {
        let start = Position { file: file.to_owned(), offset: FILE_START, ..Position::default() };
        self.domains_at(session, &start).await
    }

    /// The file of the log after `file`.
    pub(super) async fn file_after(
        &self,
        session: &mut Session,
        file: &str,
    ) -> Result<Option<String>, Fault> {
        let rows = session.rows("cannot list the log's files", "show binary logs").await?;
        let files = rows.iter().map(|row| get::<String>(row, 0)).collect::<Result<Vec<_>, _>>()?;
        let at = files.iter().position(|name| name == file);
        Ok(at.and_then(|at| files.get(at + 1).cloned()))
    }

    /// How far back the log reaches.
    pub(super) async fn reach(
        &self,
        session: &mut Session,
        position: &Position,
    ) -> Result<Reach, Fault> {
        let mut reach = Reach::default();
        match self.tracking() {
            Tracking::Gtid => {
                let sql = "select @@global.gtid_purged, @@global.gtid_executed";
                let rows = session.rows("cannot ask what the log holds", sql).await?;
                let row = rows.first().ok_or_else(|| {
                    Fault::new(Code::SourceVersion, "the server's catalogue is not as expected")
                })?;
                reach.purged = gtids(Some(get(row, 0)?))?;
                reach.executed = gtids(Some(get(row, 1)?))?;
            }
            Tracking::File | Tracking::FileWithDomains => {
                for row in session.rows("cannot list the log's files", "show binary logs").await? {
                    reach.files.push((get(&row, 0)?, get(&row, 1)?));
                }
                if self.tracking() == Tracking::FileWithDomains {
                    reach.domains = self.domains_at(session, position).await?;
                }
            }
        }
        Ok(reach)
    }
}

fn gtids(text: Option<String>) -> Result<GtidSet, Fault> {
    GtidSet::parse(&text.unwrap_or_default()).map_err(|error| {
        Fault::because(Code::SourceVersion, "cannot read the server's transaction names", error)
    })
}

fn version(text: &str) -> (u32, u32, u32) {
    let mut parts = text.split('.').map(|part| {
        let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or(0)
    });
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(flavour: Flavour, variables: &[(&str, &str)]) -> Server {
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Server {
            flavour,
            shown: "MySQL 8.0.36".to_owned(),
            version: (8, 0, 36),
            variables: variables.collect(),
            replica: None,
        }
    }

    #[test]
    fn each_setting_that_would_lose_changes_is_a_fault() {
        let check = |variables: &[(&str, &str)], words: &[&str]| {
            let faults = server(Flavour::MySql, variables).log_faults();
            let whats: Vec<&str> = faults.iter().map(|(fault, _)| fault.what.as_str()).collect();
            assert_eq!(whats.len(), words.len(), "{whats:?}");
            assert!(whats.iter().zip(words).all(|(what, word)| what.contains(word)), "{whats:?}");
        };
        check(&[("log_bin", "ON"), ("binlog_format", "ROW")], &[]);
        check(&[("log_bin", "OFF"), ("binlog_format", "MIXED")], &["log_bin", "MIXED"]);
        check(
            &[("log_bin", "ON"), ("binlog_row_value_options", "PARTIAL_JSON")],
            &["PARTIAL_JSON"],
        );
        check(
            &[("log_bin", "ON"), ("read_only", "ON"), ("log_slave_updates", "OFF")],
            &["replica"],
        );
        check(&[("log_bin", "ON"), ("read_only", "ON"), ("log_replica_updates", "ON")], &[]);
    }

    #[test]
    fn positions_are_told_by_name_only_where_every_transaction_has_one() {
        let check = |mode: &str, tracking: Tracking| {
            assert_eq!(server(Flavour::MySql, &[("gtid_mode", mode)]).tracking(), tracking);
        };
        check("ON", Tracking::Gtid);
        check("ON_PERMISSIVE", Tracking::File);
        check("OFF", Tracking::File);
        assert_eq!(server(Flavour::MariaDb, &[]).tracking(), Tracking::FileWithDomains);
    }

    #[test]
    fn servers_whose_rows_are_written_elsewhere_are_told() {
        let check = |variables: &[(&str, &str)], expected: bool| {
            let server = server(Flavour::MySql, variables);
            assert_eq!(server.is_written_elsewhere(), expected, "{variables:?}");
        };
        check(&[("read_only", "OFF"), ("wsrep_on", "OFF")], false);
        check(&[("group_replication_group_name", "")], false);
        check(&[("read_only", "ON")], true);
        check(&[("wsrep_on", "ON")], true);
        check(&[("group_replication_group_name", "8a94f357")], true);
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(version("10.11.19"), (10, 11, 19));
        assert_eq!(version("9.7"), (9, 7, 0));
        assert_eq!(version(""), (0, 0, 0));
    }
}
