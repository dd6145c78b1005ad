//! In which ways each table could be followed, what stands in the way of each, and the exact
//! statements that clear it.

use phusa_protocol::fault::Fault;

use super::Settings;
use super::catalogue::{Table, place};
use super::choice::{self, Choice, TRACKING_SQL};
use super::login::Login;
use super::place::Log;
use super::probe::{self, Server};
use super::session::{Param, Session, number};
use super::shape::{ident, literal};
use crate::source::{Capture, Offer, Selection, Way};

/// What server and login offer for these tables.
pub(super) async fn offers(
    settings: &Settings,
    selections: &[Selection],
) -> Result<Vec<Offer>, Fault> {
    let mut session = Session::open(settings).await?;
    let server = Server::inspect(&mut session).await?;
    let refusal = Login::inspect(&mut session).await?;
    let refusal = refusal.refusal(&settings.user, settings.login_may_write_because.as_deref());
    let mut offers = Vec::new();
    for selection in selections {
        let found = probe::inspect(&mut session, settings, &server, selection).await?;
        let mut ways = Vec::new();
        if let Some(table) = &found.table {
            let look = Look { settings, server: &server, selection, table };
            // What keeps the table from being read stands in the way of every way.
            let reading = Selection { capture: Capture::Reconcile, ..selection.clone() };
            let reading = probe::inspect(&mut session, settings, &server, &reading).await?;
            let faults = refusal.iter().chain(&reading.faults);
            let common: Vec<String> = faults.map(|fault| fault.what.clone()).collect();
            ways = look.ways(&mut session).await?;
            for way in &mut ways {
                way.obstacles.splice(0..0, common.iter().cloned());
                way.statements.splice(0..0, reading.statements.iter().cloned());
            }
        }
        let key = found.table.as_ref().map(|table| key(selection, table)).unwrap_or_default();
        let rows_estimated = found.table.as_ref().map_or(0, |table| table.rows_estimated);
        let (chosen, because) = chosen(found.choice.as_ref(), &ways);
        offers.push(Offer {
            dataset: selection.dataset.clone(),
            table: selection.place(),
            kind: if found.table.is_some() { "table" } else { "missing" }.to_owned(),
            rows_estimated,
            key,
            chosen,
            because,
            ways,
        });
    }
    Ok(offers)
}

/// Which way is taken; where none can be yet, the best one is what is asked for.
fn chosen(choice: Option<&Choice>, ways: &[Way]) -> (Capture, String) {
    match choice {
        Some(Choice::Log(Log::Tracking)) => {
            (Capture::Log, "change tracking is on, and sees deletes".to_owned())
        }
        Some(Choice::Log(Log::Captured { instance })) => {
            (Capture::Log, format!("change data capture has the instance {instance}"))
        }
        Some(Choice::Log(Log::RowVersion { column })) => {
            (Capture::Log, format!("there is a rowversion column, {column}; deletes are not seen"))
        }
        Some(Choice::Reconcile) => {
            (Capture::Reconcile, "nothing tells of changes, or the file asks for it".to_owned())
        }
        None => {
            let first = ways.first().and_then(|way| way.obstacles.first());
            let lacks = first.map_or("the table is not there", String::as_str);
            (Capture::Log, format!("it is the best, and this is missing: {lacks}"))
        }
    }
}

/// One table that is looked at.
struct Look<'a> {
    settings: &'a Settings,
    server: &'a Server,
    selection: &'a Selection,
    table: &'a Table,
}

impl Look<'_> {
    /// Every way, best first.
    async fn ways(&self, session: &mut Session) -> Result<Vec<Way>, Fault> {
        Ok(vec![
            self.tracking(session).await?,
            self.captured(session).await?,
            self.row_version(),
            self.compared(),
        ])
    }

    async fn tracking(&self, session: &mut Session) -> Result<Way, Fault> {
        let shown = self.selection.place();
        let doing = format!("cannot look up what tells of changes of {shown}");
        let quoted = place(self.selection);
        let params = [Param::Number(self.table.object_id), Param::Text(quoted.clone())];
        let row = session.row(&doing, TRACKING_SQL, &params).await?;
        let (tracked, allowed) = (number(&row, 0)? > 0, number(&row, 1)? == 1);
        let mut way = way(Capture::Log, "change tracking");
        if self.server.read_only {
            way.obstacles.push("change tracking is read on the primary, not on a replica".into());
        }
        if !self.table.has_primary_key {
            way.obstacles.push(format!("{shown} has no primary key"));
        }
        if self.server.tracking.is_none() {
            let database = &self.server.database;
            way.obstacles.push(format!("change tracking is off in the database {database}"));
        }
        if !tracked {
            way.obstacles.push(format!("change tracking is off for {shown}"));
            if self.table.has_primary_key {
                way.statements.extend(choice::enabling(self.server, self.selection, self.table));
            }
        }
        if !allowed {
            way.obstacles.push(format!("login lacks VIEW CHANGE TRACKING on {shown}"));
            let user = ident(&self.settings.user);
            way.statements.push(format!("grant view change tracking on {quoted} to {user};"));
        }
        let kept = self.server.tracking.as_deref().unwrap_or("the time it is set to");
        way.risks.push(format!(
            "changes are kept for {kept}: an agent that is away for longer reads everything again"
        ));
        way.risks.push("of a row that changed several times only the last state is seen".into());
        Ok(way)
    }

    async fn captured(&self, session: &mut Session) -> Result<Way, Fault> {
        let shown = self.selection.place();
        let mut way = way(Capture::Log, "change data capture");
        if !self.server.cdc {
            let database = &self.server.database;
            way.obstacles.push(format!("change data capture is off in the database {database}"));
            way.statements.push("exec sys.sp_cdc_enable_db; -- as sysadmin".to_owned());
        }
        if !self.table.in_cdc {
            way.obstacles.push(format!("change data capture is off for {shown}"));
            way.statements.push(format!(
                "exec sys.sp_cdc_enable_table @source_schema = {}, @source_name = {}, \
                 @role_name = null; -- as db_owner; needs SQL Server Agent",
                literal(&self.selection.schema),
                literal(&self.selection.table)
            ));
        } else if self.server.cdc
            && let Err(why) = choice::instance(session, self.selection, self.table).await?
        {
            way.obstacles.push(why);
            let (quoted, user) = (place(self.selection), ident(&self.settings.user));
            way.statements.push(format!(
                "grant select on {quoted} to {user}; -- and the gating role of its capture instance"
            ));
        }
        way.risks.push("changes come only while SQL Server Agent runs, some seconds late".into());
        way.risks.push("the change tables grow until its clean-up job ends them".into());
        Ok(way)
    }

    fn row_version(&self) -> Way {
        let mut way = way(Capture::Log, "row version");
        if self.table.row_version().is_none() {
            way.obstacles.push(format!("{} has no rowversion column", self.selection.place()));
        }
        way.risks.push("deletes are not seen until the next full read".into());
        way
    }

    fn compared(&self) -> Way {
        let mut way = way(Capture::Reconcile, "comparing all rows");
        let every = self.settings.guard.reconcile_interval.as_secs();
        way.risks.push(format!(
            "changes are noticed every {every} s, and what came between is not seen"
        ));
        way.risks.push("the whole table is read each time, along its key".into());
        way
    }
}

fn way(capture: Capture, by: &str) -> Way {
    let (obstacles, statements, risks) = (Vec::new(), Vec::new(), Vec::new());
    Way { capture, by: Some(by.to_owned()), obstacles, statements, risks }
}

/// The columns of the key along which the table is read, as people write them.
fn key(selection: &Selection, table: &Table) -> Vec<String> {
    let part = |at: usize| {
        let attribute = table.attribute(selection.columns.get(at)?)?;
        let collation = match attribute.collation.as_str() {
            "" => String::new(),
            collation => format!(" collate {collation}"),
        };
        Some(format!("{} {}{collation}", attribute.column.name, attribute.column.type_name))
    };
    table.walk_key(selection).unwrap_or_default().into_iter().filter_map(part).collect()
}
