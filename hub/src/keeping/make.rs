//! Makes one backup: a sealed copy of the running cluster, the hub's files sealed, a signed manifest.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use phusa_protocol::digest::Digest;
use phusa_protocol::entry::act::{Act, BackupAct, BackupStep};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::keys::SigningKey;
use phusa_protocol::time::Timestamp;
use sha2::Digest as _;

use super::Terms;
use super::files::{HubFiles, Sources};
use super::manifest::{FILE, Manifest, Part, Signed};
use super::place::Place;
use super::seal::Sealing;
use crate::error::database_fault;
use crate::transfers::Log;
use crate::transfers::acts::Done;
use crate::transfers::folder::Folder;
use crate::transfers::publish::blocking;
use crate::warehouse::{Copying, Warehouse};

/// The sealed copy of the cluster: a tar file, packed with zstd.
pub const CLUSTER: &str = "cluster.tar.zst.sealed";

/// The hub's files, sealed.
pub const FILES: &str = "hub-files.json.sealed";

/// How often free space is looked at while the copy is written.
const LOOK_BYTES: u64 = 64 << 20;

/// What a backup is made of.
#[derive(Debug)]
pub struct Hub<'a> {
    /// The warehouse.
    pub warehouse: &'a Warehouse,
    /// Where the entry goes, with the key that signs the manifest.
    pub log: &'a Log,
    /// The published log.
    pub folder: Option<&'a Folder>,
    /// The hub's own files.
    pub sources: &'a Sources,
}

/// What was made.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Made {
    /// Its name.
    pub name: String,
    /// Bytes of its files.
    pub bytes: u64,
    /// Entries of the log that it holds at least.
    pub entries: u64,
    /// The transfer of its entry.
    pub transfer: u64,
    /// Backups that were removed because enough newer ones are there.
    pub removed: Vec<String>,
}

/// Makes a backup, writes its entry, and removes what is older than those kept.
///
/// # Errors
/// When the place is not there, has too little room, or another backup is being written; nothing of a
/// backup that failed stays.
pub async fn make(terms: &Terms, hub: &Hub<'_>, by: Option<&str>) -> Result<Made, Fault> {
    let place = Place::new(&terms.to);
    let locking = place.clone();
    let _writing = blocking(move || locking.lock()).await?;
    check_room(terms, cluster_bytes(hub.warehouse).await?, place.dir(), place.free_bytes())?;
    let made_at = Timestamp::now();
    let name = Place::name(made_at);
    let (entries, link) = end_of_log(hub.warehouse).await?;
    let checkpoint = hub.folder.map(Folder::checkpoint).transpose()?.flatten();
    let copying = hub.warehouse.copy_out().await?;
    let manifest = Manifest {
        v: 1,
        name: name.clone(),
        made_at,
        hub_version: crate::VERSION.to_owned(),
        postgresql: copying.version(),
        hub: hub.log.public_key(),
        entries,
        link,
        checkpoint: checkpoint.map(|checkpoint| checkpoint.to_note()),
        files: Vec::new(),
    };
    let (terms_of, sources, key) = (terms.clone(), hub.sources.clone(), hub.log.key().clone());
    let written = blocking(move || {
        let place = Place::new(&terms_of.to);
        let unfinished = place.begin(&manifest.name)?;
        let done = write(&terms_of, &unfinished, copying, (manifest, &sources, &key))
            .and_then(|name| Signed::read(&place.finish(&unfinished, &name)?));
        if done.is_err() {
            // Whatever stays is removed by the next backup.
            let _ = std::fs::remove_dir_all(&unfinished);
        }
        done
    });
    let signed = written.await?;
    let act = BackupAct {
        step: BackupStep::Made,
        name: name.clone(),
        made_at,
        manifest: signed.digest(),
        bytes: signed.manifest.bytes(),
        entries,
        rows: None,
        failed: None,
        by: by.map(str::to_owned),
    };
    let transfer = hub.log.done_alone(hub.warehouse, Done::whole(Act::Backup(act))).await?;
    let keep = terms.keep;
    let removed = blocking(move || place.prune(keep)).await?;
    Ok(Made { name, bytes: signed.manifest.bytes(), entries, transfer, removed })
}

/// Bytes of the cluster as it lies on disk, the most that its copy can take.
///
/// # Errors
/// When the database does not answer.
pub async fn cluster_bytes(warehouse: &Warehouse) -> Result<u64, Fault> {
    let client = warehouse.client().await?;
    let sql = "select sum(pg_database_size(oid))::bigint from pg_database";
    let row = client.query_one(sql, &[]).await;
    let bytes: i64 = row.and_then(|row| row.try_get(0)).map_err(|error| not_read(&error))?;
    Ok(bytes.unsigned_abs())
}

/// Whether so much may be written where so much is free.
///
/// # Errors
/// `disk_full` with the figures.
pub fn check_room(terms: &Terms, bytes: u64, at: &Path, free: Option<u64>) -> Result<(), Fault> {
    match free {
        Some(free) if free < bytes.saturating_add(terms.reserve.0) => {
            let what = format!(
                "a backup may take {} MiB and {} must stay free; {} has {} MiB",
                bytes >> 20,
                terms.reserve,
                at.display(),
                free >> 20
            );
            Err(Fault::new(Code::DiskFull, what))
        }
        Some(_) | None => Ok(()),
    }
}

/// The last number and link; a copy begun after this holds them.
async fn end_of_log(warehouse: &Warehouse) -> Result<(u64, Digest), Fault> {
    let mut client = warehouse.client().await?;
    let tx = client.transaction().await.map_err(|error| not_read(&error))?;
    let (number, link) = crate::transfers::sequence::end_of_chain(&tx).await?;
    Ok((number.unsigned_abs(), link))
}

/// Writes every file of a backup, durable; returns its name.
fn write(
    terms: &Terms,
    dir: &Path,
    copying: Copying,
    (mut manifest, sources, key): (Manifest, &Sources, &SigningKey),
) -> Result<String, Fault> {
    let cluster = copying.run(|copy| {
        put(terms, dir, CLUSTER, |to| {
            let mut packed = zstd::stream::write::Encoder::new(to, 1)?;
            io::copy(copy, &mut packed)?;
            packed.finish()
        })
    })?;
    let files = HubFiles::read(sources)?;
    let files = put(terms, dir, FILES, |mut to| {
        serde_json::to_writer(&mut to, &files).map_err(io::Error::other)?;
        Ok(to)
    })?;
    manifest.files = vec![cluster, files];
    super::files::write_private(&dir.join(FILE), manifest.seal(key).as_bytes(), 0o600)?;
    Ok(manifest.name)
}

/// Writes one sealed file.
fn put(
    terms: &Terms,
    dir: &Path,
    name: &str,
    fill: impl FnOnce(Sealing<Counting>) -> io::Result<Sealing<Counting>>,
) -> Result<Part, Fault> {
    let path = dir.join(name);
    let write = || -> io::Result<Part> {
        let to = Counting::create(&path, Place::new(&terms.to), terms.reserve.0)?;
        let sealed = fill(Sealing::new(&terms.key, name, to)?)?;
        let counted = sealed.finish()?;
        counted.file.sync_all()?;
        let sha256 = Digest::from_bytes(counted.hash.finalize().into());
        Ok(Part { name: name.to_owned(), bytes: counted.bytes, sha256 })
    };
    write().map_err(|error| {
        let full = error.kind() == io::ErrorKind::StorageFull;
        let code = if full { Code::DiskFull } else { Code::DiskFailed };
        Fault::because(code, format!("cannot write {}", path.display()), error)
    })
}

/// A file that counts and hashes what goes into it, and stops before the disk is full.
struct Counting {
    file: File,
    hash: sha2::Sha256,
    bytes: u64,
    place: Place,
    reserve: u64,
    look_at: u64,
}

impl Counting {
    fn create(path: &PathBuf, place: Place, reserve: u64) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut open = std::fs::OpenOptions::new();
        let file = open.write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Self { file, hash: sha2::Sha256::new(), bytes: 0, place, reserve, look_at: LOOK_BYTES })
    }
}

impl Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes >= self.look_at {
            self.look_at = self.bytes.saturating_add(LOOK_BYTES);
            if self.place.free_bytes().is_some_and(|free| free < self.reserve) {
                return Err(io::Error::new(io::ErrorKind::StorageFull, "the reserve is reached"));
            }
        }
        let written = self.file.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The digest of a file. Blocking.
///
/// # Errors
/// When it cannot be read.
pub fn digest_of_file(path: &Path) -> io::Result<(u64, Digest)> {
    let (mut file, mut hash, mut bytes) = (File::open(path)?, sha2::Sha256::new(), 0);
    let mut piece = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok((bytes, Digest::from_bytes(hash.finalize().into())));
        }
        hash.update(piece.get(..read).unwrap_or_default());
        bytes += read as u64;
    }
}

fn not_read(error: &tokio_postgres::Error) -> Fault {
    database_fault("cannot prepare a backup", error)
}
