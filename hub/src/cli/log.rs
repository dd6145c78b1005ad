//! Commands over the transfer log: verify, audit, export, minutes, ls, show, prove, policy, continue.

mod minutes;
mod stamp;
mod verify;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use phusa_protocol::entry::Entry;
use phusa_protocol::evidence::Evidence;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::keys::PublicKey;
use phusa_protocol::note::{ED25519, verifier_key};
use phusa_protocol::policy::Policy;
use serde::Serialize;

use super::{json, one, print, with_warehouse};
use crate::admission;
use crate::config::plan::Plan;
use crate::listen::log::policy as policy_in_force;
use crate::stamping::shelf::Stamped;
use crate::transfers::evidence::{Found, Heads, Stage, Which, find, prove};
use crate::transfers::folder::Folder;
use crate::transfers::publish::blocking;
use crate::transfers::{Log, restore};
use crate::warehouse::Warehouse;

#[derive(Debug, Subcommand)]
pub(super) enum LogCommand {
    /// Walk the log with nothing but public keys, and compare it with its published files.
    Verify(verify::Verify),
    /// Verify, and look at the published files too.
    Audit(verify::Audit),
    /// Write the log out; that this was done becomes an entry.
    Export(verify::Export),
    /// Minutes of what an agency delivered in a period, signed by the hub.
    #[command(subcommand)]
    Minutes(minutes::MinutesCommand),
    /// The newest entries, and how far the log is published and proven.
    Ls {
        /// How many entries.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// One entry, and whether it is proven.
    Show(One),
    /// Write the evidence for one entry: entry, proof, the hub's key and the policy, for our
    /// programs and for Sigsum's.
    Prove {
        #[command(flatten)]
        one: One,
        /// A folder for the files; made if it is not there. Default: the proof alone, printed.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Print the policy in force, for agents and inspectors.
    Policy,
    /// Let the log go on after the database was restored from a backup (decision 0016).
    Continue {
        /// Why, for whoever reads the log: which backup, restored by whom.
        #[arg(long)]
        because: String,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct One {
    /// The entry's number.
    #[arg(required_unless_present = "transfer")]
    number: Option<u64>,
    /// The transfer that a receipt or a row names, instead of the number.
    #[arg(long, conflicts_with = "number")]
    transfer: Option<u64>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl One {
    fn which(&self) -> Which {
        match (self.number, self.transfer) {
            (_, Some(transfer)) => Which::Transfer(transfer),
            (number, None) => Which::Number(number.unwrap_or(0)),
        }
    }
}

pub(super) async fn run(config: &Path, command: LogCommand) -> Result<(), Vec<Fault>> {
    match command {
        LogCommand::Verify(wanted) => verify::verify(config, wanted).await,
        LogCommand::Audit(wanted) => verify::audit(config, wanted).await,
        LogCommand::Export(wanted) => verify::write_out(config, wanted).await,
        LogCommand::Minutes(command) => minutes::run(config, command).await,
        LogCommand::Ls { limit, json } => {
            let plan = Plan::read(config)?;
            with_warehouse(&plan, async |warehouse| ls(&plan, warehouse, limit, json).await).await
        }
        LogCommand::Show(one) => {
            let plan = Plan::read(config)?;
            with_warehouse(&plan, async |warehouse| show(&plan, warehouse, &one).await).await
        }
        LogCommand::Prove { one, dir } => {
            let plan = Plan::read(config)?;
            let dir = dir.as_deref();
            with_warehouse(&plan, async |warehouse| evidence(&plan, warehouse, &one, dir).await)
                .await
        }
        LogCommand::Policy => {
            let plan = Plan::read(config)?;
            let folder = one(published_folder(&plan))?;
            with_warehouse(&plan, async |warehouse| {
                print(&policy(&plan, warehouse, &folder).await?.to_text())
            })
            .await
        }
        LogCommand::Continue { because } => {
            let plan = Plan::read(config)?;
            with_warehouse(&plan, async |warehouse| go_on(&plan, warehouse, &because).await).await
        }
    }
}

/// The log's folder; `None` before the hub's first start.
pub(super) fn folder(plan: &Plan) -> Result<Option<Folder>, Fault> {
    if let Some(key) = &plan.log_key.key {
        return Ok(Some(Folder::new(&plan.state_dir, key.public())));
    }
    if plan.state_dir.join("log/checkpoint").exists() {
        let what = format!("the log's key {} is not there", plan.log_key.path.display());
        return Err(Fault::new(Code::SecretUnreadable, what));
    }
    Ok(None)
}

fn published_folder(plan: &Plan) -> Result<Folder, Fault> {
    let none = || Fault::new(Code::LogEntryMissing, "no log was published yet: start the hub");
    folder(plan)?.ok_or_else(none)
}

/// Entries in the published log.
pub(super) fn published(plan: &Plan) -> Result<u64, Fault> {
    let Some(folder) = folder(plan)? else { return Ok(0) };
    Ok(folder.checkpoint()?.map_or(0, |checkpoint| checkpoint.head.size))
}

async fn policy(plan: &Plan, warehouse: &Warehouse, folder: &Folder) -> Result<Policy, Fault> {
    let register = admission::register(warehouse, &plan.register, &plan.signing_key).await?;
    Ok(policy_in_force(plan.log_policy.as_ref(), folder.log(), &register))
}

fn stage_text(stage: Stage) -> &'static str {
    match stage {
        Stage::Committed => "đã ghi, chờ số (committed, unnumbered)",
        Stage::Numbered => "có số, chờ công bố (numbered, unpublished)",
        Stage::Pending => "đã công bố, chờ nhân chứng (published, pending witnesses)",
        Stage::Proven => "đã chứng minh (proven)",
    }
}

/// One entry as a line of `log ls` or as `log show`.
#[derive(Serialize)]
struct Shown {
    number: Option<u64>,
    stage: Stage,
    /// The first timestamp over it; only of one that is shown alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamped: Option<Stamped>,
    entry: Entry,
}

impl Shown {
    fn new(found: Found, heads: &Heads) -> Self {
        let (stage, number) = (heads.stage(found.number), found.number);
        Self { stage, number, timestamped: None, entry: found.entry }
    }

    fn line(&self) -> String {
        let entry = &self.entry;
        let number = self.number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let by = || entry.deed.as_ref().map(|deed| format!("{} {}", deed.by, deed.action.name()));
        let agent = entry.agent.as_ref().map(ToString::to_string);
        let who = agent.or_else(by).unwrap_or_default();
        let dataset = entry.dataset.as_ref().map_or_else(String::new, ToString::to_string);
        let kind = crate::transfers::kind_name(entry.kind);
        let stage = stage_text(self.stage);
        format!("{number:>8}  {}  {kind:<8}  {who}  {dataset}  {stage}", entry.committed_at)
    }
}

async fn ls(plan: &Plan, warehouse: &Warehouse, limit: u32, as_json: bool) -> Result<(), Fault> {
    let folder = published_folder(plan)?;
    let heads = Heads::read(warehouse, &folder).await?;
    let client = warehouse.client().await?;
    let sql = "select transfer from phusa.transfers order by number desc nulls first, \
               transfer desc limit $1";
    let failed = |e: tokio_postgres::Error| crate::error::database_fault("cannot list entries", &e);
    let rows = client.query(sql, &[&i64::from(limit)]).await.map_err(failed)?;
    drop(client);
    let mut lines = Vec::new();
    for row in rows.iter().rev() {
        let transfer: i64 = row.try_get(0).map_err(failed)?;
        let found = find(warehouse, Which::Transfer(transfer.unsigned_abs())).await?;
        lines.push(Shown::new(found, &heads));
    }
    if as_json {
        return print(&json(&lines));
    }
    let size = |head: &Option<_>| -> u64 {
        head.as_ref().map_or(0, |c: &phusa_protocol::checkpoint::Checkpoint| c.head.size)
    };
    let (published, proven) = (size(&heads.published), size(&heads.proven));
    let head = format!(
        "Đã công bố (published): {published} mục (entries); đã chứng minh (proven): {proven}"
    );
    let lines: Vec<String> = lines.iter().map(Shown::line).collect();
    let stamped = stamp::text(stamp::of(plan, None).await?.as_ref());
    let stamped = if stamped.is_empty() { stamped } else { format!("\n{stamped}") };
    print(&format!("{head}{stamped}\n{}", lines.join("\n")))
}

async fn show(plan: &Plan, warehouse: &Warehouse, one: &One) -> Result<(), Fault> {
    let folder = published_folder(plan)?;
    let heads = Heads::read(warehouse, &folder).await?;
    let mut shown = Shown::new(find(warehouse, one.which()).await?, &heads);
    if shown.number.is_some() {
        shown.timestamped = stamp::of(plan, shown.number).await?;
    }
    if one.json {
        return print(&json(&shown));
    }
    let pretty = serde_json::to_string_pretty(&shown.entry).unwrap_or_default();
    let stamped = stamp::text(shown.timestamped.as_ref());
    let stamped = if stamped.is_empty() { stamped } else { format!("{stamped}\n") };
    print(&format!("{}\n{stamped}{pretty}", shown.line().trim_start()))
}

async fn evidence(
    plan: &Plan,
    warehouse: &Warehouse,
    one: &One,
    dir: Option<&Path>,
) -> Result<(), Fault> {
    let folder = published_folder(plan)?;
    let heads = Heads::read(warehouse, &folder).await?;
    let found = find(warehouse, one.which()).await?;
    let unpublished = || Fault::new(Code::HubBusy, "no checkpoint holds this entry yet");
    let number = found.number.ok_or_else(unpublished)?;
    let checkpoint = heads.best(number).ok_or_else(unpublished)?.clone();
    let policy = policy(plan, warehouse, &folder).await?;
    let (from, known) = (folder.clone(), policy.clone());
    let evidence = blocking(move || prove(&from, number, &checkpoint, &known)).await?;
    check(&evidence, &found, &plan.signing_key.public(), &policy)?;
    let Some(dir) = dir else { return print(&evidence.to_text()) };
    let hub = plan.signing_key.public().to_openssh("phusa-hub");
    let origin = phusa_protocol::checkpoint::origin(folder.log());
    let verifier = verifier_key(&origin, ED25519, folder.log());
    let mut files: Vec<(&str, Vec<u8>)> = vec![
        ("entry.json", found.text.clone().into_bytes()),
        ("entry.proof", evidence.to_text().into_bytes()),
        ("hub.pub", hub.into_bytes()),
        ("policy", policy.to_text().into_bytes()),
        ("log.vkey", format!("{verifier}\n").into_bytes()),
    ];
    let stamped = stamp::files(plan, &folder, &found).await?;
    let has_stamp = !stamped.is_empty();
    files.extend(stamped);
    for (name, bytes) in files {
        let path = dir.join(name);
        let written = std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&path, bytes));
        written.map_err(|error| {
            let what = format!("cannot write {}", path.display());
            Fault::because(Code::DiskFailed, what, error)
        })?;
    }
    let stage = stage_text(heads.stage(Some(number)));
    let dir = dir.display();
    print(&format!(
        "Mục (entry) {number}: {stage}\nBằng chứng nằm trong (the evidence is in) {dir}\n  \
         sigsum-verify -k {dir}/hub.pub -p {dir}/policy {dir}/entry.proof < {dir}/entry.json{}",
        if has_stamp { stamp::command(&dir.to_string()) } else { String::new() }
    ))
}

/// Nothing is handed out that does not hold; that too few witnesses signed yet is said elsewhere.
fn check(
    evidence: &Evidence,
    found: &Found,
    hub: &PublicKey,
    policy: &Policy,
) -> Result<(), Fault> {
    use phusa_protocol::evidence::BadEvidence;
    match evidence.verify(found.text.as_bytes(), &[*hub], policy) {
        Ok(()) | Err(BadEvidence::Quorum) => Ok(()),
        Err(error) => {
            let number = found.number.unwrap_or_default();
            Err(Fault::because(Code::LogBroken, format!("the proof of entry {number}"), error))
        }
    }
}

async fn go_on(plan: &Plan, warehouse: &Warehouse, because: &str) -> Result<(), Fault> {
    let folder = published_folder(plan)?;
    let log = Log::new(plan.signing_key.clone());
    let Some(done) = restore::go_on(warehouse, &folder, &log, because).await? else {
        return print(
            "Cơ sở dữ liệu giữ đủ nhật ký đã công bố; không có gì để làm (the database holds all \
             that was published; nothing to do)",
        );
    };
    print(&format!(
        "Nhật ký đi tiếp từ mục (the log goes on with entry) {}: các mục (entries) {} – {} không \
         còn trong cơ sở dữ liệu, lá của chúng vẫn trong tệp (are no longer in the database, their \
         leaves stay in the files); {} mục được đánh số lại (entries are numbered anew)",
        done.number, done.first, done.last, done.again
    ))
}
