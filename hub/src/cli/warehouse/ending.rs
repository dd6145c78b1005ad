//! `phusa-hub warehouse hold` and `destroy`: what must stay, what is due, and its end by two people.

use std::sync::Arc;

use clap::Subcommand;
use phusa_protocol::entry::act::{Act, DestroyAct};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::DatasetId;
use phusa_protocol::time::Timestamp;

use super::super::{json, parse, print};
use super::agreed;
use crate::accounts::decider;
use crate::accounts::right::Deciding;
use crate::catalog::{Agreed, Catalog};
use crate::config::plan::Plan;
use crate::keeping::place::Place;
use crate::retention::destroy::{self, Destruction, Wanted};
use crate::retention::{self, Due, Hold};
use crate::transfers::Log;
use crate::transfers::evidence::{Which, find};
use crate::warehouse::Warehouse;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum HoldCommand {
    /// Forbid the destruction of anything of a dataset.
    Add {
        /// Which dataset.
        #[arg(value_parser = parse::<DatasetId>)]
        dataset: DatasetId,
        /// Who says so.
        #[arg(long)]
        by: String,
        /// Why: an inspection, a lawsuit.
        #[arg(long)]
        because: String,
    },
    /// Holds in force.
    Ls {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Lift one.
    Lift {
        /// Its number.
        hold: i64,
        /// Who says so.
        #[arg(long)]
        by: String,
    },
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum DestroyCommand {
    /// What is due by each contract's retention; nothing is changed.
    Plan {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Propose to destroy what ended before a moment.
    Propose {
        /// Which dataset.
        #[arg(value_parser = parse::<DatasetId>)]
        dataset: DatasetId,
        /// What ended before this moment; no later than the retention allows. Default: all that is due.
        #[arg(long, value_parser = parse::<Timestamp>)]
        before: Option<Timestamp>,
        /// Rows in force too, whose last change lies before that moment.
        #[arg(long)]
        current: bool,
        /// Who proposes it.
        #[arg(long)]
        by: String,
        /// Why.
        #[arg(long)]
        because: String,
    },
    /// Approve a proposal; somebody else than who proposed it.
    Approve {
        /// Its number.
        destruction: i64,
        /// Who approves it.
        #[arg(long)]
        by: String,
    },
    /// Destroy what was approved.
    Run {
        /// Its number.
        destruction: i64,
        /// Who runs it.
        #[arg(long)]
        by: String,
    },
    /// Proposals and what became of them.
    Ls {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// The certificate of a destruction, to be printed and signed.
    Certificate {
        /// Its number.
        destruction: i64,
    },
}

/// Runs one of the commands about holds.
pub(super) async fn hold(
    plan: &Plan,
    (warehouse, log): (&Warehouse, &Log),
    command: HoldCommand,
) -> Result<(), Fault> {
    let client = warehouse.client().await?;
    match command {
        HoldCommand::Add { dataset, by, because } => {
            let agreed = agreed(plan, warehouse, &dataset).await?;
            let of = (Deciding::End, Some(&agreed.contract.owner));
            decider::check(warehouse, log, &by, of).await?;
            let number = retention::add_hold(&**client, &dataset, (&by, &because)).await?;
            print(&format!("{dataset}: lệnh giữ (hold) {number}"))
        }
        HoldCommand::Ls { json: as_json } => {
            let holds = retention::holds(&**client, None).await?;
            let line = |one: &Hold| {
                format!(
                    "{:>4}  {}  {}  {}: {}",
                    one.hold, one.added_at, one.dataset, one.added_by, one.because
                )
            };
            let lines: Vec<_> = holds.iter().map(line).collect();
            print(&if as_json { json(&holds) } else { lines.join("\n") })
        }
        HoldCommand::Lift { hold, by } => {
            decider::check(warehouse, log, &by, (Deciding::End, None)).await?;
            if retention::lift_hold(&**client, hold, &by).await? {
                return print(&format!("lệnh giữ (hold) {hold}: đã bỏ (lifted)"));
            }
            Err(Fault::new(Code::RetentionRuns, format!("no hold {hold} is in force")))
        }
    }
}

/// Runs one of the commands about destruction.
pub(super) async fn destroy(
    plan: &Plan,
    (warehouse, log): (&Warehouse, &Log),
    command: DestroyCommand,
) -> Result<(), Fault> {
    let client = warehouse.client().await?;
    match command {
        DestroyCommand::Plan { json: as_json } => {
            let catalog = Catalog::open(warehouse.clone(), plan.signing_key.public()).await?;
            let due = retention::plan(&client, &catalog.current()).await?;
            let lines: Vec<_> = due.iter().map(due_line).collect();
            print(&if as_json { json(&due) } else { lines.join("\n") })
        }
        DestroyCommand::Propose { dataset, before, current, by, because } => {
            let agreed = agreed(plan, warehouse, &dataset).await?;
            let of = (Deciding::End, Some(&agreed.contract.owner));
            decider::check(warehouse, log, &by, of).await?;
            let before = before.unwrap_or_else(|| retention::due_before(&agreed, Timestamp::now()));
            let wanted = Wanted { before, current, by: &by, because: &because };
            let number = destroy::propose(&**client, &agreed, wanted).await?;
            let (rows, versions) = retention::count(&**client, &agreed, before).await?;
            let rows = if current { rows } else { 0 };
            print(&format!(
                "Đề nghị hủy (destruction proposed) {number}: {dataset}, trước (before) {before}: \
                 {versions} phiên bản cũ (former versions), {rows} bản ghi hiện hành (rows in force); \
                 chờ người thứ hai phê duyệt (a second person must approve it)"
            ))
        }
        DestroyCommand::Approve { destruction, by } => {
            let agreed = proposed(plan, warehouse, destruction).await?;
            let of = (Deciding::End, Some(&agreed.contract.owner));
            decider::check(warehouse, log, &by, of).await?;
            destroy::approve(&**client, destruction, &by).await?;
            print(&format!("hủy (destruction) {destruction}: đã phê duyệt (approved by) {by}"))
        }
        DestroyCommand::Run { destruction, by } => {
            drop(client);
            let agreed = proposed(plan, warehouse, destruction).await?;
            let of = (Deciding::End, Some(&agreed.contract.owner));
            decider::check(warehouse, log, &by, of).await?;
            let run = (by.as_str(), backups(plan)?);
            let done = destroy::run((warehouse, log), &agreed, destruction, run).await?;
            print(&certificate(plan, warehouse, &done).await?)
        }
        DestroyCommand::Ls { json: as_json } => {
            let all = destroy::list(&**client).await?;
            let lines: Vec<_> = all.iter().map(line).collect();
            print(&if as_json { json(&all) } else { lines.join("\n") })
        }
        DestroyCommand::Certificate { destruction } => {
            let found = destroy::find(&**client, destruction).await?;
            drop(client);
            print(&certificate(plan, warehouse, &found).await?)
        }
    }
}

/// The contract in force of the dataset that a destruction is about.
async fn proposed(
    plan: &Plan,
    warehouse: &Warehouse,
    destruction: i64,
) -> Result<Arc<Agreed>, Fault> {
    let found = destroy::find(&**warehouse.client().await?, destruction).await?;
    let dataset = DatasetId::try_from(found.dataset);
    let dataset = dataset
        .map_err(|error| Fault::because(Code::Bug, "a destruction of an unknown dataset", error))?;
    agreed(plan, warehouse, &dataset).await
}

/// Complete backups that are there.
fn backups(plan: &Plan) -> Result<u64, Fault> {
    let Some(terms) = &plan.backup else { return Ok(0) };
    Ok(Place::new(&terms.to).complete()?.len() as u64)
}

fn due_line(due: &Due) -> String {
    let held = if due.holds > 0 { ", có lệnh giữ (held)" } else { "" };
    format!(
        "{}  giữ (kept for) {}: đến hạn (due) {} phiên bản cũ (former versions); với (with) --current \
         {} bản ghi (rows){held}",
        due.dataset, due.retention, due.versions, due.rows
    )
}

fn line(one: &Destruction) -> String {
    let state = match (&one.approved_by, one.run_at, one.purged_at) {
        (_, _, Some(_)) => "đã hủy (destroyed)",
        (_, Some(_), None) => {
            "đã xóa, chưa làm sạch tệp: chạy lại `run` (deleted, not purged: run again)"
        }
        (Some(_), None, _) => "đã phê duyệt (approved)",
        (None, None, _) => "chờ phê duyệt (waits for approval)",
    };
    let approved = one.approved_by.as_deref().unwrap_or("–");
    format!(
        "{:>4}  {}  {}  trước (before) {}  {}: {}  phê duyệt (approved) {approved}  {state}",
        one.destruction, one.proposed_at, one.dataset, one.before, one.proposed_by, one.because
    )
}

/// What is printed and signed; every figure of it stands in the log's entry.
async fn certificate(
    plan: &Plan,
    warehouse: &Warehouse,
    one: &Destruction,
) -> Result<String, Fault> {
    let number = one.destruction;
    let none = || Fault::new(Code::RetentionRuns, format!("destruction {number} was not run"));
    let transfer = one.transfer.ok_or_else(none)?.unsigned_abs();
    let found = find(warehouse, Which::Transfer(transfer)).await?;
    let Some(Act::Destroy(act)) = &found.entry.act else {
        let what = format!("transfer {transfer} is no destruction");
        return Err(Fault::new(Code::LogBroken, what));
    };
    let entry = found.number.map_or_else(|| "chờ số (pending)".to_owned(), |n| n.to_string());
    let hub = plan.signing_key.public();
    let range =
        act.between.map_or_else(String::new, |(first, last)| format!(" ({first} – {last})"));
    let purged = one.purged_at.map_or_else(
        || "CHƯA: chạy lại `warehouse destroy run` (NOT YET: run it again)".to_owned(),
        |at| at.to_string(),
    );
    let DestroyAct { rows, versions, transfers, proposed_by, approved_by, run_by, .. } = act;
    Ok(format!(
        "BIÊN BẢN HỦY DỮ LIỆU · CERTIFICATE OF DESTRUCTION\n\
         Bộ dữ liệu · dataset: {}\n\
         Mục nhật ký · log entry: {entry}; lần truyền · transfer: {transfer}; lúc · at: {}\n\
         Phạm vi · scope: kết thúc trước · ended before {}{}\n\
         Lý do · reason: {}\n\
         Bản ghi hiện hành đã hủy · rows in force destroyed: {rows}\n\
         Phiên bản cũ đã hủy · former versions destroyed: {versions}\n\
         Lần truyền mất muối · transfers whose salts went: {transfers}{range}\n\
         Đề nghị · proposed by: {proposed_by}\n\
         Phê duyệt · approved by: {approved_by}\n\
         Thực hiện · run by: {run_by}\n\
         Tệp cơ sở dữ liệu sạch lúc · database files purged: {purged}\n\
         Bản sao lưu còn có thể chứa · backups that may still hold it: {}{}\n\
         Khóa trung tâm · the hub's key: {hub}\n\
         Kiểm chứng · verify: phusa-hub log prove --transfer {transfer} --dir bang-chung",
        one.dataset,
        found.entry.committed_at,
        act.before,
        if act.current { ", cả bản ghi hiện hành · rows in force too" } else { "" },
        act.because,
        act.backups,
        expiry(plan, found.entry.committed_at),
    ))
}

/// When the last of the backups from before goes, if the hub makes them as it is told.
fn expiry(plan: &Plan, at: Timestamp) -> String {
    let Some(terms) = &plan.backup else { return String::new() };
    let keep = u32::try_from(terms.keep).unwrap_or(u32::MAX);
    let last = at.after(terms.every.saturating_mul(keep));
    format!(
        "; mất khi có {keep} bản mới hơn, theo lịch là · gone once {keep} newer ones are there, by the \
         schedule at {last}"
    )
}
