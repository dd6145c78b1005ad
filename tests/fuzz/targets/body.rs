//! Bodies of batches: the hub's walk refuses them or finds what the header counts, and what it lets
//! through can be written again as it stood.

#![cfg_attr(fuzzing, no_main)]

use std::sync::LazyLock;

use phusa_fuzz::fuzz_target;
use phusa_hub::catalog::rule::BodyRule;
use phusa_hub::category::Lists;
use phusa_protocol::batch::Phase;
use phusa_protocol::change::{BodyWriter, Change, Counts, Op, runs};
use phusa_protocol::contract::Contract;
use phusa_protocol::digest::RowsDigest;
use phusa_protocol::proof::{BITS_MAX, Print, Summary};
use phusa_protocol::row::{FIELDS_MAX, Tuple, put_tuple};
use phusa_protocol::value::Kind;

/// A rule for a field of each kind, and for one alone.
static RULES: LazyLock<[BodyRule; 2]> = LazyLock::new(|| {
    let all: Vec<_> = Kind::ALL.into_iter().map(Kind::name).collect();
    [rule(&all), rule(&["text"])]
});

fn rule(kinds: &[&str]) -> BodyRule {
    let field = |(at, kind): (usize, &&str)| {
        let most = if *kind == "text" { ", max_length = 20" } else { "" };
        format!("{{ name = \"f{at}\", type = \"{kind}\", class = \"B\", name_vi = \"F\"{most} }},")
    };
    let key = kinds.iter().position(|kind| *kind == "text").expect("a text");
    let fields: String = kinds.iter().enumerate().map(field).collect();
    let text = format!(
        "dataset = \"a.b\"\nversion = 1\ntitle_vi = \"A\"\nowner = \"H57\"\nlegal_basis = \"A\"\n\
         sharing = \"default\"\nfrequency = \"15m\"\nretention = \"1d\"\nkey = [\"f{key}\"]\n\
         field = [{fields}]\n"
    );
    BodyRule::of(&Contract::from_toml(&text).expect("a contract"), &Lists::new())
}

/// What the heads of the runs claim; `None` when that cannot be a body.
fn claimed(body: &[u8]) -> Option<Counts> {
    let mut counts = Counts::default();
    for run in runs(body) {
        let run = run.ok()?;
        let count = match run.op {
            Op::Snapshot => &mut counts.snapshot,
            Op::Insert => &mut counts.insert,
            Op::Update => &mut counts.update,
            Op::Delete => &mut counts.delete,
            Op::Truncate => &mut counts.truncate,
            Op::Rekey => &mut counts.rekey,
        };
        *count += u64::from(run.row_count);
    }
    Some(counts)
}

fn put(body: &mut BodyWriter, op: Op, tuples: &[Tuple<'_>]) {
    let out = body.begin_row(op);
    for tuple in tuples {
        let fields: Vec<_> = tuple.fields().collect();
        assert_eq!(fields.len(), tuple.field_count());
        assert!(fields.len() <= FIELDS_MAX);
        let start = out.len();
        put_tuple(out, &fields);
        assert_eq!(&out[start..], tuple.as_bytes(), "a tuple has one form");
    }
}

/// The same changes, written anew.
fn written(body: &[u8]) -> Vec<u8> {
    let mut again = BodyWriter::default();
    for run in runs(body) {
        for change in run.expect("it was walked").changes() {
            match change.expect("it was walked") {
                Change::Snapshot(row) => put(&mut again, Op::Snapshot, &[row]),
                Change::Insert(row) => put(&mut again, Op::Insert, &[row]),
                Change::Update(row) => put(&mut again, Op::Update, &[row]),
                Change::Delete(row) => put(&mut again, Op::Delete, &[row]),
                Change::Truncate => put(&mut again, Op::Truncate, &[]),
                Change::Rekey { old, new } => put(&mut again, Op::Rekey, &[old, new]),
            }
        }
    }
    again.finish().0
}

fuzz_target!(|data: &[u8]| {
    let Some((how, body)) = data.split_first() else { return };
    let phases = [Phase::Read, Phase::ReadEnd, Phase::Settle, Phase::Live];
    let phase = phases[usize::from(*how) % phases.len()];
    let rule = &RULES[usize::from(*how >> 7)];
    let counts = claimed(body).unwrap_or_default();
    if rule.walk(body, phase, &counts).is_ok() {
        let once = written(body);
        assert_eq!(claimed(&once), Some(counts));
        assert!(rule.walk(&once, phase, &counts).is_ok(), "what was let through stays so");
        assert_eq!(written(&once), once);
    }
    let (mut rest, mut sum) = (body, RowsDigest::default());
    let mut summary = Summary::new(*how % (BITS_MAX + 1));
    while let Ok(tuple) = Tuple::take(&mut rest) {
        sum.add_tuple(tuple.as_bytes());
        if let Some(print) = Print::of(tuple, &[0]) {
            summary.add(&print);
        }
    }
    let again = Summary::from_parts(summary.bits(), &summary.parts());
    assert_eq!((again.total(), again.differing(&summary)), (summary.total(), Vec::new()));
});
