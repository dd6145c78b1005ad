//! The end of the wizard: what the database administrator has to run, the check, a masked preview,
//! and the one next command.

use std::path::Path;
use std::process::ExitCode;

use phusa_protocol::fault::{Code, Fault};

use super::super::{look, preview};
use super::files;
use super::screen::{Asked, Question, Screen};
use crate::config::plan::Plan;
use crate::pipeline::wiring;
use crate::source::Source as _;

/// Rows of each dataset that are shown.
const ROWS_SHOWN: u64 = 2;

/// Checks until everything is in place.
pub(super) async fn finish(screen: &mut Screen, config: &Path) -> Asked<ExitCode> {
    let plan = loop {
        let plan = match Plan::load(config) {
            Ok(plan) => plan,
            Err(faults) => {
                mend(screen, &faults)?;
                continue;
            }
        };
        files::folder(&plan.state_dir)?;
        if admitted(screen, &plan, config).await? {
            screen.show();
            let code = look::check(&plan, false, false).await?;
            if code == ExitCode::SUCCESS || screen.is_scripted() {
                break plan;
            }
        }
        again(screen, &[])?;
    };
    let question = Question::new(
        "preview",
        "Xem thử vài bản ghi đã che, trên màn hình này thôi?",
        "See some rows, masked, on this screen alone?",
    );
    let wanted = screen.ask(&question.or("y"), |text| match text {
        "y" | "yes" | "c" | "có" | "co" => Ok(true),
        "n" | "no" | "k" | "không" | "khong" => Ok(false),
        _ => Err(("y hoặc n".to_owned(), "y or n".to_owned())),
    })?;
    if wanted {
        preview::preview(&plan, None, ROWS_SHOWN).await?;
    }
    screen.line("");
    screen.say("Xong. Lệnh tiếp theo:", "Done. The next command:");
    screen.line(&format!("  phusa-agent --config {} run", config.display()));
    screen.show();
    Ok(ExitCode::SUCCESS)
}

/// Whether nothing is left for the administrator; what is goes into a file for them.
async fn admitted(screen: &mut Screen, plan: &Plan, config: &Path) -> Asked<bool> {
    let selections: Vec<_> = plan.datasets.iter().map(|d| d.selection.clone()).collect();
    let found = match wiring::source(plan)?.probe(&selections).await {
        Ok(found) => found,
        Err(fault) => {
            screen.fault(&fault);
            return Ok(false);
        }
    };
    if found.statements.is_empty() || screen.is_scripted() {
        return Ok(true);
    }
    let file = config.with_file_name("quan-tri.sql");
    let head =
        "-- Quyền mà tác tử Phù Sa cần, không hơn · the rights the Phù Sa agent needs, no more.";
    files::write(&file, &format!("{head}\n{}\n", found.statements.join("\n")), 0o644)?;
    screen.say(
        "Còn một việc của quản trị cơ sở dữ liệu: chạy tệp này, rồi bấm Enter.",
        "One thing is left for the database administrator: run this file, then press Enter.",
    );
    screen.line(&format!("  {}", file.display()));
    for statement in found.statements.iter().take(8) {
        screen.line(&super::words::wrapped(&format!("    {statement}")));
    }
    Ok(false)
}

/// Shows what is wrong with the files and waits until somebody has mended it.
pub(super) fn mend(screen: &mut Screen, faults: &[Fault]) -> Asked<()> {
    faults.iter().for_each(|fault| screen.fault(fault));
    again(screen, faults)
}

/// Waits until the person wants to try again; where nobody is there, it ends here.
pub(super) fn again(screen: &mut Screen, faults: &[Fault]) -> Asked<()> {
    if screen.is_scripted() {
        screen.show();
        let words = faults.first().map_or_else(
            || "the administrator has to act first".to_owned(),
            |fault| fault.what.clone(),
        );
        let code = faults.first().map_or(Code::SourceRights, |fault| fault.code);
        return Err(Fault::new(code, words).into());
    }
    screen.pause(
        "Enter: thử lại; <: sửa câu trả lời; q: nghỉ",
        "Enter: try again; <: change an answer; q: leave",
    )
}
