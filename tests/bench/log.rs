//! The transfer log's files on one core: how many entries a second with each leaf's signature checked
//! and everything synced, whether that depends on the log's length, and what a proof costs.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use phusa_hub::transfers::evidence::prove;
use phusa_hub::transfers::folder::Folder;
use phusa_hub::transfers::writer::Writer;
use phusa_protocol::keys::{Signature, SigningKey};
use phusa_protocol::leaf::{Leaf, checksum};
use phusa_protocol::policy::Policy;
use serde_json::json;

use crate::curves::Point;
use crate::lab::Outcome;

/// Entries taken in at once, as the hub does.
const BATCH: u64 = 1_000;

/// Batches measured at each length.
const BATCHES: u64 = 20;

/// Proofs made at each length.
const PROOFS: u64 = 2_000;

/// Grows a log to each length and measures there.
pub(crate) fn take(quick: bool, json: &Path) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let (log_key, hub_key) = (SigningKey::generate()?, SigningKey::generate()?);
    let log = Folder::new(folder.path(), log_key.public());
    let fault = |fault: phusa_protocol::fault::Fault| fault.chain();
    let mut writer = Writer::open(&log).map_err(fault)?.ok_or("another process writes")?;
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(json)?;
    println!("entries | appends/s | checkpoint ms | proof p50 ms | p99 ms | proof bytes");
    let lengths: &[u64] = if quick { &[1_000, 100_000] } else { &[1_000, 1_000_000] };
    for length in lengths {
        fill(&mut writer, *length, &log_key)?;
        let (mut appending, mut publishing) = (Duration::ZERO, Duration::ZERO);
        for batch in 0..BATCHES {
            let first = length + batch * BATCH;
            let entries: Vec<Vec<u8>> = (first..first + BATCH).map(entry).collect();
            let leaves: Vec<Leaf> = entries.iter().map(|e| Leaf::sign(e, &hub_key)).collect();
            let began = Instant::now();
            let hub = hub_key.public();
            let sound = leaves.iter().zip(&entries).all(|(leaf, entry)| leaf.covers(entry, &hub));
            if !sound {
                return Err("a leaf does not cover its entry".into());
            }
            writer.append(&leaves).map_err(fault)?;
            let published = Instant::now();
            writer.publish(&log_key).map_err(fault)?;
            publishing += published.elapsed();
            appending += began.elapsed();
        }
        let checkpoint = log.checkpoint().map_err(fault)?.ok_or("no checkpoint")?;
        let policy = Policy::of_agents(log_key.public(), &[], 0);
        let (mut spans, mut bytes) = (Vec::new(), 0);
        for place in 0..PROOFS {
            let number = 1 + place * (checkpoint.head.size - 1) / PROOFS;
            let began = Instant::now();
            let evidence = prove(&log, number, &checkpoint, &policy).map_err(fault)?;
            spans.push(began.elapsed());
            bytes = bytes.max(evidence.to_text().len());
        }
        spans.sort();
        let rate = (BATCHES * BATCH) as f64 / appending.as_secs_f64();
        let millis = |span: Duration| span.as_secs_f64() * 1_000.0;
        let checkpoint_ms = millis(publishing) / BATCHES as f64;
        let (p50, p99) = (millis(spans[spans.len() / 2]), millis(spans[spans.len() * 99 / 100]));
        println!("{length} | {rate:.0} | {checkpoint_ms:.2} | {p50:.3} | {p99:.3} | {bytes}");
        let line = json!({ "work": "log", "entries": length, "appends_per_second": rate,
            "checkpoint_ms": checkpoint_ms, "proof_p50_ms": p50, "proof_p99_ms": p99,
            "proof_bytes": bytes });
        writeln!(file, "{line}")?;
    }
    Ok(())
}

/// What an entry costs in a log of this length: leaf checked, appended, published and synced.
pub(crate) fn point(length: u64) -> Outcome<Point> {
    let folder = tempfile::tempdir()?;
    let (log_key, hub_key) = (SigningKey::generate()?, SigningKey::generate()?);
    let log = Folder::new(folder.path(), log_key.public());
    let fault = |fault: phusa_protocol::fault::Fault| fault.chain();
    let mut writer = Writer::open(&log).map_err(fault)?.ok_or("another process writes")?;
    fill(&mut writer, length, &log_key)?;
    let mut span = Duration::ZERO;
    for batch in 0..BATCHES {
        let first = length + batch * BATCH;
        let entries: Vec<Vec<u8>> = (first..first + BATCH).map(entry).collect();
        let leaves: Vec<Leaf> = entries.iter().map(|e| Leaf::sign(e, &hub_key)).collect();
        let (began, hub) = (Instant::now(), hub_key.public());
        if !leaves.iter().zip(&entries).all(|(leaf, entry)| leaf.covers(entry, &hub)) {
            return Err("a leaf does not cover its entry".into());
        }
        writer.append(&leaves).map_err(fault)?;
        writer.publish(&log_key).map_err(fault)?;
        span += began.elapsed();
    }
    let micros = span.as_secs_f64() * 1e6 / (BATCHES * BATCH) as f64;
    let memory = bytes_below(folder.path())? as f64 / (length + BATCHES * BATCH) as f64;
    Ok(Point { count: length, micros, cpu_micros: micros, memory, at_rest: None })
}

/// Bytes of all files in a folder and below.
fn bytes_below(folder: &Path) -> Outcome<u64> {
    let mut bytes = 0;
    for file in std::fs::read_dir(folder)? {
        let file = file?;
        let about = file.metadata()?;
        bytes += if about.is_dir() { bytes_below(&file.path())? } else { about.len() };
    }
    Ok(bytes)
}

fn entry(number: u64) -> Vec<u8> {
    format!("{{\"entry\":{number},\"padding\":\"{}\"}}", "x".repeat(1_000)).into_bytes()
}

/// Leaves whose signatures nobody checks, up to this length.
fn fill(writer: &mut Writer, length: u64, key: &SigningKey) -> Outcome<()> {
    let fault = |fault: phusa_protocol::fault::Fault| fault.chain();
    let signature = Signature::from_bytes([0; 64]);
    while writer.head().size < length {
        let first = writer.head().size;
        let leaf = |number: u64| {
            let checksum = checksum(&number.to_be_bytes());
            Leaf { checksum, signature, key_hash: checksum }
        };
        let leaves: Vec<Leaf> = (first..length.min(first + 100_000)).map(leaf).collect();
        writer.append(&leaves).map_err(fault)?;
    }
    writer.publish(key).map_err(fault)?;
    Ok(())
}
