//! Everything that must hold before a table is read, each finding with its name and its cure.

use std::sync::Arc;

use phusa_protocol::fault::{Code, Fault};

use super::Settings;
use super::catalogue::{Table, place};
use super::choice::{self, Choice};
use super::login::Login;
use super::session::{Session, number, text};
use super::shape::{ident, idents};
use crate::source::{Column, Findings, Selection};

/// Said wherever this engine shows itself, until it was run against a real server.
const NOT_VERIFIED: &str = "SQL Server: not yet verified against a real server; see README";

/// The oldest server that is read: SQL Server 2012.
const MAJOR_MIN: u32 = 11;

pub(super) const SERVER_SQL: &str = "\
select convert(nvarchar(128), serverproperty('ProductVersion')), \
  convert(nvarchar(128), serverproperty('Edition')), convert(nvarchar(300), @@version)";

pub(super) const DATABASE_SQL: &str = "\
select convert(nvarchar(30), d.create_date, 126), \
  coalesce(convert(nvarchar(36), r.database_guid), N''), \
  coalesce(convert(nvarchar(36), r.recovery_fork_guid), N''), \
  cast(d.compatibility_level as bigint), cast(d.snapshot_isolation_state as bigint), \
  cast(d.is_cdc_enabled as bigint), \
  coalesce(convert(nvarchar(60), databasepropertyex(d.name, 'Updateability')), N''), \
  coalesce(d.collation_name, N''), cast(coalesce(t.retention_period, -1) as bigint), \
  coalesce(t.retention_period_units_desc, N''), \
  cast(coalesce(t.is_auto_cleanup_on, 0) as bigint), d.name \
from sys.databases d \
left join sys.database_recovery_status r on r.database_id = d.database_id \
left join sys.change_tracking_databases t on t.database_id = d.database_id \
where d.database_id = db_id()";

/// What one server and its database are.
#[derive(Debug, Clone)]
pub(super) struct Server {
    /// For people.
    pub(super) shown: String,
    major: u32,
    /// The database's history, as far as the login may see it.
    pub(super) history: String,
    pub(super) database: String,
    compatibility: i64,
    collation: String,
    /// Whether readers may work in a snapshot.
    pub(super) snapshots: bool,
    pub(super) cdc: bool,
    /// Whether nothing can be written here: a readable secondary, or a database set so.
    pub(super) read_only: bool,
    /// How long change tracking keeps changes, such as `2 DAYS`; `None` where it is off.
    pub(super) tracking: Option<String>,
}

/// `snapshot_isolation_state` of a database that allows it.
const SNAPSHOT_ON: i64 = 1;

impl Server {
    /// Asks the server what it is.
    pub(super) async fn inspect(session: &mut Session) -> Result<Self, Fault> {
        let doing = "cannot ask the server what it is";
        let server = session.row(doing, SERVER_SQL, &[]).await?;
        let row = session.row(doing, DATABASE_SQL, &[]).await?;
        let version = text(&server, 0)?;
        let read_only = text(&row, 6)? == "READ_ONLY";
        let kind = if read_only { ", read only" } else { "" };
        let retention = number(&row, 8)?;
        let units = text(&row, 9)?;
        let cleanup = if number(&row, 10)? == 1 { "" } else { ", and never cleaned up" };
        Ok(Self {
            shown: format!("SQL Server {version} ({}{kind})", text(&server, 1)?),
            major: version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0),
            history: format!("{} {} {}", text(&row, 0)?, text(&row, 1)?, text(&row, 2)?),
            database: text(&row, 11)?,
            compatibility: number(&row, 3)?,
            collation: text(&row, 7)?,
            snapshots: number(&row, 4)? == SNAPSHOT_ON,
            cdc: number(&row, 5)? == 1,
            read_only,
            tracking: (retention >= 0).then(|| format!("{retention} {units}{cleanup}")),
        })
    }

    fn fault(&self) -> Option<Fault> {
        (self.major < MAJOR_MIN).then(|| {
            let what = format!("{} is older than SQL Server 2012", self.shown);
            Fault::new(Code::SourceVersion, what)
        })
    }

    fn facts(&self) -> Vec<String> {
        let mut facts = vec![
            NOT_VERIFIED.to_owned(),
            format!("database {}: {}, level {}", self.database, self.collation, self.compatibility),
        ];
        facts.push(if self.read_only {
            "nothing can be written here: a readable secondary, or a database set read-only"
                .to_owned()
        } else {
            "the database can be written: a primary, or a server alone".to_owned()
        });
        let cdc = if self.cdc { "on" } else { "off" };
        facts.push(format!("change data capture is {cdc} in the database"));
        if let Some(retention) = &self.tracking {
            facts.push(format!("change tracking keeps changes for {retention}"));
        }
        facts.push(if self.snapshots {
            "reads in snapshots: each chunk and each round of changes is consistent".to_owned()
        } else {
            "snapshot isolation is off: a round of changes may show part of a transaction that \
             commits meanwhile, until the next round"
                .to_owned()
        });
        facts
    }
}

/// What was found of one selection.
#[derive(Default)]
pub(super) struct Inspection {
    /// The table, where there is one.
    pub(super) table: Option<Table>,
    /// How its changes are found, where they can be.
    pub(super) choice: Option<Choice>,
    /// What stands in the way.
    pub(super) faults: Vec<Fault>,
    pub(super) facts: Vec<String>,
    pub(super) statements: Vec<String>,
}

impl Inspection {
    /// The columns in the order of the selection, where all are there.
    fn columns(&self, selection: &Selection) -> Option<Arc<[Column]>> {
        let table = self.table.as_ref()?;
        let column = |name: &String| table.attribute(name).map(|found| found.column.clone());
        selection.columns.iter().map(column).collect()
    }

    /// The table's other columns.
    fn unread(&self, selection: &Selection) -> Vec<String> {
        let names = self.table.iter().flat_map(|table| &table.attributes);
        let names = names.map(|attribute| attribute.column.name.clone());
        names.filter(|name| !selection.columns.contains(name)).collect()
    }

    pub(super) fn fault(&mut self, code: Code, what: String) {
        self.faults.push(Fault::new(code, what));
    }
}

/// Looks at everything; only a server that cannot be asked is an error.
pub(super) async fn probe(
    settings: &Settings,
    selections: &[Selection],
) -> Result<Findings, Fault> {
    let mut session = Session::open(settings).await?;
    let server = Server::inspect(&mut session).await?;
    let login = Login::inspect(&mut session).await?;
    let mut findings = Findings { server: server.shown.clone(), ..Findings::default() };
    findings.facts = server.facts();
    findings.faults.extend(server.fault());
    login_findings(settings, &login, &mut findings);
    if !server.snapshots {
        findings.statements.push(format!(
            "alter database {} set allow_snapshot_isolation on; -- advised",
            ident(&server.database)
        ));
    }
    for selection in selections {
        let inspection = inspect(&mut session, settings, &server, selection).await?;
        findings.columns.push(inspection.columns(selection));
        findings.unread.push(inspection.unread(selection));
        findings.faults.extend(inspection.faults);
        findings.facts.extend(inspection.facts);
        findings.statements.extend(inspection.statements);
    }
    findings.statements.dedup();
    Ok(findings)
}

/// What must hold before a table is read and followed.
pub(super) async fn admit(
    session: &mut Session,
    settings: &Settings,
    selection: &Selection,
) -> Result<(Server, Table, Choice), Fault> {
    let (server, mut found) = admitted(session, settings, selection).await?;
    let missing = || Fault::new(Code::Bug, "an admitted table has no way to be followed");
    let table = found.table.take().ok_or_else(missing)?;
    let choice = found.choice.take().ok_or_else(missing)?;
    Ok((server, table, choice))
}

/// What must hold before a table is read once: how its changes are found does not matter.
pub(super) async fn admit_to_read(
    session: &mut Session,
    settings: &Settings,
    selection: &Selection,
) -> Result<(Server, Table), Fault> {
    let (server, found) = admitted(session, settings, selection).await?;
    let missing = || Fault::new(Code::Bug, "an admitted table is not there");
    Ok((server, found.table.ok_or_else(missing)?))
}

async fn admitted(
    session: &mut Session,
    settings: &Settings,
    selection: &Selection,
) -> Result<(Server, Inspection), Fault> {
    let server = Server::inspect(session).await?;
    let login = Login::inspect(session).await?;
    let why = settings.login_may_write_because.as_deref();
    let refusal = server.fault().or_else(|| login.refusal(&settings.user, why));
    if let Some(fault) = refusal {
        return Err(fault);
    }
    let mut found = inspect(session, settings, &server, selection).await?;
    if found.faults.is_empty() {
        return Ok((server, found));
    }
    Err(found.faults.swap_remove(0))
}

fn login_findings(settings: &Settings, login: &Login, findings: &mut Findings) {
    let why = settings.login_may_write_because.as_deref();
    let user = &settings.user;
    match login.refusal(user, why) {
        Some(fault) => {
            findings.faults.push(fault);
            let fresh = ident(&format!("{user}_reader"));
            findings.statements.push(format!(
                "create login {fresh} with password = N'…'; create user {fresh} for login {fresh}; \
                 -- a login of its own"
            ));
        }
        None if login.can_write.is_empty() => {
            findings.facts.push(format!("login {user} cannot change data"));
        }
        None => findings.facts.push(format!("login {user} can change data, and the file says why")),
    }
    if login.procedures > 0 {
        let count = login.procedures;
        findings.facts.push(format!("login {user} may run {count} procedures of the database"));
    }
}

/// Looks at one table, its key, its rights and what tells of its changes.
pub(super) async fn inspect(
    session: &mut Session,
    settings: &Settings,
    server: &Server,
    selection: &Selection,
) -> Result<Inspection, Fault> {
    let mut found =
        Inspection { table: Table::find(session, selection).await?, ..Inspection::default() };
    let shown = format!("{}.{}", selection.schema, selection.table);
    let Some(table) = found.table.clone() else {
        let what = format!("there is no table {shown}, or the login may not see it");
        found.fault(Code::SourceTableMissing, what);
        found.statements.push(grant_select(settings, selection));
        return Ok(found);
    };
    found.facts.push(format!("{shown}: about {} rows", table.rows_estimated));
    column_findings(selection, &table, &mut found);
    right_findings(settings, selection, &table, &mut found);
    key_findings(selection, &table, &mut found);
    choice::choose(session, settings, server, (selection, &table), &mut found).await?;
    Ok(found)
}

fn grant_select(settings: &Settings, selection: &Selection) -> String {
    let columns = idents(selection.columns.iter().map(String::as_str));
    format!("grant select ({columns}) on {} to {};", place(selection), ident(&settings.user))
}

fn column_findings(selection: &Selection, table: &Table, found: &mut Inspection) {
    let shown = format!("{}.{}", selection.schema, selection.table);
    for name in &selection.columns {
        let Some(attribute) = table.attribute(name) else {
            found.fault(Code::SourceColumnMissing, format!("{shown} has no column {name}"));
            continue;
        };
        if let Err(reason) = &attribute.shape {
            let kind = &attribute.column.type_name;
            let what = format!("column {name} of {shown} is {kind}: {reason}");
            found.fault(Code::SourceTypeRefused, what);
        }
    }
}

fn right_findings(
    settings: &Settings,
    selection: &Selection,
    table: &Table,
    found: &mut Inspection,
) {
    let unreadable = |name: &&String| table.attribute(name).is_some_and(|found| !found.readable);
    let columns: Vec<_> = selection.columns.iter().filter(unreadable).map(String::as_str).collect();
    if !columns.is_empty() {
        let (schema, name) = (&selection.schema, &selection.table);
        let what = format!("login lacks SELECT on {schema}.{name} ({})", columns.join(", "));
        found.fault(Code::SourceRights, what);
        found.statements.push(grant_select(settings, selection));
    }
}

fn key_findings(selection: &Selection, table: &Table, found: &mut Inspection) {
    let shown = format!("{}.{}", selection.schema, selection.table);
    let key: Vec<&str> = selection
        .key
        .iter()
        .filter_map(|&at| selection.columns.get(at))
        .map(String::as_str)
        .collect();
    if table.keys.is_empty() {
        let what = format!("{shown} has no primary key and no unique index on NOT NULL columns");
        found.fault(Code::SourceKeyMissing, what);
        found.statements.push(format!(
            "alter table {} add constraint {} primary key ({}); -- after NOT NULL",
            place(selection),
            ident(&format!("pk_{}", selection.table)),
            idents(key.iter().copied()),
        ));
        return;
    }
    let Some(walk) = table.walk_key(selection) else {
        let what = format!(
            "the contract's key ({}) holds no unique key of {shown} that can be read in order",
            key.join(", ")
        );
        return found.fault(Code::SourceKeyMissing, what);
    };
    let names = walk.iter().filter_map(|&at| selection.columns.get(at));
    let is_text = |name: &&String| {
        let attribute = table.attribute(name);
        attribute.is_some_and(|found| found.column.native == crate::source::Native::Text)
    };
    for name in names.filter(is_text) {
        found.facts.push(format!(
            "key column {name} of {shown} is text: the server decides which keys are equal, and a \
             change of case or accent alone can leave the old record until the next full read"
        ));
    }
}
