//! Everything that must hold before a table is read, each finding with its name and its cure.

use std::fmt::Write as _;
use std::sync::Arc;

use phusa_protocol::fault::{Code, Fault};

use super::Settings;
use super::catalogue::{Attribute, Publication, ReplicaIdentity, Table, ident, idents};
use super::login::Login;
use super::session::{Session, get};
use crate::source::{Column, Findings, Selection};

/// The oldest server that is read.
const VERSION_MIN: u32 = 120_000;
/// From here on a standby can decode its log.
const VERSION_STANDBY: u32 = 160_000;
/// From here on a publication can leave columns out.
const VERSION_COLUMN_LISTS: u32 = 150_000;
/// From here on a publication can show a partitioned table as one.
const VERSION_PARTITIONED: u32 = 130_000;
/// From here on the log can carry generated columns.
const VERSION_GENERATED: u32 = 180_000;

/// What one server is.
#[derive(Debug, Clone)]
pub(super) struct Server {
    /// For people.
    pub(super) shown: String,
    /// `150004` is 15.4.
    pub(super) version: u32,
    /// Whether it only follows another server.
    pub(super) standby: bool,
    wal_level: String,
    slots_max: i64,
    slots_used: i64,
}

impl Server {
    /// Asks the server what it is.
    pub(super) async fn inspect(session: &Session) -> Result<Self, Fault> {
        let sql = "select current_setting('server_version'), \
                          current_setting('server_version_num')::int4, pg_is_in_recovery(), \
                          current_setting('wal_level'), \
                          current_setting('max_replication_slots')::int8, \
                          (select count(*) from pg_replication_slots)";
        let row = session.row("cannot ask the server what it is", sql, &[]).await?;
        let standby = get(&row, 2)?;
        let kind = if standby { " (standby)" } else { "" };
        Ok(Self {
            shown: format!("PostgreSQL {}{kind}", get::<String>(&row, 0)?),
            version: u32::try_from(get::<i32>(&row, 1)?).unwrap_or(0),
            standby,
            wal_level: get(&row, 3)?,
            slots_max: get(&row, 4)?,
            slots_used: get(&row, 5)?,
        })
    }

    fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.version < VERSION_MIN {
            let what = format!("{} is older than PostgreSQL 12", self.shown);
            faults.push(Fault::new(Code::SourceVersion, what));
        }
        if self.standby && self.version < VERSION_STANDBY {
            let what = format!(
                "{} cannot decode its log; connect to the primary, or to a standby of version 16 \
                 or newer",
                self.shown
            );
            faults.push(Fault::new(Code::SourceVersion, what));
        }
        if self.wal_level != "logical" {
            let what = format!("wal_level is {}, logical is needed", self.wal_level);
            faults.push(Fault::new(Code::SourceSetting, what));
        }
        faults
    }
}

/// What was found of one selection.
pub(super) struct Inspection {
    /// The table, where there is one.
    pub(super) table: Option<Table>,
    /// What stands in the way.
    pub(super) faults: Vec<Fault>,
    facts: Vec<String>,
    statements: Vec<String>,
}

/// Looks at everything; only a server that cannot be asked is an error.
pub(super) async fn probe(
    settings: &Settings,
    selections: &[Selection],
) -> Result<Findings, Fault> {
    let session = Session::open(settings).await?;
    let server = Server::inspect(&session).await?;
    let login = Login::inspect(&session).await?;
    let mut findings = Findings { server: server.shown.clone(), ..Findings::default() };
    findings.faults = server.faults();
    login_findings(settings, &server, &login, &mut findings);
    if server.version < VERSION_MIN {
        findings.columns = vec![None; selections.len()];
        findings.unread = vec![Vec::new(); selections.len()];
        return Ok(findings);
    }
    let mut slots_needed = 0;
    for selection in selections {
        let inspection = inspect(&session, settings, &server, selection).await?;
        slots_needed += i64::from(!slot_exists(&session, settings, selection).await?);
        findings.columns.push(inspection.columns(selection));
        findings.unread.push(inspection.unread(selection));
        findings.faults.extend(inspection.faults);
        findings.facts.extend(inspection.facts);
        findings.statements.extend(inspection.statements);
    }
    findings.faults.extend(slot_fault(&server, slots_needed));
    findings.statements.sort_by_key(|statement| !statement.starts_with("create role"));
    findings.statements.dedup();
    Ok(findings)
}

fn slot_fault(server: &Server, needed: i64) -> Option<Fault> {
    let (used, max) = (server.slots_used, server.slots_max);
    (used + needed > max).then(|| {
        let what =
            format!("max_replication_slots is {max}, {used} are used and {needed} more are needed");
        Fault::new(Code::SourceSetting, what)
    })
}

async fn slot_exists(
    session: &Session,
    settings: &Settings,
    selection: &Selection,
) -> Result<bool, Fault> {
    let names = settings.slots(&selection.dataset);
    let sql = "select count(*) from pg_replication_slots \
               where slot_name::text = any($1) and database = current_database()";
    let row = session.row("cannot look up replication slots", sql, &[&names.as_slice()]).await?;
    Ok(get::<i64>(&row, 0)? > 0)
}

fn login_findings(settings: &Settings, server: &Server, login: &Login, findings: &mut Findings) {
    let why = settings.login_may_write_because.as_deref();
    let user = &settings.user;
    match login.refusal(user, why) {
        Some(fault) => {
            findings.faults.push(fault);
            findings.statements.push(format!(
                "create role {} login replication password '…'; -- a login of its own",
                ident(&settings.fresh_role())
            ));
        }
        None if login.can_write.is_empty() => {
            findings.facts.push(format!("login {user} cannot change data"));
        }
        None => findings.facts.push(format!("login {user} can change data, and the file says why")),
    }
    if !login.replication {
        let what = format!("login {user} lacks REPLICATION");
        findings.faults.push(Fault::new(Code::SourceRights, what));
        findings.statements.push(format!("alter role {} replication;", ident(user)));
    }
    for schema in &login.creates_in {
        let what = format!("login {user} may create objects in schema {schema}");
        findings.facts.push(what);
    }
    let how = match (server.standby, server.version) {
        (true, _) => "log of a standby: creating a slot needs pg_log_standby_snapshot() there",
        (false, ..140_000) => "log through the slot functions, in text form (server before 14)",
        (false, _) => "log through the walsender, and through the slot functions to catch up",
    };
    findings.facts.push(format!("capture: {how}"));
}

impl Inspection {
    /// The columns in the order of the selection, where all are there.
    fn columns(&self, selection: &Selection) -> Option<Arc<[Column]>> {
        let table = self.table.as_ref()?;
        let column = |name: &String| table.column(name).map(|found| found.column.clone());
        selection.columns.iter().map(column).collect()
    }

    /// Names of the columns that the selection leaves out.
    fn unread(&self, selection: &Selection) -> Vec<String> {
        let attributes = self.table.iter().flat_map(|table| &table.columns);
        let names = attributes.map(|attribute| attribute.column.name.clone());
        names.filter(|name| !selection.columns.contains(name)).collect()
    }

    fn fault(&mut self, code: Code, what: String) {
        self.faults.push(Fault::new(code, what));
    }
}

/// Looks at one table, its key and its publication.
pub(super) async fn inspect(
    session: &Session,
    settings: &Settings,
    server: &Server,
    selection: &Selection,
) -> Result<Inspection, Fault> {
    let (schema, name) = (&selection.schema, &selection.table);
    let mut found = Inspection {
        table: Table::find(session, schema, name).await?,
        faults: Vec::new(),
        facts: Vec::new(),
        statements: Vec::new(),
    };
    let Some(table) = found.table.clone() else {
        found.fault(Code::SourceTableMissing, format!("there is no table {schema}.{name}"));
        return Ok(found);
    };
    if !matches!(table.kind.as_str(), "r" | "p") {
        let what = format!("{schema}.{name} is not a table: it has no log of its own");
        found.fault(Code::SourceTableMissing, what);
        return Ok(found);
    }
    if table.kind == "p" && server.version < VERSION_PARTITIONED {
        let what = format!("{schema}.{name} is partitioned, which the log shows from 13 on");
        found.fault(Code::SourceVersion, what);
        return Ok(found);
    }
    found.facts.push(format!("{schema}.{name}: about {} rows", table.rows_estimated));
    if table.kind == "p" {
        found.facts.push(format!(
            "{schema}.{name}: truncating, rewriting, attaching, detaching or dropping one partition \
             is in no log; the table is then read anew"
        ));
    }
    column_findings(server, selection, &table, &mut found);
    right_findings(settings, selection, &table, &mut found);
    key_findings(selection, &table, &mut found);
    publication_findings(session, settings, server, (selection, &table), &mut found).await?;
    Ok(found)
}

fn column_findings(server: &Server, selection: &Selection, table: &Table, found: &mut Inspection) {
    let place = format!("{}.{}", selection.schema, selection.table);
    for name in &selection.columns {
        let Some(attribute) = table.column(name) else {
            found.fault(Code::SourceColumnMissing, format!("{place} has no column {name}"));
            continue;
        };
        if let Some(reason) = &attribute.refused {
            let what =
                format!("column {name} of {place} is {}: {reason}", attribute.column.type_name);
            found.fault(Code::SourceTypeRefused, what);
        }
        if !carries_generated(server, attribute) {
            let what = format!("column {name} of {place} is generated, which the log leaves out");
            found.fault(Code::SourceTypeRefused, what);
        }
    }
}

fn carries_generated(server: &Server, attribute: &Attribute) -> bool {
    match attribute.generated.as_str() {
        "" => true,
        "s" => server.version >= VERSION_GENERATED,
        _ => false,
    }
}

fn right_findings(
    settings: &Settings,
    selection: &Selection,
    table: &Table,
    found: &mut Inspection,
) {
    let (schema, name) = (&selection.schema, &selection.table);
    let user = ident(&settings.user);
    if !table.schema_usable {
        found.fault(Code::SourceRights, format!("login lacks USAGE on schema {schema}"));
        found.statements.push(format!("grant usage on schema {} to {user};", ident(schema)));
    }
    let unreadable: Vec<&str> = selection
        .columns
        .iter()
        .filter(|name| table.column(name).is_some_and(|column| !column.readable))
        .map(String::as_str)
        .collect();
    if !unreadable.is_empty() {
        let columns = unreadable.join(", ");
        let what = format!("login lacks SELECT on {schema}.{name} ({columns})");
        found.fault(Code::SourceRights, what);
        found.statements.push(format!(
            "grant select ({}) on {}.{} to {user};",
            idents(selection.columns.iter().map(String::as_str)),
            ident(schema),
            ident(name)
        ));
    }
}

fn key_findings(selection: &Selection, table: &Table, found: &mut Inspection) {
    let place = format!("{}.{}", selection.schema, selection.table);
    let key: Vec<&str> = selection
        .key
        .iter()
        .filter_map(|&at| selection.columns.get(at))
        .map(String::as_str)
        .collect();
    let shown = key.join(", ");
    if table.unique_keys.is_empty() {
        let what = format!("{place} has no primary key and no unique index on NOT NULL columns");
        found.fault(Code::SourceKeyMissing, what);
        found.statements.push(format!(
            "create unique index concurrently {index} on {schema}.{name} ({columns}); \
             alter table {schema}.{name} replica identity using index {index}; -- after NOT NULL",
            index = ident(&format!("{}_phusa_key", selection.table)),
            schema = ident(&selection.schema),
            name = ident(&selection.table),
            columns = idents(key.iter().copied()),
        ));
    } else if table.walk_key(selection).is_none() {
        let what = format!("the contract's key ({shown}) holds no unique key of {place}");
        found.fault(Code::SourceKeyMissing, what);
    }
    if table.identity == ReplicaIdentity::Nothing {
        let what = format!("{place} has no replica identity: the log does not say what changed");
        found.fault(Code::SourceKeyMissing, what);
        return;
    }
    let identity = table.identity_columns();
    let uncovered: Vec<_> = key.iter().filter(|name| !identity.contains(name)).copied().collect();
    if !uncovered.is_empty() {
        let what = format!(
            "the replica identity of {place} does not hold {} of the contract's key",
            uncovered.join(", ")
        );
        found.fault(Code::SourceKeyMissing, what);
    }
}

async fn publication_findings(
    session: &Session,
    settings: &Settings,
    server: &Server,
    (selection, table): (&Selection, &Table),
    found: &mut Inspection,
) -> Result<(), Fault> {
    let name = settings.publication(&selection.dataset);
    let place = format!("{}.{}", selection.schema, selection.table);
    let carried = published_columns(server, selection, table);
    let target = publication_target(selection, carried.as_deref());
    let Some(publication) = Publication::find(session, server.version, &name, selection).await?
    else {
        found.fault(Code::SourceSetting, format!("there is no publication {name} of {place}"));
        let mut sql = format!("create publication {} for table {target}", ident(&name));
        if table.kind == "p" {
            let _ = write!(sql, " with (publish_via_partition_root = true)");
        }
        found.statements.push(format!("{sql};"));
        return Ok(());
    };
    if !publication.complete {
        let what = format!("publication {name} does not publish all four kinds of change");
        found.fault(Code::SourceSetting, what);
        found.statements.push(format!(
            "alter publication {} set (publish = 'insert, update, delete, truncate');",
            ident(&name)
        ));
    }
    if table.kind == "p" && !publication.via_root {
        let what = format!("publication {name} shows the partitions of {place}, not the table");
        found.fault(Code::SourceSetting, what);
        found.statements.push(format!(
            "alter publication {} set (publish_via_partition_root = true);",
            ident(&name)
        ));
    }
    let wrong = match &publication.table {
        None => Some(format!("does not hold {place}")),
        Some(published) if published.filtered => Some(format!("filters the rows of {place}")),
        Some(published) => wrong_columns(carried.as_deref(), published.columns.as_deref()),
    };
    if let Some(wrong) = wrong {
        found.fault(Code::SourceSetting, format!("publication {name} {wrong}"));
        found.statements.push(format!("alter publication {} set table {target};", ident(&name)));
    }
    Ok(())
}

/// The columns the publication is to carry: the mapped ones and those of the replica identity,
/// without which the agency's own updates would fail; `None` where it cannot leave columns out.
fn published_columns(server: &Server, selection: &Selection, table: &Table) -> Option<Vec<String>> {
    if server.version < VERSION_COLUMN_LISTS || table.identity == ReplicaIdentity::Full {
        return None;
    }
    let identity = table.identity_columns();
    let wanted = |name: &str| {
        identity.contains(&name) || selection.columns.iter().any(|column| column == name)
    };
    let names = table.columns.iter().map(|attribute| attribute.column.name.clone());
    Some(names.filter(|name| wanted(name)).collect())
}

fn publication_target(selection: &Selection, columns: Option<&[String]>) -> String {
    let table = format!("{}.{}", ident(&selection.schema), ident(&selection.table));
    match columns {
        Some(columns) => format!("{table} ({})", idents(columns.iter().map(String::as_str))),
        None => table,
    }
}

fn wrong_columns(wanted: Option<&[String]>, published: Option<&[String]>) -> Option<String> {
    let (wanted, published) = (wanted?, published?);
    let missing = |from: &[String], of: &[String]| -> Vec<String> {
        of.iter().filter(|name| !from.contains(name)).cloned().collect()
    };
    let (lacking, beyond) = (missing(published, wanted), missing(wanted, published));
    if !lacking.is_empty() {
        return Some(format!("lacks the columns {}", lacking.join(", ")));
    }
    let more = (!beyond.is_empty()).then(|| beyond.join(", "))?;
    Some(format!("carries columns that are not mapped: {more}"))
}

/// Whether this is a server, a login and a table whose changes may be captured now; the first
/// fault otherwise.
pub(super) async fn admit(
    session: &Session,
    settings: &Settings,
    selection: &Selection,
) -> Result<(Server, Table), Fault> {
    let (server, inspection) = admit_login(session, settings, selection).await?;
    let faults = server.faults().into_iter().chain(inspection.faults);
    admitted(faults, inspection.table).map(|table| (server, table))
}

/// The same for reading the table once, which needs neither slot nor publication.
pub(super) async fn admit_to_read(
    session: &Session,
    settings: &Settings,
    selection: &Selection,
) -> Result<(Server, Table), Fault> {
    let (server, inspection) = admit_login(session, settings, selection).await?;
    let faults = inspection.faults.into_iter().filter(|fault| fault.code != Code::SourceSetting);
    admitted(faults, inspection.table).map(|table| (server, table))
}

async fn admit_login(
    session: &Session,
    settings: &Settings,
    selection: &Selection,
) -> Result<(Server, Inspection), Fault> {
    let server = Server::inspect(session).await?;
    let login = Login::inspect(session).await?;
    if let Some(fault) = login.refusal(&settings.user, settings.login_may_write_because.as_deref())
    {
        return Err(fault);
    }
    let inspection = inspect(session, settings, &server, selection).await?;
    Ok((server, inspection))
}

fn admitted(mut faults: impl Iterator<Item = Fault>, table: Option<Table>) -> Result<Table, Fault> {
    match (faults.next(), table) {
        (Some(fault), _) => Err(fault),
        (None, Some(table)) => Ok(table),
        (None, None) => Err(Fault::new(Code::SourceTableMissing, "there is no such table")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publication_carries_what_is_mapped_and_no_more() {
        let check =
            |wanted: Option<&[&str]>, published: Option<&[&str]>, expected: Option<&str>| {
                let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
                let wanted: Option<Vec<String>> = wanted.map(owned);
                let published: Option<Vec<String>> = published.map(owned);
                let wrong = wrong_columns(wanted.as_deref(), published.as_deref());
                assert_eq!(wrong.as_deref(), expected);
            };
        check(Some(&["id", "name"]), Some(&["name", "id"]), None);
        check(Some(&["id", "name"]), Some(&["id"]), Some("lacks the columns name"));
        let beyond = Some("carries columns that are not mapped: secret");
        check(Some(&["id"]), Some(&["id", "secret"]), beyond);
        check(None, Some(&["id", "secret"]), None);
        check(Some(&["id"]), None, None);
    }
}
