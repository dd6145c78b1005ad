//! Every sample mapping on arbitrary bytes: whatever a source hands over, mapping answers with rows
//! that keep to their contract, with counted rejections, or with a fault; it never panics.

#![cfg_attr(fuzzing, no_main)]

use std::path::Path;
use std::sync::{Arc, LazyLock};

use phusa_agent::config::plan::Plan;
use phusa_agent::config::secret::SecretFile;
use phusa_agent::mapping::field::{FieldRule, Mask};
use phusa_agent::mapping::{Bound, Mapping};
use phusa_agent::source::{Block, Column, Native, Resume};
use phusa_fuzz::fuzz_target;
use phusa_protocol::batch::Phase;
use phusa_protocol::change::{BodyWriter, Change, Op, runs};
use phusa_protocol::row::put_tuple;
use phusa_protocol::time::Timestamp;
use phusa_protocol::value::{Field, Kind};

/// Each sample's rules, bound to columns that fit.
static SAMPLES: LazyLock<Vec<(Bound, Arc<[Column]>)>> = LazyLock::new(samples);

fn samples() -> Vec<(Bound, Arc<[Column]>)> {
    use std::os::unix::fs::PermissionsExt as _;
    let key = std::env::temp_dir().join(format!("phusa-fuzz-{}.key", std::process::id()));
    std::fs::write(&key, "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=").expect("a key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("a closed key");
    // Above the package of the fuzzers or of the tests, whichever this is built in.
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let mut configs = above.map(|folder| folder.join("configs/agent.toml"));
    let config = configs.find(|file| file.exists()).expect("the samples");
    let plan = Plan::load(&config).expect("the samples");
    let mut samples = Vec::new();
    for dataset in plan.datasets {
        let mut rules = dataset.rules;
        for field in &mut rules.fields {
            if matches!(field.mask, Mask::Hmac(_)) {
                field.mask = Mask::Hmac(SecretFile::File(key.clone()));
            }
        }
        let columns: Arc<[Column]> = rules.fields.iter().flat_map(columns).collect();
        let mapping = Mapping::new(&rules).expect("a key");
        samples.push((mapping.bind(&columns).expect("columns that fit"), columns));
    }
    let _ = std::fs::remove_file(key);
    samples
}

fn columns(rule: &FieldRule) -> Vec<Column> {
    let plain = rule.recipe.is_empty();
    let native = match rule.kind {
        _ if !plain => Native::Text,
        Kind::Bool => Native::Bool,
        Kind::Int2 => Native::Int2,
        Kind::Int4 => Native::Int4,
        Kind::Int8 => Native::Int8,
        Kind::Numeric => Native::Numeric,
        Kind::Date => Native::Date,
        Kind::Timestamp => Native::Timestamp,
        Kind::Timestamptz => Native::Timestamptz,
        Kind::Jsonb => Native::Jsonb,
        Kind::TextArray => Native::Array(Box::new(Native::Text)),
        _ => Native::Text,
    };
    let native = match (plain, rule.kind) {
        // Checks of numbers and dates read them as their own type.
        (false, Kind::Numeric) if rule.recipe.convert.is_none() => Native::Numeric,
        (false, Kind::Int2) if rule.recipe.convert.is_none() => Native::Int2,
        (false, Kind::Int4) if rule.recipe.convert.is_none() => Native::Int4,
        (false, Kind::Int8) if rule.recipe.convert.is_none() => Native::Int8,
        (false, Kind::Date) if rule.recipe.convert.is_none() => Native::Date,
        (false, Kind::Timestamptz) if rule.recipe.convert.is_none() => Native::Timestamptz,
        _ => native,
    };
    let column = |name: &str| Column {
        name: name.to_owned(),
        type_name: "fuzz".to_owned(),
        native: if name == "me_ngay_sinh" { Native::Date } else { native.clone() },
        nullable: true,
    };
    rule.columns().into_iter().map(column).collect()
}

/// Rows whose fields are cut from the input: a byte for the length, then so many bytes.
fn rows(mut data: &[u8], columns: usize) -> Vec<u8> {
    let mut body = BodyWriter::default();
    let ops = [Op::Snapshot, Op::Insert, Op::Update];
    while let Some((first, rest)) = data.split_first() {
        data = rest;
        let mut fields = Vec::new();
        for _ in 0..columns {
            let Some((head, rest)) = data.split_first() else {
                fields.push(Field::Null);
                continue;
            };
            data = rest;
            fields.push(match head {
                0xff => Field::Null,
                0xfe => Field::Unchanged,
                length => {
                    let (value, rest) = data.split_at(data.len().min(usize::from(*length % 80)));
                    data = rest;
                    Field::Value(value)
                }
            });
        }
        put_tuple(body.begin_row(ops[usize::from(*first) % ops.len()]), &fields);
    }
    body.finish().0
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, data)) = data.split_first() else { return };
    let (bound, columns) = &SAMPLES[usize::from(*choice >> 1) % SAMPLES.len()];
    let body = if choice & 1 == 0 { rows(data, columns.len()) } else { data.to_vec() };
    let block = Block {
        number: 1,
        columns: Arc::clone(columns),
        body,
        phase: Phase::Read,
        tx_open: false,
        position: String::new(),
        resume: Resume(Vec::new()),
        read_at: Timestamp::UNIX_EPOCH,
        source_time: Timestamp::UNIX_EPOCH,
    };
    let Ok(mapped) = bound.apply(block) else { return };
    for run in runs(mapped.shareable.body()) {
        for change in run.expect("a sound body").changes() {
            if let Change::Snapshot(row) | Change::Insert(row) | Change::Update(row) =
                change.expect("a sound row")
            {
                assert!(row.fields().count() > 0);
            }
        }
    }
});
