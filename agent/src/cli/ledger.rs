//! `phusa-agent ledger`: what left this house, by the agency's own files alone; the hub is not asked.

mod minutes;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Subcommand;
use phusa_protocol::checkpoint::Checkpoint;
use phusa_protocol::entry::Entry;
use phusa_protocol::evidence::Evidence;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::Epoch;
use phusa_protocol::keys::PublicKey;
use phusa_protocol::policy::Policy;
use phusa_protocol::receipt::SignedReceipt;
use serde_json::json;

use super::say;
use crate::config::plan::Plan;
use crate::disk::RealDisk;
use crate::ledger::log::{LogBook, Proven, Reading, StreamName};
use crate::pipeline::wiring;

#[derive(Debug, Subcommand)]
pub(super) enum LedgerCommand {
    /// Từng luồng: bao nhiêu biên nhận, bao nhiêu đã chứng minh · each stream: receipts and proofs.
    Ls {
        /// Dạng JSON · as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Một lô: biên nhận, mục trong nhật ký, bằng chứng · one batch: receipt, entry, proof.
    Show(Batch),
    /// Kiểm tra mọi biên nhận và bằng chứng chỉ bằng khóa công khai · check every receipt and proof with public keys alone.
    Verify {
        /// Dạng JSON · as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Ghi bằng chứng của một lô ra một thư mục, để người khác kiểm tra · write one batch's evidence for others to check.
    Export {
        #[command(flatten)]
        batch: Batch,
        /// Thư mục · the folder; made if it is not there.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Biên bản của trung tâm: chữ ký, và số liệu so với sổ này · the hub's minutes: signature, and figures against this ledger.
    Minutes {
        /// Tệp biên bản · the file.
        file: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Batch {
    /// Bộ dữ liệu · the dataset.
    dataset: String,
    /// Số lô · the batch's number.
    seq: u64,
    /// Kỷ; mặc định: kỷ mới nhất · the epoch. Default: the newest one.
    #[arg(long)]
    epoch: Option<u64>,
}

/// What checks are made with.
struct Keys {
    hub: PublicKey,
    log: Option<PublicKey>,
    policy: Option<Policy>,
}

/// One stream with everything kept of it.
struct Kept {
    name: StreamName,
    receipts: Vec<SignedReceipt>,
    proofs: Vec<Proven>,
}

pub(super) fn run(plan: &Plan, command: LedgerCommand) -> Result<ExitCode, Fault> {
    let book = LogBook::new(Arc::new(RealDisk), &plan.state_dir);
    match command {
        LedgerCommand::Ls { json } => ls(&book, json),
        LedgerCommand::Show(batch) => show(&book, &batch),
        LedgerCommand::Verify { json } => verify(&book, &keys(plan, &book)?, json),
        LedgerCommand::Minutes { file } => {
            let hub = wiring::hub_settings(plan)?.hub_key;
            minutes::check(&book, &hub, &plan.agent, &file)
        }
        LedgerCommand::Export { batch, dir } => export(&book, &keys(plan, &book)?, &batch, &dir),
    }
}

fn keys(plan: &Plan, book: &LogBook) -> Result<Keys, Fault> {
    let hub = wiring::hub_settings(plan)?.hub_key;
    let log = book.key()?;
    let policy = match wiring::log_policy(plan)? {
        Some(policy) => Some(policy),
        None => match &log {
            Some(log) => {
                let own = (plan.agent.to_string(), wiring::signing_key(plan)?.public());
                Some(Policy::of_agents(*log, &[own], 1))
            }
            None => None,
        },
    };
    Ok(Keys { hub, log, policy })
}

fn read(book: &LogBook, name: StreamName) -> Result<Kept, Fault> {
    let (mut receipts, mut reading) = (Vec::new(), Reading::default());
    loop {
        let piece = book.receipts(&name, &mut reading)?;
        if piece.is_empty() {
            break;
        }
        receipts.extend(piece);
    }
    let proofs = book.proofs(&name)?;
    Ok(Kept { name, receipts, proofs })
}

fn ls(book: &LogBook, as_json: bool) -> Result<ExitCode, Fault> {
    for name in book.streams()? {
        let kept = read(book, name)?;
        let receipts = kept.receipts.len();
        let proven = kept.proofs.iter().filter(|proof| proof.number > 0).count();
        let missing = kept.proofs.len() - proven;
        let pending = receipts.saturating_sub(kept.proofs.len());
        let StreamName { dataset, epoch } = &kept.name;
        if as_json {
            let line = json!({ "dataset": dataset, "epoch": epoch, "receipts": receipts,
                "proven": proven, "pending": pending, "missing": missing });
            say(&line.to_string());
            continue;
        }
        say(&format!(
            "{dataset}  kỷ · epoch {epoch}  biên nhận · receipts {receipts}  đã chứng minh · proven \
             {proven}  chờ · pending {pending}  thiếu mục · missing {missing}"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn find(book: &LogBook, batch: &Batch) -> Result<(SignedReceipt, Option<Proven>), Fault> {
    let streams = book.streams()?;
    let wanted = |name: &StreamName| {
        name.dataset.to_string() == batch.dataset
            && batch.epoch.is_none_or(|epoch| name.epoch == Epoch(epoch))
    };
    let none = || {
        let what = format!("the ledger holds no batch {} of {}", batch.seq, batch.dataset);
        Fault::new(Code::LogEntryMissing, what)
    };
    let name = streams.into_iter().rfind(wanted).ok_or_else(none)?;
    let kept = read(book, name)?;
    let receipt = kept.receipts.into_iter().rfind(|r| r.receipt.seq.0 == batch.seq);
    let proof = kept.proofs.into_iter().rfind(|p| p.seq.0 == batch.seq && p.number > 0);
    Ok((receipt.ok_or_else(none)?, proof))
}

fn show(book: &LogBook, batch: &Batch) -> Result<ExitCode, Fault> {
    let (receipt, proof) = find(book, batch)?;
    say(&serde_json::to_string_pretty(&receipt).unwrap_or_default());
    match proof {
        Some(proof) => {
            say(&format!("mục · entry {}: {}", proof.number, proof.entry));
            say(proof.evidence.trim_end());
        }
        None => say("chờ chứng minh · the proof is still to come"),
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(book: &LogBook, keys: &Keys, as_json: bool) -> Result<ExitCode, Fault> {
    let (mut receipts, mut proven, mut missing) = (0, 0, 0);
    let forks = book.forks()?;
    for name in book.streams()? {
        let kept = read(book, name)?;
        for receipt in &kept.receipts {
            if !receipt.covers(receipt.receipt.header, &keys.hub) {
                let seq = receipt.receipt.seq;
                return Err(broken(&kept.name, seq.0, "its receipt is not signed by the hub"));
            }
        }
        receipts += kept.receipts.len();
        for proof in &kept.proofs {
            if proof.number == 0 {
                missing += 1;
                continue;
            }
            check(&kept, proof, keys)?;
            proven += 1;
        }
    }
    let entries = match (&keys.log, book.checkpoint()?) {
        (Some(log), Some(note)) => {
            let checkpoint = Checkpoint::parse(&note, log).map_err(|error| {
                Fault::because(Code::LogBroken, "the checkpoint in the ledger", error)
            })?;
            checkpoint.head.size
        }
        _ => 0,
    };
    if as_json {
        let line = json!({ "receipts": receipts, "proven": proven, "missing": missing,
            "forks": forks.len(), "log_entries": entries });
        say(&line.to_string());
    } else {
        say(&format!(
            "Sổ đúng · the ledger verifies: {receipts} biên nhận · receipts, {proven} bằng chứng · \
             proofs, {missing} biên nhận thiếu mục · receipts without entries, {} mâu thuẫn · \
             contradictions; nhật ký đã thấy · log seen: {entries} mục · entries",
            forks.len()
        ));
        for fork in &forks {
            say(&format!("  ✗ log_forked {}: {}", fork.at, fork.what));
        }
    }
    let sound = missing == 0 && forks.is_empty();
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A proof must hold, and be that of the batch whose receipt it stands beside.
fn check(kept: &Kept, proof: &Proven, keys: &Keys) -> Result<(), Fault> {
    let wrong = |what: &str| broken(&kept.name, proof.seq.0, what);
    let Some(policy) = &keys.policy else { return Err(wrong("the log's key is not there")) };
    let entry: Entry =
        serde_json::from_str(&proof.entry).map_err(|_| wrong("its entry is damaged"))?;
    let told =
        |r: &&SignedReceipt| r.receipt.seq == proof.seq && r.receipt.transfer == entry.transfer;
    if !kept.receipts.iter().any(|receipt| told(&receipt)) {
        return Err(wrong("its proof is for another receipt"));
    }
    let evidence = Evidence::parse(&proof.evidence);
    let held = evidence.and_then(|e| e.verify(proof.entry.as_bytes(), &[keys.hub], policy));
    held.map_err(|error| {
        let StreamName { dataset, epoch } = &kept.name;
        let what = format!("the proof of batch {} of {dataset} epoch {epoch}", proof.seq);
        Fault::because(Code::LogBroken, what, error)
    })
}

fn broken(name: &StreamName, seq: u64, what: &str) -> Fault {
    let StreamName { dataset, epoch } = name;
    Fault::new(Code::LogBroken, format!("batch {seq} of {dataset} epoch {epoch}: {what}"))
}

fn export(
    book: &LogBook,
    keys: &Keys,
    batch: &Batch,
    dir: &std::path::Path,
) -> Result<ExitCode, Fault> {
    let (receipt, proof) = find(book, batch)?;
    let waiting = || Fault::new(Code::HubBusy, "the proof of this batch is still to come");
    let (proof, policy) = (proof.ok_or_else(waiting)?, keys.policy.as_ref());
    let policy = policy.map(Policy::to_text).unwrap_or_default();
    let receipt = serde_json::to_string(&receipt).unwrap_or_default();
    let files = [
        ("entry.json", proof.entry.as_str()),
        ("entry.proof", proof.evidence.as_str()),
        ("hub.pub", &keys.hub.to_openssh("phusa-hub")),
        ("policy", &policy),
        ("receipt.json", &receipt),
    ];
    for (name, text) in files {
        let path = dir.join(name);
        let written = std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&path, text));
        written.map_err(|error| {
            Fault::because(Code::DiskFailed, format!("cannot write {}", path.display()), error)
        })?;
    }
    let dir = dir.display();
    say(&format!(
        "Bằng chứng nằm trong · the evidence is in {dir}\n  sigsum-verify -k {dir}/hub.pub -p \
         {dir}/policy {dir}/entry.proof < {dir}/entry.json"
    ));
    Ok(ExitCode::SUCCESS)
}
