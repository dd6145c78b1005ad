//! In which ways each table could be followed: each way is looked at as if it had been asked for.

use phusa_protocol::fault::Fault;

use super::Settings;
use super::catalogue::Table;
use super::probe::Look;
use super::session::Session;
use crate::source::{Capture, Column, Offer, Selection, Way};

/// Every way, best first.
const WAYS: [Capture; 3] = [Capture::Log, Capture::Watermark, Capture::Reconcile];

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
        let is_named = |way: &Capture| *way != Capture::Watermark || selection.watermark.is_some();
        for capture in WAYS.into_iter().filter(is_named) {
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
        Ok(Way { capture, by: None, obstacles, statements, risks: self.risks(capture) })
    }

    fn risks(&self, capture: Capture) -> Vec<String> {
        if capture == Capture::Log {
            return vec![
                "REPLICATION SLAVE lets the login read the log of every database of the server"
                    .to_owned(),
                self.server.kept(),
            ];
        }
        let guard = &self.settings.guard;
        let every = guard.reconcile_interval.as_secs();
        if capture == Capture::Watermark {
            let look = guard.watermark_interval.as_secs_f64();
            return vec![
                format!("writes are noticed every {look} s, deletes every {every} s"),
                "a program that writes a row without setting the column is noticed as a delete is"
                    .to_owned(),
            ];
        }
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
