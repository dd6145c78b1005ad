//! A consistent copy of the private cluster while it runs, and a cluster made of such a copy.
//!
//! `pg_basebackup` and not `pg_dump`: it copies files at the speed of the disk, carries everything
//! there is (sequences, the hub's own tables, statistics), holds no snapshot open while it runs, and
//! what comes back is the cluster itself, with nothing to build anew.

use std::fs;
use std::io::{self, Read};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use deadpool_postgres::ClientWrapper;
use phusa_protocol::digest::Digest;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::time::Timestamp;

use super::{Cluster, File, Place, ROLE, ServerUser, check_way_in, disk_fault, make_folder};
use crate::error::statement_fault;

/// A copy under way.
#[derive(Debug)]
pub struct Copying {
    child: Child,
    out: Option<ChildStdout>,
    version: u32,
    /// Its session holds a temporary slot, which keeps the log of the copy's time on disk until the
    /// copy has it.
    _session: ClientWrapper,
}

impl Cluster {
    /// Begins a copy; `session` is a connection of its own.
    pub(in crate::warehouse) async fn copy_out(
        &self,
        session: ClientWrapper,
    ) -> Result<Copying, Fault> {
        let mut name = Digest::of(Timestamp::now().to_string().as_bytes()).to_string();
        name.truncate(12);
        // A server that was running before this version does not know the second line of pg_hba.conf.
        let sql = "select pg_reload_conf(), pg_create_physical_replication_slot($1, true, true)";
        let what = "cannot prepare a copy of the warehouse";
        let slot = format!("phusa_backup_{name}");
        let made = session.query_one(sql, &[&slot]).await;
        made.map_err(|error| statement_fault(what, &error))?;
        let (place, installation) = (&self.place, &self.installation);
        let mut command = installation.base_backup(&place.socket_dir(), ROLE, place.user);
        let spawned = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|error| {
            let what = "cannot run pg_basebackup, which comes with PostgreSQL's client programs";
            Fault::because(Code::WarehouseUnavailable, what, error)
        })?;
        let out = child.stdout.take();
        Ok(Copying { child, out, version: installation.version(), _session: session })
    }
}

impl Copying {
    /// The major version of the cluster.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Hands the copy, a tar file, to `take` and waits for its end. Blocking.
    ///
    /// # Errors
    /// What `take` says; otherwise that the copy broke off.
    pub fn run<T>(
        mut self,
        take: impl FnOnce(&mut dyn Read) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let broke_off = |cause: String| {
            Fault::because(Code::WarehouseUnavailable, "the copy of the warehouse broke off", cause)
        };
        let Some(mut out) = self.out.take() else { return Err(broke_off("no output".to_owned())) };
        let taken = take(&mut out);
        drop(out);
        if taken.is_err() {
            // It waits for whoever reads it, and nobody does any more.
            let _ended = self.child.kill();
        }
        let ended = self.child.wait_with_output();
        let taken = taken?;
        let ended = ended.map_err(|error| broke_off(error.to_string()))?;
        if ended.status.success() {
            return Ok(taken);
        }
        let said = String::from_utf8_lossy(&ended.stderr);
        Err(broke_off(said.lines().next_back().unwrap_or("it said nothing").to_owned()))
    }
}

/// Makes the cluster of a hub's state folder out of a copy. There must be none yet. Blocking.
///
/// # Errors
/// When there is one, the tar file is damaged, or the disk fails.
pub fn unpack(state_dir: &Path, copy: &mut dyn Read) -> Result<(), Fault> {
    let base = std::path::absolute(state_dir.join("postgresql"))
        .map_err(|error| disk_fault("cannot find the hub's state folder", error))?;
    let place = Place { base, user: ServerUser::needed()? };
    make_folder(&place, &place.base)?;
    check_way_in(&place)?;
    let (data, fresh) = (place.data_dir(), place.base.join("data.new"));
    if data.exists() || fresh.exists() {
        let what = format!("{} holds a cluster already", place.base.display());
        return Err(Fault::new(Code::DiskFailed, what));
    }
    make_folder(&place, &fresh)?;
    extract(&place, &fresh, copy)?;
    let named = fs::rename(&fresh, &data).and_then(|()| File::open(&place.base)?.sync_all());
    named.map_err(|error| disk_fault("cannot name the restored cluster", error))
}

fn extract(place: &Place, fresh: &Path, copy: &mut dyn Read) -> Result<(), Fault> {
    let failed = |error: io::Error| disk_fault("cannot unpack the copy of the warehouse", error);
    let mut command = Command::new("tar");
    command.args(["--extract", "--file=-", "--directory"]).arg(fresh).env_clear();
    command.env("PATH", "/usr/bin:/bin").env("LC_MESSAGES", "C").current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    if let Some(ServerUser { uid, gid }) = place.user {
        command.uid(uid).gid(gid);
    }
    let mut child = command.spawn().map_err(failed)?;
    let written = match child.stdin.take() {
        Some(mut stdin) => io::copy(copy, &mut stdin),
        None => Ok(0),
    };
    let ended = child.wait_with_output().map_err(failed)?;
    if ended.status.success() {
        return written.map(drop).map_err(failed);
    }
    let said = String::from_utf8_lossy(&ended.stderr).lines().next_back().map(str::to_owned);
    // What could not be read from the copy says more than that tar missed it.
    let cause = written.err().map(|error| error.to_string()).or(said).unwrap_or_default();
    Err(Fault::because(Code::BackupBroken, "cannot unpack the copy of the warehouse", cause))
}
