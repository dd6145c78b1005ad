//! Minutes of delivery ("biên bản giao nhận dữ liệu") of an agency and a period: counted from the
//! entries, each of them held against the published log; written as a signed page, CSV or XLSX.

pub mod page;

use std::io::BufRead;
use std::time::Duration;

use phusa_protocol::checkpoint::{Checkpoint, LogKey};
use phusa_protocol::deed::{Action, Deed, Taken};
use phusa_protocol::entry::LogLine;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::{AgencyId, DatasetId};
use phusa_protocol::minutes::{Figures, Minutes, Scope, Tally, Uncountable};
use phusa_protocol::time::Timestamp;

use super::audit::Leaves;
use super::evidence::Heads;
use super::export::{Filter, Pages};
use super::folder::Folder;
use super::sheet::{Cell, csv, xlsx};
use super::{Log, deed, system_time, to_i64};
use crate::error::database_fault;
use crate::warehouse::Warehouse;

/// How long to wait for entries of the period to be numbered and published.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(15);

/// After that long without enough witnesses, a checkpoint they have not signed will do.
const WITNESSED_WITHIN: Duration = Duration::from_secs(3);

/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// In which form minutes are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// The signed page, to be printed on A4.
    Html,
    /// Its figures, comma-separated.
    Csv,
    /// Its figures as a spreadsheet.
    Xlsx,
}

impl Form {
    fn name(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Csv => "csv",
            Self::Xlsx => "xlsx",
        }
    }
}

/// Which minutes are wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Whose deliveries.
    pub agency: AgencyId,
    /// Of which dataset alone.
    pub dataset: Option<DatasetId>,
    /// Committed at or after this.
    pub from: Timestamp,
    /// Committed before this.
    pub to: Timestamp,
    /// In which form.
    pub form: Form,
    /// Who asks.
    pub by: String,
}

/// What minutes are made from.
#[derive(Debug, Clone)]
pub struct Maker {
    /// Where the entries are.
    pub warehouse: Warehouse,
    /// The published log.
    pub folder: Folder,
    /// Signs, and takes the entry that minutes were made.
    pub log: Log,
}

/// Minutes as they were made.
#[derive(Debug)]
pub struct Made {
    /// The file.
    pub bytes: Vec<u8>,
    /// What is in it.
    pub minutes: Minutes,
}

impl Maker {
    /// Counts, writes the entry, and puts the file together. Titles of datasets are given by `title`.
    ///
    /// # Errors
    /// `hub_busy` when entries of the period wait to be published; `log_broken` when an entry is not
    /// the published one; `config_invalid` for a period that is none.
    pub async fn make(&self, wanted: &Wanted, titles: &page::Titles) -> Result<Made, Fault> {
        if wanted.from >= wanted.to {
            let what = format!("the period from {} to {} is none", wanted.from, wanted.to);
            return Err(Fault::new(Code::ConfigInvalid, what));
        }
        let checkpoint = self.checkpoint(wanted).await?;
        let scope = Scope {
            agency: wanted.agency.clone(),
            dataset: wanted.dataset.clone(),
            from: wanted.from,
            to: wanted.to,
            up_to: checkpoint.head.size,
        };
        let figures = count(&self.warehouse, &self.folder, scope).await?;
        let transfer = self.announce(wanted, &figures).await?;
        let minutes = Minutes {
            v: 1,
            figures,
            checkpoint: checkpoint.to_note(),
            log_key: LogKey::sign(*self.folder.log(), self.log.key()),
            made_by: wanted.by.clone(),
            made_at: Timestamp::now(),
            transfer,
            hub_version: crate::VERSION.to_owned(),
        };
        let bytes = match wanted.form {
            Form::Html => {
                let page = page::write(&minutes, &checkpoint, &self.log.public_key(), titles);
                minutes.seal(&page, self.log.key()).into_bytes()
            }
            Form::Csv => table(&minutes.figures).into_bytes(),
            Form::Xlsx => xlsx("bien_ban", &HEAD, &rows(&minutes.figures))?,
        };
        Ok(Made { bytes, minutes })
    }

    /// A checkpoint that holds every entry of the period, with enough witnesses if they have come.
    async fn checkpoint(&self, wanted: &Wanted) -> Result<Checkpoint, Fault> {
        let begun = tokio::time::Instant::now();
        loop {
            let heads = Heads::read(&self.warehouse, &self.folder).await?;
            let proven = heads.proven.filter(|head| head.head.size > 0);
            if let Some(head) = proven
                && self.beyond(wanted, head.head.size).await? == 0
            {
                return Ok(head);
            }
            let waiting = begun.elapsed();
            if let Some(head) = heads.published
                && waiting >= WITNESSED_WITHIN
                && self.beyond(wanted, head.head.size).await? == 0
            {
                return Ok(head);
            }
            if waiting >= PUBLISHED_WITHIN {
                let what = "entries of the period are not published yet: is the hub running?";
                return Err(Fault::new(Code::HubBusy, what));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Entries of the period that a log of this size does not hold.
    async fn beyond(&self, wanted: &Wanted, size: u64) -> Result<i64, Fault> {
        let sql = "select count(*) from phusa.transfers \
                   where (number is null or number > $1) and starts_with(agent, $2) \
                   and committed_at >= $3 and committed_at < $4";
        let agency = format!("{}/", wanted.agency);
        let (from, to) = (system_time(wanted.from), system_time(wanted.to));
        let client = self.warehouse.client().await?;
        let row = client.query_one(sql, &[&to_i64(size), &agency, &from, &to]).await;
        row.and_then(|row| row.try_get(0)).map_err(|error| not_counted(&error))
    }

    async fn announce(&self, wanted: &Wanted, figures: &Figures) -> Result<u64, Fault> {
        let taken = Taken {
            form: wanted.form.name().to_owned(),
            agency: Some(wanted.agency.clone()),
            dataset: wanted.dataset.clone(),
            from: Some(wanted.from),
            to: Some(wanted.to),
            up_to: figures.scope.up_to,
            entries: figures.entries,
            digest: Some(figures.fingerprint()),
        };
        let deed = Deed { taken: Some(taken), ..Deed::new(&wanted.by, Action::Minutes) };
        deed::write_alone(&self.warehouse, &self.log, deed).await
    }
}

/// Counts the entries of a scope in the database; each must be the one that was published.
///
/// # Errors
/// [`Code::LogBroken`] naming the entry that is not; or when the database does not answer.
pub async fn count(warehouse: &Warehouse, folder: &Folder, scope: Scope) -> Result<Figures, Fault> {
    let filter = Filter {
        dataset: scope.dataset.clone(),
        agency: Some(scope.agency.clone()),
        from: Some(scope.from),
        to: Some(scope.to),
        up_to: Some(scope.up_to),
    };
    let mut leaves = Leaves::open(folder)?;
    let (mut pages, mut tally) = (Pages::new(warehouse, &filter), Tally::new(scope));
    loop {
        let lines = pages.next().await?;
        if lines.is_empty() {
            return Ok(tally.figures());
        }
        for (_, line) in lines {
            leaves.check(line.number, &line.entry)?;
            tally.add(line.number, &line.entry).map_err(uncountable)?;
        }
    }
}

/// Counts the entries of a scope in an exported log.
///
/// # Errors
/// [`Code::LogBroken`] when a line is none; or when the file cannot be read.
pub fn count_file(file: impl BufRead, scope: Scope) -> Result<Figures, Fault> {
    let mut tally = Tally::new(scope);
    for (index, line) in file.lines().enumerate() {
        let text = line.map_err(|error| {
            Fault::because(Code::DiskFailed, format!("cannot read line {}", index + 1), error)
        })?;
        let line: LogLine = serde_json::from_str(&text).map_err(|error| {
            Fault::because(Code::LogBroken, format!("line {} is no log line", index + 1), error)
        })?;
        tally.add(line.number, &line.entry).map_err(uncountable)?;
    }
    Ok(tally.figures())
}

fn uncountable(error: Uncountable) -> Fault {
    Fault::because(Code::LogBroken, "cannot count the entries", error)
}

const HEAD: [&str; 18] = [
    "section",
    "dataset",
    "agent",
    "refused",
    "batches",
    "snapshot",
    "insert",
    "update",
    "delete",
    "rekey",
    "truncate",
    "bytes",
    "identical",
    "differing",
    "first_entry",
    "last_entry",
    "first_at",
    "last_at",
];

/// The figures as lines of CSV with a head.
#[must_use]
pub fn table(figures: &Figures) -> String {
    let rows = rows(figures);
    let lines = rows.iter().map(|row| csv(row));
    std::iter::once(HEAD.join(",")).chain(lines).map(|line| line + "\n").collect()
}

/// `delivered`, `refused`, `compared` and `total`, in the columns of [`HEAD`].
fn rows(figures: &Figures) -> Vec<Vec<Cell>> {
    let none = || Cell::text(None::<&str>);
    let mut rows = Vec::new();
    for line in &figures.delivered {
        let mut row = vec![
            Cell::text(Some("delivered")),
            Cell::text(Some(&line.dataset)),
            Cell::text(Some(&line.agent)),
            none(),
            Cell::Number(line.batches),
        ];
        row.extend(by_operation(&line.rows));
        row.extend([Cell::Number(line.bytes), none(), none()]);
        row.extend([Cell::Number(line.first), Cell::Number(line.last)]);
        row.extend([Cell::text(Some(line.first_at)), Cell::text(Some(line.last_at))]);
        rows.push(row);
    }
    for line in &figures.refused {
        let mut row = vec![none(); HEAD.len()];
        let told = [
            Cell::text(Some("refused")),
            Cell::text(line.dataset.as_ref()),
            none(),
            Cell::text(Some(&line.code)),
            Cell::Number(line.deliveries),
        ];
        row.splice(0..told.len(), told);
        rows.push(row);
    }
    for line in &figures.proven {
        let mut row = vec![Cell::text(Some("compared")), Cell::text(Some(&line.dataset))];
        row.extend([none(), none(), Cell::Number(line.comparisons)]);
        row.extend(vec![none(); 7]);
        row.extend([Cell::Number(line.identical), Cell::Number(line.differing)]);
        row.extend([none(), none(), none(), Cell::text(Some(line.last_at))]);
        rows.push(row);
    }
    let sum = figures.sum();
    let mut total = vec![Cell::text(Some("total")), none(), none(), none()];
    total.push(Cell::Number(sum.batches));
    total.extend(by_operation(&sum.rows));
    total.push(Cell::Number(sum.bytes));
    total.extend(vec![none(); 6]);
    rows.push(total);
    rows
}

fn by_operation(rows: &phusa_protocol::change::Counts) -> [Cell; 6] {
    [rows.snapshot, rows.insert, rows.update, rows.delete, rows.rekey, rows.truncate]
        .map(Cell::Number)
}

fn not_counted(error: &tokio_postgres::Error) -> Fault {
    database_fault("cannot look at the entries of the period", error)
}
