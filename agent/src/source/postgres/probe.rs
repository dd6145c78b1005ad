//! Everything that must hold before a table is read, each finding with its name and its cure.

use std::sync::Arc;

use phusa_protocol::fault::{Code, Fault};

use super::Settings;
use super::catalogue::{Attribute, Publication, ReplicaIdentity, Table, ident, idents};
use super::choose::{self, Choice, Offer, Rights};
use super::functions::{Script, Standing};
use super::login::Login;
use super::publication::{VERSION_COLUMN_LISTS, publication_findings};
use super::session::{Session, get};
use crate::source::{Capture, Column, Findings, Selection};

/// The oldest server that is read.
const VERSION_MIN: u32 = 120_000;
/// From here on a standby can decode its log.
const VERSION_STANDBY: u32 = 160_000;
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

    fn version_fault(&self) -> Option<Fault> {
        let what = || format!("{} is older than PostgreSQL 12", self.shown);
        (self.version < VERSION_MIN).then(|| Fault::new(Code::SourceVersion, what()))
    }

    /// What stands in the way of decoding its log.
    pub(super) fn log_faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
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
    /// Which way of following it is taken.
    pub(super) choice: Choice,
    pub(super) facts: Vec<String>,
    pub(super) statements: Vec<String>,
    /// What there was to choose from.
    pub(super) offer: Offer,
}

/// What looking at tables goes by.
pub(super) struct Look<'a> {
    pub(super) session: &'a Session,
    pub(super) settings: &'a Settings,
    pub(super) server: &'a Server,
    pub(super) login: &'a Login,
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
    findings.faults.extend(server.version_fault());
    login_findings(settings, &login, &mut findings);
    if server.version < VERSION_MIN {
        findings.columns = vec![None; selections.len()];
        findings.unread = vec![Vec::new(); selections.len()];
        return Ok(findings);
    }
    let look = Look { session: &session, settings, server: &server, login: &login };
    let (mut slots_needed, mut log, mut own_log) = (0, false, false);
    for selection in selections {
        let inspection = look.inspect(selection).await?;
        let capture = inspection.choice.capture;
        own_log |= capture == Capture::Log;
        if matches!(capture, Capture::Log | Capture::Functions) {
            log = true;
            slots_needed += i64::from(!slot_exists(&session, settings, selection).await?);
        }
        findings.columns.push(inspection.columns(selection));
        findings.unread.push(inspection.unread(selection));
        findings.faults.extend(inspection.faults);
        findings.facts.extend(inspection.facts);
        findings.statements.extend(inspection.statements);
    }
    if own_log && !login.replication {
        let what = format!("login {} lacks REPLICATION", settings.user);
        findings.faults.push(Fault::new(Code::SourceRights, what));
        findings.statements.push(format!("alter role {} replication;", ident(&settings.user)));
    }
    if log {
        findings.faults.extend(server.log_faults());
        findings.faults.extend(slot_fault(&server, slots_needed));
    }
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

fn login_findings(settings: &Settings, login: &Login, findings: &mut Findings) {
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
    for schema in &login.creates_in {
        let what = format!("login {user} may create objects in schema {schema}");
        findings.facts.push(what);
    }
}

/// How the log is read from this server.
fn log_way(server: &Server, capture: Capture) -> &'static str {
    match (capture, server.standby, server.version) {
        (Capture::Log | Capture::Functions, true, _) => {
            "; log of a standby: creating a slot needs pg_log_standby_snapshot() there"
        }
        (Capture::Log, false, ..140_000) => {
            "; log through the slot functions, in text form (server before 14)"
        }
        (Capture::Log, false, _) => {
            "; log through the walsender, and through the slot functions to catch up"
        }
        (Capture::Functions, false, _) => "; the log is asked for, less often while it is costly",
        (Capture::Watermark, ..) => "; what was removed is found every reconcile_interval",
        (Capture::Reconcile | Capture::Auto, ..) => "; all rows every reconcile_interval",
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

    pub(super) fn fault(&mut self, code: Code, what: String) {
        self.faults.push(Fault::new(code, what));
    }

    /// Whether changes come out of the log, which asks more of a table than reading it does.
    fn reads_log(&self) -> bool {
        matches!(self.choice.capture, Capture::Log | Capture::Functions)
    }
}

impl Look<'_> {
    /// Looks at one table, its key and what the chosen way of following it needs.
    pub(super) async fn inspect(&self, selection: &Selection) -> Result<Inspection, Fault> {
        let (schema, name) = (&selection.schema, &selection.table);
        let table = Table::find(self.session, schema, name).await?;
        let mut found = Inspection {
            choice: choose::choose(selection.capture, &Offer::default()),
            table: table.clone(),
            faults: Vec::new(),
            facts: Vec::new(),
            statements: Vec::new(),
            offer: Offer::default(),
        };
        let Some(table) = table else {
            found.fault(Code::SourceTableMissing, format!("there is no table {schema}.{name}"));
            return Ok(found);
        };
        let script = self.script(selection, &table).await?;
        let standing = match &script {
            Some(script) => script.standing(self.session).await?,
            None => Standing::Absent,
        };
        found.offer = self.offer(selection, &table, standing).await?;
        found.choice = choose::choose(selection.capture, &found.offer);
        let is_table = matches!(table.kind.as_str(), "r" | "p");
        if !is_table && (found.reads_log() || table.kind != "m") {
            let what = format!("{schema}.{name} is not a table: it has no log of its own");
            found.fault(Code::SourceTableMissing, what);
            return Ok(found);
        }
        if !table.heirs.is_empty() {
            let what = format!(
                "{schema}.{name} has tables that inherit from it ({}): a query of it shows their \
                 rows too, and neither its log nor its key holds for them; share each of them as a \
                 dataset of its own, or make it a partitioned table",
                table.heirs.join(", ")
            );
            found.fault(Code::SourceKeyMissing, what);
            return Ok(found);
        }
        if table.kind == "p" && found.reads_log() && self.server.version < VERSION_PARTITIONED {
            let what = format!("{schema}.{name} is partitioned, which the log shows from 13 on");
            found.fault(Code::SourceVersion, what);
            return Ok(found);
        }
        self.facts(selection, &table, &mut found);
        column_findings(self.server, selection, &table, &mut found);
        if found.choice.capture != Capture::Functions {
            right_findings(self.settings, selection, &table, &mut found);
        }
        key_findings(selection, &table, &mut found);
        if found.reads_log() {
            publication_findings(self, (selection, &table), &mut found).await?;
        }
        if found.choice.capture == Capture::Functions {
            self.function_findings(&table, script.as_ref().zip(Some(standing)), &mut found);
        }
        Ok(found)
    }

    async fn script(&self, selection: &Selection, table: &Table) -> Result<Option<Script>, Fault> {
        let Some(walk) = table.walk_key(selection) else { return Ok(None) };
        if selection.columns.iter().any(|name| table.column(name).is_none()) {
            return Ok(None);
        }
        let [slot, publication] = self.settings.slots(&selection.dataset);
        let names = [slot.as_str(), publication.as_str()];
        Script::new(self.session, names, selection, (table, &walk)).await.map(Some)
    }

    async fn offer(
        &self,
        selection: &Selection,
        table: &Table,
        standing: Standing,
    ) -> Result<Offer, Fault> {
        let name = self.settings.publication(&selection.dataset);
        let version = self.server.version;
        let publication = Publication::find(self.session, version, &name, selection).await?;
        let readable = |name: &String| table.column(name).is_some_and(|column| column.readable);
        Ok(Offer {
            undecodable: self.server.log_faults().into_iter().next().map(|fault| fault.what),
            rights: Rights {
                replication: self.login.replication,
                columns: table.schema_usable && selection.columns.iter().all(readable),
                xmin: table.stamps_readable,
            },
            published: publication.is_some(),
            functions: standing == Standing::Whole,
        })
    }

    fn facts(&self, selection: &Selection, table: &Table, found: &mut Inspection) {
        let place = format!("{}.{}", selection.schema, selection.table);
        found.facts.push(format!("{place}: about {} rows", table.rows_estimated));
        let (capture, why) = (found.choice.capture, &found.choice.why);
        let way = log_way(self.server, capture);
        found.facts.push(format!("{place}: capture \"{}\", because {why}{way}", capture.name()));
        if table.kind == "p" && found.reads_log() {
            found.facts.push(format!(
                "{place}: truncating, rewriting, attaching, detaching or dropping one partition \
                 is in no log; the table is then read anew"
            ));
        }
    }

    /// Before 15 a publication shows all columns, and so does one of whole rows: then the functions
    /// would show more than is mapped.
    fn function_findings(
        &self,
        table: &Table,
        script: Option<(&Script, Standing)>,
        found: &mut Inspection,
    ) {
        if self.server.version < VERSION_COLUMN_LISTS {
            let why = "a publication cannot leave columns out before PostgreSQL 15";
            found.faults.push(choose::impossible(Capture::Functions, why));
        } else if table.identity == ReplicaIdentity::Full {
            let why = "with REPLICA IDENTITY FULL the log shows all columns";
            found.faults.push(choose::impossible(Capture::Functions, why));
        }
        let Some((script, standing)) = script else { return };
        if standing != Standing::Whole {
            let what = "the functions for reading the log are not there, or of another mapping";
            found.fault(Code::SourceRights, what.to_owned());
            found.statements.extend(script.statements(standing, &self.settings.user));
        }
    }
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
        if found.reads_log() && !carries_generated(server, attribute) {
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
    let mut wanted = idents(selection.columns.iter().map(String::as_str));
    let mut unreadable: Vec<&str> = selection
        .columns
        .iter()
        .filter(|name| table.column(name).is_some_and(|column| !column.readable))
        .map(String::as_str)
        .collect();
    if found.choice.capture == Capture::Watermark {
        // A right on named columns does not hold the one that says who wrote the row.
        wanted.push_str(", xmin");
        unreadable.extend((!table.stamps_readable).then_some("xmin"));
    }
    if !unreadable.is_empty() {
        let columns = unreadable.join(", ");
        let what = format!("login lacks SELECT on {schema}.{name} ({columns})");
        found.fault(Code::SourceRights, what);
        found.statements.push(format!(
            "grant select ({wanted}) on {}.{} to {user};",
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
    if !found.reads_log() {
        return;
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

/// A server, a login and a table that may be read.
pub(super) struct Admitted {
    pub(super) server: Server,
    pub(super) table: Table,
    /// The way its changes are followed.
    pub(super) capture: Capture,
}

/// Whether this is a server, a login and a table whose changes may be captured now; the first
/// fault otherwise.
pub(super) async fn admit(
    session: &Session,
    settings: &Settings,
    selection: &Selection,
) -> Result<Admitted, Fault> {
    let (server, mut inspection) = admit_login(session, settings, selection).await?;
    if inspection.reads_log() {
        inspection.faults.splice(0..0, server.log_faults());
    }
    admitted(server, inspection)
}

/// The same for reading the table once, which needs neither slot nor publication.
pub(super) async fn admit_to_read(
    session: &Session,
    settings: &Settings,
    selection: &Selection,
) -> Result<Admitted, Fault> {
    let (server, mut inspection) = admit_login(session, settings, selection).await?;
    inspection.faults.retain(|fault| fault.code != Code::SourceSetting);
    admitted(server, inspection)
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
    let look = Look { session, settings, server: &server, login: &login };
    let mut inspection = look.inspect(selection).await?;
    inspection.faults.splice(0..0, server.version_fault());
    Ok((server, inspection))
}

fn admitted(server: Server, inspection: Inspection) -> Result<Admitted, Fault> {
    let capture = inspection.choice.capture;
    match (inspection.faults.into_iter().next(), inspection.table) {
        (Some(fault), _) => Err(fault),
        (None, Some(table)) => Ok(Admitted { server, table, capture }),
        (None, None) => Err(Fault::new(Code::SourceTableMissing, "there is no such table")),
    }
}
