//! Proofs about the log: no proof that can be put together shows an entry where it does not stand, or
//! a past that was not.

#![cfg_attr(fuzzing, no_main)]

use std::sync::LazyLock;

use phusa_fuzz::fuzz_target;
use phusa_protocol::digest::Digest;
use phusa_protocol::tile::{Asked, Edge, Loaded, Tile};
use phusa_protocol::tree::{
    Node, consistency_plan, extends, fold, includes, inclusion_plan, leaf_hash,
};

/// Leaves in the largest tree that is looked at.
const LEAVES: u64 = 40;

/// Every leaf, and the root of every tree from 0 leaves on.
static LOG: LazyLock<(Vec<Digest>, Vec<Digest>)> = LazyLock::new(|| {
    let leaves: Vec<_> = (0..LEAVES).map(|at| leaf_hash(&at.to_be_bytes())).collect();
    let mut edge = Edge::default();
    let mut roots = vec![edge.root()];
    for leaf in &leaves {
        edge.push(*leaf, &mut |_, _| {});
        roots.push(edge.root());
    }
    (leaves, roots)
});

fn hash(node: &Node) -> Digest {
    let from = usize::try_from(node.index << node.level).expect("a small tree");
    let mut row = LOG.0[from..from + (1 << node.level)].to_vec();
    while row.len() > 1 {
        row = row.chunks(2).map(fold).collect();
    }
    row[0]
}

fn true_proof(plan: &[Vec<Node>]) -> Vec<Digest> {
    plan.iter().map(|nodes| fold(&nodes.iter().map(hash).collect::<Vec<_>>())).collect()
}

/// A proof of hashes that somebody who knows the log can have: of any complete subtree, and of others.
fn proof(data: &[u8]) -> Vec<Digest> {
    let one = |pair: &[u8]| {
        let level = pair[0] % 7;
        let width = LEAVES >> level.min(5);
        match level {
            6 => Digest::of(pair),
            level => hash(&Node { level, index: u64::from(pair[1]) % width.max(1) }),
        }
    };
    data.chunks_exact(2).take(70).map(one).collect()
}

fuzz_target!(|data: &[u8]| {
    let (leaves, roots) = &*LOG;
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(asked) = Asked::parse(text)
    {
        assert_eq!(asked.path(), text);
    }
    let Some((head, rest)) = data.split_first_chunk::<4>() else { return };
    let [size, index, leaf, bend] = head.map(u64::from);
    let (size, index) = (size % (LEAVES + 1), index % (LEAVES + 2));
    let at = |place: u64| usize::try_from(place).expect("small");
    let leaf = leaves[at(leaf % LEAVES)];
    let forged = proof(rest);
    if includes(leaf, index, (size, roots[at(size)]), &forged) {
        assert_eq!(leaves[at(index)], leaf);
    }
    let old_root = roots[at(bend % (LEAVES + 1))];
    if extends((index, old_root), (size, roots[at(size)]), &forged) && index > 0 {
        assert_eq!(old_root, roots[at(index)]);
    }
    if let Some(plan) = inclusion_plan(index, size) {
        assert!(includes(leaves[at(index)], index, (size, roots[at(size)]), &true_proof(&plan)));
    }
    if let Some(plan) = consistency_plan(index, size) {
        let (old, new) = ((index, roots[at(index)]), (size, roots[at(size)]));
        assert!(extends(old, new, &true_proof(&plan)));
    }
    // Sizes that nobody has are planned for without end or overflow.
    let Some((numbers, rest)) = rest.split_first_chunk::<16>() else { return };
    let number =
        |from: usize| u64::from_be_bytes(numbers[from..from + 8].try_into().expect("eight"));
    let (old, new) = (number(0), number(8));
    for plan in [inclusion_plan(old, new), consistency_plan(old, new)].into_iter().flatten() {
        assert!(plan.len() <= 65 && plan.iter().all(|nodes| nodes.len() <= 64));
        let mut loaded = Loaded::default();
        for tile in Loaded::needed(plan.iter().flatten()) {
            let _ = (loaded.add(tile, rest), tile.width(new));
        }
        let _ = loaded.proof(&plan);
    }
    let mut loaded = Loaded::default();
    for (tile, _) in Edge::tiles(new) {
        let _ = loaded.add(tile, rest);
    }
    let _ = Edge::load(new, &loaded).map(|edge| edge.root());
    let _ = Tile { level: head[0] % 8, index: old }.path(new % 257);
});
