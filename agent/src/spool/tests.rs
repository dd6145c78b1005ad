//! The spool's promises, on a real folder and on a disk that fails where it is told to.

mod state;

use std::io;
use std::path::Path;
use std::sync::Mutex;

use phusa_protocol::digest::Digest;
use phusa_protocol::ids::{AgentId, Seq};
use phusa_protocol::keys::SigningKey;
use phusa_protocol::receipt::{Receipt, SignedReceipt};
use phusa_protocol::time::Timestamp;

use super::*;
use crate::disk::RealDisk;

/// A disk whose operations named here fail with this error.
#[derive(Debug, Default)]
struct FaultyDisk {
    failing: Mutex<Option<(&'static str, io::ErrorKind)>>,
}

impl FaultyDisk {
    fn fail(&self, operation: &'static str, kind: io::ErrorKind) {
        *self.failing.lock().unwrap() = Some((operation, kind));
    }

    fn heal(&self) {
        *self.failing.lock().unwrap() = None;
    }

    fn pass(&self, operation: &str) -> io::Result<()> {
        match *self.failing.lock().unwrap() {
            Some((failing, kind)) if failing == operation => Err(kind.into()),
            Some(_) | None => Ok(()),
        }
    }
}

impl Disk for FaultyDisk {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        self.pass("create_folder")?;
        RealDisk.create_folder(folder)
    }
    fn write_synced(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        self.pass("write_synced")?;
        RealDisk.write_synced(file, bytes)
    }
    fn append_synced(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        self.pass("append_synced")?;
        RealDisk.append_synced(file, bytes)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.pass("rename")?;
        RealDisk.rename(from, to)
    }
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.pass("sync_folder")?;
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
        RealDisk.remove_file(file)
    }
    fn remove_folder(&self, folder: &Path) -> io::Result<()> {
        RealDisk.remove_folder(folder)
    }
    fn free_bytes(&self, folder: &Path) -> io::Result<u64> {
        RealDisk.free_bytes(folder)
    }
}

struct Lab {
    folder: tempfile::TempDir,
    disk: Arc<FaultyDisk>,
    dataset: DatasetId,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dataset = DatasetId::new("cong_dan.citizens").unwrap();
        Self { folder, disk: Arc::new(FaultyDisk::default()), dataset }
    }

    fn spool(&self, bytes_max: u64) -> Spool {
        let settings = Settings {
            state_dir: self.folder.path().to_owned(),
            key: SealKey::new(&[3; 32]),
            spool_bytes_max: ByteSize(bytes_max),
            disk_reserve: ByteSize(0),
        };
        Spool::open(settings, Arc::clone(&self.disk) as Arc<dyn Disk>).unwrap()
    }

    /// A spool with batches 1 to `last` in epoch 1.
    fn filled(&self, last: u64) -> (Spool, Writer) {
        let spool = self.spool(1 << 20);
        let stream = spool.open_epoch(&self.dataset, Epoch(1)).unwrap();
        let mut writer = Writer::new(stream, Tail::start(), identity());
        for number in 1..=last {
            writer.append(&Packed::sample(number, b"row")).unwrap();
        }
        (spool, writer)
    }

    fn recover(&self) -> Recovered {
        self.spool(1 << 20).recover(&self.dataset).unwrap()
    }

    fn whole(&self) -> Recovery {
        match self.recover() {
            Recovered::Whole(recovery) => *recovery,
            Recovered::Nothing => panic!("nothing there"),
            Recovered::Broken { fault, .. } => panic!("{}", fault.chain()),
        }
    }

    fn broken(&self) -> String {
        match self.recover() {
            Recovered::Broken { fault, .. } => fault.chain(),
            Recovered::Nothing | Recovered::Whole(_) => panic!("not broken"),
        }
    }

    fn file(&self, seq: u64) -> PathBuf {
        let name = file::batch_name(Seq(seq));
        self.folder.path().join("spool/cong_dan.citizens/epoch-000000000001").join(name)
    }

    fn record_receipt(&self, spool: &Spool, seq: u64) {
        let header = self.whole_header(spool, seq);
        let receipt = Receipt {
            v: 1,
            agent: identity().agent,
            dataset: self.dataset.clone(),
            epoch: Epoch(1),
            seq: Seq(seq),
            header,
            transfer: seq,
            committed_at: Timestamp::UNIX_EPOCH,
        };
        let receipt = SignedReceipt::sign(receipt, &identity().key);
        spool.ledger(&self.dataset, Epoch(1)).record(&[receipt]).unwrap();
    }

    fn whole_header(&self, spool: &Spool, seq: u64) -> Digest {
        let record = spool.stream(&self.dataset, Epoch(1)).read(Seq(seq)).unwrap();
        phusa_protocol::frame::decode(&record.frame).unwrap().signed.digest()
    }

    fn quarantined(&self) -> usize {
        RealDisk.list(&self.folder.path().join("quarantine")).unwrap().len()
    }
}

fn identity() -> BatchIdentity {
    BatchIdentity {
        agent: AgentId::try_from("H57.12/may-1".to_owned()).unwrap(),
        key: SigningKey::from_text("BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=").unwrap(),
        contract: Digest::of(b"contract"),
        mapping: Digest::of(b"mapping"),
    }
}

#[test]
fn a_stream_is_recovered_as_it_was_left() {
    let lab = Lab::new();
    assert!(matches!(lab.recover(), Recovered::Nothing));
    let (spool, writer) = lab.filled(3);
    lab.record_receipt(&spool, 1);
    let recovery = lab.whole();
    assert_eq!(recovery.tail, *writer.tail());
    assert_eq!(recovery.released, Seq(1));
    assert_eq!(recovery.receipted, [Seq(1)]);
    assert_eq!(recovery.waiting.keys().copied().collect::<Vec<_>>(), [Seq(2), Seq(3)]);
    assert_eq!(recovery.resume, Some(crate::source::Resume(b"resume 3".to_vec())));
}

#[test]
fn the_newest_file_carries_the_place_to_resume_from_after_all_others_are_gone() {
    let lab = Lab::new();
    let (spool, writer) = lab.filled(2);
    lab.record_receipt(&spool, 1);
    lab.record_receipt(&spool, 2);
    spool.stream(&lab.dataset, Epoch(1)).delete(Seq(1)).unwrap();
    let recovery = lab.whole();
    assert_eq!((recovery.released, recovery.waiting.len()), (Seq(2), 0));
    assert_eq!(recovery.tail, *writer.tail());
}

#[test]
fn a_position_note_moves_the_place_to_resume_from() {
    let lab = Lab::new();
    let (_, mut writer) = lab.filled(1);
    assert!(!Packed::sample(9, b"").is_note_after(writer.tail()), "it has a row");
    writer.note(&Packed::sample(9, b"")).unwrap();
    let recovery = lab.whole();
    assert_eq!(recovery.resume, Some(crate::source::Resume(b"resume 9".to_vec())));
    assert_eq!(recovery.tail.position, "0/9");
    writer.append(&Packed::sample(10, b"row")).unwrap();
    let recovery = lab.whole();
    let expected = Some(crate::source::Resume(b"resume 10".to_vec()));
    assert_eq!(recovery.resume, expected, "a note is for the batch it was written after");
}

#[test]
fn a_leftover_temporary_is_a_write_that_never_happened() {
    let lab = Lab::new();
    lab.filled(1);
    let temporary = lab.file(2).with_extension("batch.tmp");
    std::fs::write(&temporary, b"half").unwrap();
    assert_eq!(lab.whole().tail.seq, Seq(1));
    assert!(!temporary.exists());
}

#[test]
fn a_damaged_file_and_those_after_it_are_set_aside_and_the_stream_is_read_anew() {
    let lab = Lab::new();
    lab.filled(3);
    let mut bytes = std::fs::read(lab.file(2)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(lab.file(2), bytes).unwrap();
    assert!(lab.broken().contains("000000000002.batch"));
    assert_eq!(lab.quarantined(), 2);
    assert!(lab.file(1).exists());
}

#[test]
fn a_missing_number_and_a_missing_newest_file_are_found() {
    let lab = Lab::new();
    let (spool, _) = lab.filled(3);
    lab.record_receipt(&spool, 3);
    std::fs::remove_file(lab.file(3)).unwrap();
    assert!(lab.broken().contains("batch 3 has a receipt and its file is gone"));
    let lab = Lab::new();
    lab.filled(3);
    std::fs::remove_file(lab.file(2)).unwrap();
    assert!(lab.broken().contains("batch 3 does not follow batch 1"));
}

#[test]
fn a_receipt_line_cut_by_a_crash_counts_as_none_and_spoils_no_other() {
    let lab = Lab::new();
    let (spool, _) = lab.filled(2);
    lab.record_receipt(&spool, 1);
    let ledger = lab.folder.path().join("ledger/cong_dan.citizens/000000000001.jsonl");
    let mut text = std::fs::read(&ledger).unwrap();
    text.truncate(text.len() / 2);
    std::fs::write(&ledger, text).unwrap();
    assert_eq!(lab.whole().released, Seq(0));
    lab.record_receipt(&spool, 1);
    assert_eq!(lab.whole().released, Seq(1));
}

#[test]
fn a_write_that_fails_at_any_step_is_a_fault_and_can_be_made_again() {
    let full = io::ErrorKind::StorageFull;
    let denied = io::ErrorKind::PermissionDenied;
    for (step, kind, code) in [
        ("write_synced", full, Code::DiskFull),
        ("write_synced", denied, Code::DiskFailed),
        ("rename", denied, Code::DiskFailed),
        ("sync_folder", denied, Code::DiskFailed),
    ] {
        let lab = Lab::new();
        let (_, mut writer) = lab.filled(1);
        lab.disk.fail(step, kind);
        let failed = writer.append(&Packed::sample(2, b"row")).unwrap_err();
        assert_eq!(failed.code, code, "{step}");
        lab.disk.heal();
        assert_eq!(writer.append(&Packed::sample(2, b"row")).unwrap().0, Seq(2), "{step}");
        assert_eq!(lab.whole().tail, *writer.tail(), "{step}");
    }
}

#[test]
fn a_full_spool_is_a_fault_until_something_is_deleted() {
    let lab = Lab::new();
    let spool = lab.spool(6_000);
    let stream = spool.open_epoch(&lab.dataset, Epoch(1)).unwrap();
    let mut writer = Writer::new(stream.clone(), Tail::start(), identity());
    let row = vec![1; 3_000];
    writer.append(&Packed::sample(1, &row)).unwrap();
    assert_eq!(writer.append(&Packed::sample(2, &row)).unwrap_err().code, Code::SpoolFull);
    stream.delete(Seq(1)).unwrap();
    assert_eq!(spool.used_bytes(), 0);
    writer.append(&Packed::sample(2, &row)).unwrap();
}

#[test]
fn earlier_epochs_go_only_when_they_are_retired() {
    let lab = Lab::new();
    let (spool, _) = lab.filled(2);
    spool.open_epoch(&lab.dataset, Epoch(2)).unwrap();
    assert_eq!(lab.whole().stream.epoch(), Epoch(2));
    assert!(lab.file(1).exists());
    spool.retire_before(&lab.dataset, Epoch(2)).unwrap();
    assert!(!lab.file(1).exists());
    assert_eq!(spool.used_bytes(), 0);
}

/// Found by the simulation of a province: the read that replaces an earlier epoch waited for ever for
/// the room that this epoch's batches took, which nobody sent any more.
#[test]
fn a_spool_that_an_earlier_epoch_fills_makes_room_for_the_read_that_replaces_it() {
    let lab = Lab::new();
    let spool = lab.spool(6_000);
    let row = vec![1; 3_000];
    let write = |epoch: u64| {
        let stream = spool.open_epoch(&lab.dataset, Epoch(epoch)).unwrap();
        Writer::new(stream, Tail::start(), identity()).append(&Packed::sample(1, &row))
    };
    write(1).unwrap();
    assert_eq!(write(2).unwrap_err().code, Code::SpoolFull);
    assert!(spool.retire_before(&lab.dataset, Epoch(2)).unwrap() >= 3_000);
    assert_eq!(spool.retire_before(&lab.dataset, Epoch(2)).unwrap(), 0);
    write(2).unwrap();
}

#[test]
fn spool_files_can_be_read_by_nobody_else() {
    use std::os::unix::fs::PermissionsExt as _;
    let lab = Lab::new();
    lab.filled(1);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&lab.file(1)), 0o600);
    assert_eq!(mode(lab.file(1).parent().unwrap()), 0o700);
}
