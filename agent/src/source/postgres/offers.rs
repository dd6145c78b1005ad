//! In which ways each table could be followed: each way is looked at as if it had been asked for.

use phusa_protocol::fault::Fault;

use super::Settings;
use super::catalogue::ident;
use super::login::Login;
use super::probe::{Look, Server};
use super::session::{Session, get};
use super::target::Target;
use crate::source::{Capture, Offer, Selection, Way};

/// Every way, best first.
const WAYS: [Capture; 4] =
    [Capture::Log, Capture::Functions, Capture::Watermark, Capture::Reconcile];

/// What server and login offer for these tables.
pub(super) async fn offers(
    settings: &Settings,
    selections: &[Selection],
) -> Result<Vec<Offer>, Fault> {
    let session = Session::open(settings).await?;
    let (server, login) = (Server::inspect(&session).await?, Login::inspect(&session).await?);
    let look = Look { session: &session, settings, server: &server, login: &login };
    let mut offers = Vec::new();
    for selection in selections {
        offers.push(look.offer_of(selection).await?);
    }
    Ok(offers)
}

impl Look<'_> {
    async fn offer_of(&self, selection: &Selection) -> Result<Offer, Fault> {
        let taken = self.inspect(selection).await?;
        let mut ways = Vec::new();
        for capture in WAYS {
            ways.push(self.way(selection, capture).await?);
        }
        let table = taken.table.as_ref();
        let key = match table.map(|table| Target::new(selection.clone(), table)) {
            Some(Ok(target)) => self.key(&target).await?,
            Some(Err(_)) | None => Vec::new(),
        };
        Ok(Offer {
            dataset: selection.dataset.clone(),
            table: format!("{}.{}", selection.schema, selection.table),
            kind: kind(table.map_or("", |table| &table.kind)).to_owned(),
            rows_estimated: table.map_or(0, |table| table.rows_estimated),
            key,
            chosen: taken.choice.capture,
            because: taken.choice.why,
            ways,
        })
    }

    /// The columns of the key along which the table is read, as people write them.
    async fn key(&self, target: &Target) -> Result<Vec<String>, Fault> {
        let sql = "select concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), \
                          'collate ' || nullif(c.collname, 'default'), \
                          case c.collname when 'default' then 'collate ' || d.datcollate end) \
                   from unnest($2::text[]) with ordinality w (name, n) \
                   join pg_attribute a on a.attrelid = $1 and a.attname = w.name \
                   left join pg_collation c on c.oid = a.attcollation \
                   cross join pg_database d where d.datname = current_database() order by w.n";
        let walk = target.walk.iter().filter_map(|&at| target.columns.get(at));
        let names: Vec<&str> = walk.map(|column| column.name.as_str()).collect();
        let rows = self.session.rows(&target.doing(), sql, &[&target.oid, &names]).await?;
        rows.iter().map(|row| get(row, 0)).collect()
    }

    async fn way(&self, selection: &Selection, capture: Capture) -> Result<Way, Fault> {
        let selection = Selection { capture, ..selection.clone() };
        let found = self.inspect(&selection).await?;
        let mut obstacles: Vec<String> = Vec::new();
        let mut statements = Vec::new();
        if matches!(capture, Capture::Log | Capture::Functions) {
            obstacles.extend(self.server.log_faults().into_iter().map(|fault| fault.what));
        }
        if capture == Capture::Log && !self.login.replication {
            obstacles.push("the login lacks REPLICATION".to_owned());
            statements.push(format!("alter role {} replication;", ident(&self.settings.user)));
        }
        obstacles.extend(found.faults.into_iter().map(|fault| fault.what));
        statements.extend(found.statements);
        Ok(Way { capture, by: None, obstacles, statements, risks: self.risks(capture) })
    }

    fn risks(&self, capture: Capture) -> Vec<String> {
        let (guard, standby) = (&self.settings.guard, self.server.standby);
        let slot_wal_max = self.settings.slot_wal_max;
        let slot = format!(
            "while the agent is away the server keeps its log, up to slot_wal_max = {slot_wal_max}"
        );
        let every = guard.reconcile_interval.as_secs();
        let mut risks: Vec<String> = match capture {
            Capture::Log => vec![
                slot,
                "REPLICATION lets the login read every database of the server; pg_hba.conf can \
                 bind it to this one"
                    .to_owned(),
            ],
            Capture::Functions => vec![
                slot,
                "each question decodes the log again from where the oldest open transaction began"
                    .to_owned(),
            ],
            Capture::Watermark => vec![
                format!("what was removed is noticed every {every} s, not at once"),
                format!(
                    "the whole table is scanned every {} s for rows that were written",
                    guard.watermark_interval.as_secs()
                ),
            ],
            Capture::Reconcile | Capture::Auto => vec![
                format!("changes are noticed every {every} s, and what came between is not seen"),
                "the whole table is read each time, along its key".to_owned(),
            ],
        };
        if standby {
            risks.push("a standby may end a long statement to go on replaying".to_owned());
        }
        risks
    }
}

fn kind(letter: &str) -> &'static str {
    match letter {
        "r" => "table",
        "p" => "partitioned table",
        "m" => "materialised view",
        "v" => "view",
        "f" => "foreign table",
        _ => "missing",
    }
}
