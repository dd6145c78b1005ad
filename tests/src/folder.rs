//! `Folder`: a throwaway folder that ends together with everything that was started in it.
//!
//! A small shell, the keeper, waits on a pipe that only this process holds. When the folder is
//! dropped, or this process dies in whatever way, the pipe closes, and the keeper kills what is
//! named in `pids/`, stops every database cluster below, unmounts every disk below, and deletes the
//! folder. In this order: a cluster on a disk that is gone cannot be found any more.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What the keeper runs once the pipe is closed; `$1` is the folder.
const KEEPER: &str = r#"
cat >/dev/null
running() { kill -0 "$1" 2>/dev/null && ! grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null; }
end() {
    kill "-$1" "$2" 2>/dev/null || return 0
    n=0
    while running "$2" && [ $n -lt 100 ]; do sleep 0.05; n=$((n + 1)); done
}
for file in "$1"/pids/*; do
    [ -f "$file" ] && end KILL "$(cat "$file")"
done
find "$1" -name postmaster.pid 2>/dev/null | while read -r file; do
    end QUIT "$(head -n 1 "$file")"
done
awk -v below="$1/" 'index($2, below) == 1 { print $2 }' /proc/self/mounts | sort -r |
    while read -r disk; do umount "$disk" || umount --lazy "$disk"; done
rm -rf -- "$1"
"#;

/// A folder under the system's temporary folder, open to other users so that a database server
/// that may not run as root can work in it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    keeper: Child,
}

impl Folder {
    /// Makes an empty one and sets its keeper.
    ///
    /// # Panics
    /// When the folder or the keeper cannot be had.
    #[must_use]
    pub fn new() -> Self {
        let path =
            tempfile::Builder::new().prefix("phusa-").tempdir().expect("a temporary folder").keep();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("an open folder");
        fs::create_dir(path.join("pids")).expect("a folder for process ids");
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0) // so that Ctrl-C at a terminal does not reach it
            .spawn()
            .expect("a shell");
        Self { path, keeper }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets the keeper end process `id` with the folder; `name` is unique among those running.
    ///
    /// # Panics
    /// When the folder is gone.
    pub fn adopt(&self, name: &str, id: u32) {
        fs::write(self.path.join("pids").join(name), id.to_string()).expect("a process id noted");
    }

    /// The process adopted under `name` has ended.
    pub fn release(&self, name: &str) {
        let _ = fs::remove_file(self.path.join("pids").join(name));
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
