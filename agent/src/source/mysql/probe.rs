//! Everything that must hold before a table is read, each finding with its name and its cure.

use std::sync::Arc;

use phusa_protocol::fault::{Code, Fault};

use super::Settings;
use super::catalogue::{Table, ident, idents, literal};
use super::choose::{self, Choice, Offer};
use super::grants::Rights;
use super::server::Server;
use super::session::{Session, get};
use super::watermark::Watermark;
use crate::source::{Capture, Column, Findings, Selection};

/// How many rights are named; the rest is only counted.
const NAMED_MAX: usize = 5;

/// What of the login concerns capture.
pub(super) struct Login {
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
    pub(super) fn refusal(&self, allowed_because: Option<&str>) -> Option<Fault> {
        let can_write = &self.rights.can_write;
        if can_write.is_empty() || allowed_because.is_some_and(|why| !why.trim().is_empty()) {
            return None;
        }
        let named: Vec<_> = can_write.iter().take(NAMED_MAX).map(String::as_str).collect();
        let more = if can_write.len() > NAMED_MAX { "; and more" } else { "" };
        let what = format!("login {} can change data: {}{more}", self.name, named.join("; "));
        Some(Fault::new(Code::SourceCanWrite, what))
    }

    /// Rights to the log that it lacks.
    fn lacking(&self, server: &Server) -> Vec<&'static str> {
        let Rights { reads_log, asks_position, .. } = self.rights;
        let rights = [(reads_log, "REPLICATION SLAVE"), (asks_position, server.position_right())];
        rights.into_iter().filter(|(held, _)| !held).map(|(_, right)| right).collect()
    }

    /// The fault of a login that may not read the log, and the statement that mends it.
    pub(super) fn log_fault(&self, server: &Server) -> Option<(Fault, String)> {
        let (name, lacking) = (&self.name, self.lacking(server).join(", "));
        (!lacking.is_empty()).then(|| {
            let fault = Fault::new(Code::SourceRights, format!("login {name} lacks {lacking}"));
            (fault, format!("grant {} on *.* to {name};", lacking.to_lowercase()))
        })
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
pub(super) struct Inspection {
    pub(super) choice: Choice,
    pub(super) table: Option<Table>,
    pub(super) faults: Vec<Fault>,
    facts: Vec<String>,
    pub(super) statements: Vec<String>,
}

/// Looks at everything; only a server that cannot be asked is an error.
pub(super) async fn probe(
    settings: &Settings,
    selections: &[Selection],
) -> Result<Findings, Fault> {
    let mut session = Session::open(settings).await?;
    let mut look = Look::begin(&mut session, settings).await?;
    let mut inspections = Vec::new();
    for selection in selections {
        inspections.push((selection, look.inspect(selection).await?));
    }
    let mut findings = Findings { server: look.server.shown.clone(), ..Findings::default() };
    findings.faults.extend(look.server.version_fault());
    let reads_log = inspections.iter().any(|(_, inspection)| inspection.reads_log());
    look.login_findings(reads_log, &mut findings);
    for (selection, inspection) in inspections {
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

impl Inspection {
    /// The columns in the order of the selection, where all are there.
    fn columns(&self, selection: &Selection) -> Option<Arc<[Column]>> {
        let table = self.table.as_ref()?;
        let column = |name: &String| table.column(name).map(|found| found.column.clone());
        selection.columns.iter().map(column).collect()
    }

    /// The table's other columns that the login may see.
    fn unread(&self, selection: &Selection) -> Vec<String> {
        let columns = self.table.iter().flat_map(|table| &table.columns);
        let names = columns.map(|attribute| attribute.column.name.clone());
        names.filter(|name| !selection.columns.contains(name)).collect()
    }

    /// Whether changes come out of the log, which asks more of a table than reading it does.
    fn reads_log(&self) -> bool {
        self.choice.capture == Capture::Log
    }

    fn fault(&mut self, code: Code, what: String) {
        self.faults.push(Fault::new(code, what));
    }
}

/// One look at a server as one login.
pub(super) struct Look<'a> {
    pub(super) session: &'a mut Session,
    pub(super) settings: &'a Settings,
    pub(super) server: Server,
    pub(super) login: Login,
}

impl<'a> Look<'a> {
    /// Asks what server and login are.
    pub(super) async fn begin(
        session: &'a mut Session,
        settings: &'a Settings,
    ) -> Result<Self, Fault> {
        let server = Server::inspect(session).await?;
        let login = Login::inspect(session, &server).await?;
        Ok(Self { session, settings, server, login })
    }

    /// Looks at one table, its key and what the chosen way of following it needs.
    pub(super) async fn inspect(&mut self, selection: &Selection) -> Result<Inspection, Fault> {
        let (schema, name) = (&selection.schema, &selection.table);
        let table = Table::find(self.session, schema, name).await?;
        let choice = choose::choose(selection.capture, &self.offer(selection, table.as_ref()));
        let named = selection.watermark.is_some();
        let faults = choose::impossible(choice.capture, named).into_iter().collect();
        let (facts, statements) = (Vec::new(), Vec::new());
        let by_watermark = choice.capture == Capture::Watermark;
        let mut found = Inspection { choice, table, faults, facts, statements };
        let watermark = selection
            .watermark
            .iter()
            .filter(|name| by_watermark && !selection.columns.contains(name));
        let granted = selection.columns.iter().chain(watermark).map(String::as_str);
        let grant = format!(
            "grant select ({}) on {}.{} to {};",
            idents(granted),
            ident(schema),
            ident(name),
            self.login.name
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
        let Choice { capture, why } = &found.choice;
        let taken = format!("{schema}.{name}: capture \"{}\", because {why}", capture.name());
        found.facts.push(taken);
        if !table.engine.eq_ignore_ascii_case("innodb") {
            found.facts.push(format!(
                "{schema}.{name} is kept by {}: reading it holds up who writes to it",
                table.engine
            ));
        }
        column_findings(selection, &table, &grant, &mut found);
        key_findings(selection, &table, &mut found);
        if found.reads_log() {
            log_findings(&self.server, selection, &table, &self.login, &mut found);
        }
        if by_watermark {
            self.watermark_findings(selection, &table, &grant, &mut found);
        }
        Ok(found)
    }

    /// Whether the named column can serve, and how far before the last look each looks.
    fn watermark_findings(
        &self,
        selection: &Selection,
        table: &Table,
        grant: &str,
        found: &mut Inspection,
    ) {
        match Watermark::of(selection, table) {
            Err((code, what, cure)) => {
                let cure = cure.or((code == Code::SourceColumnMissing).then(|| grant.to_owned()));
                found.fault(code, what);
                found.statements.extend(cure);
                found.statements.dedup();
            }
            Ok(None) => {}
            Ok(Some(watermark)) => {
                let grant = format!("grant process on *.* to {}", self.login.name);
                let unseen = (!self.login.rights.sees_transactions).then_some(grant.as_str());
                let overlap = self.settings.guard.watermark_overlap;
                found.facts.extend(watermark.facts(&self.server, unseen, overlap));
            }
        }
    }

    fn offer(&self, selection: &Selection, table: Option<&Table>) -> Offer {
        let Rights { reads_log, asks_position, .. } = self.login.rights;
        let readable = |name: &String| table.is_some_and(|table| table.column(name).is_some());
        let obstacles = self.server.log_faults().into_iter().map(|(fault, _)| fault.what);
        Offer {
            log_obstacles: obstacles.collect(),
            lacking: self.login.lacking(&self.server),
            log_meant: reads_log || asks_position,
            columns: selection.columns.iter().all(readable),
            watermark: selection.watermark.is_some(),
        }
    }

    /// What there is to say of the login, and of the log where it is read.
    fn login_findings(&self, reads_log: bool, findings: &mut Findings) {
        let name = &self.login.name;
        if reads_log {
            for (fault, cure) in self.server.log_faults() {
                findings.faults.push(fault);
                findings.statements.extend(cure);
            }
            findings.facts.extend(self.server.facts());
        }
        match self.login.refusal(self.settings.login_may_write_because.as_deref()) {
            Some(fault) => {
                findings.faults.push(fault);
                let fresh = literal(&format!("{}_reader", self.settings.user));
                let create = "identified by '…'; -- a login of its own";
                findings.statements.push(format!("create user {fresh}@'%' {create}"));
            }
            None if self.login.rights.can_write.is_empty() => {
                findings.facts.push(format!("login {name} cannot change data"));
            }
            None => {
                let what = format!("login {name} can change data, and the file says why");
                findings.facts.push(what);
            }
        }
        if reads_log && let Some((fault, cure)) = self.login.log_fault(&self.server) {
            findings.faults.push(fault);
            findings.statements.push(cure);
        }
    }
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
        if attribute.is_virtual && found.reads_log() {
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

/// A server, a table that may be read there, and how its changes are to be found.
pub(super) struct Admitted {
    pub(super) server: Server,
    pub(super) table: Table,
    pub(super) capture: Capture,
}

/// Whether this is a server, a login and a table whose changes may be captured now; the first
/// fault otherwise.
pub(super) async fn admit(
    session: &mut Session,
    settings: &Settings,
    selection: &Selection,
) -> Result<Admitted, Fault> {
    let mut look = Look::begin(session, settings).await?;
    if let Some(fault) = look.login.refusal(settings.login_may_write_because.as_deref()) {
        return Err(fault);
    }
    let inspection = look.inspect(selection).await?;
    let capture = inspection.choice.capture;
    let mut faults: Vec<Fault> = look.server.version_fault().into_iter().collect();
    if inspection.reads_log() {
        faults.extend(look.server.log_faults().into_iter().map(|(fault, _)| fault));
    }
    faults.extend(inspection.faults);
    match (faults.into_iter().next(), inspection.table) {
        (Some(fault), _) => Err(fault),
        (None, Some(table)) => Ok(Admitted { server: look.server, table, capture }),
        (None, None) => Err(Fault::new(Code::SourceTableMissing, "there is no such table")),
    }
}

/// The same for reading the table alone, which needs no log.
pub(super) async fn admit_to_read(
    session: &mut Session,
    settings: &Settings,
    selection: &Selection,
) -> Result<(Server, Table), Fault> {
    let selection = Selection { capture: Capture::Reconcile, ..selection.clone() };
    let admitted = admit(session, settings, &selection).await?;
    Ok((admitted.server, admitted.table))
}
