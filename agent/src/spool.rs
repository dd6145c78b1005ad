//! `Spool`: what has been read and has no receipt yet; takes only what mapping let through.
//!
//! Promises: a batch that [`Writer::append`] returned for is durable (written, synced, renamed,
//! folder synced) and readable only with the spool's key; batches of a stream are numbered without
//! gaps; a file is deleted only after its receipt was recorded, and the newest never, because it
//! carries the place to resume from; nothing unreadable is deleted, it goes to `quarantine/`; a full
//! spool or disk is a fault and never a loss.
//!
//! Layout below the state folder, and there is no index: the folder is the state.
//! ```text
//! spool.format                                           which form that is (crate::format)
//! spool/<dataset>/epoch-000000000001/000000000042.batch   one sealed record (spool::record)
//!                                    note                 a position after the newest batch
//! quarantine/<dataset>-…                                  damaged files
//! ```

pub mod record;
pub mod file;
pub mod recover;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::{DatasetId, Epoch, Seq};
use phusa_protocol::time::Timestamp;
use phusa_protocol::units::ByteSize;
use tokio::sync::Notify;

use self::record::SealKey;
use crate::disk::{Disk, disk_code};
use crate::format;
use crate::ledger::Ledger;

pub use self::file::{BatchIdentity, Packed, Stream, Tail, Writer};
pub use self::recover::{Recovered, Recovery};

/// The form of what lies in the spool; it grows with a change that programs before it cannot read.
const FORM: u32 = 1;

/// Where the spool lies and how large it may grow.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The agent's state folder.
    pub state_dir: PathBuf,
    /// What seals its files.
    pub key: SealKey,
    /// All spool files together.
    pub spool_bytes_max: ByteSize,
    /// Free space that is left to others on the disk.
    pub disk_reserve: ByteSize,
}

/// The spool of one agent; a handle that can be cloned.
#[derive(Debug, Clone)]
pub struct Spool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    disk: Arc<dyn Disk>,
    used_bytes: AtomicU64,
    room: Notify,
}

impl Spool {
    /// Opens the spool and counts what lies in it.
    ///
    /// # Errors
    /// `disk_failed` when its folders cannot be made or listed.
    pub fn open(settings: Settings, disk: Arc<dyn Disk>) -> Result<Self, Fault> {
        let (root, mut used_bytes) = (settings.state_dir.join("spool"), 0);
        let failed = |error| Fault::because(Code::DiskFailed, "cannot open the spool", error);
        // What a newer program left is refused before anything is touched: it is read again by that program.
        format::check(&*disk, &root, FORM)?;
        Ledger::check(&*disk, &settings.state_dir)?;
        disk.create_folder(&root).map_err(failed)?;
        for (dataset, _) in disk.list(&root).map_err(failed)? {
            for (epoch, _) in disk.list(&root.join(&dataset)).map_err(failed)? {
                let files = disk.list(&root.join(&dataset).join(&epoch)).map_err(failed)?;
                used_bytes += files.iter().map(|(_, size)| size).sum::<u64>();
            }
        }
        let (used_bytes, room) = (AtomicU64::new(used_bytes), Notify::new());
        Ok(Self { inner: Arc::new(Inner { settings, disk, used_bytes, room }) })
    }

    /// Bytes of all spool files.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.inner.used_bytes.load(Ordering::Relaxed)
    }

    /// The limit that `used_bytes` keeps to.
    #[must_use]
    pub fn bytes_max(&self) -> u64 {
        self.inner.settings.spool_bytes_max.0
    }

    /// Waits until something was deleted.
    pub async fn room_made(&self) {
        self.inner.room.notified().await;
    }

    /// Begins an epoch: its folder is there when this returns. Files of earlier epochs stay until
    /// [`Spool::retire_before`].
    ///
    /// # Errors
    /// `disk_failed` or `disk_full`.
    pub fn open_epoch(&self, dataset: &DatasetId, epoch: Epoch) -> Result<Stream, Fault> {
        let stream = self.stream(dataset, epoch);
        let (disk, above) = (&self.inner.disk, self.dataset_folder(dataset));
        let made = disk
            .create_folder(stream.folder())
            .and_then(|()| disk.sync_folder(&above))
            .and_then(|()| disk.sync_folder(&self.inner.settings.state_dir.join("spool")));
        let what = || format!("cannot open epoch {epoch} of {dataset} in the spool");
        made.map_err(|error| Fault::because(disk_code(&error), what(), error))?;
        let state_dir = &self.inner.settings.state_dir;
        format::mark(&**disk, &state_dir.join("spool"), FORM)?;
        Ledger::mark(&**disk, state_dir)?;
        crate::failpoint::Failpoint::AfterEpochOpened.pass();
        Ok(stream)
    }

    /// Deletes the files of epochs before `epoch`, and says how many bytes that gave back. Nobody sends
    /// them any more: its full read covers them, once it is at the hub, or makes them needless where
    /// it finds no room beside them.
    ///
    /// # Errors
    /// `disk_failed`.
    pub fn retire_before(&self, dataset: &DatasetId, epoch: Epoch) -> Result<u64, Fault> {
        let (disk, above) = (&self.inner.disk, self.dataset_folder(dataset));
        let failed =
            |error| Fault::because(Code::DiskFailed, format!("cannot tidy {dataset}"), error);
        let mut given_back = 0;
        for (name, _) in disk.list(&above).map_err(failed)? {
            if recover::epoch_of(&name).is_some_and(|older| older < epoch) {
                let files = disk.list(&above.join(&name)).map_err(failed)?;
                disk.remove_folder(&above.join(&name)).map_err(failed)?;
                let bytes = files.iter().map(|(_, size)| size).sum();
                self.give_back(bytes);
                given_back += bytes;
            }
        }
        Ok(given_back)
    }

    /// Whether `bytes` more may be written now.
    ///
    /// # Errors
    /// `spool_full` at the spool's own limit, `disk_full` at the disk's reserve.
    pub fn check_room(&self, bytes: u64) -> Result<(), Fault> {
        let (used, settings) = (self.used_bytes(), &self.inner.settings);
        if used.saturating_add(bytes) > settings.spool_bytes_max.0 {
            let what = format!("the spool holds {used} of {} bytes", settings.spool_bytes_max.0);
            return Err(Fault::new(Code::SpoolFull, what));
        }
        // A file system that cannot say how full it is will say so when it is written to.
        let free = self.inner.disk.free_bytes(&settings.state_dir).unwrap_or(u64::MAX);
        if free < settings.disk_reserve.0.saturating_add(bytes) {
            let what = format!("{free} bytes are free below {}", settings.state_dir.display());
            return Err(Fault::new(Code::DiskFull, what));
        }
        Ok(())
    }

    /// Bytes free on the disk of the state folder, where the system says.
    #[must_use]
    pub fn disk_free_bytes(&self) -> Option<u64> {
        self.inner.disk.free_bytes(&self.inner.settings.state_dir).ok()
    }

    /// When this batch was made durable, by the file's own time; `None` where there is none.
    #[must_use]
    pub fn durable_since(&self, dataset: &DatasetId, epoch: Epoch, seq: Seq) -> Option<Timestamp> {
        let stream = self.stream(dataset, epoch);
        let at = std::fs::metadata(stream.folder().join(file::batch_name(seq))).ok()?;
        let since = at.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(Timestamp::UNIX_EPOCH.after(since))
    }

    fn stream(&self, dataset: &DatasetId, epoch: Epoch) -> Stream {
        let folder = self.dataset_folder(dataset).join(recover::epoch_name(epoch));
        Stream::new(self.clone(), dataset.clone(), epoch, folder)
    }

    fn dataset_folder(&self, dataset: &DatasetId) -> PathBuf {
        self.inner.settings.state_dir.join("spool").join(dataset.to_string())
    }

    fn take(&self, bytes: u64) {
        self.inner.used_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn give_back(&self, bytes: u64) {
        let less = |used: u64| Some(used.saturating_sub(bytes));
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        let _ = self.inner.used_bytes.fetch_update(set, fetch, less);
        self.inner.room.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
