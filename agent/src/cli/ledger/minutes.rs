//! `phusa-agent ledger minutes`: the hub's minutes held against what this house kept itself.

use std::path::Path;
use std::process::ExitCode;

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgentId;
use phusa_protocol::keys::PublicKey;
use phusa_protocol::minutes::{DOCUMENT_BYTES_MAX, Delivered, Minutes, Scope, Tally};

use super::super::say;
use super::read;
use crate::ledger::log::LogBook;

/// Checks the signature, then counts this agent's own proven entries of the period again.
pub(super) fn check(
    book: &LogBook,
    hub: &PublicKey,
    agent: &AgentId,
    file: &Path,
) -> Result<ExitCode, Fault> {
    let (minutes, checkpoint) = open(file, hub)?;
    let scope = minutes.figures.scope.clone();
    if scope.agency != *agent.agency() {
        let what = format!("the minutes are of agency {}, this agent is {agent}", scope.agency);
        return Err(Fault::new(Code::NotOwner, what));
    }
    let (own, waiting) = count(book, &scope)?;
    let is_ours = |line: &&Delivered| line.agent == *agent;
    let told: Vec<&Delivered> = minutes.figures.delivered.iter().filter(is_ours).collect();
    for line in &told {
        let same = own.iter().find(|ours| ours.dataset == line.dataset);
        if same != Some(line) {
            return Err(differs(line, same));
        }
    }
    if let Some(left_out) = own.iter().find(|ours| !told.contains(ours)) {
        let what =
            format!("the minutes leave out {} batches of {}", left_out.batches, left_out.dataset);
        return Err(Fault::new(Code::LogBroken, what));
    }
    let sum = minutes.figures.sum();
    say(&format!(
        "Biên bản đúng · the minutes are right: {} lô · batches, {} thay đổi dòng · row changes; \
         trùng với sổ của tác tử này · as this agent's ledger has it: {} bộ dữ liệu · datasets; nhật ký · \
         log: {} mục · entries",
        sum.batches,
        sum.rows.total(),
        told.len(),
        checkpoint.head.size
    ));
    if waiting > 0 {
        say(&format!(
            "  {waiting} biên nhận chưa có bằng chứng, nên chưa so được · receipts without a proof \
             yet could not be compared"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn open(
    file: &Path,
    hub: &PublicKey,
) -> Result<(Minutes, phusa_protocol::checkpoint::Checkpoint), Fault> {
    let what = || format!("the minutes {}", file.display());
    let failed = |error| Fault::because(Code::DiskFailed, what(), error);
    let length = std::fs::metadata(file).map_err(failed)?.len();
    if length > DOCUMENT_BYTES_MAX as u64 {
        return Err(Fault::because(Code::LogBroken, what(), "the file is too long"));
    }
    let text = std::fs::read_to_string(file).map_err(failed)?;
    Minutes::open(&text, &[*hub]).map_err(|error| Fault::because(Code::LogBroken, what(), error))
}

/// What the ledger's entries of the period come to, and how many receipts still wait for theirs.
fn count(book: &LogBook, scope: &Scope) -> Result<(Vec<Delivered>, usize), Fault> {
    let (mut entries, mut waiting) = (Vec::new(), 0);
    for name in book.streams()? {
        let kept = read(book, name)?;
        waiting += kept.receipts.len().saturating_sub(kept.proofs.len());
        let proven = kept.proofs.into_iter().filter(|proof| proof.number > 0);
        entries.extend(proven.map(|proof| (proof.number, proof.entry)));
    }
    entries.sort_unstable_by_key(|(number, _)| *number);
    entries.dedup_by_key(|(number, _)| *number);
    let mut tally = Tally::new(scope.clone());
    for (number, entry) in &entries {
        tally
            .add(*number, entry)
            .map_err(|error| Fault::because(Code::LogBroken, "an entry in the ledger", error))?;
    }
    Ok((tally.figures().delivered, waiting))
}

fn differs(line: &Delivered, ours: Option<&Delivered>) -> Fault {
    let said = |line: &Delivered| {
        format!("{} batches, {} row changes, {} bytes", line.batches, line.rows.total(), line.bytes)
    };
    let ours = ours.map_or_else(|| "nothing".to_owned(), said);
    let what = format!(
        "the minutes say of {}: {}; this agent's ledger says: {ours}",
        line.dataset,
        said(line)
    );
    Fault::new(Code::LogBroken, what)
}
