//! `phusa-agent update now` and `back`: an installation of one file exchanges itself.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use phusa_protocol::fault::{Code, Fault};

use crate::cli::say;
use crate::config::plan::{Plan, UpdatePlan};
use crate::pipeline::wiring;
use crate::transport::https::Hub;
use crate::update::alone::{Alone, Ended};

fn alone((plan, update): (&Plan, &UpdatePlan), config: &Path) -> Result<Alone, Fault> {
    let own = std::env::current_exe();
    let program = own.map_err(|error| {
        Fault::because(Code::UpdateFailed, "cannot tell which file this program is", error)
    })?;
    let (config, agent) = (config.to_owned(), plan.agent.clone());
    Ok(Alone { program, config, agent, plan: update.clone() })
}

const START_ANEW: &str =
    "Hãy khởi động lại tác tử để chạy bản này (start the agent anew to run it).";

pub(super) async fn now(
    (plan, update): (&Plan, &UpdatePlan),
    config: &Path,
    again: bool,
) -> Result<ExitCode, Fault> {
    let alone = alone((plan, update), config)?;
    let hub = Arc::new(Hub::new(wiring::hub_settings(plan)?)?);
    let ended = alone.exchange(hub, again).await?;
    let (text, code) = match ended {
        Ended::Same(running) => (
            format!("{running}: không có bản nào khác được giao (nothing else is assigned)"),
            ExitCode::SUCCESS,
        ),
        Ended::Closed(version, wait) => {
            let minutes = wait.as_secs().div_ceil(60);
            let text = format!(
                "{version}: ngoài `allowed_hours`, còn {minutes} phút (outside `allowed_hours`, {minutes} min left)"
            );
            (text, ExitCode::SUCCESS)
        }
        Ended::Rejected(version) => (
            format!(
                "{version}: đã bị lùi ở đây; `--again` để thử lại (was taken back here; `--again` tries it once more)"
            ),
            ExitCode::FAILURE,
        ),
        Ended::Exchanged(from, to) => (
            format!("{from} → {to}: đã đổi, giữ {from} (exchanged, {from} is kept). {START_ANEW}"),
            ExitCode::SUCCESS,
        ),
        Ended::Back(version, said) => (
            format!(
                "{version}: tự kiểm tra không đạt, đã trở lại bản trước (its self-test failed, the one before is back): {said}"
            ),
            ExitCode::FAILURE,
        ),
    };
    say(&text);
    Ok(code)
}

pub(super) fn back((plan, update): (&Plan, &UpdatePlan), config: &Path) -> Result<ExitCode, Fault> {
    let (from, to) = alone((plan, update), config)?.back()?;
    say(&format!("{from} → {to}: đã trở lại (went back). {START_ANEW}"));
    Ok(ExitCode::SUCCESS)
}
