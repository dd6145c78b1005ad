//! In which ways each table could be followed: each way is looked at as if it had been asked for.

use phusa_protocol::fault::Fault;

use super::Settings;
use super::catalogue::Table;
use super::probe::Look;
use super::session::Session;
use crate::source::{Capture, Column, Offer, Selection, Way};

/// Every way, best first.
const WAYS: [Capture; 2] = [Capture::Log, Capture::Reconcile];

/// What server and login offer for these tables.
pub(super) async fn offers(
    settings: &Settings,
    selections: &[Selection],
) -> Result<Vec<Offer>, Fault> {
    let mut session = Session::open(settings).await?;
    let mut look = Look::begin(&mut session, settings).await?;
    let mut offers = Vec::new();
    for selection in selections {
        offers.push(look.offer_of(selection).await?);
    }
    session.close().await;
    Ok(offers)
}

impl Look<'_> {
    async fn offer_of(&mut self, selection: &Selection) -> Result<Offer, Fault> {
        let taken = self.inspect(selection).await?;
        let mut ways = Vec::new();
        for capture in WAYS {
            ways.push(self.way(selection, capture).await?);
        }
        let table = taken.table.as_ref();
        let kind = table.map_or("missing", |table| &table.kind).to_lowercase();
        Ok(Offer {
            dataset: selection.dataset.clone(),
            table: format!("{}.{}", selection.schema, selection.table),
            kind: kind.replace("base table", "table"),
            rows_estimated: table.map_or(0, |table| table.rows_estimated),
            key: table.map(|table| key(selection, table)).unwrap_or_default(),
            chosen: taken.choice.capture,
            because: taken.choice.why,
            ways,
        })
    }

    async fn way(&mut self, selection: &Selection, capture: Capture) -> Result<Way, Fault> {
        let selection = Selection { capture, ..selection.clone() };
        let found = self.inspect(&selection).await?;
        let (mut faults, mut statements) = (Vec::new(), Vec::new());
        faults.extend(self.server.version_fault());
        faults.extend(self.login.refusal(self.settings.login_may_write_because.as_deref()));
        if capture == Capture::Log {
            for (fault, cure) in self.server.log_faults() {
                faults.push(fault);
                statements.extend(cure);
            }
            if let Some((fault, cure)) = self.login.log_fault(&self.server) {
                faults.push(fault);
                statements.push(cure);
            }
        }
        faults.extend(found.faults);
        statements.extend(found.statements);
        let obstacles = faults.into_iter().map(|fault| fault.what).collect();
        Ok(Way { capture, obstacles, statements, risks: self.risks(capture) })
    }

    fn risks(&self, capture: Capture) -> Vec<String> {
        if capture == Capture::Log {
            return vec![
                "REPLICATION SLAVE lets the login read the log of every database of the server"
                    .to_owned(),
                self.server.kept(),
            ];
        }
        let every = self.settings.guard.reconcile_interval.as_secs();
        vec![
            format!("changes are noticed every {every} s, and what came between is not seen"),
            "the whole table is read each time, along its key".to_owned(),
        ]
    }
}

/// The columns of the key along which the table is read, as people write them.
fn key(selection: &Selection, table: &Table) -> Vec<String> {
    let part = |at: usize| {
        let attribute = table.column(selection.columns.get(at)?)?;
        let collation = attribute.collation.as_ref().map(|name| format!(" collate {name}"));
        let Column { name, type_name, .. } = &attribute.column;
        Some(format!("{name} {type_name}{}", collation.unwrap_or_default()))
    };
    table.walk_key(selection).unwrap_or_default().into_iter().filter_map(part).collect()
}
