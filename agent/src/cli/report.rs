//! What is printed of faults, status and spool.

use std::process::ExitCode;

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::frame;
use phusa_protocol::ids::Seq;
use phusa_protocol::release::UpdateReport;
use phusa_protocol::time::Timestamp;
use phusa_protocol::verdict::{State as Judged, Verdict};
use serde_json::json;

use super::say;
use crate::config::plan::Plan;
use crate::disk::RealDisk;
use crate::pipeline::wiring;
use crate::spool::{Recovered, Spool};
use crate::status::{self, AgentStatus, DatasetStatus, LogStatus, State};
use crate::trouble::Trouble;

/// Prints faults with meaning and remedy, and fails.
pub(super) fn faults(faults: &[Fault]) -> ExitCode {
    for fault in faults {
        eprint_fault(fault);
    }
    ExitCode::FAILURE
}

/// One fault: code, what was tried, what it means, what to do.
pub(super) fn eprint_fault(fault: &Fault) {
    use std::io::Write as _;
    let words = fault.code.words();
    let text = format!(
        "✗ {}: {}\n  {} · {}\n  → {}\n  → {}\n",
        words.name,
        fault.chain(),
        words.meaning_vi,
        words.meaning_en,
        words.remedy_vi,
        words.remedy_en
    );
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// `phusa-agent status`.
pub(super) async fn status(
    plan: &Plan,
    as_json: bool,
    as_prometheus: bool,
) -> Result<ExitCode, Fault> {
    let found = status::ask(&plan.state_dir).await?;
    if as_json {
        say(&serde_json::to_string_pretty(&found).unwrap_or_default());
    } else if as_prometheus {
        say(status::prometheus(&found).trim_end());
    } else {
        print_status(&found);
    }
    let unwell = found.verdict.as_ref().is_some_and(|said| said.state >= Judged::Attention);
    let troubled = found.datasets.iter().any(|d| d.state == State::Faulted);
    Ok(if unwell || troubled { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print_update(update: &UpdateReport) {
    let (vi, en) = update.stage.words();
    let target = update.target.map(|target| format!(" {target}")).unwrap_or_default();
    let why = update.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
    let running = update.running;
    say(&format!("\nCập nhật · update: {running}; {vi} · {en}{target}{why}"));
    if let Some(code) = update.obstacle.as_deref().and_then(Code::named) {
        let words = code.words();
        say(&format!(
            "  ✗ {}: {} · {}\n  → {}\n  → {}",
            words.name, words.meaning_vi, words.meaning_en, words.remedy_vi, words.remedy_en
        ));
    }
}

fn print_status(status: &AgentStatus) {
    say(&format!(
        "Tác tử · agent {}  phiên bản · version {}  hàng đợi · spool {} / {} bytes",
        status.agent, status.version, status.spool_bytes, status.spool_bytes_max
    ));
    if let Some(verdict) = &status.verdict {
        print_verdict(verdict);
    }
    for dataset in &status.datasets {
        print_dataset(dataset, status.at);
    }
    if let Some(log) = &status.log {
        print_log(log, status.at);
    }
    if let Some(update) = &status.update {
        print_update(update);
    }
    if let Some(identity) = &status.identity {
        say(&format!(
            "\nChứng thư · certificate: thứ · number {}, đến · until {}",
            identity.generation, identity.valid_until
        ));
        if let Some(trouble) = &identity.trouble {
            print_trouble(trouble, status.at);
        }
    }
}

fn print_verdict(verdict: &Verdict) {
    let (vi, en) = verdict.state.words();
    let dataset = verdict.dataset.as_ref().map(|one| format!("  {one}")).unwrap_or_default();
    let since = verdict.since.vietnamese();
    say(&format!("Tình trạng · verdict: {vi} · {en}{dataset}  từ · since {since}"));
    let words = verdict.words();
    let fault = verdict.fault.as_ref().map(|fault| format!(" [{fault}]")).unwrap_or_default();
    say(&format!("  {} · {}{fault}", words.reason_vi, words.reason_en));
    if verdict.state >= Judged::Attention {
        say(&format!("  → {}\n  → {}", words.remedy_vi, words.remedy_en));
    }
    if let Some(deadline) = verdict.deadline {
        say(&format!("  hạn · deadline {}", deadline.vietnamese()));
    }
}

fn print_log(log: &LogStatus, at: Timestamp) {
    say(&format!(
        "\nNhật ký của trung tâm · the hub's log: {} mục · entries, đồng ký đến · cosigned up to {}",
        log.entries, log.cosigned
    ));
    say(&format!(
        "  lô đã chứng minh · batches proven {}, chờ chứng minh · pending {}, thiếu mục · missing {}, \
         mâu thuẫn · contradictions {}",
        log.proven, log.pending, log.missing, log.forks
    ));
    if let Some(trouble) = &log.trouble {
        print_trouble(trouble, at);
    }
}

fn print_dataset(dataset: &DatasetStatus, at: Timestamp) {
    let state = match dataset.state {
        State::Starting => "đang khởi động · starting",
        State::Reading => "đang đọc toàn bộ · reading",
        State::Following => "đang theo dõi thay đổi · following",
        State::Faulted => "LỖI · FAULT",
    };
    say(&format!(
        "\n{}  {state}\n  kỷ · epoch {}  lô · batch {} (đã nhận · received {}, đang chờ · waiting {})",
        dataset.dataset,
        dataset.epoch,
        dataset.spooled_seq,
        dataset.released_seq,
        dataset.waiting_batches
    ));
    say(&format!("  vị trí · position {}", dataset.position));
    if dataset.state == State::Reading {
        let (rows, estimate) = (dataset.snapshot_rows, dataset.snapshot_rows_estimated);
        say(&format!("  đã đọc · read {rows} / ~{estimate}"));
    }
    let rows: Vec<_> = dataset.rows.iter().map(|(op, n)| format!("{op} {n}")).collect();
    if !rows.is_empty() {
        say(&format!("  bản ghi · rows {}", rows.join(", ")));
    }
    for (rule, count) in &dataset.rejects {
        say(&format!("  bị loại · rejected {rule}: {count}"));
    }
    for (rule, count) in &dataset.noted {
        say(&format!("  vẫn gửi · sent all the same {rule}: {count}"));
    }
    for trouble in [&dataset.reading_trouble, &dataset.delivery_trouble].into_iter().flatten() {
        print_trouble(trouble, at);
    }
}

fn print_trouble(trouble: &Trouble, at: Timestamp) {
    let (words, seconds) = (trouble.code.words(), at.since(trouble.since).as_secs());
    say(&format!("  ✗ {} ({seconds} s): {}", words.name, trouble.what));
    say(&format!("    {} · {}", words.meaning_vi, words.meaning_en));
    say(&format!("    → {} · {}", words.remedy_vi, words.remedy_en));
}

/// `phusa-agent spool`: batches and their headers, never rows.
pub(super) fn spool(plan: &Plan, as_json: bool) -> Result<ExitCode, Fault> {
    let spool = Spool::open(wiring::spool_settings(plan)?, std::sync::Arc::new(RealDisk))?;
    for dataset in &plan.datasets {
        let id = &dataset.dataset();
        let recovery = match spool.look(id)? {
            Recovered::Whole(recovery) => recovery,
            Recovered::Nothing => {
                say(&format!("{id}: trống · empty"));
                continue;
            }
            Recovered::Broken { epoch, fault } => {
                say(&format!("{id}: kỷ · epoch {epoch} bị hỏng · broken: {}", fault.chain()));
                continue;
            }
        };
        for seq in recovery.receipted.iter().chain(recovery.waiting.keys()) {
            print_batch(&recovery.stream, *seq, recovery.released, as_json)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print_batch(
    stream: &crate::spool::Stream,
    seq: Seq,
    released: Seq,
    as_json: bool,
) -> Result<(), Fault> {
    let record = stream.read(seq)?;
    let Ok(batch) = frame::decode(&record.frame) else { return Ok(()) };
    let header = &batch.signed.header;
    let received = seq <= released;
    if as_json {
        let line = json!({ "header": header, "bytes": record.frame.len(), "received": received });
        say(&line.to_string());
        return Ok(());
    }
    say(&format!(
        "{}  kỷ · epoch {}  lô · batch {seq}  {} bản ghi · rows  {} bytes  {}  {}",
        header.dataset,
        header.epoch,
        header.counts.total(),
        record.frame.len(),
        header.position_to,
        if received { "đã nhận · received" } else { "đang chờ · waiting" }
    ));
    Ok(())
}
