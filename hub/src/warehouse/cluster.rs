//! A private PostgreSQL cluster below the hub's state folder: made, started, taken over, stopped.
//!
//! The server is its own process group and outlives a hub that is killed; the next hub finds it
//! running and goes on. Whoever uses the cluster (the hub, a command beside it) holds a shared lock
//! on `users.lock`; whoever starts or stops it holds `start.lock`; the last user stops it. The
//! server listens on a unix socket in a folder of its own user, and on no port.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use phusa_protocol::digest::Digest;
use phusa_protocol::fault::{Code, Fault};
use rustix::fs::FlockOperation;
use tokio_postgres::Config;

pub(super) mod copy;
mod installation;
mod tuning;

use installation::{Installation, ServerUser};

/// A socket's path may have 107 bytes; `/.s.PGSQL.5432.lock` comes after the folder.
const SOCKET_FOLDER_BYTES_MAX: usize = 85;

/// The role that owns everything in the cluster.
const ROLE: &str = "phusa";

/// Who may come in by the socket, which only the server's user and root can reach; the second line is
/// for backups.
const HBA: &str = "local all all trust\nlocal replication all trust\n";

/// A running private cluster that this process uses.
#[derive(Debug)]
pub(super) struct Cluster {
    place: Place,
    installation: Installation,
    /// Held shared for as long as this process uses the server.
    users: Mutex<Option<File>>,
}

/// Where the parts of a cluster lie, and which user the server runs as.
#[derive(Debug, Clone)]
struct Place {
    base: PathBuf,
    user: Option<ServerUser>,
}

impl Cluster {
    /// Makes the cluster if there is none, and starts it if it does not run.
    pub(super) async fn start(state_dir: &Path, connections_max: usize) -> Result<Self, Fault> {
        let base = std::path::absolute(state_dir.join("postgresql"))
            .map_err(|error| disk_fault("cannot find the hub's state folder", error))?;
        let started = tokio::task::spawn_blocking(move || start(base, connections_max)).await;
        started.unwrap_or_else(|_| Err(Fault::new(Code::Bug, "the start of PostgreSQL broke off")))
    }

    /// How its server is reached.
    pub(super) fn config(&self) -> Config {
        let mut config = Config::new();
        config.host_path(self.place.socket_dir()).port(5432).user(ROLE).dbname("postgres");
        config
    }

    /// Stops the server, unless another process uses it.
    pub(super) async fn stop(&self) {
        let users = self.users.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (place, installation) = (self.place.clone(), self.installation.clone());
        let stopped = tokio::task::spawn_blocking(move || stop(&place, &installation, users)).await;
        if let Ok(Err(fault)) = stopped {
            tracing::warn!("{}", fault.chain());
        }
    }

    /// Starts the server again if it has ended by itself, as it does on a disk that is full.
    /// Whether it did.
    pub(super) async fn revive(&self) -> Result<bool, Fault> {
        let (place, installation) = (self.place.clone(), self.installation.clone());
        let revived = tokio::task::spawn_blocking(move || revive(&place, &installation)).await;
        revived.unwrap_or_else(|_| Err(Fault::new(Code::Bug, "the start of PostgreSQL broke off")))
    }

    pub(super) fn disk_free_bytes(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(&self.place.base).ok()?;
        disk.f_bavail.checked_mul(disk.f_frsize)
    }
}

impl Place {
    fn data_dir(&self) -> PathBuf {
        self.base.join("data")
    }

    /// Beside the data where that is short enough, otherwise a folder in `/tmp` named after it.
    fn socket_dir(&self) -> PathBuf {
        let beside = self.base.join("socket");
        if beside.as_os_str().len() <= SOCKET_FOLDER_BYTES_MAX {
            return beside;
        }
        let mut name = Digest::of(self.base.as_os_str().as_encoded_bytes()).to_string();
        name.truncate(16);
        PathBuf::from(format!("/tmp/phusa-{name}"))
    }
}

fn start(base: PathBuf, connections_max: usize) -> Result<Cluster, Fault> {
    let place = Place { base, user: ServerUser::needed()? };
    make_folder(&place, &place.base)?;
    check_way_in(&place)?;
    let starting = locked(&place.base.join("start.lock"), FlockOperation::LockExclusive)?;
    let data_dir = place.data_dir();
    let installation = match fs::read_to_string(data_dir.join("PG_VERSION")) {
        Ok(version) => Installation::of_version(version.trim())?,
        Err(_) => Installation::newest()?,
    };
    if !data_dir.join("PG_VERSION").exists() {
        make(&place, &installation)?;
    }
    make_folder(&place, &place.socket_dir())?;
    let has_lz4 = installation.has_lz4(&data_dir, place.user);
    let settings = tuning::settings(&place.socket_dir(), connections_max, has_lz4);
    write_for_server(&place, &data_dir.join("postgresql.conf"), &settings)?;
    write_for_server(&place, &data_dir.join("pg_hba.conf"), HBA)?;
    if !installation.is_running(&data_dir, place.user)? {
        installation.start(&data_dir, &place.base.join("server.log"), place.user)?;
    }
    let users = locked(&place.base.join("users.lock"), FlockOperation::LockShared)?;
    drop(starting);
    Ok(Cluster { place, installation, users: Mutex::new(Some(users)) })
}

fn revive(place: &Place, installation: &Installation) -> Result<bool, Fault> {
    let _starting = locked(&place.base.join("start.lock"), FlockOperation::LockExclusive)?;
    let data_dir = place.data_dir();
    if installation.is_running(&data_dir, place.user)? {
        return Ok(false);
    }
    installation.start(&data_dir, &place.base.join("server.log"), place.user)?;
    Ok(true)
}

fn stop(place: &Place, installation: &Installation, users: Option<File>) -> Result<(), Fault> {
    let Some(users) = users else { return Ok(()) };
    let _starting = locked(&place.base.join("start.lock"), FlockOperation::LockExclusive)?;
    match rustix::fs::flock(&users, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => installation.stop(&place.data_dir(), place.user),
        Err(_) => Ok(()), // another process uses it, and will be the last
    }
}

/// Makes the cluster under another name first: a folder named `data` is always a whole one.
fn make(place: &Place, installation: &Installation) -> Result<(), Fault> {
    let fresh = place.base.join("data.new");
    if fresh.exists() {
        fs::remove_dir_all(&fresh)
            .map_err(|error| disk_fault("cannot remove an unfinished cluster", error))?;
    }
    installation.make_cluster(&fresh, ROLE, place.user)?;
    fs::rename(&fresh, place.data_dir())
        .and_then(|()| File::open(&place.base)?.sync_all())
        .map_err(|error| disk_fault("cannot name the new cluster", error))
}

/// A folder of the server's user that nobody else can enter.
fn make_folder(place: &Place, folder: &Path) -> Result<(), Fault> {
    let what = || format!("cannot make the folder {}", folder.display());
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| disk_fault(what(), error))?;
    let found = fs::symlink_metadata(folder).map_err(|error| disk_fault(what(), error))?;
    let own = rustix::process::geteuid().as_raw();
    let owner = place.user.map_or(own, |user| user.uid);
    // In /tmp anyone could have made it before us.
    if !found.is_dir() || (found.uid() != own && found.uid() != owner) {
        let what = format!("the folder {} belongs to someone else", folder.display());
        return Err(Fault::new(Code::DiskFailed, what));
    }
    fs::set_permissions(folder, Permissions::from_mode(0o700))
        .and_then(|()| give(place, folder))
        .map_err(|error| disk_fault(what(), error))
}

fn give(place: &Place, path: &Path) -> std::io::Result<()> {
    match place.user {
        Some(user) => std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid)),
        None => Ok(()),
    }
}

/// A hub that runs as root keeps its server as another user, who must be able to get there.
fn check_way_in(place: &Place) -> Result<(), Fault> {
    let Some(user) = place.user else { return Ok(()) };
    for folder in place.base.ancestors().skip(1) {
        let Ok(found) = fs::metadata(folder) else { continue };
        let way = match (found.uid() == user.uid, found.gid() == user.gid) {
            (true, _) => 0o100,
            (false, true) => 0o010,
            (false, false) => 0o001,
        };
        if found.mode() & way == 0 {
            let what = format!(
                "the server's user `postgres` cannot enter {}; allow it with chmod o+x",
                folder.display()
            );
            return Err(Fault::new(Code::ConfigInvalid, what));
        }
    }
    Ok(())
}

fn write_for_server(place: &Place, path: &Path, text: &str) -> Result<(), Fault> {
    let fresh = path.with_extension("new");
    fs::write(&fresh, text)
        .and_then(|()| fs::set_permissions(&fresh, Permissions::from_mode(0o600)))
        .and_then(|()| give(place, &fresh))
        .and_then(|()| fs::rename(&fresh, path))
        .map_err(|error| disk_fault(format!("cannot write {}", path.display()), error))
}

fn locked(path: &Path, how: FlockOperation) -> Result<File, Fault> {
    let what = || format!("cannot lock {}", path.display());
    let open = File::options().create(true).truncate(false).write(true).open(path);
    let file = open.map_err(|error| disk_fault(what(), error))?;
    rustix::fs::flock(&file, how).map_err(|error| disk_fault(what(), error.into()))?;
    Ok(file)
}

fn disk_fault(what: impl Into<String>, error: std::io::Error) -> Fault {
    let is_full = error.kind() == std::io::ErrorKind::StorageFull;
    Fault::because(if is_full { Code::DiskFull } else { Code::DiskFailed }, what, error)
}
