//! The log for inspectors: by agency, dataset and period, as JSON lines, CSV or XLSX.
//!
//! JSON lines without a filter are the whole log in the form `log verify --file` reads; CSV and XLSX
//! are for a spreadsheet and hold names, counts and times, never row values. What is taken is an
//! entry itself, committed before the first line is written.

use std::io::Write;

use phusa_protocol::batch::Header;
use phusa_protocol::deed::{Action, Deed, Taken};
use phusa_protocol::entry::{Entry, LogLine};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::{AgencyId, DatasetId};
use phusa_protocol::keys::Signature;
use phusa_protocol::time::Timestamp;

use super::sheet::{Cell, csv, xlsx};
use super::{Log, deed, digest_of, kind_name, system_time, to_i64};
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
    /// Only up to this entry.
    pub up_to: Option<u64>,
}

/// The form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// Comma-separated, with a head line.
    Csv,
    /// The same as a spreadsheet.
    Xlsx,
}

impl Format {
    /// Its name in entries.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Xlsx => "xlsx",
        }
    }
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
        let up_to = self.filter.up_to.map_or(i64::MAX, to_i64);
        let sql = "select transfer, number, link, entry, hub_signature from phusa.transfers \
                   where number > $1 and ($2::text is null or dataset = $2) \
                   and ($3::text is null or starts_with(agent, $3)) \
                   and ($4::timestamptz is null or committed_at >= $4) \
                   and ($5::timestamptz is null or committed_at < $5) \
                   and number <= $7 order by number limit $6";
        let rows = client
            .query(sql, &[&self.after, &dataset, &agency, &from, &to, &PAGE_LINES, &up_to])
            .await
            .map_err(|error| not_read(&error))?;
        let lines = rows.iter().map(read_line).collect::<Result<Vec<_>, _>>()?;
        if let Some((_, line)) = lines.last() {
            self.after = to_i64(line.number);
        }
        Ok(lines)
    }
}

/// Writes the entries that pass the filter, and before them an entry that says so; returns how many.
///
/// # Errors
/// When the database or the output fails, or a sheet cannot hold them.
pub async fn export(
    (warehouse, log): (&Warehouse, &Log),
    filter: &Filter,
    format: Format,
    by: &str,
    out: &mut impl Write,
) -> Result<u64, Fault> {
    let filter = &announce((warehouse, log), filter, format, by).await?;
    let not_written = |error| Fault::because(Code::DiskFailed, "cannot write the export", error);
    if format == Format::Csv {
        writeln!(out, "{}", HEAD.join(",")).map_err(not_written)?;
    }
    let (mut pages, mut count, mut rows) = (Pages::new(warehouse, filter), 0, Vec::new());
    loop {
        let lines = pages.next().await?;
        if lines.is_empty() {
            break;
        }
        for (_, line) in lines {
            count += 1;
            let unreadable = || Fault::new(Code::LogBroken, format!("entry {}", line.number));
            let text = match format {
                Format::Json => serde_json::to_string(&line).ok().ok_or_else(unreadable)?,
                Format::Csv => csv(&cells(&line).ok_or_else(unreadable)?),
                Format::Xlsx => {
                    rows.push(cells(&line).ok_or_else(unreadable)?);
                    continue;
                }
            };
            writeln!(out, "{text}").map_err(not_written)?;
        }
    }
    if format == Format::Xlsx {
        out.write_all(&xlsx("nhat_ky", &HEAD, &rows)?).map_err(not_written)?;
    }
    out.flush().map_err(not_written)?;
    Ok(count)
}

/// The entry of the export, and the filter bounded by what the log holds at this moment.
async fn announce(
    (warehouse, log): (&Warehouse, &Log),
    filter: &Filter,
    format: Format,
    by: &str,
) -> Result<Filter, Fault> {
    let client = warehouse.client().await?;
    let sql = "select coalesce(max(number), 0) from phusa.transfers";
    let row = client.query_one(sql, &[]).await.map_err(|error| not_read(&error))?;
    let last: i64 = row.try_get(0).map_err(|error| not_read(&error))?;
    let up_to = filter.up_to.map_or(last.unsigned_abs(), |wanted| wanted.min(last.unsigned_abs()));
    let filter = Filter { up_to: Some(up_to), ..filter.clone() };
    let taken = Taken {
        form: format.name().to_owned(),
        agency: filter.agency.clone(),
        dataset: filter.dataset.clone(),
        from: filter.from,
        to: filter.to,
        up_to,
        entries: count(&client, &filter).await?,
        digest: None,
    };
    drop(client);
    let deed = Deed { taken: Some(taken), ..Deed::new(by, Action::LogExport) };
    deed::write_alone(warehouse, log, deed).await?;
    Ok(filter)
}

async fn count(client: &deadpool_postgres::Object, filter: &Filter) -> Result<u64, Fault> {
    let dataset = filter.dataset.as_ref().map(ToString::to_string);
    let agency = filter.agency.as_ref().map(|agency| format!("{agency}/"));
    let (from, to) = (filter.from.map(system_time), filter.to.map(system_time));
    let up_to = filter.up_to.map_or(i64::MAX, to_i64);
    let sql = "select count(*) from phusa.transfers \
               where number <= $1 and ($2::text is null or dataset = $2) \
               and ($3::text is null or starts_with(agent, $3)) \
               and ($4::timestamptz is null or committed_at >= $4) \
               and ($5::timestamptz is null or committed_at < $5)";
    let row = client.query_one(sql, &[&up_to, &dataset, &agency, &from, &to]).await;
    let count: i64 = row.and_then(|row| row.try_get(0)).map_err(|error| not_read(&error))?;
    Ok(count.unsigned_abs())
}

const HEAD: [&str; 20] = [
    "number",
    "transfer",
    "kind",
    "agent",
    "dataset",
    "epoch",
    "batch",
    "phase",
    "snapshot",
    "insert",
    "update",
    "delete",
    "rekey",
    "truncate",
    "bytes",
    "refused",
    "by",
    "action",
    "received_at",
    "committed_at",
];

fn cells(line: &LogLine) -> Option<Vec<Cell>> {
    let entry: Entry = serde_json::from_str(&line.entry).ok()?;
    let header: Option<Header> = match &entry.header {
        Some(text) => Some(serde_json::from_str(text).ok()?),
        None => None,
    };
    let deed = entry.deed.as_ref();
    let refused = entry.refused.map(Code::name);
    let refused = refused.or_else(|| deed?.denied.map(phusa_protocol::deed::Denied::name));
    let mut cells = vec![
        Cell::Number(line.number),
        Cell::Number(entry.transfer),
        Cell::text(Some(kind_name(entry.kind))),
        Cell::text(entry.agent),
        Cell::text(entry.dataset),
    ];
    cells.extend(stream(header.as_ref()));
    cells.extend([
        Cell::Number(entry.bytes),
        Cell::text(refused),
        Cell::text(deed.map(|deed| &deed.by)),
        Cell::text(deed.map(|deed| deed.action.name())),
        Cell::text(Some(entry.received_at)),
        Cell::text(Some(entry.committed_at)),
    ]);
    Some(cells)
}

fn stream(header: Option<&Header>) -> Vec<Cell> {
    let Some(header) = header else { return vec![Cell::text(None::<&str>); 9] };
    let counts = &header.counts;
    let phase = serde_json::to_value(header.phase).unwrap_or_default();
    let mut cells =
        vec![Cell::Number(header.epoch.0), Cell::Number(header.seq.0), Cell::text(phase.as_str())];
    let counted = [
        counts.snapshot,
        counts.insert,
        counts.update,
        counts.delete,
        counts.rekey,
        counts.truncate,
    ];
    cells.extend(counted.map(Cell::Number));
    cells
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
