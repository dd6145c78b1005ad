//! A wish, left as a file, that a dataset, or some records of it, be read again because a proof found
//! differences.
//!
//! The one who compares is another process than the one who reads, and the running agent listens
//! to nobody. So the wish is a file in the agent's own folder. Rows that are as they should be are
//! left alone by the warehouse; only those that differ change.

use std::path::{Path, PathBuf};
use std::time::Duration;

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::{DatasetId, Epoch, Seq};
use tokio_util::sync::CancellationToken;

use crate::source::Resume;
use crate::spool::record::{Place, Record, SealKey};

/// The parts of one record's key, as the source has them, in the contract's order.
pub type Key = Vec<Vec<u8>>;

/// How often the running agent looks for a wish.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(2);

fn file(state_dir: &Path, dataset: &DatasetId) -> PathBuf {
    state_dir.join("repair").join(dataset.to_string())
}

/// Leaves the wish.
///
/// # Errors
/// `disk_failed`.
pub fn request(state_dir: &Path, dataset: &DatasetId) -> Result<(), Fault> {
    let path = file(state_dir, dataset);
    let made =
        std::fs::create_dir_all(state_dir.join("repair")).and_then(|()| std::fs::write(&path, b""));
    made.map_err(|error| {
        let what = format!("cannot leave the wish {}", path.display());
        Fault::because(Code::DiskFailed, what, error)
    })
}

/// Whether the wish is still there.
#[must_use]
pub fn is_requested(state_dir: &Path, dataset: &DatasetId) -> bool {
    file(state_dir, dataset).exists()
}

/// The wish is fulfilled: a new epoch was begun, which reads every record again. One that cannot be
/// removed is fulfilled again.
pub fn done(state_dir: &Path, dataset: &DatasetId) {
    remove(&file(state_dir, dataset));
    remove(&file_of_records(state_dir, dataset));
}

/// The wish for records is fulfilled.
pub fn records_done(state_dir: &Path, dataset: &DatasetId) {
    remove(&file_of_records(state_dir, dataset));
}

fn remove(path: &Path) {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, "Cannot remove {}", path.display());
        }
        Ok(()) | Err(_) => {}
    }
}

fn file_of_records(state_dir: &Path, dataset: &DatasetId) -> PathBuf {
    state_dir.join("repair").join(format!("{dataset}.records"))
}

/// What binds the seal to the dataset; no stream has this place.
fn place(dataset: &DatasetId) -> Place<'_> {
    Place { dataset, epoch: Epoch(0), seq: Seq::NONE, is_note: true }
}

/// Leaves the wish that the records with these keys be read again; the file is sealed, because it
/// holds their keys.
///
/// # Errors
/// `disk_failed`.
pub fn request_records(
    state_dir: &Path,
    dataset: &DatasetId,
    seal: &SealKey,
    keys: &[Key],
) -> Result<(), Fault> {
    let path = file_of_records(state_dir, dataset);
    let what = || format!("cannot leave the wish {}", path.display());
    let keys =
        serde_json::to_vec(keys).map_err(|error| Fault::because(Code::Bug, what(), error))?;
    let record = Record { resume: Resume(keys), frame: Vec::new() };
    let sealed = seal.seal(place(dataset), &record);
    let sealed = sealed.map_err(|error| Fault::because(Code::DiskFailed, what(), error))?;
    let whole = path.with_extension("new");
    let left = std::fs::create_dir_all(state_dir.join("repair"))
        .and_then(|()| std::fs::write(&whole, sealed))
        .and_then(|()| std::fs::rename(&whole, &path));
    left.map_err(|error| Fault::because(Code::DiskFailed, what(), error))
}

/// Whether the wish for records is still there.
#[must_use]
pub fn is_asked_for_records(state_dir: &Path, dataset: &DatasetId) -> bool {
    file_of_records(state_dir, dataset).exists()
}

/// The keys of the records that are to be read again. A wish that cannot be read is taken away: the
/// next proof finds again what differs.
///
/// # Errors
/// `disk_failed`.
pub fn records(state_dir: &Path, dataset: &DatasetId, seal: &SealKey) -> Result<Vec<Key>, Fault> {
    let path = file_of_records(state_dir, dataset);
    let sealed = std::fs::read(&path).map_err(|error| {
        Fault::because(Code::DiskFailed, format!("cannot read {}", path.display()), error)
    })?;
    let opened = seal.open(place(dataset), &sealed).ok();
    let keys = opened.and_then(|record| serde_json::from_slice(&record.resume.0).ok());
    if keys.is_none() {
        tracing::warn!(%dataset, "The wish {} cannot be read and is taken away", path.display());
        remove(&path);
    }
    Ok(keys.unwrap_or_default())
}

/// Waits for a wish; false when stopped before one came.
pub async fn wait(state_dir: &Path, dataset: &DatasetId, stop: &CancellationToken) -> bool {
    while !is_requested(state_dir, dataset) {
        tokio::select! {
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            () = stop.cancelled() => return false,
        }
    }
    true
}
