//! A second copy of the log's files at an independent place, written before each checkpoint is
//! published.
//!
//! Whatever was published can then be put back beside a database from an older backup, so that a hub
//! that lost its machine goes on from the log its agents have cosigned, without a fork (decisions
//! 0016 and 0018). A copy that cannot be written delays nothing: it is said, and caught up with.

use phusa_protocol::checkpoint::Checkpoint;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::tile::{Asked, TILE_HASHES, Tile};
use phusa_protocol::tree::{consistency_plan, extends};

use super::folder::{Folder, Writing};

/// Levels a tree may have: 2^64 leaves.
const LEVELS: u8 = 8;

/// The copy.
#[derive(Debug, Clone)]
pub struct Mirror(Folder);

impl Mirror {
    /// The copy in `log/` below a folder.
    #[must_use]
    pub fn new(folder: Folder) -> Self {
        Self(folder)
    }

    /// Copies what it lacks of the log under this checkpoint, whose tiles are durable in `from`, and
    /// then the checkpoint. All blocking.
    ///
    /// # Errors
    /// [`Code::LogForked`] when the copy holds what this log does not extend: nothing is touched
    /// then. Otherwise the disk's.
    pub fn follow(&self, from: &Folder, head: &Checkpoint) -> Result<(), Fault> {
        if !self.0.is_reachable() {
            let what = "the place of the log's second copy is not there: is it mounted?";
            return Err(Fault::new(Code::DiskFailed, what));
        }
        let known = self.0.checkpoint()?.map(|checkpoint| checkpoint.head);
        let size = known.map_or(0, |known| known.size);
        if let Some(known) = known {
            if known == head.head {
                return Ok(());
            }
            let plan = consistency_plan(known.size, head.head.size);
            let proof = plan
                .map(|plan| {
                    let loaded = from.load(plan.iter().flatten(), head.head.size)?;
                    Ok::<_, Fault>(loaded.proof(&plan))
                })
                .transpose()?
                .flatten();
            let (old, new) = ((known.size, known.root), (head.head.size, head.head.root));
            if !proof.is_some_and(|proof| extends(old, new, &proof)) {
                let what =
                    format!("the copy of the log, of {size} entries, is not a beginning of it");
                return Err(Fault::new(Code::LogForked, what));
            }
        }
        copy(from, &self.0, size, head)
    }

    /// The copy as a log's folder.
    #[must_use]
    pub fn folder(&self) -> &Folder {
        &self.0
    }
}

/// Copies the tiles and leaves of a log of this checkpoint that were not whole at `size`, then the
/// checkpoint.
///
/// # Errors
/// [`Code::LogBroken`] naming a file that is missing; otherwise the disk's.
pub fn copy(from: &Folder, to: &Folder, size: u64, head: &Checkpoint) -> Result<(), Fault> {
    let (mut writing, mut whole) = (Writing::default(), Vec::new());
    let mut put = |asked: Asked| -> Result<(), Fault> {
        let path = asked.path();
        let missing = || Fault::new(Code::LogBroken, format!("log file {path} is missing"));
        let bytes = from.read(asked)?.ok_or_else(missing)?;
        to.write(&mut writing, &path, &bytes)?;
        let (Asked::Hashes(_, width) | Asked::Entries(_, width)) = asked;
        whole.extend((width == TILE_HASHES).then_some(path));
        Ok(())
    };
    for level in 0..LEVELS {
        let mut index = size.checked_shr(u32::from(level) * 8).unwrap_or(0) / TILE_HASHES;
        loop {
            let width = Tile { level, index }.width(head.head.size);
            if width == 0 {
                break;
            }
            put(Asked::Hashes(Tile { level, index }, width))?;
            if level == 0 {
                put(Asked::Entries(index, width))?;
            }
            index += 1;
        }
    }
    to.sync(writing)?;
    to.publish(head)?;
    whole.iter().for_each(|path| to.remove_parts(path));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::writer::Writer;
    use super::*;
    use phusa_protocol::keys::SigningKey;
    use phusa_protocol::leaf::Leaf;

    #[test]
    fn a_copy_follows_every_checkpoint_and_refuses_a_log_that_does_not_extend_it() {
        let key = SigningKey::generate().unwrap();
        let leaves = |first: u64, count: u64| -> Vec<Leaf> {
            (first..first + count).map(|n| Leaf::sign(&n.to_be_bytes(), &key)).collect()
        };
        let place = tempfile::tempdir().unwrap();
        let mirror = Mirror::new(Folder::new(place.path(), key.public()));
        let grow = |dir: &std::path::Path, leaves: &[Leaf]| {
            let folder = Folder::new(dir, key.public());
            let mut writer = Writer::open(&folder).unwrap().unwrap();
            writer.append(leaves).unwrap();
            (writer.publish(&key).unwrap(), folder)
        };
        let dir = tempfile::tempdir().unwrap();
        let mut first = 0;
        for count in [3, 252, 1, 1, 600, 65_000] {
            let (head, folder) = grow(dir.path(), &leaves(first, count));
            first += count;
            mirror.follow(&folder, &head).unwrap();
            mirror.follow(&folder, &head).unwrap();
            // What was copied can be written on.
            let writer = Writer::open(mirror.folder()).unwrap().unwrap();
            assert_eq!(writer.published(), head.head);
        }
        let other = tempfile::tempdir().unwrap();
        let (head, folder) = grow(other.path(), &leaves(7, first + 10));
        assert_eq!(mirror.follow(&folder, &head).unwrap_err().code, Code::LogForked);
        let short = tempfile::tempdir().unwrap();
        let (head, folder) = grow(short.path(), &leaves(0, 3));
        assert_eq!(mirror.follow(&folder, &head).unwrap_err().code, Code::LogForked);
    }
}
