//! A Merkle tree cut into tiles of 256 hashes, as C2SP tlog-tiles names and fills them.
//!
//! A tile of level L holds hashes of subtrees of height 8·L. [`Edge`] is what a log must keep to
//! grow: its last, unfinished tiles. [`Loaded`] answers plans of [`crate::tree`] from tiles that
//! somebody has read. No file and no request here, only names and bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::digest::Digest;
use crate::tree::{Node, cover, fold, node_hash};

/// Hashes in a full tile.
pub const TILE_HASHES: u64 = 256;

/// Levels below each other in one tile.
const TILE_HEIGHT: u8 = 8;

/// A tile's place in the tree; how full it is depends on the tree's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tile {
    /// 0 for tiles over leaves, 1 above them, up to 7.
    pub level: u8,
    /// Its place among those of its level.
    pub index: u64,
}

impl Tile {
    /// How many hashes it holds in a tree of this size; 0 where it is not there.
    #[must_use]
    pub fn width(self, size: u64) -> u64 {
        let hashes = size.checked_shr(u32::from(self.level * TILE_HEIGHT)).unwrap_or(0);
        hashes.saturating_sub(self.index.saturating_mul(TILE_HASHES)).min(TILE_HASHES)
    }

    /// `tile/<level>/<index>`, with `.p/<width>` when it is not full.
    #[must_use]
    pub fn path(self, width: u64) -> String {
        format!("tile/{}/{}{}", self.level, Place(self.index), Part(width))
    }

    /// The tile in which a node's hash is found or made from.
    #[must_use]
    pub fn of(node: Node) -> Self {
        let level = node.level / TILE_HEIGHT;
        let first = node.index << (node.level % TILE_HEIGHT);
        Self { level, index: first / TILE_HASHES }
    }
}

/// `tile/entries/<index>`, with `.p/<width>` when it is not full.
#[must_use]
pub fn entries_path(index: u64, width: u64) -> String {
    format!("tile/entries/{}{}", Place(index), Part(width))
}

/// What a path below `tile/` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Hashes.
    Hashes(Tile, u64),
    /// Leaves, 256 or as many as are said.
    Entries(u64, u64),
}

impl Asked {
    /// Reads a path such as `tile/0/x001/x234/067.p/8`; `None` when it is none that is ever made.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let (level, rest) = path.strip_prefix("tile/")?.split_once('/')?;
        let (place, width) = match rest.split_once(".p/") {
            Some((place, width)) => (place, width.parse().ok()?),
            None => (rest, TILE_HASHES),
        };
        let digits: String = place.split('/').map(|part| part.trim_start_matches('x')).collect();
        let index = digits.parse().ok()?;
        let asked = match level {
            "entries" => Self::Entries(index, width),
            level => Self::Hashes(Tile { level: level.parse().ok()?, index }, width),
        };
        // Whatever is written otherwise than we write it is not there.
        let level_exists = !matches!(asked, Self::Hashes(tile, _) if tile.level > 7);
        (level_exists && (1..=TILE_HASHES).contains(&width) && asked.path() == path)
            .then_some(asked)
    }

    /// The path that asks for it.
    #[must_use]
    pub fn path(self) -> String {
        match self {
            Self::Hashes(tile, width) => tile.path(width),
            Self::Entries(index, width) => entries_path(index, width),
        }
    }
}

/// A number in groups of three digits, all but the last with an `x`.
struct Place(u64);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 >= 1_000 {
            let mut above = self.0 / 1_000;
            let mut groups = Vec::new();
            while above > 0 {
                groups.push(above % 1_000);
                above /= 1_000;
            }
            groups.iter().rev().try_for_each(|group| write!(f, "x{group:03}/"))?;
        }
        write!(f, "{:03}", self.0 % 1_000)
    }
}

struct Part(u64);

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < TILE_HASHES { write!(f, ".p/{}", self.0) } else { Ok(()) }
    }
}

/// Tiles that somebody has read.
#[derive(Debug, Clone, Default)]
pub struct Loaded(BTreeMap<Tile, Vec<Digest>>);

impl Loaded {
    /// The tiles a plan is answered from.
    #[must_use]
    pub fn needed<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> BTreeSet<Tile> {
        nodes.into_iter().map(|node| Tile::of(*node)).collect()
    }

    /// Whether a tile is here with at least so many hashes.
    #[must_use]
    pub fn has(&self, tile: Tile, width: u64) -> bool {
        self.0.get(&tile).is_some_and(|hashes| hashes.len() as u64 >= width)
    }

    /// Takes a tile's bytes; false when they are not whole hashes.
    #[must_use]
    pub fn add(&mut self, tile: Tile, bytes: &[u8]) -> bool {
        let (hashes, rest) = bytes.as_chunks::<32>();
        self.0.insert(tile, hashes.iter().map(|hash| Digest::from_bytes(*hash)).collect());
        rest.is_empty()
    }

    /// The hash of a complete subtree, where its tile is here.
    #[must_use]
    pub fn node(&self, node: Node) -> Option<Digest> {
        let inside = node.level % TILE_HEIGHT;
        let first = (node.index << inside) % TILE_HASHES;
        let range = usize::try_from(first).ok()?..usize::try_from(first + (1 << inside)).ok()?;
        Some(complete(self.0.get(&Tile::of(node))?.get(range)?))
    }

    /// The hash over the neighbouring subtrees of one step of a plan.
    #[must_use]
    pub fn hash(&self, nodes: &[Node]) -> Option<Digest> {
        let hashes: Option<Vec<_>> = nodes.iter().map(|node| self.node(*node)).collect();
        Some(fold(&hashes?))
    }

    /// The proof that a plan describes.
    #[must_use]
    pub fn proof(&self, plan: &[Vec<Node>]) -> Option<Vec<Digest>> {
        plan.iter().map(|nodes| self.hash(nodes)).collect()
    }
}

/// The hash over a power of two of hashes.
fn complete(hashes: &[Digest]) -> Digest {
    let mut row = hashes.to_vec();
    while row.len() > 1 {
        row = row.chunks(2).map(fold).collect();
    }
    row.first().copied().unwrap_or(Digest::ZERO)
}

/// The right edge of a growing tree: its unfinished tiles, level by level.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    levels: Vec<Vec<Digest>>,
}

impl Edge {
    /// The unfinished tiles a tree of this size has; none are read for the empty one.
    #[must_use]
    pub fn tiles(size: u64) -> Vec<(Tile, u64)> {
        let levels = 0..=7_u8;
        let last = |level: u8| {
            let hashes = size >> (level * TILE_HEIGHT);
            let tile = Tile { level, index: hashes / TILE_HASHES };
            (tile, hashes % TILE_HASHES)
        };
        levels.map(last).filter(|(_, width)| *width > 0).collect()
    }

    /// The edge of a tree of this size, from its unfinished tiles; `None` when one is missing.
    #[must_use]
    pub fn load(size: u64, loaded: &Loaded) -> Option<Self> {
        let mut edge = Self { size, levels: Vec::new() };
        for (tile, width) in Self::tiles(size) {
            let hashes = loaded.0.get(&tile)?.get(..usize::try_from(width).ok()?)?;
            edge.levels.resize_with(usize::from(tile.level), Vec::new);
            edge.levels.push(hashes.to_vec());
        }
        Some(edge)
    }

    /// Leaves in the tree.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf; tiles it fills are handed to `full`.
    pub fn push(&mut self, leaf: Digest, full: &mut impl FnMut(Tile, &[Digest])) {
        self.size += 1;
        let (mut carried, mut level) = (leaf, 0_u8);
        loop {
            if self.levels.len() <= usize::from(level) {
                self.levels.push(Vec::new());
            }
            let Some(hashes) = self.levels.get_mut(usize::from(level)) else { return };
            hashes.push(carried);
            if (hashes.len() as u64) < TILE_HASHES {
                return;
            }
            let index = (self.size >> (level * TILE_HEIGHT)) / TILE_HASHES - 1;
            full(Tile { level, index }, hashes);
            carried = complete(hashes);
            hashes.clear();
            level += 1;
        }
    }

    /// The unfinished tiles with their hashes.
    pub fn unfinished(&self) -> impl Iterator<Item = (Tile, &[Digest])> {
        let filled = |(tile, _): &(Tile, u64)| self.levels.get(usize::from(tile.level));
        let tiles = Self::tiles(self.size).into_iter();
        tiles.filter_map(move |tile| Some((tile.0, filled(&tile)?.as_slice())))
    }

    /// The tree's root.
    #[must_use]
    pub fn root(&self) -> Digest {
        let mut root = None;
        for hashes in &self.levels {
            for node in cover(0, hashes.len() as u64).iter().rev() {
                let from = usize::try_from(node.index << node.level).unwrap_or(usize::MAX);
                let to = from.saturating_add(1 << node.level);
                let hash = complete(hashes.get(from..to).unwrap_or_default());
                root = Some(root.map_or(hash, |right| node_hash(hash, right)));
            }
        }
        root.unwrap_or_else(crate::tree::empty_root)
    }
}

/// The bytes of a tile.
#[must_use]
pub fn bytes(hashes: &[Digest]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{consistency_plan, extends, includes, inclusion_plan, leaf_hash};

    #[test]
    fn paths_are_those_of_the_specification_and_no_others_are_read() {
        let tile = Tile { level: 1, index: 1_234_067 };
        assert_eq!(tile.path(256), "tile/1/x001/x234/067");
        assert_eq!(tile.path(8), "tile/1/x001/x234/067.p/8");
        assert_eq!(entries_path(0, 256), "tile/entries/000");
        for path in ["tile/1/x001/x234/067.p/8", "tile/entries/x001/000", "tile/0/000.p/255"] {
            assert_eq!(Asked::parse(path).map(Asked::path).as_deref(), Some(path));
        }
        for path in
            ["tile/0/0", "tile/0/000.p/0", "tile/0/000.p/256", "tile/8/000", "tile/0/../000", "key"]
        {
            assert_eq!(Asked::parse(path), None, "{path}");
        }
    }

    #[test]
    fn a_growing_tree_answers_every_proof_from_its_tiles() {
        let sizes = [1, 2, 255, 256, 257, 513, 65_535, 65_536, 65_537, 66_000];
        let indexes = |n: u64| [0, n / 2, n.saturating_sub(1), n];
        let wanted: BTreeSet<u64> = sizes.iter().flat_map(|size| indexes(size - 1)).collect();
        let (mut edge, mut loaded) = (Edge::default(), Loaded::default());
        let mut roots = BTreeMap::from([(0, crate::tree::empty_root())]);
        let leaf = |n: u64| leaf_hash(&n.to_be_bytes());
        for n in 0..66_000_u64 {
            edge.push(leaf(n), &mut |tile, hashes| assert!(loaded.add(tile, &bytes(hashes))));
            if wanted.contains(&(n + 1)) {
                roots.insert(n + 1, edge.root());
            }
            if !sizes.contains(&(n + 1)) {
                continue;
            }
            let mut now = loaded.clone();
            for (tile, hashes) in edge.unfinished() {
                assert_eq!(tile.width(edge.size()), hashes.len() as u64);
                assert!(now.add(tile, &bytes(hashes)));
            }
            assert_eq!(Edge::load(n + 1, &now).map(|edge| edge.root()), Some(edge.root()));
            let head = (n + 1, edge.root());
            for index in indexes(n) {
                let plan = inclusion_plan(index, n + 1).unwrap();
                let proof = now.proof(&plan).unwrap();
                assert!(includes(leaf(index), index, head, &proof), "{index} of {n}");
                let plan = consistency_plan(index, n + 1).unwrap();
                let proof = now.proof(&plan).unwrap();
                assert!(extends((index, roots[&index]), head, &proof), "{index} to {n}");
            }
        }
    }
}
