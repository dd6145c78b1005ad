//! Walks the log's files: every leaf, every tile, and every head that was ever kept for witnesses.

use std::collections::BTreeMap;

use phusa_protocol::checkpoint::Checkpoint;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::keys::PublicKey;
use phusa_protocol::leaf::{Leaf, checksum};
use phusa_protocol::tile::{Asked, Edge, Loaded, TILE_HASHES, Tile, bytes};
use phusa_protocol::tree::Node;
use serde::Serialize;

use super::folder::Folder;

/// What the files came to.
#[derive(Debug, Clone, Serialize)]
pub struct Audited {
    /// Entries in the published log.
    pub entries: u64,
    /// Tiles and bundles compared.
    pub files: u64,
    /// Heads that the log extends, with the cosignatures they bear.
    pub heads: usize,
    /// True cosignatures on them, of the witnesses that are known.
    pub cosignatures: usize,
    /// The root.
    pub root: phusa_protocol::digest::Digest,
}

/// The leaves of the published log, read bundle by bundle.
#[derive(Debug)]
pub struct Leaves {
    folder: Folder,
    size: u64,
    bundle: Option<u64>,
    leaves: Vec<Leaf>,
    tile: (Option<u64>, Loaded),
}

impl Leaves {
    /// Those of the log as it is published now; none before the first checkpoint.
    ///
    /// # Errors
    /// When the checkpoint cannot be read.
    pub fn open(folder: &Folder) -> Result<Self, Fault> {
        let size = folder.checkpoint()?.map_or(0, |checkpoint| checkpoint.head.size);
        Ok(Self {
            folder: folder.clone(),
            size,
            bundle: None,
            leaves: Vec::new(),
            tile: (None, Loaded::default()),
        })
    }

    /// How many there are.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The leaf of an entry; `None` beyond what is published.
    ///
    /// # Errors
    /// [`Code::LogBroken`] when its file is missing or damaged.
    pub fn of(&mut self, number: u64) -> Result<Option<Leaf>, Fault> {
        let Some(index) = number.checked_sub(1).filter(|index| *index < self.size) else {
            return Ok(None);
        };
        let bundle = index / TILE_HASHES;
        if self.bundle != Some(bundle) {
            self.leaves = self.folder.leaves(bundle, self.size)?;
            self.bundle = Some(bundle);
        }
        let place = usize::try_from(index % TILE_HASHES).unwrap_or(usize::MAX);
        Ok(self.leaves.get(place).copied())
    }

    /// Whether a leaf is the one that the tree's lowest tile has there.
    ///
    /// # Errors
    /// [`Code::LogBroken`] when the tile is missing or damaged.
    fn is_in_its_tile(&mut self, number: u64, leaf: &Leaf) -> Result<bool, Fault> {
        let index = number.saturating_sub(1);
        let tile = Tile { level: 0, index: index / TILE_HASHES };
        if self.tile.0 != Some(tile.index) {
            let mut loaded = Loaded::default();
            self.folder.load_tile(&mut loaded, tile, tile.width(self.size))?;
            self.tile = (Some(tile.index), loaded);
        }
        Ok(self.tile.1.node(Node { level: 0, index }) == Some(leaf.hash()))
    }

    /// Whether an entry of the database is the one that was published.
    ///
    /// # Errors
    /// [`Code::LogBroken`] naming the entry when it is not.
    pub fn check(&mut self, number: u64, entry: &str) -> Result<(), Fault> {
        let Some(leaf) = self.of(number)? else { return Ok(()) };
        if leaf.checksum == checksum(entry.as_bytes()) {
            return Ok(());
        }
        Err(broken(number, "is another one in the database than in the published log"))
    }
}

/// Computes the whole tree anew from its leaves and compares it with every tile and every head.
///
/// # Errors
/// [`Code::LogBroken`] naming the first entry, file or head that is wrong.
pub fn files(
    folder: &Folder,
    hub: &[PublicKey],
    heads: &[Checkpoint],
    witnesses: &[PublicKey],
) -> Result<Audited, Fault> {
    let mut leaves = Leaves::open(folder)?;
    let mut by_size: BTreeMap<u64, &Checkpoint> = BTreeMap::new();
    for checkpoint in heads {
        by_size.insert(checkpoint.head.size, checkpoint);
    }
    let (mut edge, mut files, mut cosignatures) = (Edge::default(), 0, 0);
    for number in 1..=leaves.size() {
        let leaf = leaves.of(number)?.ok_or_else(|| broken(number, "has no leaf"))?;
        check_signature(&leaf, hub, number)?;
        if !leaves.is_in_its_tile(number, &leaf)? {
            return Err(broken(number, "has another leaf than its tile of the log says"));
        }
        let mut full = Vec::new();
        edge.push(leaf.hash(), &mut |tile, hashes| full.push((tile, bytes(hashes))));
        for (tile, expected) in full {
            files += 1 + u64::from(tile.level == 0);
            compare(folder, tile, TILE_HASHES, &expected)?;
        }
        if let Some(checkpoint) = by_size.get(&number) {
            if checkpoint.head.root != edge.root() {
                return Err(forked(checkpoint, witnesses));
            }
            cosignatures += signers(checkpoint, witnesses);
        }
    }
    for (tile, hashes) in edge.unfinished() {
        files += 1 + u64::from(tile.level == 0);
        compare(folder, tile, hashes.len() as u64, &bytes(hashes))?;
    }
    let published = folder.checkpoint()?.map(|checkpoint| checkpoint.head.root);
    if published.is_some_and(|root| root != edge.root()) {
        let size = leaves.size();
        let what = format!("the checkpoint of {size} entries has another root than their leaves");
        return Err(Fault::new(Code::LogBroken, what));
    }
    if let Some((size, checkpoint)) = by_size.last_key_value()
        && *size > leaves.size()
    {
        return Err(forked(checkpoint, witnesses));
    }
    let (entries, root) = (leaves.size(), edge.root());
    Ok(Audited { entries, files, heads: by_size.len(), cosignatures, root })
}

fn check_signature(leaf: &Leaf, hub: &[PublicKey], number: u64) -> Result<(), Fault> {
    let own = hub.iter().find(|key| key.hash() == leaf.key_hash);
    let own = own.ok_or_else(|| broken(number, "has a leaf of a key that is not the hub's"))?;
    if leaf.is_signed_by(own) {
        return Ok(());
    }
    Err(broken(number, "has a leaf that the hub did not sign"))
}

fn compare(folder: &Folder, tile: Tile, width: u64, expected: &[u8]) -> Result<(), Fault> {
    let found = folder.read(Asked::Hashes(tile, width))?;
    if found.as_deref() == Some(expected) {
        return Ok(());
    }
    let first = (tile.index * TILE_HASHES) << (8 * tile.level);
    let last = (tile.index * TILE_HASHES + width) << (8 * tile.level);
    let path = tile.path(width);
    let what = format!("entries {} to {last}: log file {path} is not what it was", first + 1);
    Err(Fault::new(Code::LogBroken, what))
}

fn signers(checkpoint: &Checkpoint, witnesses: &[PublicKey]) -> usize {
    witnesses.iter().filter(|key| checkpoint.cosigned_by(key).is_some()).count()
}

fn forked(checkpoint: &Checkpoint, witnesses: &[PublicKey]) -> Fault {
    let signed = witnesses.iter().filter_map(|key| checkpoint.cosigned_by(key));
    let names: Vec<&str> = signed.map(|cosignature| cosignature.name.as_str()).collect();
    let by = if names.is_empty() { "nobody yet".to_owned() } else { names.join(", ") };
    let what = format!(
        "the log does not extend the one it published with {} entries, cosigned by {by}",
        checkpoint.head.size
    );
    Fault::new(Code::LogForked, what)
}

fn broken(number: u64, what: &str) -> Fault {
    Fault::new(Code::LogBroken, format!("entry {number} {what}"))
}
