//! The index of one dataset on disk: which rows the warehouse is known to have.
//!
//! One redb file below `index/` of the agent's state folder. Everything in it is sealed with a key
//! derived from the spool's, because it holds keys of records (CB-09). It is written in an order
//! that leaves nothing open after a crash: before changes are handed on, they are noted (`note`);
//! each block says how many of them it brings the total to; when all are durable, they are settled.
//! So at a restart the note and the newest durable block together say what the warehouse has.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use phusa_protocol::digest::Digest;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::{DatasetId, Epoch};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use serde::{Deserialize, Serialize};

use super::piece::{Entry, Step, decode, encode};
use crate::source::settings::Keep;
use crate::source::snapshot::KeyText;

/// Entries of ranges, by the number of the range.
const PIECES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("pieces");

/// Rows sent outside of a comparison since the last one, by a keyed digest of their key.
const RECENT: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("recent");

/// The head and the note.
const SINGLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("single");

const HEAD: &str = "head";
const NOTE: &str = "note";
const NONCE_BYTES: usize = 24;

/// Memory that redb may use for pages; the agent's bound is 60 MB in all.
const CACHE_BYTES: usize = 8 << 20;

/// What is known of the index as a whole.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Head {
    /// Tells this index from any other.
    pub(super) id: String,
    /// The epoch it belongs to.
    pub(super) epoch: Epoch,
    /// Stands for the columns and the order of keys.
    pub(super) identity: String,
    /// The ranges in key order: number and last key, which the last range lacks.
    pub(super) ranges: Vec<(u64, Option<KeyText>)>,
    /// The place in `ranges` that comes next.
    pub(super) next: usize,
    /// Rises with each note.
    pub(super) notes: u64,
    /// How often all ranges were gone through.
    pub(super) passes: u64,
}

impl Head {
    /// Of an index that knows nothing: one range without end.
    pub(super) fn new(epoch: Epoch, identity: String) -> Result<Self, Fault> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|error| {
            Fault::because(Code::Bug, "no randomness from the operating system", error)
        })?;
        let id = id.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        let ranges = vec![(0, None)];
        Ok(Self { id, epoch, identity, ranges, next: 0, notes: 0, passes: 0 })
    }

    /// A number that no range has.
    pub(super) fn free_number(&self) -> u64 {
        self.ranges.iter().map(|(number, _)| number + 1).max().unwrap_or(0)
    }
}

/// Changes that are being handed on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Note {
    /// Which of [`Head::notes`] it is.
    pub(super) number: u64,
    /// Whether they belong to the range that comes next; otherwise to the recent rows.
    pub(super) of_range: bool,
    pub(super) steps: Vec<Step>,
}

/// The file.
pub(super) struct Index {
    database: Database,
    path: PathBuf,
    dataset: DatasetId,
    seal: XChaCha20Poly1305,
    secret: [u8; 32],
}

/// Something that belongs to the index and cannot be used.
#[derive(Debug)]
struct Damaged;

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it was altered, cut, or sealed with another key")
    }
}

impl std::error::Error for Damaged {}

impl Index {
    /// Opens the index of a dataset, or makes an empty one.
    ///
    /// # Errors
    /// `disk_failed`; `source_gap` for a file that is not an index, which is set aside first.
    pub(super) fn open(keep: &Keep, dataset: &DatasetId) -> Result<Self, Fault> {
        let folder = keep.folder();
        let what = |path: &Path| format!("cannot open the index {}", path.display());
        let path = folder.join(format!("{dataset}.redb"));
        std::fs::create_dir_all(folder)
            .map_err(|error| Fault::because(Code::DiskFailed, what(&path), error))?;
        let database = match redb::Builder::new().set_cache_size(CACHE_BYTES).create(&path) {
            Ok(database) => database,
            Err(error) if is_damage(&error) => {
                set_aside(&path)?;
                return Err(Fault::because(Code::SourceGap, what(&path), error));
            }
            Err(error) => return Err(Fault::because(Code::DiskFailed, what(&path), error)),
        };
        let secret = *Digest::of_pair(b"phusa index", keep.secret()).as_bytes();
        let seal = XChaCha20Poly1305::new(&secret.into());
        Ok(Self { database, path, dataset: dataset.clone(), seal, secret })
    }

    /// Forgets everything; what cannot be read is set aside.
    pub(super) fn begin_anew(keep: &Keep, dataset: &DatasetId) -> Result<Self, Fault> {
        let index = match Self::open(keep, dataset) {
            Err(fault) if fault.code == Code::SourceGap => Self::open(keep, dataset)?,
            opened => opened?,
        };
        if index.head().is_ok() {
            index.clear()?;
            return Ok(index);
        }
        let path = index.path.clone();
        drop(index);
        set_aside(&path)?;
        Self::open(keep, dataset)
    }

    /// What it knows of itself; `None` for an empty one.
    pub(super) fn head(&self) -> Result<Option<Head>, Fault> {
        let Some(plain) = self.single(HEAD)? else { return Ok(None) };
        serde_json::from_slice(&plain).map(Some).map_err(|_| self.damaged())
    }

    /// The changes that were being handed on, if any.
    pub(super) fn note(&self) -> Result<Option<Note>, Fault> {
        let Some(plain) = self.single(NOTE)? else { return Ok(None) };
        decode_note(&plain).map(Some).ok_or_else(|| self.damaged())
    }

    /// The entries of a range.
    pub(super) fn entries(&self, number: u64) -> Result<Vec<Entry>, Fault> {
        let read = || -> Result<Option<Vec<u8>>, redb::Error> {
            let tx = self.database.begin_read()?;
            let table = match tx.open_table(PIECES) {
                Ok(table) => table,
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            Ok(table.get(number)?.map(|sealed| sealed.value().to_vec()))
        };
        let Some(sealed) = read().map_err(|error| self.failed(error))? else {
            return Ok(Vec::new());
        };
        let plain = self.open_seal(&format!("piece {number}"), &sealed)?;
        decode(&plain).ok_or_else(|| self.damaged())
    }

    /// The rows sent outside of a comparison since the last one.
    pub(super) fn recent(&self) -> Result<BTreeMap<Box<[u8]>, u128>, Fault> {
        let read = || -> Result<Vec<Vec<u8>>, redb::Error> {
            let tx = self.database.begin_read()?;
            let table = match tx.open_table(RECENT) {
                Ok(table) => table,
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            };
            let mut all = Vec::new();
            for pair in table.iter()? {
                all.push(pair?.1.value().to_vec());
            }
            Ok(all)
        };
        let mut recent = BTreeMap::new();
        for sealed in read().map_err(|error| self.failed(error))? {
            let plain = self.open_seal("recent", &sealed)?;
            for entry in decode(&plain).ok_or_else(|| self.damaged())? {
                recent.insert(entry.key, entry.digest);
            }
        }
        Ok(recent)
    }

    /// Makes `write` durable, all or nothing.
    pub(super) fn write(&self, write: &Write<'_>) -> Result<(), Fault> {
        let pieces: Vec<(u64, Vec<u8>)> = write
            .pieces
            .iter()
            .map(|(number, entries)| {
                let sealed = self.seal(&format!("piece {number}"), &encode(entries))?;
                Ok((*number, sealed))
            })
            .collect::<Result<_, Fault>>()?;
        let recent: Vec<(u128, Option<Vec<u8>>)> = write
            .recent
            .iter()
            .map(|step| {
                let entry = |digest| Entry { key: step.key.clone(), digest };
                let plain = step.digest.map(|digest| encode(&[entry(digest)]));
                let sealed = plain.map(|plain| self.seal("recent", &plain)).transpose()?;
                Ok((self.hidden(&step.key), sealed))
            })
            .collect::<Result<_, Fault>>()?;
        let head = serde_json::to_vec(write.head).map_err(|error| self.failed(error))?;
        let head = self.seal(HEAD, &head)?;
        let note = write.note.map(|note| self.seal(NOTE, &encode_note(note))).transpose()?;
        let commit = || -> Result<(), redb::Error> {
            let tx = self.database.begin_write()?;
            {
                let mut table = tx.open_table(PIECES)?;
                for number in write.dropped {
                    table.remove(number)?;
                }
                for (number, sealed) in &pieces {
                    table.insert(number, sealed.as_slice())?;
                }
                let mut table = tx.open_table(RECENT)?;
                for (hidden, sealed) in &recent {
                    match sealed {
                        Some(sealed) => table.insert(hidden, sealed.as_slice())?,
                        None => table.remove(hidden)?,
                    };
                }
                let mut table = tx.open_table(SINGLE)?;
                table.insert(HEAD, head.as_slice())?;
                match &note {
                    Some(note) => table.insert(NOTE, note.as_slice())?,
                    None => table.remove(NOTE)?,
                };
            }
            tx.commit()?;
            Ok(())
        };
        commit().map_err(|error| self.failed(error))
    }

    /// Forgets everything.
    pub(super) fn clear(&self) -> Result<(), Fault> {
        let clear = || -> Result<(), redb::Error> {
            let tx = self.database.begin_write()?;
            tx.delete_table(PIECES)?;
            tx.delete_table(RECENT)?;
            tx.delete_table(SINGLE)?;
            tx.commit()?;
            Ok(())
        };
        clear().map_err(|error| self.failed(error))
    }

    fn failed(&self, error: impl std::error::Error + Send + Sync + 'static) -> Fault {
        let what = format!("cannot use the index {}", self.path.display());
        Fault::because(Code::DiskFailed, what, error)
    }

    fn damaged(&self) -> Fault {
        let what = format!("the index {} cannot be used", self.path.display());
        Fault::because(Code::SourceGap, what, Damaged)
    }

    fn single(&self, name: &str) -> Result<Option<Vec<u8>>, Fault> {
        let read = || -> Result<Option<Vec<u8>>, redb::Error> {
            let tx = self.database.begin_read()?;
            let table = match tx.open_table(SINGLE) {
                Ok(table) => table,
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            Ok(table.get(name)?.map(|sealed| sealed.value().to_vec()))
        };
        let sealed = read().map_err(|error| self.failed(error))?;
        sealed.map(|sealed| self.open_seal(name, &sealed)).transpose()
    }

    fn seal(&self, place: &str, plain: &[u8]) -> Result<Vec<u8>, Fault> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|_| self.damaged())?;
        let aad = format!("index:{}:{place}", self.dataset);
        let payload = Payload { msg: plain, aad: aad.as_bytes() };
        let sealed = self.seal.encrypt(&XNonce::from(nonce), payload);
        let sealed = sealed.map_err(|_| self.damaged())?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    fn open_seal(&self, place: &str, sealed: &[u8]) -> Result<Vec<u8>, Fault> {
        let (nonce, sealed) =
            sealed.split_first_chunk::<NONCE_BYTES>().ok_or_else(|| self.damaged())?;
        let aad = format!("index:{}:{place}", self.dataset);
        let payload = Payload { msg: sealed, aad: aad.as_bytes() };
        self.seal.decrypt(&XNonce::from(*nonce), payload).map_err(|_| self.damaged())
    }

    /// Stands for a key without telling it to whoever reads the file.
    fn hidden(&self, key: &[u8]) -> u128 {
        let digest = Digest::of_pair(&self.secret, key);
        digest.as_bytes().first_chunk::<16>().map_or(0, |half| u128::from_be_bytes(*half))
    }
}

/// What one durable step changes.
#[derive(Debug)]
pub(super) struct Write<'a> {
    pub(super) head: &'a Head,
    /// Ranges with their entries from now on.
    pub(super) pieces: &'a [(u64, &'a [Entry])],
    /// Ranges that are no more.
    pub(super) dropped: &'a [u64],
    /// Rows that become recent, or cease to be.
    pub(super) recent: &'a [Step],
    /// The note from now on.
    pub(super) note: Option<&'a Note>,
}

impl<'a> Write<'a> {
    /// Nothing but the head.
    pub(super) fn of(head: &'a Head) -> Self {
        Self { head, pieces: &[], dropped: &[], recent: &[], note: None }
    }
}

/// Number, a byte, and for each step a byte, the key's length, the key, the digest.
fn encode_note(note: &Note) -> Vec<u8> {
    let mut out = note.number.to_be_bytes().to_vec();
    out.push(u8::from(note.of_range));
    for Step { key, digest } in &note.steps {
        out.push(u8::from(digest.is_some()));
        out.extend_from_slice(&u32::try_from(key.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(key);
        out.extend_from_slice(&digest.unwrap_or(0).to_be_bytes());
    }
    out
}

fn decode_note(bytes: &[u8]) -> Option<Note> {
    let (number, bytes) = bytes.split_first_chunk::<8>()?;
    let (of_range, mut bytes) = bytes.split_first()?;
    let mut steps = Vec::new();
    while let Some((stays, rest)) = bytes.split_first() {
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (key, rest) = rest.split_at_checked(length)?;
        let (digest, rest) = rest.split_first_chunk::<16>()?;
        let digest = (*stays == 1).then(|| u128::from_be_bytes(*digest));
        steps.push(Step { key: key.into(), digest });
        bytes = rest;
    }
    Some(Note { number: u64::from_be_bytes(*number), of_range: *of_range == 1, steps })
}

fn is_damage(error: &redb::DatabaseError) -> bool {
    use std::io::ErrorKind;

    use redb::{DatabaseError, StorageError};
    let DatabaseError::Storage(error) = error else {
        return matches!(error, DatabaseError::UpgradeRequired(_));
    };
    let StorageError::Io(error) = error else {
        return matches!(error, StorageError::Corrupted(_));
    };
    matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof)
}

/// Nothing unreadable is deleted: the file gets another name, under which people can look at it.
fn set_aside(path: &Path) -> Result<(), Fault> {
    let to = path.with_extension("damaged");
    std::fs::rename(path, &to).map_err(|error| {
        let what = format!("cannot set the damaged index {} aside", path.display());
        Fault::because(Code::DiskFailed, what, error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(folder: &Path) -> Keep {
        Keep::new(folder.join("index"), [7; 32])
    }

    #[test]
    fn what_was_written_is_there_after_opening_again_and_lies_sealed() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = DatasetId::new("cong_dan.people").unwrap();
        let index = Index::open(&keep(folder.path()), &dataset).unwrap();
        assert_eq!(index.head().unwrap(), None);
        let head = Head::new(Epoch(3), "CHIM-HOANG-YEN".to_owned()).unwrap();
        let key = || Box::from(b"CHIM-HOANG-YEN".as_slice());
        let entries = vec![Entry { key: key(), digest: 5 }];
        let steps = vec![Step { key: key(), digest: Some(6) }];
        let note = Note { number: 1, of_range: true, steps: steps.clone() };
        let pieces = [(0, entries.as_slice())];
        let write =
            Write { pieces: &pieces, recent: &steps, note: Some(&note), ..Write::of(&head) };
        index.write(&write).unwrap();
        drop(index);
        let index = Index::open(&keep(folder.path()), &dataset).unwrap();
        assert_eq!(index.head().unwrap(), Some(head.clone()));
        assert_eq!(index.entries(0).unwrap(), entries);
        assert_eq!(index.note().unwrap(), Some(note));
        assert_eq!(index.recent().unwrap(), BTreeMap::from([(key(), 6)]));
        let gone = [Step { key: key(), digest: None }];
        index.write(&Write { recent: &gone, dropped: &[0], ..Write::of(&head) }).unwrap();
        assert_eq!(index.note().unwrap(), None);
        assert!(index.recent().unwrap().is_empty() && index.entries(0).unwrap().is_empty());
        index.clear().unwrap();
        assert_eq!(index.head().unwrap(), None);
        drop(index);
        let bytes = std::fs::read(folder.path().join("index/cong_dan.people.redb")).unwrap();
        assert!(!bytes.windows(14).any(|window| window == b"CHIM-HOANG-YEN"));
    }

    #[test]
    fn a_file_that_is_no_index_is_set_aside_and_a_new_one_made() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = DatasetId::new("cong_dan.people").unwrap();
        drop(Index::open(&keep(folder.path()), &dataset).unwrap());
        let path = folder.path().join("index/cong_dan.people.redb");
        std::fs::write(&path, b"something else").unwrap();
        let refused = Index::open(&keep(folder.path()), &dataset).err().unwrap();
        assert_eq!(refused.code, Code::SourceGap);
        assert_eq!(std::fs::read(path.with_extension("damaged")).unwrap(), b"something else");
        let index = Index::open(&keep(folder.path()), &dataset).unwrap();
        assert_eq!(index.head().unwrap(), None);
    }

    #[test]
    fn another_key_opens_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = DatasetId::new("cong_dan.people").unwrap();
        let index = Index::open(&keep(folder.path()), &dataset).unwrap();
        index.write(&Write::of(&Head::new(Epoch(1), String::new()).unwrap())).unwrap();
        drop(index);
        let other = Keep::new(folder.path().join("index"), [8; 32]);
        let index = Index::open(&other, &dataset).unwrap();
        assert_eq!(index.head().unwrap_err().code, Code::SourceGap);
        drop(index);
        let index = Index::begin_anew(&other, &dataset).unwrap();
        assert_eq!(index.head().unwrap(), None);
        assert!(folder.path().join("index/cong_dan.people.damaged").exists());
    }
}
