//! From a backup to a hub in a clean folder: opened, checked, unpacked, its log verified and, where
//! more was published than the backup holds, going on as decision 0016 says.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use phusa_protocol::digest::Digest;
use phusa_protocol::entry::act::{Act, BackupAct, BackupStep};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::time::Timestamp;
use serde::Serialize;

use super::files::{HubFiles, write_private};
use super::make::{CLUSTER, FILES, digest_of_file};
use super::manifest::Signed;
use super::place::{Complete, Place};
use super::seal::{BackupKey, Opening};
use crate::catalog::Catalog;
use crate::config::plan::Plan;
use crate::error::database_fault;
use crate::transfers::acts::Done;
use crate::transfers::folder::Folder;
use crate::transfers::publish::blocking;
use crate::transfers::restore::{Continued, go_on};
use crate::transfers::verify::{Verified, verify_database};
use crate::transfers::{Log, from_system_time, keys, mirror};
use crate::warehouse::{Warehouse, unpack};

/// A backup, and what opens it.
#[derive(Debug, Clone)]
pub struct Source {
    /// The place: the folder that holds the backups.
    pub place: PathBuf,
    /// Which; the newest where none is named.
    pub name: Option<String>,
    /// The key it was sealed with.
    pub key: BackupKey,
}

/// Where a stream stands in what was restored.
#[derive(Debug, Clone, Serialize)]
pub struct Stream {
    /// Who delivers.
    pub agent: String,
    /// Which dataset.
    pub dataset: String,
    /// Its epoch.
    pub epoch: i64,
    /// Its last batch.
    pub seq: i64,
    /// When that was committed.
    pub committed_at: Option<Timestamp>,
}

/// A hub that can be started.
#[derive(Debug, Clone, Serialize)]
pub struct Restored {
    /// The backup.
    pub name: String,
    /// When it was begun.
    pub made_at: Timestamp,
    /// The configuration to start with.
    pub config: PathBuf,
    /// Published entries whose texts the backup does not hold.
    pub lost: Option<Lost>,
    /// What the log came to.
    pub log: Verified,
    /// Rows in the datasets' tables.
    pub rows: u64,
    /// Where each stream stands; its agent sends or reads again what came after.
    pub streams: Vec<Stream>,
}

/// Entries that are known by their leaves alone.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Lost {
    /// The first of them.
    pub first: u64,
    /// The last of them.
    pub last: u64,
    /// The entry that says so.
    pub said_in: u64,
    /// Entries of the backup that are numbered anew, because the published log gave their numbers to
    /// others after it was made.
    pub again: u64,
}

impl From<Continued> for Lost {
    fn from(continued: Continued) -> Self {
        let Continued { first, last, number, again } = continued;
        Self { first, last, said_in: number, again }
    }
}

/// A backup unpacked: nothing runs yet, and nothing of it was changed.
#[derive(Debug)]
pub struct Unpacked {
    /// The configuration, read from the folder.
    pub plan: Plan,
    /// Its file.
    pub config: PathBuf,
    /// What the backup says of itself.
    pub signed: Signed,
}

/// Restores a backup into a folder that is empty or not there, and lets its log go on.
///
/// # Errors
/// `backup_broken` when it is not what it says; `log_broken` when its log does not verify; otherwise
/// the disk's and the database's. The folder is then left for a person to look at.
pub async fn restore(
    from: &Source,
    to: &Path,
    (by, because): (&str, &str),
) -> Result<Restored, Fault> {
    let (source, folder) = (from.clone(), to.to_path_buf());
    let unpacked = blocking(move || unpack_into(&source, &folder)).await?;
    let plan = &unpacked.plan;
    let (place, state_dir) = (from.place.clone(), plan.state_dir.clone());
    let published = match &plan.log_key.key {
        Some(key) => {
            let key = key.public();
            Some(blocking(move || published_log(&place, &state_dir, key)).await?)
        }
        None => None,
    };
    let warehouse = Warehouse::open(&plan.warehouse).await?;
    let done = async {
        warehouse.migrate().await?;
        let log = Log::new(plan.signing_key.clone());
        let mut lost = None;
        if let Some(folder) = &published {
            lost = go_on(&warehouse, folder, &log, because).await?;
        }
        let checked = check(&warehouse, plan, published.as_ref()).await?;
        let act = act(&unpacked.signed, BackupStep::Restored, &checked, Some(by));
        log.done_alone(&warehouse, Done::whole(Act::Backup(act))).await?;
        let streams = streams(&warehouse).await?;
        Ok((lost, checked, streams))
    }
    .await;
    warehouse.close().await;
    let (lost, checked, streams) = done?;
    let manifest = unpacked.signed.manifest;
    Ok(Restored {
        name: manifest.name,
        made_at: manifest.made_at,
        config: unpacked.config,
        lost: lost.map(Lost::from),
        log: checked.log,
        rows: checked.rows,
        streams,
    })
}

/// Opens a backup and unpacks it into a folder that is empty or not there. Blocking.
///
/// # Errors
/// As of [`restore`].
pub fn unpack_into(from: &Source, to: &Path) -> Result<Unpacked, Fault> {
    check_clean(to)?;
    let backup = Place::new(&from.place).find(from.name.as_deref())?;
    let signed = Signed::read(&backup.dir)?;
    check_parts(&backup, &signed)?;
    let opened = opening(&backup, &from.key, FILES)?;
    let files: HubFiles = serde_json::from_reader(opened).map_err(|error| {
        let what = format!("the files of {} do not open", backup.name);
        Fault::because(Code::BackupBroken, what, error)
    })?;
    fs::create_dir_all(to).map_err(|error| failed(to, error))?;
    let config = files.write(to)?;
    put_key(&config, &from.key)?;
    let plan = Plan::read(&config).map_err(first)?;
    signed.check(&plan.signing_key.public())?;
    fs::create_dir_all(&plan.state_dir).map_err(|error| failed(&plan.state_dir, error))?;
    let sealed = opening(&backup, &from.key, CLUSTER)?;
    let mut copy = zstd::stream::read::Decoder::new(sealed)
        .map_err(|error| Fault::because(Code::BackupBroken, "the cluster's copy", error))?;
    unpack(&plan.state_dir, &mut copy)?;
    Ok(Unpacked { plan, config, signed })
}

/// What a restored hub came to.
#[derive(Debug, Clone)]
pub struct Checked {
    /// Its log.
    pub log: Verified,
    /// Rows in its datasets' tables.
    pub rows: u64,
}

/// Verifies the whole log of a restored hub, its tables and streams, and counts its rows.
///
/// # Errors
/// [`Code::LogBroken`] naming what is wrong.
pub async fn check(
    warehouse: &Warehouse,
    plan: &Plan,
    published: Option<&Folder>,
) -> Result<Checked, Fault> {
    let hub = vec![plan.signing_key.public()];
    let agents = keys::known_to(warehouse, &hub, &plan.register).await?;
    let catalog = Catalog::open(warehouse.clone(), plan.signing_key.public()).await?;
    let tables: Vec<_> = catalog.current().iter().map(|agreed| agreed.shape.clone()).collect();
    let log = verify_database(warehouse, hub, agents, (&tables, published)).await?;
    let (client, mut rows) = (warehouse.client().await?, 0);
    for shape in &tables {
        let sql = format!("select count(*) from {}", shape.table());
        let row = client.query_one(&sql, &[]).await.map_err(|error| not_read(&error))?;
        rows += row.try_get::<_, i64>(0).map_err(|error| not_read(&error))?.unsigned_abs();
    }
    Ok(Checked { log, rows })
}

/// The link of an entry, if it is there.
///
/// # Errors
/// When the database does not answer.
pub async fn link_of(warehouse: &Warehouse, number: u64) -> Result<Option<Digest>, Fault> {
    let client = warehouse.client().await?;
    let sql = "select link from phusa.transfers where number = $1";
    let row = client.query_opt(sql, &[&crate::transfers::to_i64(number)]).await;
    let Some(row) = row.map_err(|error| not_read(&error))? else { return Ok(None) };
    let link: Vec<u8> = row.try_get(0).map_err(|error| not_read(&error))?;
    Ok(crate::transfers::digest_of(&link))
}

/// What an entry says of a backup that was restored or tried out.
#[must_use]
pub fn act(signed: &Signed, step: BackupStep, checked: &Checked, by: Option<&str>) -> BackupAct {
    BackupAct {
        step,
        name: signed.manifest.name.clone(),
        made_at: signed.manifest.made_at,
        manifest: signed.digest(),
        bytes: signed.manifest.bytes(),
        entries: checked.log.summary.entries,
        rows: Some(checked.rows),
        failed: None,
        by: by.map(str::to_owned),
    }
}

async fn streams(warehouse: &Warehouse) -> Result<Vec<Stream>, Fault> {
    let client = warehouse.client().await?;
    let sql = "select agent, dataset, epoch, seq, last_committed_at from phusa.streams \
               order by agent, dataset";
    let rows = client.query(sql, &[]).await.map_err(|error| not_read(&error))?;
    let read = |row: &tokio_postgres::Row| {
        let committed: Option<std::time::SystemTime> = row.try_get(4)?;
        Ok(Stream {
            agent: row.try_get(0)?,
            dataset: row.try_get(1)?,
            epoch: row.try_get(2)?,
            seq: row.try_get(3)?,
            committed_at: committed.map(from_system_time),
        })
    };
    let read: Result<_, tokio_postgres::Error> = rows.iter().map(read).collect();
    read.map_err(|error| not_read(&error))
}

/// The log's second copy put back as the published log; an empty one where there is none, which is then
/// filled again from the database.
fn published_log(
    place: &Path,
    state_dir: &Path,
    key: phusa_protocol::keys::PublicKey,
) -> Result<Folder, Fault> {
    let (copy, folder) = (Folder::new(place, key), Folder::new(state_dir, key));
    if let Some(checkpoint) = copy.checkpoint()? {
        mirror::copy(&copy, &folder, 0, &checkpoint)?;
    }
    Ok(folder)
}

fn check_clean(to: &Path) -> Result<(), Fault> {
    let is_clean = match fs::read_dir(to) {
        Ok(mut found) => found.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    if is_clean {
        return Ok(());
    }
    let what = format!("{} is not empty: a backup is restored into a clean folder", to.display());
    Err(Fault::new(Code::DiskFailed, what))
}

fn check_parts(backup: &Complete, signed: &Signed) -> Result<(), Fault> {
    for part in &signed.manifest.files {
        let path = backup.dir.join(&part.name);
        let plain = Path::new(&part.name).components().count() == 1;
        let found = digest_of_file(&path).map_err(|error| {
            Fault::because(Code::BackupBroken, format!("cannot read {}", path.display()), error)
        })?;
        if !plain || found != (part.bytes, part.sha256) {
            let what = format!("{} is not what the manifest says", path.display());
            return Err(Fault::new(Code::BackupBroken, what));
        }
    }
    Ok(())
}

fn opening(
    backup: &Complete,
    key: &BackupKey,
    name: &str,
) -> Result<Opening<std::io::BufReader<File>>, Fault> {
    let path = backup.dir.join(name);
    let opened = File::open(&path)
        .and_then(|file| Opening::new(key, name, std::io::BufReader::with_capacity(1 << 20, file)));
    opened.map_err(|error| {
        Fault::because(Code::BackupBroken, format!("cannot open {}", path.display()), error)
    })
}

/// The key is not in the backup; the restored hub goes on with the one it was opened with.
fn put_key(config: &Path, key: &BackupKey) -> Result<(), Fault> {
    let broken =
        |why: String| Fault::because(Code::BackupBroken, "the configuration in the backup", why);
    let text = fs::read_to_string(config).map_err(|error| failed(config, error))?;
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| broken(e.to_string()))?;
    let named = table.get("backup").and_then(|part| part.get("key_file"));
    let Some(named) = named.and_then(toml::Value::as_str) else { return Ok(()) };
    let text = text.replace(&format!("\"{named}\""), "\"backup.key\"");
    fs::write(config, text).map_err(|error| failed(config, error))?;
    let file = config.with_file_name("backup.key");
    write_private(&file, key.to_secret_text().as_bytes(), 0o600)
}

fn first(faults: Vec<Fault>) -> Fault {
    let none = || Fault::new(Code::Bug, "the restored configuration is wrong");
    faults.into_iter().next().unwrap_or_else(none)
}

fn failed(path: &Path, error: std::io::Error) -> Fault {
    Fault::because(Code::DiskFailed, format!("cannot write {}", path.display()), error)
}

fn not_read(error: &tokio_postgres::Error) -> Fault {
    database_fault("cannot look at the restored database", error)
}
