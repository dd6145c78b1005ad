//! `phusa-hub backup` and `phusa-hub restore`: copies at an independent place, and the way back.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::time::Timestamp;

use super::{json, one, print, with_warehouse};
use tokio_util::sync::CancellationToken;

use crate::accounts::decider;
use crate::accounts::right::Deciding;
use crate::config::plan::Plan;
use crate::keeping::drill::drill;
use crate::keeping::make::{self, Hub};
use crate::keeping::place::Place;
use crate::keeping::restore::{self, Restored, Source};
use crate::keeping::seal::BackupKey;
use crate::keeping::{Terms, files};
use crate::service;
use crate::transfers::Log;

#[derive(Debug, Subcommand)]
pub(super) enum BackupCommand {
    /// Make one now.
    Make {
        /// In whose name.
        #[arg(long)]
        by: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// The complete ones; the exit code is 1 when the newest is too old or there is none.
    Ls {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Restore one into a folder that goes away again, verify its log and count its rows.
    Drill {
        /// Which; the newest where none is named.
        name: Option<String>,
        /// In whose name.
        #[arg(long)]
        by: Option<String>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make the key that seals backups.
    Key {
        /// The file; it must not be there yet.
        #[arg(long)]
        out: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Restore {
    /// The place: the folder that holds the backups.
    from: PathBuf,
    /// A folder that is empty or not there.
    #[arg(long)]
    to: PathBuf,
    /// The key the backup was sealed with.
    #[arg(long)]
    key_file: PathBuf,
    /// Which backup; the newest where none is named.
    #[arg(long)]
    name: Option<String>,
    /// In whose name.
    #[arg(long)]
    by: String,
    /// Why, for whoever reads the log.
    #[arg(long)]
    because: String,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Runs one of the commands.
pub(super) async fn run(config: &Path, command: BackupCommand) -> Result<(), Vec<Fault>> {
    if let BackupCommand::Key { out } = command {
        return one(new_key(&out));
    }
    let plan = Plan::read(config)?;
    let terms = one(plan.backup.clone().ok_or_else(|| {
        let what = "hub.toml names no place under [backup] `to`";
        Fault::new(Code::ConfigInvalid, what)
    }))?;
    let log = Log::new(plan.signing_key.clone());
    match command {
        BackupCommand::Make { by, json: as_json } => {
            let folder = super::log::folder(&plan);
            let folder = one(folder)?;
            let sources = service::sources(&plan, &terms);
            with_warehouse(&plan, async |warehouse| {
                decider::check(warehouse, &log, &by, (Deciding::Keep, None)).await?;
                let hub = Hub { warehouse, log: &log, folder: folder.as_ref(), sources: &sources };
                let made = make::make(&terms, &hub, Some(&by)).await?;
                print(&if as_json {
                    json(&made)
                } else {
                    format!(
                        "Bản sao lưu đã hoàn chỉnh (backup is complete): {}, {} byte, {} mục nhật \
                         ký (log entries), đã bỏ (removed): {}",
                        made.name,
                        made.bytes,
                        made.entries,
                        made.removed.len()
                    )
                })
            })
            .await
        }
        BackupCommand::Ls { json: as_json } => one(ls(&plan, &terms, as_json)),
        BackupCommand::Drill { name, by, json: as_json } => {
            with_warehouse(&plan, async |warehouse| {
                if let Some(by) = &by {
                    decider::check(warehouse, &log, by, (Deciding::Keep, None)).await?;
                }
                let hub = (warehouse, &log, plan.state_dir.as_path());
                let drilled =
                    drill(&terms, name, hub, by.as_deref(), &CancellationToken::new()).await?;
                print(&if as_json {
                    json(&drilled)
                } else {
                    format!(
                        "Khôi phục thử đạt (the drill succeeded): {}, {} mục nhật ký đúng (log \
                         entries verified), {} bản ghi (rows), lần truyền (transfer) {}",
                        drilled.name, drilled.log.summary.entries, drilled.rows, drilled.transfer
                    )
                })
            })
            .await
        }
        BackupCommand::Key { .. } => Ok(()),
    }
}

fn ls(plan: &Plan, terms: &Terms, as_json: bool) -> Result<(), Fault> {
    let place = Place::new(&terms.to);
    let all = place.complete()?;
    if as_json {
        print(&json(&all))?;
    } else {
        let line = |one: &crate::keeping::place::Complete| {
            format!(
                "{}  {}  {:>14} byte  {:>10} mục (entries)",
                one.name, one.made_at, one.bytes, one.entries
            )
        };
        print(&all.iter().map(line).collect::<Vec<_>>().join("\n"))?;
    }
    if !place.is_independent_of(&plan.state_dir) {
        tracing::warn!("Backups lie on the same volume as the hub: what takes one takes both");
    }
    let Some(newest) = all.last() else {
        let what = format!("chưa có bản nào (none yet) in {}", terms.to.display());
        return Err(Fault::new(Code::BackupOverdue, what));
    };
    let age = Timestamp::now().since(newest.made_at);
    if age > terms.max_age {
        let what = format!("{}: {} giờ (hours)", newest.name, age.as_secs() / 3600);
        return Err(Fault::new(Code::BackupOverdue, what));
    }
    Ok(())
}

fn new_key(out: &Path) -> Result<(), Fault> {
    let key = BackupKey::generate()
        .map_err(|error| Fault::because(Code::Bug, "no randomness from the system", error))?;
    files::write_private(out, key.to_secret_text().as_bytes(), 0o600)?;
    print(&format!(
        "Khóa sao lưu (backup key): {}. Giữ thêm một bản ở nơi khác trung tâm và khác nơi sao lưu: \
         không có khóa thì không khôi phục được (keep a copy where neither the hub nor its backups \
         are: without it nothing can be restored)",
        out.display()
    ))
}

/// Goes back to a backup.
pub(super) async fn restore(wanted: Restore) -> Result<(), Fault> {
    let what = || format!("key file {}", wanted.key_file.display());
    let text = std::fs::read_to_string(&wanted.key_file)
        .map_err(|error| Fault::because(Code::SecretUnreadable, what(), error))?;
    let none = || Fault::new(Code::SecretUnreadable, format!("{} is not 32 bytes", what()));
    let key = BackupKey::from_text(&text).ok_or_else(none)?;
    let source = Source { place: wanted.from, name: wanted.name, key };
    let done = restore::restore(&source, &wanted.to, (&wanted.by, &wanted.because)).await?;
    print(&if wanted.json { json(&done) } else { told(&done) })
}

fn told(done: &Restored) -> String {
    let mut lines = vec![format!(
        "Đã khôi phục (restored): {} ({}): {} mục nhật ký đúng (log entries verified), {} bản ghi \
         (rows)",
        done.name, done.made_at, done.log.summary.entries, done.rows
    )];
    match &done.lost {
        Some(lost) => lines.push(format!(
            "Mất nội dung các mục (texts of entries that are lost): {} – {}; lá của chúng còn trong \
             nhật ký, mục {} nói rõ (their leaves stay in the log, entry {} says so). Nội dung và \
             bằng chứng nằm ở sổ của các tác tử (texts and proofs are in the agents' ledgers). {} mục \
             được đánh số lại (entries are numbered anew)",
            lost.first, lost.last, lost.said_in, lost.said_in, lost.again
        )),
        None => lines.push(
            "Không mục đã công bố nào bị mất (no published entry is lost); nếu tác tử báo \
             `log_forked` thì bản sao nhật ký không đầy đủ (if agents say `log_forked`, the log's \
             second copy was not complete)"
                .to_owned(),
        ),
    }
    lines.push(
        "Các luồng đi tiếp từ đây; tác tử tự gửi hoặc đọc lại phần sau (streams go on from \
                here; agents send or read again by themselves what came after):"
            .to_owned(),
    );
    for stream in &done.streams {
        let at = stream.committed_at.map_or_else(String::new, |at| at.to_string());
        let (agent, dataset) = (&stream.agent, &stream.dataset);
        lines.push(format!("  {agent}  {dataset}  {}/{}  {at}", stream.epoch, stream.seq));
    }
    lines.push(format!("Khởi động (start): phusa-hub --config {} serve", done.config.display()));
    lines.join("\n")
}
