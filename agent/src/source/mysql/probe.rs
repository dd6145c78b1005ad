//! Everything that must hold before a table is read, each finding with its name and its cure.

use std::sync::Arc;

use phusa_protocol::fault::{Code, Fault};

use super::Settings;
use super::catalogue::{Table, ident, idents, literal};
use super::grants::Rights;
use super::server::Server;
use super::session::{Session, get};
use crate::source::{Column, Findings, Selection};

/// How many rights are named; the rest is only counted.
const NAMED_MAX: usize = 5;

/// What of the login concerns capture.
struct Login {
    /// As GRANT names it: `'phusa'@'%'`.
    name: String,
    rights: Rights,
}

impl Login {
    async fn inspect(session: &mut Session, server: &Server) -> Result<Self, Fault> {
        let doing = "cannot find out what the login may do";
        let rows = session.rows(doing, "select current_user()").await?;
        let user = rows.first().map(|row| get::<String>(row, 0)).transpose()?.unwrap_or_default();
        let (name, host) = user.rsplit_once('@').unwrap_or((&user, "%"));
        let name = format!("{}@{}", literal(name), literal(host));
        let mut rights = Rights::default();
        rights.add(lines(session, "show grants").await?.iter().flatten().map(String::as_str));
        if server.has_public() {
            let public = lines(session, "show grants for public").await?;
            rights.add(public.iter().flatten().map(String::as_str));
        }
        let mut at = 0;
        while let Some(role) = rights.roles.get(at).cloned() {
            at += 1;
            for role in role.split(',').filter(|_| at <= ROLES_MAX) {
                match lines(session, &format!("show grants for {role}")).await? {
                    Some(lines) => rights.add(lines.iter().map(String::as_str)),
                    None => rights.can_write.push(format!("what role {role} may do is not shown")),
                }
            }
        }
        Ok(Self { name, rights })
    }

    /// The fault of a login that could change data, unless the agency says why it may.
    fn refusal(&self, allowed_because: Option<&str>) -> Option<Fault> {
        let can_write = &self.rights.can_write;
        if can_write.is_empty() || allowed_because.is_some_and(|why| !why.trim().is_empty()) {
            return None;
        }
        let named: Vec<_> = can_write.iter().take(NAMED_MAX).map(String::as_str).collect();
        let more = if can_write.len() > NAMED_MAX { "; and more" } else { "" };
        let what = format!("login {} can change data: {}{more}", self.name, named.join("; "));
        Some(Fault::new(Code::SourceCanWrite, what))
    }
}

/// Roles of roles are followed so far.
const ROLES_MAX: usize = 20;

/// The lines of SHOW GRANTS, or `None` where the server does not show them.
async fn lines(session: &mut Session, sql: &str) -> Result<Option<Vec<String>>, Fault> {
    let rows = session.rows_if_allowed("cannot find out what the login may do", sql).await?;
    rows.map(|rows| rows.iter().map(|row| get::<String>(row, 0)).collect()).transpose()
}

/// What was found of one selection.
struct Inspection {
    table: Option<Table>,
    faults: Vec<Fault>,
    facts: Vec<String>,
    statements: Vec<String>,
}

/// Looks at everything; only a server that cannot be asked is an error.
pub(super) async fn probe(
    settings: &Settings,
    selections: &[Selection],
) -> Result<Findings, Fault> {
    let mut session = Session::open(settings).await?;
    let server = Server::inspect(&mut session).await?;
    let login = Login::inspect(&mut session, &server).await?;
    let mut findings = Findings { server: server.shown.clone(), ..Findings::default() };
    for (fault, cure) in server.faults() {
        findings.faults.push(fault);
        findings.statements.extend(cure);
    }
    findings.facts = server.facts();
    login_findings(settings, &server, &login, &mut findings);
    for selection in selections {
        let inspection = inspect(&mut session, &server, &login, selection).await?;
        findings.columns.push(inspection.columns(selection));
        findings.unread.push(inspection.unread(selection));
        findings.faults.extend(inspection.faults);
        findings.facts.extend(inspection.facts);
        findings.statements.extend(inspection.statements);
    }
    findings.statements.dedup();
    session.close().await;
    Ok(findings)
}

fn login_findings(settings: &Settings, server: &Server, login: &Login, findings: &mut Findings) {
    let name = &login.name;
    match login.refusal(settings.login_may_write_because.as_deref()) {
        Some(fault) => {
            findings.faults.push(fault);
            let fresh = format!("{}_reader", settings.user);
            findings.statements.push(format!(
                "create user {}@'%' identified by '…'; -- a login of its own",
                literal(&fresh)
            ));
        }
        None if login.rights.can_write.is_empty() => {
            findings.facts.push(format!("login {name} cannot change data"));
        }
        None => findings.facts.push(format!("login {name} can change data, and the file says why")),
    }
    let mut lacking = Vec::new();
    if !login.rights.reads_log {
        lacking.push("REPLICATION SLAVE");
    }
    if !login.rights.asks_position {
        lacking.push(server.position_right());
    }
    if !lacking.is_empty() {
        let lacking = lacking.join(", ");
        let what = format!("login {name} lacks {lacking}");
        findings.faults.push(Fault::new(Code::SourceRights, what));
        findings.statements.push(format!("grant {} on *.* to {name};", lacking.to_lowercase()));
    }
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

/// Looks at one table and its key.
async fn inspect(
    session: &mut Session,
    server: &Server,
    login: &Login,
    selection: &Selection,
) -> Result<Inspection, Fault> {
    let (schema, name) = (&selection.schema, &selection.table);
    let table = Table::find(session, schema, name).await?;
    let mut found =
        Inspection { table, faults: Vec::new(), facts: Vec::new(), statements: Vec::new() };
    let grant = format!(
        "grant select ({}) on {}.{} to {};",
        idents(selection.columns.iter().map(String::as_str)),
        ident(schema),
        ident(name),
        login.name
    );
    let Some(table) = found.table.clone() else {
        let what = format!("there is no table {schema}.{name} that the login may see");
        found.fault(Code::SourceTableMissing, what);
        found.statements.push(grant);
        return Ok(found);
    };
    if table.kind != "BASE TABLE" {
        let kind = table.kind.to_lowercase();
        let what = format!("{schema}.{name} is a {kind}: it has no log of its own");
        found.fault(Code::SourceTableMissing, what);
        return Ok(found);
    }
    found.facts.push(format!("{schema}.{name}: about {} rows", table.rows_estimated));
    if !table.engine.eq_ignore_ascii_case("innodb") {
        found.facts.push(format!(
            "{schema}.{name} is kept by {}: reading it holds up who writes to it",
            table.engine
        ));
    }
    column_findings(selection, &table, &grant, &mut found);
    key_findings(selection, &table, &mut found);
    log_findings(server, selection, &table, login, &mut found);
    Ok(found)
}

fn column_findings(selection: &Selection, table: &Table, grant: &str, found: &mut Inspection) {
    let place = format!("{}.{}", selection.schema, selection.table);
    for name in &selection.columns {
        let Some(attribute) = table.column(name) else {
            let what = format!("{place} has no column {name} that the login may see");
            found.fault(Code::SourceColumnMissing, what);
            found.statements.push(grant.to_owned());
            continue;
        };
        if let Err(reason) = &attribute.kind {
            let type_name = &attribute.column.type_name;
            let what = format!("column {name} of {place} is {type_name}: {reason}");
            found.fault(Code::SourceTypeRefused, what);
        }
        if attribute.is_virtual {
            let what = format!(
                "column {name} of {place} is computed on reading, which the log leaves out"
            );
            found.fault(Code::SourceTypeRefused, what);
        }
    }
    found.statements.dedup();
}

fn key_findings(selection: &Selection, table: &Table, found: &mut Inspection) {
    let place = format!("{}.{}", selection.schema, selection.table);
    let name = |&at: &usize| selection.columns.get(at).map(String::as_str);
    let key: Vec<&str> = selection.key.iter().filter_map(name).collect();
    if table.unique_keys.is_empty() {
        let what = format!("{place} has no primary key and no unique index on NOT NULL columns");
        found.fault(Code::SourceKeyMissing, what);
        found.statements.push(format!(
            "alter table {}.{} add unique key ({}); -- after NOT NULL",
            ident(&selection.schema),
            ident(&selection.table),
            idents(key.iter().copied()),
        ));
    } else if table.walk_key(selection).is_none() {
        let shown = key.join(", ");
        let what = format!(
            "the contract's key ({shown}) holds no unique key of {place} along which it can be read"
        );
        found.fault(Code::SourceKeyMissing, what);
    }
}

/// What the log must hold of this table.
fn log_findings(
    server: &Server,
    selection: &Selection,
    table: &Table,
    login: &Login,
    found: &mut Inspection,
) {
    let place = format!("{}.{}", selection.schema, selection.table);
    if !server.names_columns() && !table.is_whole() {
        let what = format!(
            "the log does not name columns (binlog_row_metadata), and the login does not see all \
             those of {place}"
        );
        found.fault(Code::SourceSetting, what);
        found.statements.push(format!(
            "grant select on {}.{} to {}; -- or: set global binlog_row_metadata = 'FULL'",
            ident(&selection.schema),
            ident(&selection.table),
            login.name
        ));
    }
    let first = table.unique_keys.first();
    let in_key = |name: &String| first.is_some_and(|key| key.contains(name));
    let key = selection.key.iter().filter_map(|&at| selection.columns.get(at));
    let left_out: Vec<&str> = key.filter(|name| !in_key(name)).map(String::as_str).collect();
    if !server.has_whole_rows() && !left_out.is_empty() {
        let left_out = left_out.join(", ");
        let what = format!(
            "binlog_row_image is not FULL: the log of {place} leaves out {left_out} of the \
             contract's key"
        );
        found.fault(Code::SourceSetting, what);
        found.statements.push("set global binlog_row_image = 'FULL';".to_owned());
    }
}

/// Whether this is a server, a login and a table whose changes may be captured now; the first
/// fault otherwise.
pub(super) async fn admit(
    session: &mut Session,
    settings: &Settings,
    selection: &Selection,
) -> Result<(Server, Table), Fault> {
    let server = Server::inspect(session).await?;
    let faults = server.faults().into_iter().map(|(fault, _)| fault);
    let table = admit_table(session, settings, &server, selection, faults).await?;
    Ok((server, table))
}

/// The same for reading the table once, which needs no log.
pub(super) async fn admit_to_read(
    session: &mut Session,
    settings: &Settings,
    selection: &Selection,
) -> Result<Table, Fault> {
    let server = Server::inspect(session).await?;
    admit_table(session, settings, &server, selection, std::iter::empty()).await
}

async fn admit_table(
    session: &mut Session,
    settings: &Settings,
    server: &Server,
    selection: &Selection,
    mut faults: impl Iterator<Item = Fault>,
) -> Result<Table, Fault> {
    let login = Login::inspect(session, server).await?;
    if let Some(fault) = login.refusal(settings.login_may_write_because.as_deref()) {
        return Err(fault);
    }
    let inspection = inspect(session, server, &login, selection).await?;
    match (faults.next(), inspection.faults.into_iter().next(), inspection.table) {
        (Some(fault), _, _) | (None, Some(fault), _) => Err(fault),
        (None, None, Some(table)) => Ok(table),
        (None, None, None) => Err(Fault::new(Code::SourceTableMissing, "there is no such table")),
    }
}
