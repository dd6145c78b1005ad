//! `phusa-agent preview`: rows of the source beside what would be sent of them, on this screen and
//! nowhere else. What a mask hides is hidden on both sides.

use std::process::ExitCode;

use phusa_protocol::change::{BodyWriter, Op};
use phusa_protocol::fault::Fault;
use phusa_protocol::row::Tuple;
use phusa_protocol::value::{Field, Kind};

use super::look::chosen;
use super::{meaning, say};
use crate::config::plan::{DatasetPlan, Plan};
use crate::mapping::field::{FieldRule, Mask};
use crate::mapping::preview::{render, render_source};
use crate::mapping::{Bound, Mapped};
use crate::pipeline::{sample, wiring};
use crate::source::{Block, Column};

/// Wider values are cut on this screen.
const WIDTH_MAX: usize = 38;

/// Shows at most `rows` rows of each dataset.
pub(super) async fn preview(
    plan: &Plan,
    wanted: Option<&str>,
    rows: u64,
) -> Result<ExitCode, Fault> {
    let source = wiring::source(plan)?;
    for dataset in chosen(plan, wanted)? {
        meaning::explain(dataset, None);
        let mapping = sample::mapping(&source, dataset).await?;
        let (mut number, mut rejected) = (0_u64, 0_u64);
        sample::scan(&source, dataset, Some(rows), |block| {
            let bound = mapping.bind(&block.columns)?;
            sample::each_row(&block.body, |row| {
                number += 1;
                let mapped = bound.apply(of_one_row(&block, row))?;
                rejected += u64::from(mapped.shareable.counts().total() == 0);
                show(dataset, &bound, number, row, &mapped)
            })
        })
        .await?;
        if rejected > 0 {
            say(&format!("\n{rejected} bản ghi bị loại · rows rejected"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The block with this row alone, so that what becomes of it can be told from the others.
fn of_one_row(block: &Block, row: Tuple<'_>) -> Block {
    let mut body = BodyWriter::default();
    body.begin_row(Op::Snapshot).extend_from_slice(row.as_bytes());
    Block {
        columns: std::sync::Arc::clone(&block.columns),
        body: body.finish().0,
        position: String::new(),
        resume: block.resume.clone(),
        ..*block
    }
}

fn show(
    dataset: &DatasetPlan,
    bound: &Bound,
    number: u64,
    row: Tuple<'_>,
    mapped: &Mapped,
) -> Result<(), Fault> {
    say(&format!(
        "\n── {number} ──  {:<w$} │ chia sẻ · shared",
        "nguồn · source",
        w = WIDTH_MAX + 14
    ));
    if mapped.shareable.counts().total() == 0 {
        let reject = mapped.rejects.first();
        let why = reject.map(|r| format!("{} {}", r.field.as_deref().unwrap_or("-"), r.rule));
        let why = why.unwrap_or_else(|| "lọc · filter".to_owned());
        say(&format!("   ở lại đây · stays here: {why}"));
        return Ok(());
    }
    let source: Vec<Field<'_>> = row.fields().collect();
    sample::each_row(mapped.shareable.body(), |shared| {
        for (field, rule) in shared.fields().zip(&dataset.rules.fields) {
            let left = from(rule, bound.columns(), &source);
            let right = shown(rule.kind, field);
            say(&format!(
                "  {:<24} {:<w$} │ {}",
                cut(&rule.name),
                cut(&left),
                cut(&right),
                w = WIDTH_MAX
            ));
        }
        Ok(())
    })?;
    for note in &mapped.rejects {
        let field = note.field.as_deref().unwrap_or("-");
        say(&format!("  ! {field}: {} ({})", note.rule, note.on_bad.name()));
    }
    Ok(())
}

/// What the source has in the columns of a field; of a masked one only how long it is.
fn from(rule: &FieldRule, columns: &[Column], source: &[Field<'_>]) -> String {
    let one = |name: &str| {
        let at = columns.iter().position(|column| column.name == name)?;
        let (column, field) = (columns.get(at)?, source.get(at)?);
        let words = match field {
            Field::Value(_) => render_source(&column.native, *field),
            Field::Null => return Some("∅".to_owned()),
            Field::Unchanged => return Some("…".to_owned()),
        };
        if rule.mask == Mask::Keep {
            return Some(words);
        }
        Some(format!("({} ký tự · characters)", words.chars().count()))
    };
    rule.columns().into_iter().filter_map(one).collect::<Vec<_>>().join(" + ")
}

fn shown(kind: Kind, field: Field<'_>) -> String {
    match field {
        Field::Value(bytes) => render(kind, bytes),
        Field::Null => "∅".to_owned(),
        Field::Unchanged => "…".to_owned(),
    }
}

fn cut(text: &str) -> String {
    if text.chars().count() <= WIDTH_MAX {
        return text.to_owned();
    }
    text.chars().take(WIDTH_MAX - 1).chain(['…']).collect()
}
