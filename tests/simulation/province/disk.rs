//! A disk that is full, or whose power goes in the middle of its n-th write.

use std::io;
use std::path::Path;
use std::sync::Mutex;

use phusa_agent::disk::{Disk, RealDisk};

#[derive(Debug, Default)]
pub struct FaultyDisk(Mutex<Faults>);

#[derive(Debug, Default)]
struct Faults {
    full: bool,
    /// How many more changes are made before nothing works any more.
    left: Option<u32>,
}

impl FaultyDisk {
    pub fn set_full(&self, full: bool) {
        self.0.lock().expect("one thread").full = full;
    }

    /// The power goes after so many changes; `None` brings it back.
    pub fn set_left(&self, left: Option<u32>) {
        self.0.lock().expect("one thread").left = left;
    }

    pub fn is_dead(&self) -> bool {
        self.0.lock().expect("one thread").left == Some(0)
    }

    fn is_full(&self) -> bool {
        self.0.lock().expect("one thread").full
    }

    /// Before a change; `Err(true)` when the power goes in the middle of this very one.
    fn change(&self) -> Result<(), bool> {
        let left = &mut self.0.lock().expect("one thread").left;
        match left {
            None => Ok(()),
            Some(0) => Err(false),
            Some(count) => {
                *count -= 1;
                if *count == 0 { Err(true) } else { Ok(()) }
            }
        }
    }

    fn plain(&self) -> io::Result<()> {
        self.change().map_err(|_| dead())
    }

    fn write(&self, bytes: &[u8], write: impl Fn(&[u8]) -> io::Result<()>) -> io::Result<()> {
        if self.is_full() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.change().map_err(|torn| {
            if torn {
                let _ = write(&bytes[..bytes.len() / 2]);
            }
            dead()
        })?;
        write(bytes)
    }
}

fn dead() -> io::Error {
    io::Error::other("the power is gone")
}

impl Disk for FaultyDisk {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        self.plain()?;
        RealDisk.create_folder(folder)
    }
    fn write_synced(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        self.write(bytes, |bytes| RealDisk.write_synced(file, bytes))
    }
    fn append_synced(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        self.write(bytes, |bytes| RealDisk.append_synced(file, bytes))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.plain()?;
        RealDisk.rename(from, to)
    }
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.plain()?;
        RealDisk.sync_folder(folder)
    }
    fn read(&self, file: &Path) -> io::Result<Vec<u8>> {
        RealDisk.read(file)
    }
    fn read_tail(&self, file: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        RealDisk.read_tail(file, bytes_max)
    }
    fn read_piece(&self, file: &Path, offset: u64, bytes_max: u64) -> io::Result<Vec<u8>> {
        RealDisk.read_piece(file, offset, bytes_max)
    }
    fn list(&self, folder: &Path) -> io::Result<Vec<(String, u64)>> {
        RealDisk.list(folder)
    }
    fn length(&self, file: &Path) -> io::Result<Option<u64>> {
        RealDisk.length(file)
    }
    fn remove_file(&self, file: &Path) -> io::Result<()> {
        self.plain()?;
        RealDisk.remove_file(file)
    }
    fn remove_folder(&self, folder: &Path) -> io::Result<()> {
        self.plain()?;
        RealDisk.remove_folder(folder)
    }
    fn free_bytes(&self, folder: &Path) -> io::Result<u64> {
        if self.is_full() { Ok(0) } else { RealDisk.free_bytes(folder) }
    }
}
