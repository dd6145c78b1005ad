//! A disk whose power can be cut: a killed process leaves its unsynced writes to the kernel; only a copy of
//! the disk's image shows what was durable.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{output, run};

/// An ext4 image mounted on a folder; it goes away with the folder of the test.
#[derive(Debug)]
pub struct PowerDisk {
    image: PathBuf,
    copy: PathBuf,
    folder: PathBuf,
}

impl PowerDisk {
    /// One of `mib` MiB on `folder`, its image in `beside`; `None`, with the reason printed, where images
    /// cannot be mounted.
    ///
    /// # Panics
    /// When it cannot be made, or not be mounted by root in CI.
    #[must_use]
    pub fn new(folder: &Path, beside: &Path, mib: u64) -> Option<Self> {
        let at = |name: &str| beside.join(name);
        let disk = Self { image: at("disk.img"), copy: at("copy.img"), folder: folder.to_owned() };
        fs::File::create(&disk.image).expect("an image").set_len(mib << 20).expect("its size");
        run(Command::new("/sbin/mkfs.ext4").args(["-q", "-F"]).arg(&disk.image));
        if let Err(why) = disk.mount() {
            let must = std::env::var("CI").as_deref() == Ok("true")
                && rustix::process::geteuid().is_root();
            assert!(!must, "no loop device in CI: {why}");
            println!("skipped: an image cannot be mounted here: {why}");
            return None;
        }
        Some(disk)
    }

    fn mount(&self) -> Result<(), String> {
        let mut mount = Command::new("mount");
        let done = output(mount.args(["-o", "loop"]).arg(&self.image).arg(&self.folder));
        let said = || String::from_utf8_lossy(&done.stderr).into_owned();
        done.status.success().then_some(()).ok_or_else(said)
    }

    /// Keeps what is on the disk now, without what its file system still holds back.
    ///
    /// # Panics
    /// When it cannot be copied.
    pub fn copy(&mut self) {
        fs::copy(&self.image, &self.copy).expect("a copy of the disk");
    }

    /// The disk is as it was when it was copied.
    ///
    /// # Panics
    /// When it cannot be mounted again.
    pub fn fall_back_to_copy(&mut self) {
        run(Command::new("umount").arg(&self.folder));
        fs::rename(&self.copy, &self.image).expect("the copy in its place");
        self.mount().expect("the disk again");
    }
}
