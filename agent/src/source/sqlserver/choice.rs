//! Which of the server's ways tells of a table's changes: change tracking, else change data
//! capture, else its row version, else comparing all rows; and what the administrator can do.

use phusa_protocol::fault::{Code, Fault};
use tiberius::{FromSql, Row};

use super::Settings;
use super::catalogue::{Table, place};
use super::place::Log;
use super::probe::{Inspection, Server};
use super::session::{Param, Session, number};
use super::shape::{ident, literal};
use crate::source::{Capture, Selection};

pub(super) const TRACKING_SQL: &str = "\
select cast(count(*) as bigint), \
  cast(coalesce(has_perms_by_name(@P2, 'OBJECT', 'VIEW CHANGE TRACKING'), 0) as bigint) \
from sys.change_tracking_tables where object_id = @P1";

/// The capture instances of a table that the login may use.
pub(super) const INSTANCES_SQL: &str =
    "exec sys.sp_cdc_help_change_data_capture @source_schema = @P1, @source_name = @P2";

/// How changes are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    /// The server tells of them.
    Log(Log),
    /// All rows are compared now and then.
    Reconcile,
}

/// Notes how the changes of a table are found, or why they cannot be.
pub(super) async fn choose(
    session: &mut Session,
    settings: &Settings,
    server: &Server,
    (selection, table): (&Selection, &Table),
    found: &mut Inspection,
) -> Result<(), Fault> {
    if selection.capture == Capture::Reconcile {
        found.choice = Some(Choice::Reconcile);
        found.facts.push(compared(selection, "the dataset's file asks for it"));
        return Ok(());
    }
    let doing = format!("cannot look up what tells of changes of {}", selection.table);
    let params = [Param::Number(table.object_id), Param::Text(place(selection))];
    let row = session.row(&doing, TRACKING_SQL, &params).await?;
    let (tracked, allowed) = (number(&row, 0)? > 0, number(&row, 1)? == 1);
    if tracked && server.tracking.is_some() && !server.read_only {
        tracking(settings, (selection, table), allowed, found);
        return Ok(());
    }
    if table.in_cdc && server.cdc {
        match instance(session, selection, table).await? {
            Ok(instance) => captured((selection, table), instance, found),
            Err(why) => {
                found.fault(Code::SourceRights, why);
                found.statements.push(format!(
                    "grant select on {} to {}; -- and the gating role of its capture instance",
                    place(selection),
                    ident(&settings.user)
                ));
            }
        }
        return Ok(());
    }
    without_a_log(server, (selection, table), found);
    Ok(())
}

fn tracking(
    settings: &Settings,
    (selection, table): (&Selection, &Table),
    allowed: bool,
    found: &mut Inspection,
) {
    let shown = format!("{}.{}", selection.schema, selection.table);
    if !allowed {
        found.fault(Code::SourceRights, format!("login lacks VIEW CHANGE TRACKING on {shown}"));
        found.statements.push(format!(
            "grant view change tracking on {} to {};",
            place(selection),
            ident(&settings.user)
        ));
    }
    let primary = table.primary_key();
    let key = selection.key.iter().filter_map(|&at| selection.columns.get(at));
    let uncovered: Vec<&str> =
        key.filter(|name| !primary.contains(name)).map(String::as_str).collect();
    if !uncovered.is_empty() {
        let what = format!(
            "change tracking of {shown} tells of primary keys alone, which lack {} of the \
             contract's key",
            uncovered.join(", ")
        );
        found.fault(Code::SourceKeyMissing, what);
    }
    found.facts.push(format!("capture of {shown}: change tracking, which sees deletes"));
    found.choice = Some(Choice::Log(Log::Tracking));
}

fn captured((selection, table): (&Selection, &Table), instance: String, found: &mut Inspection) {
    let shown = format!("{}.{}", selection.schema, selection.table);
    for name in &selection.columns {
        if table.attribute(name).is_some_and(|attribute| attribute.computed) {
            let what = format!(
                "column {name} of {shown} is computed, which change data capture leaves empty"
            );
            found.fault(Code::SourceTypeRefused, what);
        }
    }
    found.facts.push(format!(
        "capture of {shown}: change data capture, instance {instance}; it comes some seconds after \
         the commit, and only while SQL Server Agent runs"
    ));
    found.choice = Some(Choice::Log(Log::Captured { instance }));
}

/// The newest capture instance that holds every mapped column, or why there is none.
pub(super) async fn instance(
    session: &mut Session,
    selection: &Selection,
    table: &Table,
) -> Result<Result<String, String>, Fault> {
    let shown = format!("{}.{}", selection.schema, selection.table);
    let names = [Param::Text(selection.schema.clone()), Param::Text(selection.table.clone())];
    let rows = match session.rows(&shown, INSTANCES_SQL, &names).await {
        Ok(rows) => rows,
        Err(fault) if fault.code == Code::SourceRights => {
            let why = format!("login may not use the change data capture of {shown}");
            return Ok(Err(why));
        }
        Err(fault) => return Err(fault),
    };
    let (mut newest, mut since) = (None, Vec::new());
    for row in &rows {
        let captured = named::<&str>(row, "captured_column_list")?;
        let holds = |name: &String| captured.split(", ").any(|one| one == ident(name));
        let start = named::<&[u8]>(row, "start_lsn")?.to_vec();
        if selection.columns.iter().all(holds) && start >= since {
            newest = Some(named::<&str>(row, "capture_instance")?.to_owned());
            since = start;
        }
    }
    if let Some(instance) = newest {
        return Ok(Ok(instance));
    }
    let count = rows.len();
    Ok(Err(format!(
        "none of the {count} capture instances of {shown} that the login sees holds every mapped \
         column ({} columns of the table)",
        table.attributes.len()
    )))
}

/// A column of what a procedure of the server answers.
fn named<'a, T: FromSql<'a>>(row: &'a Row, name: &str) -> Result<T, Fault> {
    row.try_get(name).ok().flatten().ok_or_else(|| {
        let what = format!("the server says nothing of {name} of a capture instance");
        Fault::new(Code::SourceVersion, what)
    })
}

/// Neither is there: the row version, or a refusal with what can be done.
fn without_a_log(
    server: &Server,
    (selection, table): (&Selection, &Table),
    found: &mut Inspection,
) {
    let shown = format!("{}.{}", selection.schema, selection.table);
    found.statements.extend(enabling(server, selection, table));
    if let Some(column) = table.row_version() {
        found.facts.push(format!(
            "capture of {shown}: row version {column}; DELETES ARE NOT SEEN: a record that is \
             deleted at the source stays in the warehouse until the next full read"
        ));
        found.choice = Some(Choice::Log(Log::RowVersion { column: column.to_owned() }));
        return;
    }
    let why = if server.read_only && server.tracking.is_some() {
        "is read on a replica where change tracking is not; the primary itself has it"
    } else if !table.has_primary_key {
        "has no primary key, so change tracking cannot be enabled; nor has it a rowversion column"
    } else {
        "has neither change tracking nor change data capture nor a rowversion column"
    };
    // Elsewhere the administrator can turn on what is better, and is told how.
    if selection.capture == Capture::Auto && server.read_only {
        found.facts.push(compared(selection, &format!("it {why}")));
        found.choice = Some(Choice::Reconcile);
        return;
    }
    let else_what = "or compare all rows: capture = \"reconcile\"";
    found.fault(Code::SourceSetting, format!("{shown} {why}; {else_what}"));
}

fn compared(selection: &Selection, why: &str) -> String {
    let Selection { schema, table, .. } = selection;
    format!("capture of {schema}.{table}: \"reconcile\", all rows compared, because {why}")
}

/// The statements that turn change tracking on, or change data capture where the table has no
/// primary key.
pub(super) fn enabling(server: &Server, selection: &Selection, table: &Table) -> Vec<String> {
    if server.read_only {
        return Vec::new();
    }
    if !table.has_primary_key {
        return vec![
            "exec sys.sp_cdc_enable_db; -- as sysadmin".to_owned(),
            format!(
                "exec sys.sp_cdc_enable_table @source_schema = {}, @source_name = {}, \
                 @role_name = null; -- as db_owner; needs SQL Server Agent",
                literal(&selection.schema),
                literal(&selection.table)
            ),
        ];
    }
    let database = server.tracking.is_none().then(|| {
        format!(
            "alter database {} set change_tracking = on (change_retention = 7 days, \
             auto_cleanup = on);",
            ident(&server.database)
        )
    });
    let table = format!("alter table {} enable change_tracking;", place(selection));
    database.into_iter().chain([table]).collect()
}
