//! Appends leaves to the log's folder and publishes checkpoints; the one writer of these files.

use phusa_protocol::checkpoint::{Checkpoint, Head};
use phusa_protocol::digest::Digest;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::keys::SigningKey;
use phusa_protocol::leaf::{Leaf, bundle};
use phusa_protocol::tile::{Edge, Loaded, TILE_HASHES, Tile, bytes, entries_path};
use phusa_protocol::tree::empty_root;

use super::folder::{Folder, Lock, Writing};
use super::mirror::Mirror;
use crate::failpoint::{self, Point};

/// The log's end, with the right to write on.
#[derive(Debug)]
pub struct Writer {
    folder: Folder,
    _lock: Lock,
    edge: Edge,
    /// Leaves of the last, unfinished bundle.
    leaves: Vec<Leaf>,
    published: Head,
    writing: Writing,
    /// Tiles that became whole since the last checkpoint.
    filled: Vec<String>,
    /// Where a second copy is kept.
    mirror: Option<Mirror>,
    /// Why the second copy is not what was published last.
    behind: Option<Fault>,
}

impl Writer {
    /// Opens the log at its checkpoint, whose tiles must lead to its root; `None` while another
    /// process writes.
    ///
    /// # Errors
    /// [`Code::LogBroken`] when they do not.
    pub fn open(folder: &Folder) -> Result<Option<Self>, Fault> {
        let Some(lock) = folder.lock()? else { return Ok(None) };
        let published = match folder.checkpoint()? {
            Some(checkpoint) => checkpoint.head,
            None => Head { size: 0, root: empty_root() },
        };
        let mut loaded = Loaded::default();
        for (tile, width) in Edge::tiles(published.size) {
            folder.load_tile(&mut loaded, tile, width)?;
        }
        let broken = |what: &str| {
            let size = published.size;
            let what = format!("the published log of {size} entries: {what}");
            Fault::new(Code::LogBroken, what)
        };
        let edge = Edge::load(published.size, &loaded).ok_or_else(|| broken("tiles missing"))?;
        if edge.root() != published.root {
            return Err(broken("its tiles do not lead to its root"));
        }
        let leaves = match published.size % TILE_HASHES {
            0 => Vec::new(),
            _ => folder.leaves(published.size / TILE_HASHES, published.size)?,
        };
        let below: Vec<Digest> = leaves.iter().map(Leaf::hash).collect();
        let is_same = edge.unfinished().all(|(tile, hashes)| tile.level > 0 || hashes == below);
        if !is_same {
            return Err(broken("its last leaves are not those of its tiles"));
        }
        let (folder, writing) = (folder.clone(), Writing::default());
        let filled = Vec::new();
        let (mirror, behind) = (None, None);
        let writer =
            Self { folder, _lock: lock, edge, leaves, published, writing, filled, mirror, behind };
        Ok(Some(writer))
    }

    /// Keeps a second copy, which is brought up to the log now and before each checkpoint is
    /// published.
    #[must_use]
    pub fn mirrored(self, mirror: Option<Mirror>) -> Self {
        let follow = |to: &Mirror| match self.folder.checkpoint()? {
            Some(checkpoint) => to.follow(&self.folder, &checkpoint),
            None => Ok(()),
        };
        let behind = mirror.as_ref().map(follow).and_then(Result::err);
        Self { mirror, behind, ..self }
    }

    /// Why the second copy is not what was published last; `None` when it is, or there is none.
    #[must_use]
    pub fn behind(&self) -> Option<&Fault> {
        self.behind.as_ref()
    }

    /// What was published last.
    #[must_use]
    pub fn published(&self) -> Head {
        self.published
    }

    /// The tree as it would be published now.
    #[must_use]
    pub fn edge(&self) -> Edge {
        self.edge.clone()
    }

    /// What would be published now.
    #[must_use]
    pub fn head(&self) -> Head {
        Head { size: self.edge.size(), root: self.edge.root() }
    }

    /// Adds leaves; whole tiles are written at once.
    ///
    /// # Errors
    /// When the disk fails; the writer must then be opened anew.
    pub fn append(&mut self, leaves: &[Leaf]) -> Result<(), Fault> {
        for leaf in leaves {
            let mut full = Vec::new();
            self.edge.push(leaf.hash(), &mut |tile, hashes| full.push((tile, bytes(hashes))));
            self.leaves.push(*leaf);
            for (tile, bytes) in full {
                self.write_whole(tile.path(TILE_HASHES), &bytes)?;
                if tile.level == 0 {
                    let leaves = std::mem::take(&mut self.leaves);
                    self.write_whole(entries_path(tile.index, TILE_HASHES), &bundle(&leaves))?;
                }
            }
        }
        Ok(())
    }

    fn write_whole(&mut self, path: String, bytes: &[u8]) -> Result<(), Fault> {
        self.folder.write(&mut self.writing, &path, bytes)?;
        self.filled.push(path);
        Ok(())
    }

    /// Writes what is unfinished, makes all of it durable and signs and publishes the checkpoint.
    ///
    /// # Errors
    /// When the disk fails; what was published before then still stands.
    pub fn publish(&mut self, key: &SigningKey) -> Result<Checkpoint, Fault> {
        let unfinished: Vec<(Tile, Vec<u8>)> =
            self.edge.unfinished().map(|(tile, hashes)| (tile, bytes(hashes))).collect();
        for (tile, bytes) in unfinished {
            let path = tile.path(bytes.len() as u64 / 32);
            self.folder.write(&mut self.writing, &path, &bytes)?;
        }
        if !self.leaves.is_empty() {
            let path = entries_path(self.edge.size() / TILE_HASHES, self.leaves.len() as u64);
            self.folder.write(&mut self.writing, &path, &bundle(&self.leaves))?;
        }
        self.folder.sync(std::mem::take(&mut self.writing))?;
        failpoint::pass(Point::LogTilesDurable);
        let checkpoint = Checkpoint::sign(self.head(), key);
        let followed = self.mirror.as_ref().map(|to| to.follow(&self.folder, &checkpoint));
        self.behind = followed.and_then(Result::err);
        self.folder.publish(&checkpoint)?;
        failpoint::pass(Point::LogPublished);
        self.published = checkpoint.head;
        self.filled.drain(..).for_each(|path| self.folder.remove_parts(&path));
        Ok(checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phusa_protocol::tree::{consistency_plan, extends, includes, inclusion_plan};

    fn leaf(n: u64, key: &SigningKey) -> Leaf {
        Leaf::sign(&n.to_be_bytes(), key)
    }

    fn open(folder: &Folder) -> Writer {
        Writer::open(folder).unwrap().unwrap()
    }

    #[test]
    fn a_log_goes_on_where_its_checkpoint_stands_and_every_checkpoint_extends_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::generate().unwrap();
        let folder = Folder::new(dir.path(), key.public());
        let (mut last, mut next) = (None::<Head>, 0);
        for count in [1, 3, 251, 1, 1, 300, 255, 70] {
            let mut writer = open(&folder);
            assert!(Writer::open(&folder).unwrap().is_none(), "two writers");
            // What a crash leaves beyond the checkpoint is written again, the same.
            let leaves: Vec<Leaf> = (next..next + count).map(|n| leaf(n, &key)).collect();
            writer.append(&leaves).unwrap();
            drop(writer);
            let mut writer = open(&folder);
            writer.append(&leaves).unwrap();
            let head = writer.publish(&key).unwrap().head;
            next += count;
            assert_eq!(folder.checkpoint().unwrap().unwrap().head, head);
            for index in [0, next / 2, next - 1] {
                let plan = inclusion_plan(index, next).unwrap();
                let loaded = folder.load(plan.iter().flatten(), next).unwrap();
                let proof = loaded.proof(&plan).unwrap();
                let hash = folder.leaves(index / 256, next).unwrap()
                    [usize::try_from(index % 256).unwrap()]
                .hash();
                assert!(includes(hash, index, (next, head.root), &proof), "{index} of {next}");
            }
            if let Some(last) = last {
                let plan = consistency_plan(last.size, next).unwrap();
                let loaded = folder.load(plan.iter().flatten(), next).unwrap();
                let (old, new) = ((last.size, last.root), (next, head.root));
                assert!(extends(old, new, &loaded.proof(&plan).unwrap()), "to {next}");
            }
            last = Some(head);
        }
    }

    #[test]
    fn a_log_whose_files_do_not_lead_to_its_checkpoint_is_not_written_on() {
        let key = SigningKey::generate().unwrap();
        let check = |path: &str, alter: fn(&std::path::Path)| {
            let dir = tempfile::tempdir().unwrap();
            let folder = Folder::new(dir.path(), key.public());
            let mut writer = open(&folder);
            let leaves: Vec<Leaf> = (0..300).map(|n| leaf(n, &key)).collect();
            writer.append(&leaves).unwrap();
            writer.publish(&key).unwrap();
            drop(writer);
            alter(&dir.path().join("log").join(path));
            let fault = Writer::open(&folder).unwrap_err();
            assert_eq!(fault.code, Code::LogBroken, "{path}");
        };
        let flip = |file: &std::path::Path| {
            let mut bytes = std::fs::read(file).unwrap();
            bytes[40] ^= 1;
            std::fs::write(file, bytes).unwrap();
        };
        let cut = |file: &std::path::Path| {
            let bytes = std::fs::read(file).unwrap();
            std::fs::write(file, &bytes[..32]).unwrap();
        };
        for path in ["tile/0/001.p/44", "tile/entries/001.p/44", "tile/1/000.p/1", "checkpoint"] {
            let remove = |file: &std::path::Path| std::fs::remove_file(file).unwrap();
            if path != "tile/1/000.p/1" {
                check(path, flip);
                check(path, cut);
            }
            if path != "checkpoint" {
                check(path, remove);
            }
        }
    }
}
