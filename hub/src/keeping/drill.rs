//! The restore drill: the newest backup is restored into a folder that goes away again, its log
//! verified, its rows counted, and the result is an entry (CB-19).

use std::path::{Path, PathBuf};

use phusa_protocol::entry::act::{Act, BackupAct, BackupStep};
use phusa_protocol::fault::{Code, Fault};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::Terms;
use super::make;
use super::manifest::Signed;
use super::place::Place;
use super::restore::{self, Checked, Source, Unpacked};
use crate::transfers::Log;
use crate::transfers::acts::Done;
use crate::transfers::publish::blocking;
use crate::transfers::verify::Verified;
use crate::warehouse::Warehouse;

/// The folder in the hub's state; what an earlier drill left there goes.
pub const FOLDER: &str = "drill";

/// How a drill went.
#[derive(Debug, Clone, Serialize)]
pub struct Drilled {
    /// The backup.
    pub name: String,
    /// Its log.
    pub log: Verified,
    /// Its rows.
    pub rows: u64,
    /// The transfer of the entry.
    pub transfer: u64,
}

/// Tries a backup out; the running hub is not touched. On `stop` it is broken off, its server ended, and
/// there is no entry.
///
/// # Errors
/// What stood in the way; where that was the backup, the entry says so.
pub async fn drill(
    terms: &Terms,
    name: Option<String>,
    (live, log, state_dir): (&Warehouse, &Log, &Path),
    by: Option<&str>,
    stop: &CancellationToken,
) -> Result<Drilled, Fault> {
    let backup = Place::new(&terms.to).find(name.as_deref())?;
    let signed = Signed::read(&backup.dir)?;
    let source =
        Source { place: terms.to.clone(), name: Some(backup.name.clone()), key: terms.key.clone() };
    let folder = std::path::absolute(state_dir.join(FOLDER)).map_err(|e| not_cleared(&e))?;
    let (bytes, free) = (make::cluster_bytes(live).await?, live.disk_free_bytes().await);
    make::check_room(terms, bytes, state_dir, free)?;
    let tried = tried(&source, &folder, live, stop).await;
    let cleared = clear(folder).await;
    if stop.is_cancelled() {
        return Err(broken_off());
    }
    let act = match &tried {
        Ok(checked) => restore::act(&signed, BackupStep::Drilled, checked, by),
        Err(fault) => BackupAct {
            step: BackupStep::Drilled,
            name: backup.name.clone(),
            made_at: signed.manifest.made_at,
            manifest: signed.digest(),
            bytes: signed.manifest.bytes(),
            entries: 0,
            rows: None,
            failed: Some(fault.code),
            by: by.map(str::to_owned),
        },
    };
    let transfer = log.done_alone(live, Done::whole(Act::Backup(act))).await?;
    let checked = tried?;
    cleared?;
    Ok(Drilled { name: backup.name, log: checked.log, rows: checked.rows, transfer })
}

async fn tried(
    source: &Source,
    folder: &Path,
    live: &Warehouse,
    stop: &CancellationToken,
) -> Result<Checked, Fault> {
    clear(folder.to_path_buf()).await?;
    let (from, to) = (source.clone(), folder.to_path_buf());
    let unpacked = blocking(move || restore::unpack_into(&from, &to)).await?;
    let warehouse = Warehouse::open(&unpacked.plan.warehouse).await?;
    let checked = stop.run_until_cancelled(on(&warehouse, &unpacked, live)).await;
    warehouse.close().await;
    checked.unwrap_or_else(|| Err(broken_off()))
}

fn broken_off() -> Fault {
    Fault::new(Code::HubBusy, "the restore drill was broken off: the hub stops")
}

async fn on(
    warehouse: &Warehouse,
    unpacked: &Unpacked,
    live: &Warehouse,
) -> Result<Checked, Fault> {
    warehouse.migrate().await?;
    let checked = restore::check(warehouse, &unpacked.plan, None).await?;
    let manifest = &unpacked.signed.manifest;
    if checked.log.summary.entries < manifest.entries {
        let what = format!(
            "{} has {} entries of the log, its manifest says {}",
            manifest.name, checked.log.summary.entries, manifest.entries
        );
        return Err(Fault::new(Code::BackupBroken, what));
    }
    // The log in the backup is a beginning of the one in force, up to where a restore went on.
    for number in [manifest.entries, checked.log.summary.entries] {
        let here = restore::link_of(warehouse, number).await?;
        let there = restore::link_of(live, number).await?;
        if there.is_some() && here != there {
            let what =
                format!("entry {number} of {} is not that of the log in force", manifest.name);
            return Err(Fault::new(Code::BackupBroken, what));
        }
    }
    Ok(checked)
}

async fn clear(folder: PathBuf) -> Result<(), Fault> {
    blocking(move || match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(not_cleared(&error)),
        Ok(()) | Err(_) => Ok(()),
    })
    .await
}

fn not_cleared(error: &std::io::Error) -> Fault {
    Fault::because(Code::DiskFailed, "cannot clear the drill's folder", error.to_string())
}
