//! The log for inspectors: by agency, dataset and period, as JSON lines or CSV.
//!
//! JSON lines without a filter are the whole log in the form `log verify --file` reads; CSV is for
//! a spreadsheet and holds names, counts and times, never row values.

use std::io::Write;

use phusa_protocol::batch::Header;
use phusa_protocol::entry::{Entry, LogLine};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::{AgencyId, DatasetId};
use phusa_protocol::keys::Signature;
use phusa_protocol::time::Timestamp;

use super::{digest_of, kind_name, system_time};
use crate::error::database_fault;
use crate::warehouse::Warehouse;

/// Which entries are wanted; nothing set = all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only this dataset.
    pub dataset: Option<DatasetId>,
    /// Only agents of this agency.
    pub agency: Option<AgencyId>,
    /// Only committed at or after this moment.
    pub from: Option<Timestamp>,
    /// Only committed before this moment.
    pub to: Option<Timestamp>,
}

/// The form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// Comma-separated, with a head line.
    Csv,
}

/// Lines read from the database at once.
const PAGE_LINES: i64 = 1_000;

/// Reads the numbered log page by page; memory holds one page.
#[derive(Debug)]
pub struct Pages<'a> {
    warehouse: &'a Warehouse,
    filter: &'a Filter,
    after: i64,
}

impl<'a> Pages<'a> {
    /// Begins at entry 1.
    #[must_use]
    pub fn new(warehouse: &'a Warehouse, filter: &'a Filter) -> Self {
        Self { warehouse, filter, after: 0 }
    }

    /// The next lines with the identifier each is stored under; empty at the end.
    ///
    /// # Errors
    /// When the database does not answer or a line is not one.
    pub async fn next(&mut self) -> Result<Vec<(i64, LogLine)>, Fault> {
        let client = self.warehouse.client().await?;
        let dataset = self.filter.dataset.as_ref().map(ToString::to_string);
        let agency = self.filter.agency.as_ref().map(|agency| format!("{agency}/"));
        let (from, to) = (self.filter.from.map(system_time), self.filter.to.map(system_time));
        let sql = "select transfer, number, link, entry, hub_signature from phusa.transfers \
                   where number > $1 and ($2::text is null or dataset = $2) \
                   and ($3::text is null or starts_with(agent, $3)) \
                   and ($4::timestamptz is null or committed_at >= $4) \
                   and ($5::timestamptz is null or committed_at < $5) \
                   order by number limit $6";
        let rows = client
            .query(sql, &[&self.after, &dataset, &agency, &from, &to, &PAGE_LINES])
            .await
            .map_err(|error| not_read(&error))?;
        let lines = rows.iter().map(read_line).collect::<Result<Vec<_>, _>>()?;
        if let Some((_, line)) = lines.last() {
            self.after = super::to_i64(line.number);
        }
        Ok(lines)
    }
}

/// Writes the entries that pass the filter; returns how many.
///
/// # Errors
/// When the database or the output fails.
pub async fn export(
    warehouse: &Warehouse,
    filter: &Filter,
    format: Format,
    out: &mut impl Write,
) -> Result<u64, Fault> {
    let not_written = |error| Fault::because(Code::DiskFailed, "cannot write the export", error);
    if format == Format::Csv {
        writeln!(out, "{CSV_HEAD}").map_err(not_written)?;
    }
    let (mut pages, mut count) = (Pages::new(warehouse, filter), 0);
    loop {
        let lines = pages.next().await?;
        if lines.is_empty() {
            break;
        }
        for (_, line) in lines {
            count += 1;
            let text = match format {
                Format::Json => serde_json::to_string(&line).ok(),
                Format::Csv => csv_line(&line),
            };
            let unreadable = || Fault::new(Code::LogBroken, format!("entry {}", line.number));
            writeln!(out, "{}", text.ok_or_else(unreadable)?).map_err(not_written)?;
        }
    }
    out.flush().map_err(not_written)?;
    Ok(count)
}

const CSV_HEAD: &str = "number,transfer,kind,agent,dataset,epoch,batch,phase,snapshot,insert,\
                        update,delete,rekey,truncate,bytes,refused,received_at,committed_at";

/// Every value is a name, a number or a moment of this program's own making, so none needs quotes.
fn csv_line(line: &LogLine) -> Option<String> {
    let entry: Entry = serde_json::from_str(&line.entry).ok()?;
    let header: Option<Header> = match &entry.header {
        Some(text) => Some(serde_json::from_str(text).ok()?),
        None => None,
    };
    let name = |name: Option<String>| name.unwrap_or_default();
    let stream = header.as_ref().map_or_else(
        || ",,,,,,,,".to_owned(),
        |h| {
            let c = &h.counts;
            let phase = serde_json::to_value(h.phase).unwrap_or_default();
            let phase = phase.as_str().unwrap_or_default().to_owned();
            format!(
                "{},{},{phase},{},{},{},{},{},{}",
                h.epoch, h.seq, c.snapshot, c.insert, c.update, c.delete, c.rekey, c.truncate
            )
        },
    );
    Some(format!(
        "{},{},{},{},{},{stream},{},{},{},{}",
        line.number,
        entry.transfer,
        kind_name(entry.kind),
        name(entry.agent.map(String::from)),
        name(entry.dataset.map(String::from)),
        entry.bytes,
        entry.refused.map(Code::name).unwrap_or_default(),
        entry.received_at,
        entry.committed_at,
    ))
}

fn read_line(row: &tokio_postgres::Row) -> Result<(i64, LogLine), Fault> {
    let transfer: i64 = row.try_get(0).map_err(|error| not_read(&error))?;
    let number: i64 = row.try_get(1).map_err(|error| not_read(&error))?;
    let broken = |what: &str| Fault::new(Code::LogBroken, format!("entry {number}: {what}"));
    let link: Option<Vec<u8>> = row.try_get(2).map_err(|error| not_read(&error))?;
    let link =
        link.as_deref().and_then(digest_of).ok_or_else(|| broken("its link is no digest"))?;
    let signature: String = row.try_get(4).map_err(|error| not_read(&error))?;
    let hub_signature =
        Signature::try_from(signature).map_err(|_| broken("its signature is none"))?;
    let entry: String = row.try_get(3).map_err(|error| not_read(&error))?;
    Ok((transfer, LogLine { number: number.unsigned_abs(), link, entry, hub_signature }))
}

fn not_read(error: &tokio_postgres::Error) -> Fault {
    database_fault("cannot read the transfer log", error)
}
