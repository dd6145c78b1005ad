//! What an agent of this version leaves on its disk, kept here as files: each later program reads it, or names why
//! it does not. `UPDATE=state` writes it anew; keep the folders of versions that are in the field.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::identity;
use crate::disk::RealDisk;
use crate::source::Resume;
use crate::spool::record::SealKey;
use crate::spool::{Packed, Recovered, Settings, Spool, Tail, Writer};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::{DatasetId, Epoch, Seq};
use phusa_protocol::receipt::{Receipt, SignedReceipt};
use phusa_protocol::time::Timestamp;
use phusa_protocol::units::ByteSize;

/// Versions whose state lies here.
const VERSIONS: [&str; 1] = ["0.1.0"];

fn id() -> DatasetId {
    DatasetId::new("cong_dan.citizens").unwrap()
}

fn kept(version: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/state").join(version)
}

fn spool(state_dir: &Path) -> Result<Spool, Fault> {
    let settings = Settings {
        state_dir: state_dir.to_owned(),
        key: SealKey::new(&[9; 32]),
        spool_bytes_max: ByteSize(1 << 20),
        disk_reserve: ByteSize(0),
    };
    Spool::open(settings, Arc::new(RealDisk))
}

/// Three batches, of which the first has its receipt.
fn write(folder: &Path) {
    let _before = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).unwrap();
    let spool = spool(folder).unwrap();
    let stream = spool.open_epoch(&id(), Epoch(2)).unwrap();
    let mut writer = Writer::new(stream, Tail::start(), identity());
    let mut first = None;
    for number in 1..=3 {
        let (_, digest) = writer.append(&Packed::sample(number, b"row")).unwrap();
        first.get_or_insert(digest);
    }
    let receipt = Receipt {
        v: 1,
        agent: identity().agent,
        dataset: id(),
        epoch: Epoch(2),
        seq: Seq(1),
        header: first.unwrap(),
        transfer: 41,
        committed_at: Timestamp::UNIX_EPOCH,
    };
    let receipt = SignedReceipt::sign(receipt, &identity().key);
    spool.ledger(&id(), Epoch(2)).record(&[receipt]).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() { copy(&path, &to) } else { fs::copy(&path, &to).map(drop).unwrap() }
    }
}

fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn the_state_that_versions_in_the_field_left_is_read_whole() {
    if std::env::var("UPDATE").is_ok_and(|what| what == "state") {
        write(&kept(VERSIONS[VERSIONS.len() - 1]));
    }
    for version in VERSIONS {
        let folder = tempfile::tempdir().unwrap();
        copy(&kept(version), folder.path());
        let spool = spool(folder.path()).unwrap();
        let recovered = spool.recover(&id()).unwrap();
        let Recovered::Whole(found) = recovered else { panic!("{version}: {recovered:?}") };
        assert_eq!((found.released, found.receipted), (Seq(1), vec![Seq(1)]), "{version}");
        assert_eq!(found.waiting.keys().copied().collect::<Vec<_>>(), [Seq(2), Seq(3)]);
        assert_eq!(found.resume, Some(Resume(b"resume 3".to_vec())), "{version}");
        let receipts = spool.ledger(&id(), Epoch(2)).tail().unwrap();
        assert_eq!((receipts.len(), receipts[0].receipt.transfer), (1, 41), "{version}");
    }
}

#[test]
fn the_state_of_a_newer_form_is_refused_by_name_and_left_as_it_lies() {
    for newer in ["spool.format", "ledger.format"] {
        let folder = tempfile::tempdir().unwrap();
        copy(&kept("0.1.0"), folder.path());
        fs::write(folder.path().join(newer), "2\n").unwrap();
        let before = files(folder.path());
        let refused = spool(folder.path()).unwrap_err();
        assert_eq!(refused.code, Code::StateNewer, "{newer}: {}", refused.chain());
        assert!(refused.chain().contains("form 2"), "{}", refused.chain());
        assert_eq!(files(folder.path()), before, "{newer}");
    }
}
