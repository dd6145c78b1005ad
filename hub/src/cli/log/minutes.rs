//! `phusa-hub log minutes`: made and signed, and verified with the hub's public key alone.

use std::fs::File;
use std::io::{BufReader, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use phusa_protocol::checkpoint::Checkpoint;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::{AgencyId, DatasetId};
use phusa_protocol::keys::PublicKey;
use phusa_protocol::minutes::{DOCUMENT_BYTES_MAX, Figures, Minutes};
use phusa_protocol::policy::Policy;
use phusa_protocol::time::Timestamp;
use serde_json::json;

use super::super::{one, parse, print, with_warehouse};
use super::published_folder;
use super::verify::read_public;
use crate::catalog::Catalog;
use crate::config::plan::Plan;
use crate::transfers::Log;
use crate::transfers::deed::console;
use crate::transfers::minutes::page::Titles;
use crate::transfers::minutes::{Form, Maker, Wanted, count, count_file};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum MinutesCommand {
    /// Count, sign and write the minutes; that this was done becomes an entry.
    Make(Make),
    /// Check that minutes are as the hub signed them, and count again where entries are given.
    Verify(Verify),
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Make {
    /// The agency whose deliveries are counted.
    #[arg(long, value_parser = parse::<AgencyId>)]
    agency: AgencyId,
    /// Only this dataset.
    #[arg(long, value_parser = parse::<DatasetId>)]
    dataset: Option<DatasetId>,
    /// Committed at or after this moment, such as 2026-11-01T00:00:00+07:00.
    #[arg(long, value_parser = parse::<Timestamp>)]
    from: Timestamp,
    /// Committed before this moment.
    #[arg(long, value_parser = parse::<Timestamp>)]
    to: Timestamp,
    /// The signed page, or its figures for a spreadsheet.
    #[arg(long, value_enum, default_value = "html")]
    format: Form,
    /// The file to write; default: the output.
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Verify {
    /// The page.
    file: PathBuf,
    /// The hub's public key; may be given several times. Default: that of the configured signing key.
    #[arg(long)]
    hub_key: Vec<PathBuf>,
    /// Which witnesses must have signed the checkpoint; default: it is only said who did.
    #[arg(long)]
    policy: Option<PathBuf>,
    /// An exported log (`log export --format json`) to count again.
    #[arg(long, conflicts_with = "database")]
    log: Option<PathBuf>,
    /// Count again in the database.
    #[arg(long)]
    database: bool,
    /// The result as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(config: &Path, command: MinutesCommand) -> Result<(), Vec<Fault>> {
    match command {
        MinutesCommand::Make(wanted) => make(config, wanted).await,
        MinutesCommand::Verify(wanted) => verify(config, wanted).await,
    }
}

async fn make(config: &Path, wanted: Make) -> Result<(), Vec<Fault>> {
    let plan = Plan::read(config)?;
    if wanted.format == Form::Xlsx && wanted.out.is_none() && std::io::stdout().is_terminal() {
        let what = "a spreadsheet is not for the screen: name a file with --out";
        return Err(vec![Fault::new(Code::ConfigInvalid, what)]);
    }
    let folder = one(published_folder(&plan))?;
    let asked = Wanted {
        agency: wanted.agency,
        dataset: wanted.dataset,
        from: wanted.from,
        to: wanted.to,
        form: wanted.format,
        by: console(),
    };
    let made = with_warehouse(&plan, async |warehouse| {
        let catalog = Catalog::open(warehouse.clone(), plan.signing_key.public()).await?;
        let titles = titles(&catalog);
        let log = Log::new(plan.signing_key.clone());
        Maker { warehouse: warehouse.clone(), folder, log }.make(&asked, &titles).await
    })
    .await?;
    one(put(&made.bytes, wanted.out.as_deref()))?;
    if let Some(out) = &wanted.out {
        let words = words(&made.minutes.figures);
        one(print(&format!("{}: {words}", out.display())))?;
    }
    Ok(())
}

/// Titles of the contracts in force.
fn titles(catalog: &Catalog) -> Titles {
    let current = catalog.current();
    current.iter().map(|a| (a.contract.dataset.clone(), a.contract.title_vi.clone())).collect()
}

fn put(bytes: &[u8], out: Option<&Path>) -> Result<(), Fault> {
    let (written, where_to) = match out {
        Some(path) => (std::fs::write(path, bytes), path.display().to_string()),
        None => (std::io::stdout().lock().write_all(bytes), "the output".to_owned()),
    };
    written.map_err(|error| {
        Fault::because(Code::DiskFailed, format!("cannot write {where_to}"), error)
    })
}

fn words(figures: &Figures) -> String {
    let sum = figures.sum();
    format!(
        "{} mục (entries), {} lô (batches), {} thay đổi dòng (row changes), {} byte (bytes); nhật \
         ký đến mục (log up to entry) {}",
        figures.entries,
        sum.batches,
        sum.rows.total(),
        sum.bytes,
        figures.scope.up_to
    )
}

/// What the entries came to when they were counted again.
enum Again {
    Not,
    Same,
}

async fn verify(config: &Path, wanted: Verify) -> Result<(), Vec<Fault>> {
    let mut hub: Vec<PublicKey> =
        one(wanted.hub_key.iter().map(|file| read_public(file)).collect())?;
    let plan = match hub.is_empty() || wanted.database {
        true => Some(Plan::read(config)?),
        false => None,
    };
    hub.extend(plan.as_ref().filter(|_| hub.is_empty()).map(|plan| plan.signing_key.public()));
    let (minutes, checkpoint) = one(read(&wanted.file, &hub))?;
    let again = match (&wanted.log, &plan) {
        (Some(log), _) => {
            let opened = File::open(log).map_err(|error| {
                Fault::because(Code::DiskFailed, format!("cannot open {}", log.display()), error)
            });
            let scope = minutes.figures.scope.clone();
            one(count_file(BufReader::new(one(opened)?), scope).and_then(|f| same(&minutes, &f)))?
        }
        (None, Some(plan)) if wanted.database => {
            let folder = one(published_folder(plan))?;
            let scope = minutes.figures.scope.clone();
            with_warehouse(plan, async |warehouse| {
                same(&minutes, &count(warehouse, &folder, scope).await?)
            })
            .await?
        }
        _ => Again::Not,
    };
    let policy = one(wanted.policy.as_deref().map(read_policy).transpose())?;
    if policy.is_some_and(|policy| !policy.accepts(&checkpoint)) {
        let what = format!("the checkpoint in {}", wanted.file.display());
        let why = "not enough witnesses have signed it for the policy";
        return Err(vec![Fault::because(Code::LogBroken, what, why)]);
    }
    one(tell(&minutes, &checkpoint, &again, wanted.json))
}

fn tell(
    minutes: &Minutes,
    checkpoint: &Checkpoint,
    again: &Again,
    as_json: bool,
) -> Result<(), Fault> {
    let witnesses: Vec<&str> = checkpoint.cosignatures.iter().map(|c| c.name.as_str()).collect();
    let counted_again = matches!(again, Again::Same);
    if as_json {
        let told = json!({ "figures": minutes.figures, "made_by": minutes.made_by,
            "made_at": minutes.made_at, "transfer": minutes.transfer,
            "log_entries": checkpoint.head.size, "witnesses": witnesses,
            "counted_again": counted_again });
        return print(&told.to_string());
    }
    let scope = &minutes.figures.scope;
    let again = match counted_again {
        true => "đếm lại từ nhật ký: trùng khớp (counted again from the log: the same)",
        false => "chưa đếm lại (not counted again): --log FILE, --database",
    };
    let by = if witnesses.is_empty() { "–".to_owned() } else { witnesses.join(", ") };
    print(&format!(
        "Biên bản đúng như trung tâm đã ký (the minutes are as the hub signed them): {}, {} – {}\n\
         {}\n{again}\nNhân chứng (witnesses): {by}",
        scope.agency,
        scope.from,
        scope.to,
        words(&minutes.figures)
    ))
}

fn read(file: &Path, hub: &[PublicKey]) -> Result<(Minutes, Checkpoint), Fault> {
    let what = || format!("{}", file.display());
    let failed = |error| Fault::because(Code::DiskFailed, what(), error);
    let length = std::fs::metadata(file).map_err(failed)?.len();
    if length > DOCUMENT_BYTES_MAX as u64 {
        return Err(Fault::new(Code::LogBroken, format!("{} is too long for minutes", what())));
    }
    let text = std::fs::read_to_string(file).map_err(failed)?;
    Minutes::open(&text, hub).map_err(|error| Fault::because(Code::LogBroken, what(), error))
}

fn same(minutes: &Minutes, counted: &Figures) -> Result<Again, Fault> {
    if *counted == minutes.figures {
        return Ok(Again::Same);
    }
    let what = format!(
        "the log does not say what the minutes say: counted {}, in the minutes {}",
        words(counted),
        words(&minutes.figures)
    );
    Err(Fault::new(Code::LogBroken, what))
}

fn read_policy(path: &Path) -> Result<Policy, Fault> {
    let what = || format!("policy {}", path.display());
    let text = std::fs::read_to_string(path)
        .map_err(|error| Fault::because(Code::DiskFailed, what(), error))?;
    Policy::parse(&text).map_err(|error| Fault::because(Code::ConfigInvalid, what(), error))
}
