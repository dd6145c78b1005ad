//! A sample of a table's first rows: what `check` and `preview` look at, and what settles
//! `encoding = "auto"` before a capture begins. Rows stay in memory and go nowhere.

use std::sync::Arc;

use phusa_protocol::change::{Change, runs};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::row::Tuple;
use phusa_protocol::value::Field;
use tokio::sync::mpsc;

use crate::config::plan::DatasetPlan;
use crate::mapping::decode::detect::{Detection, detect};
use crate::mapping::field::{Decode, Rules};
use crate::mapping::{Bound, Mapped, Mapping};
use crate::source::{Block, Source};

/// Enough words for every score, few enough for any database.
pub const SAMPLE_ROWS: u64 = 1_000;

/// Reads at most `rows_max` rows and hands on each block as it comes.
///
/// # Errors
/// The source's fault, or that of `take`.
pub async fn scan(
    source: &impl Source,
    dataset: &DatasetPlan,
    rows_max: Option<u64>,
    mut take: impl FnMut(Block) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let (blocks, mut taken) = mpsc::channel::<Block>(2);
    let read = source.scan(&dataset.selection, rows_max, blocks);
    let consume = async {
        while let Some(block) = taken.recv().await {
            take(block)?;
        }
        // What follows an error of `take` is not read: its end of the channel is gone.
        drop(taken);
        Ok(())
    };
    let (read, consumed) = tokio::join!(read, consume);
    consumed.and(read)
}

/// Hands on each row of a block of a full read.
///
/// # Errors
/// `bug` when the block's bytes are no rows.
pub fn each_row(
    body: &[u8],
    mut take: impl FnMut(Tuple<'_>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let damaged = |error| Fault::because(Code::Bug, "a block of a full read is damaged", error);
    for run in runs(body) {
        for change in run.map_err(damaged)?.changes() {
            if let Change::Snapshot(row) = change.map_err(damaged)? {
                take(row)?;
            }
        }
    }
    Ok(())
}

/// What a sample shows of each field with `encoding = "auto"`: its place, and the scores.
///
/// # Errors
/// The source's fault.
pub async fn detections(
    source: &impl Source,
    dataset: &DatasetPlan,
) -> Result<Vec<(usize, Detection)>, Fault> {
    let fields = dataset.rules.fields.iter().enumerate();
    let auto = fields.filter(|(_, field)| field.recipe.decode == Some(Decode::Auto));
    let auto: Vec<(usize, Vec<&str>)> = auto.map(|(at, field)| (at, field.columns())).collect();
    if auto.is_empty() {
        return Ok(Vec::new());
    }
    let mut texts: Vec<Vec<Vec<u8>>> = vec![Vec::new(); auto.len()];
    scan(source, dataset, Some(SAMPLE_ROWS), |block| {
        let at = |name: &str| block.columns.iter().position(|column| column.name == name);
        each_row(&block.body, |row| {
            let fields: Vec<Field<'_>> = row.fields().collect();
            for ((_, columns), texts) in auto.iter().zip(&mut texts) {
                let found = columns.iter().filter_map(|name| fields.get(at(name)?));
                texts.extend(found.filter_map(|field| match field {
                    Field::Value(bytes) => Some(bytes.to_vec()),
                    Field::Null | Field::Unchanged => None,
                }));
            }
            Ok(())
        })
    })
    .await?;
    let found = auto.iter().zip(&texts);
    Ok(found.map(|((at, _), texts)| (*at, detect(texts.iter().map(Vec::as_slice)))).collect())
}

/// The rules with every encoding settled.
///
/// # Errors
/// `encoding_unsure` with the scores of the field that is not clear; the source's fault.
pub async fn settled(source: &impl Source, dataset: &DatasetPlan) -> Result<Rules, Fault> {
    let mut rules = dataset.rules.clone();
    for (at, detection) in detections(source, dataset).await? {
        let Some(field) = rules.fields.get_mut(at) else { continue };
        let shown = words(&detection);
        let Some(encoding) = detection.clear else {
            let what = format!("`{}` of {}: {shown}", field.name, dataset.dataset());
            return Err(Fault::new(Code::EncodingUnsure, what));
        };
        tracing::info!(
            dataset = %dataset.dataset(), field = field.name, encoding = encoding.name(),
            "Texts of `{}` are read as {} ({shown})", field.name, encoding.name()
        );
        field.recipe.decode = Some(Decode::As(encoding));
    }
    Ok(rules)
}

/// The mapping of a dataset, ready to be bound.
///
/// # Errors
/// As [`settled`]; `secret_unreadable`.
pub async fn mapping(source: &impl Source, dataset: &DatasetPlan) -> Result<Mapping, Fault> {
    Mapping::new(&settled(source, dataset).await?)
}

/// Reads a dataset once through its mapping and hands on each mapped block.
///
/// # Errors
/// The source's fault, or that of `take`.
pub async fn scan_mapped(
    source: &impl Source,
    dataset: &DatasetPlan,
    rows_max: Option<u64>,
    mut take: impl FnMut(Mapped) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mapping = mapping(source, dataset).await?;
    let mut bound: Option<(Arc<_>, Bound)> = None;
    scan(source, dataset, rows_max, |block| {
        if bound.as_ref().is_none_or(|(columns, _)| !Arc::ptr_eq(columns, &block.columns)) {
            bound = Some((Arc::clone(&block.columns), mapping.bind(&block.columns)?));
        }
        match &bound {
            Some((_, bound)) => take(bound.apply(block)?),
            None => Ok(()),
        }
    })
    .await
}

/// Scores for people: `tcvn3 98, utf8 3 of 100; 412 words`.
#[must_use]
pub fn words(detection: &Detection) -> String {
    let scores = detection.scores.iter().take(3);
    let scores: Vec<String> =
        scores.map(|(encoding, score)| format!("{} {score}", encoding.name())).collect();
    format!("{} of 100; {} words", scores.join(", "), detection.words)
}
