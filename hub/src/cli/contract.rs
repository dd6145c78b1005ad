//! `phusa-hub contract`: propose, approve, apply, diff, ls, show.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use phusa_protocol::contract::change::{Step, changes};
use phusa_protocol::contract::consent::SignedConsent;
use phusa_protocol::contract::{Contract, Number, words};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::DatasetId;
use serde_json::json;

use super::{json, one, print, with_warehouse};
use crate::admission;
use crate::catalog::Catalog;
use crate::catalog::life::{Applied, Listed, Proposed};
use crate::config::plan::Plan;
use crate::config::profile::Profile;
use crate::config::register::Register;
use crate::transfers::{Log, sequence};
use crate::warehouse::Warehouse;

#[derive(Debug, Subcommand)]
pub(super) enum ContractCommand {
    /// Open versions for signing, and say what each changes. Nothing comes into force.
    Propose {
        /// Contract files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// As JSON, one version a line.
        #[arg(long)]
        json: bool,
    },
    /// Sign for the hub what its owner has signed.
    Approve {
        /// Which dataset.
        #[arg(value_parser = super::parse::<DatasetId>)]
        dataset: DatasetId,
        /// The owner's signature from a file (`phusa-agent contract sign`), where it did not come
        /// over the network.
        #[arg(long)]
        signature: Option<PathBuf>,
    },
    /// Bring into force what both have signed. A dataset's name takes the version that waits; a
    /// file is proposed, its owner's signature taken from the file `<FILE>.signature` beside it,
    /// signed for the hub, and brought into force.
    Apply {
        /// Names of datasets, or contract files.
        #[arg(required = true)]
        what: Vec<String>,
        /// Even where it breaks consumers: the table is set aside and every agent reads anew.
        #[arg(long)]
        major: bool,
    },
    /// What changes from one version to another. Each is a file, `DATASET` (in force),
    /// `DATASET@1.2` or `DATASET@proposed`.
    Diff {
        /// The earlier one.
        old: String,
        /// The later one.
        new: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Every version: proposed, in force, past.
    Ls {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// One version in words. A file, `DATASET` (in force), `DATASET@1.2` or `DATASET@proposed`.
    Show {
        /// Which.
        which: String,
        /// As the file it is, for `propose` and for agents.
        #[arg(long)]
        toml: bool,
    },
}

/// Runs one of the commands.
pub(super) async fn run(config: &Path, command: ContractCommand) -> Result<(), Vec<Fault>> {
    // All files are read before the configuration, so that a slip in one is told at once.
    let files = match &command {
        ContractCommand::Propose { files, .. } => read_all(files)?,
        ContractCommand::Approve { .. }
        | ContractCommand::Apply { .. }
        | ContractCommand::Diff { .. }
        | ContractCommand::Ls { .. }
        | ContractCommand::Show { .. } => Vec::new(),
    };
    let plan = Plan::read(config)?;
    let log = Log::new(plan.signing_key.clone());
    if let ContractCommand::Apply { what, major } = &command {
        return apply(&plan, &log, what, *major).await;
    }
    with_warehouse(&plan, async |warehouse| {
        let catalog = open(&plan, warehouse).await?;
        match command {
            ContractCommand::Propose { json, .. } => {
                for contract in &files {
                    check_purposes(contract, &plan.profile)?;
                    let proposed = catalog.propose(contract, &log).await?;
                    print(&proposal(contract, &proposed, json))?;
                }
            }
            ContractCommand::Approve { dataset, signature } => {
                if let Some(file) = signature {
                    let register = register(&plan, warehouse).await?;
                    catalog.owner_signs(&read_signature(&file)?, &register, &log).await?;
                }
                let number = catalog.hub_signs(&dataset, &log).await?;
                print(&format!(
                    "{dataset} {number}: trung tâm đã ký (signed for the hub); đưa vào hiệu lực \
                     (bring into force): phusa-hub contract apply {dataset}"
                ))?;
            }
            ContractCommand::Diff { old, new, json } => {
                let (old, new) = (find(&catalog, &old).await?, find(&catalog, &new).await?);
                return diff(&old, &new, json);
            }
            ContractCommand::Ls { json: as_json } => {
                let all = catalog.all().await?;
                return print(&if as_json { json(&all) } else { table(&all) });
            }
            ContractCommand::Show { which, toml } => {
                let found = find(&catalog, &which).await?;
                let text = if toml { found.to_toml() } else { words::lines(&found).join("\n") };
                return print(&text);
            }
            ContractCommand::Apply { .. } => {}
        }
        sequence::number_next(warehouse, super::log::published(&plan)?).await.map(drop)
    })
    .await
}

async fn open(plan: &Plan, warehouse: &Warehouse) -> Result<Catalog, Fault> {
    Catalog::open(warehouse.clone(), plan.signing_key.public()).await
}

async fn register(plan: &Plan, warehouse: &Warehouse) -> Result<Register, Fault> {
    admission::register(warehouse, &plan.register, &plan.signing_key).await
}

/// Everything that is named is read before any of it is brought into force.
async fn apply(plan: &Plan, log: &Log, what: &[String], major: bool) -> Result<(), Vec<Fault>> {
    let (mut files, mut datasets) = (Vec::new(), Vec::new());
    for named in what {
        match DatasetId::new(named.clone()) {
            Ok(dataset) if !Path::new(named).exists() => datasets.push(dataset),
            _ => files.push(PathBuf::from(named)),
        }
    }
    let contracts = read_all(&files)?;
    one(contracts.iter().try_for_each(|contract| check_purposes(contract, &plan.profile)))?;
    with_warehouse(plan, async |warehouse| {
        let catalog = open(plan, warehouse).await?;
        let register = register(plan, warehouse).await?;
        for (file, contract) in files.iter().zip(&contracts) {
            catalog.propose(contract, log).await?;
            let beside = beside(file);
            if beside.exists() {
                catalog.owner_signs(&read_signature(&beside)?, &register, log).await?;
            }
            catalog
                .hub_signs(&contract.dataset, log)
                .await
                .map_err(|fault| explain(fault, file))?;
            datasets.push(contract.dataset.clone());
        }
        for dataset in &datasets {
            let (number, applied) = catalog.apply(dataset, major, log).await?;
            print(&format!("{dataset} v{number}: {}", said(applied)))?;
        }
        sequence::number_next(warehouse, super::log::published(plan)?).await.map(drop)
    })
    .await
}

/// Where the owner's signature under a contract file lies.
fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".signature");
    PathBuf::from(name)
}

/// The commonest slip of a first set-up, told with the command that helps.
fn explain(fault: Fault, file: &Path) -> Fault {
    if fault.code != Code::ContractUnsigned {
        return fault;
    }
    let what = format!(
        "{} has no signature of its owner beside it: `phusa-agent contract sign {}`",
        file.display(),
        file.display()
    );
    Fault::because(fault.code, what, fault)
}

fn said(applied: Applied) -> String {
    match applied {
        Applied::Created => "đã tạo (created)".to_owned(),
        Applied::Widened => "đã mở rộng (widened)".to_owned(),
        Applied::Unchanged => "không đổi (unchanged)".to_owned(),
        Applied::Rebuilt { set_aside } => format!(
            "đã dựng lại (rebuilt); bảng cũ giữ tên (the old table stays as) …__v{set_aside}, mọi \
             tác tử đọc lại (every agent reads anew)"
        ),
    }
}

fn proposal(contract: &Contract, proposed: &Proposed, as_json: bool) -> String {
    let (dataset, number) = (&contract.dataset, contract.number().to_string());
    let Proposed { fingerprint, step, changes } = proposed;
    if as_json {
        return json!({
            "dataset": dataset, "version": number, "fingerprint": fingerprint, "step": step,
            "changes": changes,
        })
        .to_string();
    }
    let step = match step {
        None => "bộ dữ liệu mới · a new dataset",
        Some(Step::Same) => "đang có hiệu lực · in force already",
        Some(Step::Compatible) => "tương thích · compatible",
        Some(Step::Breaking) => "phá vỡ, cần `apply --major` · breaking, needs `apply --major`",
    };
    let mut lines = vec![
        format!("{dataset} {number}: đề xuất (proposed), {step}"),
        format!("  dấu vân tay (fingerprint): {fingerprint}"),
    ];
    lines.extend(words::change_lines(changes));
    lines.push(format!(
        "  chủ quản ký (the owner signs): phusa-agent contract approve {dataset}, hoặc (or) \
         phusa-agent contract sign"
    ));
    lines.join("\n")
}

fn diff(old: &Contract, new: &Contract, as_json: bool) -> Result<(), Fault> {
    let found = changes(old, new);
    if as_json {
        return print(&json(&found));
    }
    if found.is_empty() {
        return print("không khác (no difference)");
    }
    let breaks = found.iter().filter(|change| change.breaks).count();
    let head = format!(
        "{} {} → {}: {} thay đổi (changes), {breaks} phá vỡ (breaking)",
        new.dataset,
        old.number(),
        new.number(),
        found.len()
    );
    print(&[vec![head], words::change_lines(&found)].concat().join("\n"))
}

fn table(all: &[Listed]) -> String {
    let line = |one: &Listed| {
        let state = match one.state {
            "in_force" => "có hiệu lực · in force",
            "proposed" => "đề xuất · proposed",
            "withdrawn" => "đã rút · withdrawn",
            _ => "đã qua · past",
        };
        let owner = one.owner_signed_by.as_deref().unwrap_or("–");
        let hub = if one.hub_signed { "✓" } else { "–" };
        let short = one.fingerprint.get(..16).unwrap_or_default();
        format!(
            "{:32} {:6} {state:24} {short}…  chủ quản · owner {owner}; trung tâm · hub {hub}",
            one.dataset, one.version
        )
    };
    all.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A version by what a person calls it.
async fn find(catalog: &Catalog, which: &str) -> Result<Contract, Fault> {
    if Path::new(which).exists() {
        return read_contract(Path::new(which));
    }
    let (name, version) = which.split_once('@').map_or((which, None), |(n, v)| (n, Some(v)));
    let unknown = |why: String| {
        Fault::because(Code::DatasetUnknown, format!("neither a file nor a dataset: {which}"), why)
    };
    let dataset = DatasetId::new(name).map_err(|bad| unknown(bad.to_string()))?;
    match version {
        None => {
            let contracts = catalog.current();
            let agreed = contracts.get(&dataset).map(|agreed| agreed.contract.clone());
            agreed.ok_or_else(|| unknown("no contract for it is in force".to_owned()))
        }
        Some("proposed") => catalog.version(&dataset, None).await,
        Some(version) => {
            let number =
                number(version).ok_or_else(|| unknown(format!("{version:?} is no 1.2")))?;
            catalog.version(&dataset, Some(number)).await
        }
    }
}

fn number(text: &str) -> Option<Number> {
    let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
    Some(Number { major: major.parse().ok()?, minor: minor.parse().ok()? })
}

/// A contract is for purposes the province's regulation knows (HU-02).
fn check_purposes(contract: &Contract, profile: &Profile) -> Result<(), Fault> {
    match profile.unknown_purposes(&contract.purposes).first() {
        None => Ok(()),
        Some(code) => {
            let what = format!("contract {}", contract.dataset);
            let why = format!("purpose `{code}` is none of profile {}", profile.name);
            Err(Fault::because(Code::ContractInvalid, what, why))
        }
    }
}

fn read_all(files: &[PathBuf]) -> Result<Vec<Contract>, Vec<Fault>> {
    let (mut contracts, mut faults) = (Vec::new(), Vec::new());
    for file in files {
        match read_contract(file) {
            Ok(contract) => contracts.push(contract),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(contracts) } else { Err(faults) }
}

fn read_contract(file: &Path) -> Result<Contract, Fault> {
    let what = || format!("contract file {}", file.display());
    let text = std::fs::read_to_string(file)
        .map_err(|error| Fault::because(Code::ContractInvalid, what(), error))?;
    Contract::from_toml(&text).map_err(|error| Fault::because(Code::ContractInvalid, what(), error))
}

fn read_signature(file: &Path) -> Result<SignedConsent, Fault> {
    let what = || format!("signature file {}", file.display());
    let text = std::fs::read_to_string(file)
        .map_err(|error| Fault::because(Code::SignatureWrong, what(), error))?;
    serde_json::from_str(&text).map_err(|error| Fault::because(Code::SignatureWrong, what(), error))
}
