//! `phusa-agent contract`: read what is proposed, sign it for the agency, see what was agreed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use phusa_protocol::PROTOCOL_VERSION;
use phusa_protocol::contract::change::changes;
use phusa_protocol::contract::consent::{Asked, Proposal, SignedConsent};
use phusa_protocol::contract::{Contract, words};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::DatasetId;

use super::say;
use crate::accord;
use crate::config::plan::Plan;
use crate::pipeline::wiring;
use crate::transport::https::Hub;

/// Digits of a fingerprint that are typed to say which version is meant.
const DIGITS_MIN: usize = 8;

#[derive(Debug, Subcommand)]
pub(super) enum ContractCommand {
    /// Xem bản đang đề xuất ở trung tâm, có gì thay đổi, ai đã ký · what the hub proposes, what changes, who has signed.
    Show {
        /// Bộ dữ liệu, hoặc một tệp hợp đồng · a dataset, or a contract file.
        which: String,
        /// In ra đúng dạng tệp hợp đồng · as the file it is.
        #[arg(long)]
        toml: bool,
    },
    /// Ký bản đề xuất bằng khóa của tác tử và gửi chữ ký cho trung tâm · sign what is proposed and send the signature.
    Approve {
        /// Bộ dữ liệu · the dataset.
        dataset: String,
        /// Ít nhất 8 chữ số đầu của dấu vân tay vừa xem · at least 8 digits of the fingerprint seen.
        #[arg(long)]
        fingerprint: Option<String>,
    },
    /// Ký tệp hợp đồng mà không cần mạng; chữ ký nằm ở `<TỆP>.signature` · sign files without a network.
    Sign {
        /// Tệp hợp đồng · contract files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Các bản đã thống nhất, giữ trong thư mục trạng thái · what was agreed and is kept here.
    Ls,
}

/// Runs one of the commands.
pub(super) async fn run(plan: &Plan, command: ContractCommand) -> Result<ExitCode, Fault> {
    match command {
        ContractCommand::Show { which, toml } => show(plan, &which, toml).await,
        ContractCommand::Approve { dataset, fingerprint } => {
            approve(plan, &dataset, fingerprint.as_deref()).await
        }
        ContractCommand::Sign { files } => sign(plan, &files),
        ContractCommand::Ls => ls(plan),
    }
}

async fn show(plan: &Plan, which: &str, toml: bool) -> Result<ExitCode, Fault> {
    if Path::new(which).exists() {
        words::lines(&read(Path::new(which))?).iter().for_each(|line| say(line));
        return Ok(ExitCode::SUCCESS);
    }
    let (_, proposal) = ask(plan, which).await?;
    if toml {
        let found = proposal.proposed.or(proposal.in_force);
        say(found.map(|contract| contract.to_toml()).unwrap_or_default().trim_end());
        return Ok(ExitCode::SUCCESS);
    }
    tell(&proposal);
    Ok(ExitCode::SUCCESS)
}

async fn approve(plan: &Plan, name: &str, typed: Option<&str>) -> Result<ExitCode, Fault> {
    let (hub, proposal) = ask(plan, name).await?;
    let Some(contract) = &proposal.proposed else {
        say("không có bản nào chờ ký · nothing waits for a signature");
        return Ok(ExitCode::SUCCESS);
    };
    let fingerprint = contract.fingerprint().to_string();
    let Some(typed) = typed else {
        tell(&proposal);
        let short = fingerprint.get(..16).unwrap_or_default();
        say("\nĐọc kỹ, rồi chạy · read it, then run:");
        say(&format!("  phusa-agent contract approve {name} --fingerprint {short}"));
        return Ok(ExitCode::FAILURE);
    };
    let what = || format!("contract {name} version {}", contract.number());
    if typed.len() < DIGITS_MIN || !fingerprint.starts_with(&typed.to_ascii_lowercase()) {
        let why = format!("its fingerprint begins with other digits than {typed:?}");
        return Err(Fault::because(Code::ContractInvalid, what(), why));
    }
    if contract.owner != *plan.agent.agency() {
        let why = format!("it is owned by {}", contract.owner);
        return Err(Fault::because(Code::NotOwner, what(), why));
    }
    let signed = SignedConsent::of_owner(contract, &plan.agent, &wiring::signing_key(plan)?);
    hub.approve(&signed).await?;
    say(&format!("✓ {} đã ký và gửi · signed and sent", plan.agent));
    say(&format!(
        "  lưu tệp · save the file: phusa-agent contract show {name} --toml > contracts/{name}.toml"
    ));
    Ok(ExitCode::SUCCESS)
}

fn sign(plan: &Plan, files: &[PathBuf]) -> Result<ExitCode, Fault> {
    let key = wiring::signing_key(plan)?;
    for file in files {
        let contract = read(file)?;
        if contract.owner != *plan.agent.agency() {
            let what = format!("contract file {}", file.display());
            let why = format!("it is owned by {}, not {}", contract.owner, plan.agent.agency());
            return Err(Fault::because(Code::NotOwner, what, why));
        }
        let signed = SignedConsent::of_owner(&contract, &plan.agent, &key);
        let mut beside = file.as_os_str().to_owned();
        beside.push(".signature");
        let beside = PathBuf::from(beside);
        let text = serde_json::to_string_pretty(&signed).unwrap_or_default() + "\n";
        std::fs::write(&beside, text).map_err(|error| {
            Fault::because(Code::DiskFailed, format!("cannot write {}", beside.display()), error)
        })?;
        say(&format!(
            "✓ {} {}: {} (dấu vân tay · fingerprint {})",
            contract.dataset,
            contract.number(),
            beside.display(),
            contract.fingerprint()
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn ls(plan: &Plan) -> Result<ExitCode, Fault> {
    let folder = accord::contracts(&plan.state_dir);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(".json").map(|name| DatasetId::new(name.to_owned())));
    }
    let mut kept: Vec<_> = names
        .into_iter()
        .flatten()
        .filter_map(|name| accord::kept(&plan.state_dir, &name))
        .collect();
    kept.sort_by(|one, other| one.contract.dataset.cmp(&other.contract.dataset));
    for one in &kept {
        let contract = &one.contract;
        say(&format!("{} {} {}", contract.dataset, contract.number(), contract.fingerprint()));
        signatures(&[one.agreement.owner.clone(), one.agreement.hub.clone()]);
    }
    if kept.is_empty() {
        say("chưa có bản nào · none yet");
    }
    Ok(ExitCode::SUCCESS)
}

async fn ask(plan: &Plan, name: &str) -> Result<(Hub, Proposal), Fault> {
    let dataset = DatasetId::new(name.to_owned()).map_err(|bad| {
        Fault::because(
            Code::ConfigInvalid,
            format!("{name:?} is neither a file nor a dataset"),
            bad,
        )
    })?;
    let hub = Hub::new(wiring::hub_settings(plan)?)?;
    let asked = Asked { protocol: PROTOCOL_VERSION, agent: plan.agent.clone(), dataset };
    let proposal = hub.proposal(&asked).await?;
    Ok((hub, proposal))
}

fn tell(proposal: &Proposal) {
    match (&proposal.proposed, &proposal.in_force) {
        (Some(contract), before) => {
            say("ĐỀ XUẤT · PROPOSED");
            words::lines(contract).iter().for_each(|line| say(line));
            if let Some(before) =
                before.as_ref().filter(|b| b.fingerprint() != contract.fingerprint())
            {
                say(&format!("thay đổi so với · changes against {}:", before.number()));
                let found = changes(before, contract);
                words::change_lines(&found).iter().for_each(|line| say(line));
            }
            signatures(&proposal.consents);
        }
        (None, Some(contract)) => {
            say("CÓ HIỆU LỰC, không có bản nào chờ ký · IN FORCE, nothing waits for a signature");
            words::lines(contract).iter().for_each(|line| say(line));
        }
        (None, None) => say("chưa có hợp đồng · there is no contract"),
    }
}

fn signatures(consents: &[SignedConsent]) {
    for signed in consents {
        let by = signed.consent.agent.as_ref().map_or("trung tâm · the hub".to_owned(), |agent| {
            format!("chủ quản · the owner, {agent}")
        });
        say(&format!("  đã ký · signed: {by}, {}", signed.consent.signed_at));
    }
}

fn read(file: &Path) -> Result<Contract, Fault> {
    let what = || format!("contract file {}", file.display());
    let text = std::fs::read_to_string(file)
        .map_err(|error| Fault::because(Code::ContractInvalid, what(), error))?;
    Contract::from_toml(&text).map_err(|bad| Fault::because(Code::ContractInvalid, what(), bad))
}
