//! `phusa-agent update` and `self-test`: the updater, its state, and whether a program can work here.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;
use phusa_protocol::fault::{Class, Fault};
use phusa_protocol::release::{Version, Why};
use phusa_protocol::time::Timestamp;
use phusa_protocol::units::Span;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::say;
use crate::config::plan::{Plan, UpdatePlan};
use crate::disk::RealDisk;
use crate::pipeline::wiring;
use crate::spool::Spool;
use crate::transport::https::Hub;
use crate::update::form::{self, State};
use crate::update::judge::Terms;
use crate::update::slots::Slots;
use crate::update::watch::{self, Place, Watch};

mod alone;

#[derive(Debug, Subcommand)]
pub(super) enum UpdateCommand {
    /// Chạy bộ cập nhật: giữ các ngăn, xác minh, thử thách, chốt hoặc lùi; không cần tệp cấu hình · run the updater.
    Watch(Watched),
    /// Đưa chương trình của gói cài đặt vào ngăn · put a package's program into a slot.
    Adopt {
        /// Chương trình · the program.
        program: PathBuf,
        /// Thư mục các ngăn · the folder of the slots.
        #[arg(long, default_value = "/var/lib/phusa-update")]
        slots: PathBuf,
    },
    /// Bản cài một tệp, không có bộ cập nhật: đổi chính tệp này lấy bản được giao, giữ bản trước · without an updater: exchange this one file for the release that was assigned, and keep the one before.
    Now {
        /// Cả bản đã từng bị lùi ở đây · also one that was taken back here.
        #[arg(long)]
        again: bool,
    },
    /// Bản cài một tệp: trở lại bản trước · without an updater: go back to the program before.
    Back,
    /// Tình trạng cập nhật và lý do · how far an update is, and why.
    Status {
        /// Dạng JSON · as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Đồng ý cài phiên bản này (khi `mode = "ask"`) · agree to this version.
    Accept {
        /// Phiên bản · the version.
        #[arg(value_parser = version)]
        version: Version,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Watched {
    /// Thư mục các ngăn · the folder of the slots.
    #[arg(long, default_value = "/var/lib/phusa-update")]
    slots: PathBuf,
    /// Thư mục bàn giao của tác tử · where the agent lays releases down.
    #[arg(long, default_value = "/var/lib/phusa-incoming")]
    incoming: PathBuf,
    /// Gốc tin cậy của các bản phát hành · the root of trust of releases.
    #[arg(long, default_value = "/etc/phusa/release-root.json")]
    root: PathBuf,
    /// Thời gian thử thách · how long a release is on probation.
    #[arg(long, default_value = "10m", value_parser = span)]
    probation: Span,
    /// Im lặng bao lâu thì lùi · silence after which it is taken back.
    #[arg(long, default_value = "40s", value_parser = span)]
    silent: Span,
}

fn version(text: &str) -> Result<Version, phusa_protocol::release::BadVersion> {
    Version::try_from(text.to_owned())
}

fn span(text: &str) -> Result<Span, String> {
    Span::try_from(text.to_owned()).map_err(|error| error.to_string())
}

/// Runs what needs no configuration; gives the command back otherwise.
pub(super) async fn without_plan(
    command: UpdateCommand,
) -> Result<Result<ExitCode, Fault>, UpdateCommand> {
    match command {
        UpdateCommand::Watch(watched) => Ok(watch(watched).await),
        UpdateCommand::Adopt { program, slots } => Ok(adopt(&program, &slots)),
        UpdateCommand::Status { .. }
        | UpdateCommand::Accept { .. }
        | UpdateCommand::Now { .. }
        | UpdateCommand::Back => Err(command),
    }
}

/// Runs what needs the configuration.
pub(super) async fn run(
    (plan, config): (&Plan, &Path),
    command: &UpdateCommand,
) -> Result<ExitCode, Fault> {
    let Some(update) = &plan.update else {
        say("không có phần [update] trong agent.toml (no [update] in agent.toml)");
        return Ok(ExitCode::FAILURE);
    };
    match command {
        UpdateCommand::Status { json } => status(update, *json),
        UpdateCommand::Accept { version } => {
            form::write(&update.incoming_dir.join("accepted.json"), version, true)?;
            say(&format!("{version}: đã đồng ý (agreed)"));
            Ok(ExitCode::SUCCESS)
        }
        UpdateCommand::Now { again } => alone::now((plan, update), config, *again).await,
        UpdateCommand::Back => alone::back((plan, update), config),
        UpdateCommand::Watch(_) | UpdateCommand::Adopt { .. } => Ok(ExitCode::SUCCESS),
    }
}

async fn watch(watched: Watched) -> Result<ExitCode, Fault> {
    let Watched { slots, incoming, root, probation, silent } = watched;
    let terms = Terms { probation: probation.0, silent: silent.0, ..Terms::default() };
    let place = Place { slots_dir: slots, incoming_dir: incoming, root_file: root, terms };
    let watch = Watch::open(place)?;
    let stop = CancellationToken::new();
    let failed = |error| {
        let what = "cannot listen for signals";
        Fault::because(phusa_protocol::fault::Code::Bug, what, error)
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let stopping = stop.clone();
    crate::service::notify("READY=1");
    tracing::info!(current = %watch.state().current, "The updater watches; {} runs", watch.state().current);
    let pings = crate::service::watchdog(stop.child_token());
    let ended = async move {
        let _told = terminate.recv().await;
        stopping.cancel();
    };
    tokio::join!(watch.run(stop), pings, ended);
    Ok(ExitCode::SUCCESS)
}

fn adopt(program: &Path, slots: &Path) -> Result<ExitCode, Fault> {
    let own = crate::update::worker::own_version()?;
    if watch::adopt(slots, program, own)? {
        say(&format!("{own}: đã đưa vào ngăn (lies in its slot)"));
    } else {
        say(&format!("{own}: bản đang chạy mới bằng hoặc hơn (what runs is as new or newer)"));
    }
    Ok(ExitCode::SUCCESS)
}

fn status(update: &UpdatePlan, json: bool) -> Result<ExitCode, Fault> {
    let slots = Slots::new(&update.slots_dir);
    let state: Option<State> = form::read(&slots.state_file())?;
    if json {
        say(&serde_json::to_string(&state).unwrap_or_default());
        return Ok(ExitCode::SUCCESS);
    }
    let Some(state) = state else {
        say("bộ cập nhật chưa chạy lần nào (the updater has not run yet)");
        return Ok(ExitCode::SUCCESS);
    };
    let (vi, en) = state.stage.words();
    say(&format!("đang dùng (current): {}", state.current));
    if let Some(previous) = state.previous {
        say(&format!("giữ lại (kept): {previous}"));
    }
    let about = state.target.map(|target| format!(" {target}")).unwrap_or_default();
    say(&format!("{vi} ({en}){about} – {}", state.since.vietnamese()));
    if let Some(why) = state.why {
        let (vi, en) = Why::words(why);
        say(&format!("  vì: {vi} · because {en}: {}", state.detail));
    }
    if let Some(code) = state.obstacle {
        say(&format!("  ✗ {code}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// How long the hub may take to answer a program that proves itself.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

/// Whether this program can work here: it reads the configuration, the keys and what the one before left,
/// and speaks with the hub. What passes by itself, such as a line that is cut, does not fail it.
pub(super) async fn self_test(plan: &Plan) -> Result<ExitCode, Fault> {
    let spool = Spool::open(wiring::spool_settings(plan)?, Arc::new(RealDisk))?;
    for dataset in &plan.datasets {
        spool.look(dataset.dataset()).map(drop)?;
    }
    wiring::signing_key(plan)?;
    wiring::orders(plan)?;
    wiring::source(plan).map(drop)?;
    let hub = Hub::new(wiring::hub_settings(plan)?)?;
    let asked = tokio::time::timeout(ANSWERS_WITHIN, hub.assignment(&plan.agent)).await;
    let heard = match asked {
        Ok(Ok(_)) => "trung tâm đã trả lời (the hub answered)".to_owned(),
        Ok(Err(fault)) if fault.code.class() != Class::Retry => return Err(fault),
        Ok(Err(fault)) => {
            format!("chưa hỏi được trung tâm (the hub was not asked): {}", fault.code)
        }
        Err(_) => "trung tâm chưa trả lời (the hub does not answer)".to_owned(),
    };
    let now = Timestamp::now().vietnamese();
    say(&format!(
        "phusa-agent {}: tự kiểm tra đạt (self-test passed) {now}; {heard}",
        env!("CARGO_PKG_VERSION")
    ));
    Ok(ExitCode::SUCCESS)
}
