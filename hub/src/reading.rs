//! Rows shown to a person or written to a file: each is an entry before anything is given out (CT-39).
//!
//! The entry says who, what for, from which dataset and how many; what was asked for stands in it as a
//! salted commitment alone. Values go to the terminal or the file, and nowhere else.

use std::path::Path;

use bytes::Bytes;
use futures_util::{TryStreamExt as _, pin_mut};
use phusa_protocol::batch::{canonical_json, commitment};
use phusa_protocol::digest::Digest;
use phusa_protocol::entry::act::{Act, ReadAct, Seen};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::time::Timestamp;
use serde::Serialize;
use tokio::io::AsyncWriteExt as _;
use tokio_postgres::error::SqlState;

use crate::catalog::Agreed;
use crate::config::profile::Profile;
use crate::error::{database_fault, statement_fault};
use crate::transfers::Log;
use crate::transfers::acts::{Done, salt};
use crate::warehouse::Warehouse;
use crate::warehouse::history::{self, SHOWN_BEHIND, Which};

/// Versions of one record that are shown at most; an export shows all.
const VERSIONS_MAX: u32 = 10_000;

/// Who asks, and what for.
#[derive(Debug, Clone)]
pub struct Asker {
    /// The person.
    pub by: String,
    /// A code of the province's legal profile.
    pub purpose: String,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Found {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// Rows, or versions of a row, as texts.
    pub rows: Vec<Vec<Option<String>>>,
    /// The transfer of the entry.
    pub transfer: u64,
}

/// What was written.
#[derive(Debug, Clone, Serialize)]
pub struct Exported {
    /// Rows.
    pub rows: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// The transfer of the entry.
    pub transfer: u64,
}

/// What is asked for, as the commitment covers it.
#[derive(Serialize)]
struct Question<'a> {
    as_of: Option<Timestamp>,
    dataset: String,
    key: Option<&'a [String]>,
    seen: Seen,
}

impl Asker {
    /// Whether the purpose is one the profile knows and, where the contract names some, the contract
    /// too (HU-02, CT-43).
    ///
    /// # Errors
    /// `purpose_not_agreed`.
    pub fn check(&self, profile: &Profile, agreed: &Agreed) -> Result<(), Fault> {
        let purposes = &agreed.contract.purposes;
        let known = profile.unknown_purposes(std::slice::from_ref(&self.purpose)).is_empty();
        let agreed = purposes.is_empty() || purposes.contains(&self.purpose);
        if known && agreed && !self.by.trim().is_empty() {
            return Ok(());
        }
        let allowed: Vec<&str> = if purposes.is_empty() {
            profile.purposes.iter().map(|known| known.name.as_str()).collect()
        } else {
            purposes.iter().map(String::as_str).collect()
        };
        let what = format!("purpose `{}`; allowed are {}", self.purpose, allowed.join(", "));
        Err(Fault::new(Code::PurposeNotAgreed, what))
    }

    fn act(&self, which: Which, rows: u64, asked: Digest, content: Option<Digest>) -> ReadAct {
        let (seen, as_of) = seen(which);
        let (by, purpose) = (self.by.clone(), self.purpose.clone());
        ReadAct { by, purpose, seen, as_of, rows, asked, content }
    }
}

fn seen(which: Which) -> (Seen, Option<Timestamp>) {
    match which {
        Which::Current => (Seen::Current, None),
        Which::AsOf(moment) => (Seen::AsOf, Some(moment)),
        Which::History => (Seen::History, None),
    }
}

/// The commitment that stands in the entry for what was asked.
fn asked(
    salt: &[u8; phusa_protocol::batch::SALT_BYTES],
    agreed: &Agreed,
    key: Option<&[String]>,
    which: Which,
) -> Digest {
    let (seen, as_of) = seen(which);
    let dataset = agreed.contract.dataset.to_string();
    commitment(salt, &canonical_json(&Question { as_of, dataset, key, seen }))
}

/// One record by its key, as texts in key order.
///
/// # Errors
/// `key_unfit` for a key of another form; otherwise the database's. Nothing is given out without its
/// entry.
pub async fn record(
    (warehouse, log): (&Warehouse, &Log),
    agreed: &Agreed,
    key: &[String],
    (which, asker): (Which, &Asker),
) -> Result<Found, Fault> {
    let wanted = agreed.contract.key.len();
    if key.len() != wanted {
        let what = format!(
            "{} is known by {wanted} fields ({}), {} were given",
            agreed.contract.dataset,
            agreed.contract.key.join(", "),
            key.len()
        );
        return Err(Fault::new(Code::KeyUnfit, what));
    }
    let failed = |error: tokio_postgres::Error| match error.code().map(SqlState::code) {
        // The server's own words would show the value.
        Some(state) if state.starts_with("22") => {
            let what = format!("a key of {} that is not of its type", agreed.contract.dataset);
            Fault::new(Code::KeyUnfit, what)
        }
        Some(_) | None => database_fault("cannot read a record", &error),
    };
    let mut client = warehouse.client().await?;
    let tx = client.transaction().await.map_err(failed)?;
    let sql = history::record(&agreed.shape, which, VERSIONS_MAX);
    let parameters: Vec<_> =
        key.iter().map(|text| text as &(dyn postgres_types::ToSql + Sync)).collect();
    let found = tx.query(&sql, &parameters).await.map_err(failed)?;
    let salt = salt()?;
    let count = found.len() as u64;
    let act = asker.act(which, count, asked(&salt, agreed, Some(key), which), None);
    let done = Done::to(&agreed.contract.dataset, agreed.fingerprint, Act::Read(act));
    let transfer = log.done(&tx, Done { salt: Some(salt), ..done }).await?;
    tx.commit().await.map_err(failed)?;
    log.wake();
    let fields = agreed.contract.fields.iter().map(|field| field.name.clone());
    let columns: Vec<String> = fields.chain(SHOWN_BEHIND.map(str::to_owned)).collect();
    let text = |row: &tokio_postgres::Row| {
        (0..columns.len()).map(|index| row.try_get::<_, Option<String>>(index)).collect()
    };
    let rows: Result<_, tokio_postgres::Error> = found.iter().map(text).collect();
    Ok(Found { rows: rows.map_err(failed)?, columns, transfer })
}

/// Writes a dataset to a CSV file (UTF-8, a head line, RFC 4180). The file appears under its name once
/// its entry is committed.
///
/// # Errors
/// When the file is there already, or the disk or the database fails.
pub async fn export(
    (warehouse, log): (&Warehouse, &Log),
    agreed: &Agreed,
    to: &Path,
    (which, asker): (Which, &Asker),
) -> Result<Exported, Fault> {
    let failed = |error: std::io::Error| {
        Fault::because(Code::DiskFailed, format!("cannot write {}", to.display()), error)
    };
    if to.exists() {
        return Err(failed(std::io::Error::from(std::io::ErrorKind::AlreadyExists)));
    }
    let unfinished = to.with_extension("unfinished");
    let written = write(warehouse, agreed, &unfinished, which).await;
    let exported = match written {
        Ok((rows, bytes)) => {
            entry((warehouse, log), agreed, (&unfinished, rows, bytes), (which, asker)).await
        }
        Err(fault) => Err(fault),
    };
    match exported {
        Ok(exported) => {
            std::fs::rename(&unfinished, to).map_err(failed)?;
            Ok(exported)
        }
        Err(fault) => {
            // Rows without an entry are not left behind.
            let _ = std::fs::remove_file(&unfinished);
            Err(fault)
        }
    }
}

async fn entry(
    (warehouse, log): (&Warehouse, &Log),
    agreed: &Agreed,
    (file, rows, bytes): (&Path, u64, u64),
    (which, asker): (Which, &Asker),
) -> Result<Exported, Fault> {
    let file = file.to_path_buf();
    let digest = crate::transfers::publish::blocking(move || {
        let digest = crate::keeping::make::digest_of_file(&file);
        digest.map_err(|error| Fault::because(Code::DiskFailed, "cannot read the export", error))
    });
    let (_, digest) = digest.await?;
    let salt = salt()?;
    let content = commitment(&salt, digest.as_bytes());
    let act = asker.act(which, rows, asked(&salt, agreed, None, which), Some(content));
    let done = Done::to(&agreed.contract.dataset, agreed.fingerprint, Act::Export(act));
    let done = Done { bytes, salt: Some(salt), ..done };
    let transfer = log.done_alone(warehouse, done).await?;
    Ok(Exported { rows, bytes, transfer })
}

/// Writes the rows; returns how many, and the file's bytes.
async fn write(
    warehouse: &Warehouse,
    agreed: &Agreed,
    file: &Path,
    which: Which,
) -> Result<(u64, u64), Fault> {
    let not_written = |error: std::io::Error| {
        Fault::because(Code::DiskFailed, format!("cannot write {}", file.display()), error)
    };
    let not_read = |error: tokio_postgres::Error| statement_fault("cannot export rows", &error);
    let mut open = tokio::fs::OpenOptions::new();
    let mut out =
        open.write(true).create_new(true).mode(0o600).open(file).await.map_err(not_written)?;
    let client = warehouse.client().await?;
    let rows = history::rows(&agreed.shape, which);
    // Counted in the same snapshot as they are written.
    let begin = "begin isolation level repeatable read read only";
    client.batch_execute(begin).await.map_err(not_read)?;
    let count = client.query_one(&format!("select count(*) from ({rows}) as r"), &[]).await;
    let count: i64 = count.and_then(|row| row.try_get(0)).map_err(not_read)?;
    let sql = format!("copy ({rows} order by _record, _version) to stdout (format csv, header)");
    let slices = client.copy_out(&sql).await.map_err(not_read)?;
    pin_mut!(slices);
    let mut bytes = 0;
    while let Some(slice) = slices.try_next().await.map_err(not_read)? {
        let slice: Bytes = slice;
        bytes += slice.len() as u64;
        out.write_all(&slice).await.map_err(not_written)?;
    }
    client.batch_execute("commit").await.map_err(not_read)?;
    out.sync_all().await.map_err(not_written)?;
    Ok((count.unsigned_abs(), bytes))
}
