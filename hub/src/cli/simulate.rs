//! `phusa-hub simulate`: a made-up province around a real hub.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::units::Span;
use phusa_protocol::verdict::State;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{one, print};
use crate::simulate::fate::Schedule;
use crate::simulate::{self, AGENTS_MAX, Province, Wanted};

/// How often is said how the fleet is.
const SAID_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct Simulate {
    /// A folder for everything; it must be empty or not there, and is left behind. The hub around which
    /// the agencies are made up is a new one in it: what is made up never stands in a real log.
    #[arg(long)]
    dir: PathBuf,
    /// How many agencies, with one agent each.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..=i64::from(AGENTS_MAX)))]
    agents: u16,
    /// The same seed is the same story.
    #[arg(long, default_value_t = 2026)]
    seed: u64,
    /// Agencies in trouble at any moment, in percent.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(0..=100))]
    troubles: u8,
    /// How often each has something to deliver.
    #[arg(long, default_value = "30s", value_parser = super::parse::<Span>)]
    delivers: Span,
    /// End by itself after so long; default: until Ctrl-C.
    #[arg(long = "for", value_parser = super::parse::<Span>)]
    lasts: Option<Span>,
    /// Make no account for looking at the dashboard.
    #[arg(long)]
    no_account: bool,
}

pub(super) async fn run(asked: Simulate) -> Result<(), Vec<Fault>> {
    one(allow_files())?;
    let schedule = Schedule { seed: asked.seed, percent: asked.troubles };
    let wanted = Wanted {
        dir: asked.dir.clone(),
        agents: asked.agents,
        schedule,
        delivers_every: asked.delivers.0,
    };
    one(print(&format!(
        "Lập {0} cơ quan mô phỏng, ký {0} hợp đồng (making {0} agencies, signing {0} contracts)",
        asked.agents
    )))?;
    let province = simulate::prepare(&wanted).await?;
    one(watched(province, &asked).await)
}

async fn watched(province: Province, asked: &Simulate) -> Result<(), Fault> {
    let mut hub = province.start_hub().await?;
    print(&format!(
        "trang điều hành (dashboard): {}\nsố đo (metrics): {}\nlệnh (commands): phusa-hub --config {} \
         fleet ls\nđiều xảy ra (what befalls): {}",
        province.portal,
        province.metrics,
        province.config.display(),
        asked.dir.join("events.jsonl").display()
    ))?;
    if !asked.no_account {
        invite(&province).await?;
    }
    let failed = |error| Fault::because(Code::Bug, "cannot listen for signals", error);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let (stop, figures) = (CancellationToken::new(), province.reader());
    let telling = async {
        loop {
            tokio::time::sleep(SAID_EVERY).await;
            if let Some(page) = figures.read().await {
                let _unsaid = print(&fleet_line(&page));
            }
        }
    };
    let ending = async {
        let lasts = async {
            match asked.lasts {
                Some(lasts) => tokio::time::sleep(lasts.0).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
            () = lasts => {}
            () = telling => {}
            _ = hub.wait() => {}
        }
        stop.cancel();
    };
    let (lived, ()) = tokio::join!(province.live(&stop), ending);
    lived?;
    end(&mut hub).await
}

/// Asks the hub to stop, and waits for it.
async fn end(hub: &mut tokio::process::Child) -> Result<(), Fault> {
    let failed = |error| Fault::because(Code::Bug, "the hub cannot be stopped", error);
    let id =
        hub.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    let Some(id) = id else {
        let what = "the hub ended by itself: see hub.log of the folder";
        return Err(Fault::new(Code::HubUnreachable, what));
    };
    rustix::process::kill_process(id, rustix::process::Signal::TERM)
        .map_err(|error| failed(error.into()))?;
    hub.wait().await.map(drop).map_err(failed)
}

async fn invite(province: &Province) -> Result<(), Fault> {
    let failed = |error| Fault::because(Code::Bug, "no account could be made", error);
    let own = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new(own);
    command.arg("--config").arg(&province.config);
    command.args(["account", "create", "--first", "mo-phong", "--title", "Người xem mô phỏng"]);
    command.stdin(Stdio::null()).status().await.map(drop).map_err(failed)
}

/// How many agents are in which state, the worst first.
fn fleet_line(page: &str) -> String {
    let of = |state: &State| {
        let name = state.name();
        let head = format!("phusa_fleet_agents{{state=\"{name}\"}} ");
        let count = page.lines().find_map(|line| line.strip_prefix(&head)).unwrap_or("0");
        format!("{name} {count}")
    };
    State::ALL.iter().rev().map(of).collect::<Vec<_>>().join("  ")
}

/// As many open files as the system allows at all: a line and a connection for each agency.
fn allow_files() -> Result<(), Fault> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).map_err(|error| {
        Fault::because(Code::ConfigInvalid, "the limit of open files cannot be raised", error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_every_state_the_worst_first() {
        let page =
            "phusa_fleet_agents{state=\"offline\"} 3\nphusa_fleet_agents{state=\"healthy\"} 7\n";
        let line = fleet_line(page);
        assert!(line.starts_with("offline 3  suspended 0"), "{line}");
        assert!(line.ends_with("healthy 7"), "{line}");
    }
}
