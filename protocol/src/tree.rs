//! The Merkle tree of RFC 6962: hashes, what a proof is made of, and whether one holds.
//!
//! Nothing here reads anything: a plan says which complete subtrees are needed, whoever has them
//! hashes them together. Proofs are checked as RFC 9162 (2.1.3.2, 2.1.4.2) says.

use sha2::{Digest as _, Sha256};

use crate::digest::Digest;

/// A complete subtree: `1 << level` leaves, beginning at leaf `index << level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    /// Its height; 0 is a leaf.
    pub level: u8,
    /// Its place among those of its height.
    pub index: u64,
}

/// The hash of a leaf with these bytes.
#[must_use]
pub fn leaf_hash(leaf: &[u8]) -> Digest {
    Digest::of_pair(&[0], leaf)
}

/// The hash of the node above `left` and `right`.
#[must_use]
pub fn node_hash(left: Digest, right: Digest) -> Digest {
    let hash = Sha256::new().chain_update([1]).chain_update(left.as_bytes());
    Digest::from_bytes(hash.chain_update(right.as_bytes()).finalize().into())
}

/// The root of a tree without leaves.
#[must_use]
pub fn empty_root() -> Digest {
    Digest::of(&[])
}

/// The hash over neighbouring subtrees, larger ones first; that of the empty tree for none.
#[must_use]
pub fn fold(hashes: &[Digest]) -> Digest {
    let mut from_the_right = hashes.iter().rev().copied();
    let Some(last) = from_the_right.next() else { return empty_root() };
    from_the_right.fold(last, |right, left| node_hash(left, right))
}

/// The complete subtrees that leaves `from..to` consist of, where `from` begins one.
#[must_use]
pub fn cover(from: u64, to: u64) -> Vec<Node> {
    let (mut at, mut nodes) = (from, Vec::new());
    while at < to {
        let level = (to - at).ilog2();
        nodes.push(Node { level: u8::try_from(level).unwrap_or(u8::MAX), index: at >> level });
        at += 1 << level;
    }
    nodes
}

/// The largest power of two below `size`, which is at least 2.
fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// What the inclusion proof of leaf `index` in a tree of `size` consists of, from the leaf up; each
/// hash is the [`fold`] of its subtrees. `None` when there is no such leaf.
#[must_use]
pub fn inclusion_plan(index: u64, size: u64) -> Option<Vec<Vec<Node>>> {
    if index >= size {
        return None;
    }
    let (mut from, mut to, mut plan) = (0, size, Vec::new());
    while to - from > 1 {
        let middle = from + split(to - from);
        if index < middle {
            plan.push(cover(middle, to));
            to = middle;
        } else {
            plan.push(cover(from, middle));
            from = middle;
        }
    }
    plan.reverse();
    Some(plan)
}

/// What the proof that a tree of `new` leaves begins with the one of `old` consists of; empty when
/// they are the same or `old` is 0. `None` when `old` is larger.
#[must_use]
pub fn consistency_plan(old: u64, new: u64) -> Option<Vec<Vec<Node>>> {
    if old > new {
        return None;
    }
    let (mut from, mut to, mut plan) = (0, new, Vec::new());
    if old == 0 {
        return Some(plan);
    }
    while old != to {
        let middle = from + split(to - from);
        if old <= middle {
            plan.push(cover(middle, to));
            to = middle;
        } else {
            plan.push(cover(from, middle));
            from = middle;
        }
    }
    if from != 0 {
        plan.push(cover(from, to));
    }
    plan.reverse();
    Some(plan)
}

/// Whether `proof` shows that the leaf with this hash stands at `index` of the tree with this size
/// and root.
#[must_use]
pub fn includes(leaf: Digest, index: u64, (size, root): (u64, Digest), proof: &[Digest]) -> bool {
    if index >= size {
        return false;
    }
    let (mut place, mut last, mut hash) = (index, size - 1, leaf);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            hash = node_hash(*sibling, hash);
            while place & 1 == 0 && place != 0 {
                (place, last) = (place >> 1, last >> 1);
            }
        } else {
            hash = node_hash(hash, *sibling);
        }
        (place, last) = (place >> 1, last >> 1);
    }
    last == 0 && hash == root
}

/// Whether `proof` shows that the tree `new` begins with the whole tree `old`; each is size and
/// root.
#[must_use]
pub fn extends(old: (u64, Digest), new: (u64, Digest), proof: &[Digest]) -> bool {
    let ((old_size, old_root), (new_size, new_root)) = (old, new);
    if old_size == new_size || old_size == 0 {
        let same = old_size != new_size || old_root == new_root;
        return proof.is_empty() && same && (old_size != 0 || old_root == empty_root());
    }
    if old_size > new_size {
        return false;
    }
    let whole = old_size.is_power_of_two().then_some(old_root);
    let mut hashes = whole.into_iter().chain(proof.iter().copied());
    let Some(first) = hashes.next() else { return false };
    let shift = (old_size - 1).trailing_ones();
    let (mut place, mut last) = ((old_size - 1) >> shift, (new_size - 1) >> shift);
    let (mut before, mut after) = (first, first);
    for hash in hashes {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            (before, after) = (node_hash(hash, before), node_hash(hash, after));
            while place & 1 == 0 && place != 0 {
                (place, last) = (place >> 1, last >> 1);
            }
        } else {
            after = node_hash(after, hash);
        }
        (place, last) = (place >> 1, last >> 1);
    }
    last == 0 && before == old_root && after == new_root
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(place: u64) -> usize {
        usize::try_from(place).unwrap()
    }

    fn leaves(count: u64) -> Vec<Digest> {
        (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
    }

    /// The tree head by the definition in RFC 6962, without any cleverness.
    fn root(leaves: &[Digest]) -> Digest {
        match leaves {
            [] => empty_root(),
            [leaf] => *leaf,
            _ => {
                let middle = at(split(leaves.len() as u64));
                node_hash(root(&leaves[..middle]), root(&leaves[middle..]))
            }
        }
    }

    fn proof(plan: &[Vec<Node>], leaves: &[Digest]) -> Vec<Digest> {
        let hash = |node: &Node| {
            let from = at(node.index << node.level);
            root(&leaves[from..from + (1 << node.level)])
        };
        plan.iter().map(|nodes| fold(&nodes.iter().map(hash).collect::<Vec<_>>())).collect()
    }

    #[test]
    fn every_leaf_of_every_small_tree_is_included_where_it_stands_and_nowhere_else() {
        for size in 1..40 {
            let leaves = leaves(size);
            let root = root(&leaves);
            for index in 0..size {
                let proof = proof(&inclusion_plan(index, size).unwrap(), &leaves);
                let leaf = leaves[at(index)];
                assert!(includes(leaf, index, (size, root), &proof), "{index} of {size}");
                for other in (0..size).filter(|other| *other != index) {
                    assert!(!includes(leaf, other, (size, root), &proof), "{other} of {size}");
                }
                assert!(!includes(leaf_hash(b"other"), index, (size, root), &proof));
                assert!(!includes(leaf, index, (size, Digest::ZERO), &proof));
                let longer = [proof.as_slice(), &[Digest::ZERO]].concat();
                assert!(!includes(leaf, index, (size, root), &longer));
            }
        }
        assert_eq!(inclusion_plan(3, 3), None);
    }

    #[test]
    fn every_small_tree_extends_all_before_it_and_no_other() {
        for new in 0..40 {
            let leaves = leaves(new);
            for old in 0..=new {
                let before = (old, root(&leaves[..at(old)]));
                let after = (new, root(&leaves));
                let proof = proof(&consistency_plan(old, new).unwrap(), &leaves);
                assert!(extends(before, after, &proof), "{old} to {new}");
                assert!(!extends((old, Digest::ZERO), after, &proof), "{old} to {new}");
                assert!(old == 0 || !extends(before, (new, Digest::ZERO), &proof));
                let longer = [proof.as_slice(), &[Digest::ZERO]].concat();
                assert!(!extends(before, after, &longer), "{old} to {new}");
            }
        }
        assert_eq!(consistency_plan(4, 3), None);
        assert!(!extends((4, Digest::ZERO), (3, Digest::ZERO), &[]));
    }
}
