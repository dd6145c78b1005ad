//! Brings a program over piece by piece: goes on where it broke, no faster than allowed, and is whole only
//! when length and digest are what people signed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::units::ByteSize;
use sha2::{Digest as _, Sha256};

use super::disk;
use super::trust::Signed;

/// Where pieces come from.
pub trait Pieces {
    /// Some bytes of a file from `from` on; `None` when there is no such file.
    fn piece(
        &self,
        file: &str,
        from: u64,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, Fault>> + Send;
}

/// Fetches `wanted` into `to`, which is whole when this succeeds.
///
/// # Errors
/// `release_damaged` when it is not what was signed, and what was fetched is thrown away; the fault of
/// whoever gives the pieces, and what was fetched is kept.
pub async fn fetch(
    from: &impl Pieces,
    wanted: &Signed,
    to: &Path,
    rate_max: ByteSize,
) -> Result<(), Fault> {
    let part = to.with_extension(format!("{}.part", wanted.facts.version));
    if is_whole(to, wanted) {
        return Ok(());
    }
    let mut have = fs::metadata(&part).map_or(0, |meta| meta.len());
    while have < wanted.length {
        let bytes = from.piece(&wanted.file, have).await?.ok_or_else(|| {
            Fault::new(Code::ReleaseUnfit, format!("the hub has no {}", wanted.file))
        })?;
        let grown = have.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if bytes.is_empty() || grown > wanted.length {
            remove(&part)?;
            let what = format!("{} ends at another length than was signed", wanted.file);
            return Err(Fault::new(Code::ReleaseDamaged, what));
        }
        append(&part, &bytes)?;
        have = grown;
        tokio::time::sleep(pause(bytes.len(), rate_max)).await;
    }
    if !is_whole(&part, wanted) {
        remove(&part)?;
        let what = format!("{} is not what was signed", wanted.file);
        return Err(Fault::new(Code::ReleaseDamaged, what));
    }
    let named = File::open(&part).and_then(|file| file.sync_all());
    let named = named.and_then(|()| fs::rename(&part, to));
    named.map_err(disk("cannot keep a release"))
}

fn pause(bytes: usize, rate_max: ByteSize) -> Duration {
    let micros = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(1_000_000);
    Duration::from_micros(micros / rate_max.0.max(1))
}

fn append(part: &Path, bytes: &[u8]) -> Result<(), Fault> {
    let open = OpenOptions::new().append(true).create(true).open(part);
    let written = open.and_then(|mut file| file.write_all(bytes));
    written.map_err(disk(format!("cannot write {}", part.display())))
}

fn remove(file: &Path) -> Result<(), Fault> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(disk(format!("cannot remove {}", file.display()))(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether a file has exactly the bytes that people signed.
#[must_use]
pub fn is_whole(file: &Path, wanted: &Signed) -> bool {
    let digest = || {
        let mut open = File::open(file)?;
        let (mut hash, mut piece) = (Sha256::new(), vec![0; 1 << 20]);
        loop {
            let read = open.read(&mut piece)?;
            let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
            hash.update(bytes);
        }
        Ok::<_, io::Error>(hash.finalize().to_vec())
    };
    let long = fs::metadata(file).is_ok_and(|meta| meta.len() == wanted.length);
    long && digest().is_ok_and(|digest| digest == wanted.sha256)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use phusa_protocol::release::{Facts, Version};

    use super::*;

    /// Gives ten bytes at a time and breaks off now and then.
    struct Broken {
        bytes: Vec<u8>,
        asked: Mutex<Vec<u64>>,
        breaks_at: Mutex<Option<u64>>,
    }

    impl Pieces for Broken {
        async fn piece(&self, _file: &str, from: u64) -> Result<Option<Vec<u8>>, Fault> {
            self.asked.lock().unwrap().push(from);
            let mut breaks = self.breaks_at.lock().unwrap();
            if *breaks == Some(from) {
                *breaks = None;
                return Err(Fault::new(Code::HubUnreachable, "cut"));
            }
            let at = usize::try_from(from).unwrap();
            Ok(Some(self.bytes[at..].iter().take(10).copied().collect()))
        }
    }

    fn signed(bytes: &[u8]) -> Signed {
        let version = Version::try_from("1.2.3".to_owned()).unwrap();
        let (product, system) = ("phusa-agent".to_owned(), "x86_64-linux".to_owned());
        let facts = Facts { product, version, system, min_version: version, program_version: None };
        let sha256 = Sha256::digest(bytes).to_vec();
        Signed { facts, length: bytes.len() as u64, sha256, file: "x".to_owned() }
    }

    #[tokio::test]
    async fn a_download_that_broke_goes_on_where_it_was_and_what_was_tampered_with_is_thrown_away()
    {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("program");
        let bytes: Vec<u8> = (0..95).collect();
        let (asked, breaks_at) = (Mutex::default(), Mutex::new(Some(50)));
        let from = Broken { bytes: bytes.clone(), asked, breaks_at };
        let rate = ByteSize(1 << 30);
        let wanted = signed(&bytes);
        let cut = fetch(&from, &wanted, &to, rate).await.unwrap_err();
        assert_eq!((cut.code, to.exists()), (Code::HubUnreachable, false));
        fetch(&from, &wanted, &to, rate).await.unwrap();
        assert_eq!(fs::read(&to).unwrap(), bytes);
        let asked: Vec<u64> = from.asked.lock().unwrap().drain(..).collect();
        assert_eq!(asked, [0, 10, 20, 30, 40, 50, 50, 60, 70, 80, 90]);
        fetch(&from, &wanted, &to, rate).await.unwrap();
        assert!(from.asked.lock().unwrap().is_empty(), "what is whole is not fetched again");
        for other in [vec![7; 95], vec![7; 40], vec![7; 400]] {
            let (asked, breaks_at) = (Mutex::default(), Mutex::default());
            let from = Broken { bytes: other, asked, breaks_at };
            let to = dir.path().join("other");
            let refused = fetch(&from, &wanted, &to, rate).await.unwrap_err();
            assert_eq!((refused.code, to.exists()), (Code::ReleaseDamaged, false));
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left of it");
        }
    }

    #[test]
    fn a_rate_is_kept_by_waiting() {
        assert_eq!(pause(1 << 20, ByteSize(256 << 10)), Duration::from_secs(4));
    }
}
