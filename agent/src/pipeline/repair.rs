//! A wish, left as a file, that a dataset be read anew because a proof found differences.
//!
//! The one who compares is another process than the one who reads, and the running agent listens
//! to nobody. So the wish is a file in the agent's own folder. Rows that are as they should be are
//! left alone by the warehouse; only those that differ change.

use std::path::{Path, PathBuf};
use std::time::Duration;

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::DatasetId;
use tokio_util::sync::CancellationToken;

/// How often the running agent looks for a wish.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

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

/// The wish is fulfilled: a new epoch was begun. One that cannot be removed is fulfilled again.
pub fn done(state_dir: &Path, dataset: &DatasetId) {
    let path = file(state_dir, dataset);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, "Cannot remove {}", path.display());
        }
        Ok(()) | Err(_) => {}
    }
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
