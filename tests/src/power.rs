//! A disk whose power can be cut: a killed process leaves its unsynced writes to the kernel; only a file
//! system that was shut down without a last flush shows what was durable.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{output, run};

/// Shuts a file system down in an instant: what is not on the disk by now never gets there, and its
/// journal is not flushed either (`EXT4_IOC_SHUTDOWN` with `NOLOGFLUSH`).
const SHUT_DOWN: &str = "import fcntl, os, struct, sys\n\
    fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack('I', 2))";

/// An ext4 image mounted on a folder; it goes away with the folder of the test.
#[derive(Debug)]
pub struct PowerDisk {
    image: PathBuf,
    folder: PathBuf,
}

impl PowerDisk {
    /// One of `mib` MiB on `folder`, with what is in it, its image in `beside`; `None`, with the reason
    /// printed, where images cannot be mounted.
    ///
    /// # Panics
    /// When it cannot be made, or not be mounted by root in CI.
    #[must_use]
    pub fn new(folder: &Path, beside: &Path, mib: u64) -> Option<Self> {
        let owner = folder.parent().and_then(Path::file_name).unwrap_or(OsStr::new("a"));
        let at = |what: &str| beside.join(format!("{}-{what}", owner.display()));
        let disk = Self { image: at("disk.img"), folder: folder.to_owned() };
        fs::File::create(&disk.image).expect("an image").set_len(mib << 20).expect("its size");
        run(Command::new("/sbin/mkfs.ext4").args(["-q", "-F"]).arg(&disk.image));
        let filling = at("filling");
        fs::create_dir(&filling).expect("a folder to fill it in");
        if let Err(why) = disk.mount(&filling) {
            let must = std::env::var("CI").as_deref() == Ok("true")
                && rustix::process::geteuid().is_root();
            assert!(!must, "no loop device in CI: {why}");
            println!("skipped: an image cannot be mounted here: {why}");
            return None;
        }
        run(Command::new("cp").arg("-a").arg(folder.join(".")).arg(&filling));
        run(Command::new("umount").arg(&filling));
        disk.mount(folder).expect("the disk in its place");
        Some(disk)
    }

    fn mount(&self, folder: &Path) -> Result<(), String> {
        let mut mount = Command::new("mount");
        let done = output(mount.args(["-o", "loop"]).arg(&self.image).arg(folder));
        let said = || String::from_utf8_lossy(&done.stderr).into_owned();
        done.status.success().then_some(()).ok_or_else(said)
    }

    /// The power goes out. Whoever has files on it is held still before and killed after.
    ///
    /// # Panics
    /// When the file system cannot be shut down.
    pub fn cut(&self) {
        run(Command::new("python3").args(["-c", SHUT_DOWN]).arg(&self.folder));
    }

    /// The power is back: what was synced before the cut is there.
    ///
    /// # Panics
    /// When the file system does not come back, or somebody still holds its files.
    pub fn come_back(&self) {
        run(Command::new("umount").arg(&self.folder));
        self.mount(&self.folder).expect("the disk again");
    }
}
