//! Commands: serve, check, migrate, account, contract, incident, notice, category, backup, restore, log,
//! fleet, warehouse, verify, ca, enrol, agent, release, rollout, dev-certs, simulate, version.
//!
//! Exit codes are decided here and nowhere else: 0 done, 1 a person must act, 2 wrong arguments,
//! 70 a bug, 75 worth trying again, 78 wrong configuration.

mod account;
mod agent;
mod backup;
mod ca;
mod category;
mod contract;
mod enrol;
mod figures;
mod fleet;
mod incident;
mod log;
mod release;
mod rollout;
mod notice;
mod simulate;
mod warehouse;

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use phusa_protocol::fault::{Class, Code, Fault};
use phusa_protocol::ids::AgentId;

use crate::catalog::Catalog;
use crate::config::plan::Plan;
use crate::fleet::proofs;
use crate::listen::own::Own;
use crate::siem::tap::{self, Tapped};
use crate::warehouse::{Url, Warehouse};
use crate::{identity, service};

/// Receives batches from agencies, keeps the shared warehouse and logs every transfer.
#[derive(Debug, Parser)]
#[command(name = "phusa-hub", version, about)]
pub struct Cli {
    /// The configuration file.
    #[arg(long, global = true, default_value = "/etc/phusa/hub.toml")]
    config: PathBuf,
    /// Log lines as JSON instead of text. What is logged: `RUST_LOG`, default `info`.
    #[arg(long, global = true)]
    log_json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the hub.
    Serve,
    /// Check the configuration and what it points at; change nothing.
    Check,
    /// Bring the database's own tables to this version.
    Migrate,
    /// Accounts of people.
    #[command(subcommand)]
    Account(account::AccountCommand),
    /// Contracts: propose, sign, bring into force, compare.
    #[command(subcommand)]
    Contract(contract::ContractCommand),
    /// What a person has to look at.
    #[command(subcommand)]
    Incident(incident::IncidentCommand),
    /// Maintenance that is announced.
    #[command(subcommand)]
    Notice(notice::NoticeCommand),
    /// Category lists of the province.
    #[command(subcommand)]
    Category(category::CategoryCommand),
    /// Copies of the hub at an independent place.
    #[command(subcommand)]
    Backup(backup::BackupCommand),
    /// Go back to a backup, in a clean folder; needs no configuration.
    Restore(backup::Restore),
    /// The transfer log.
    #[command(subcommand)]
    Log(log::LogCommand),
    /// How every agent is, where the streams stand, and whom to call.
    #[command(subcommand)]
    Fleet(fleet::FleetCommand),
    /// The shared tables.
    #[command(subcommand)]
    Warehouse(warehouse::WarehouseCommand),
    /// When each dataset was last proven identical to its source.
    Verify {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// The CA: a root kept elsewhere, the hub's intermediate, the hub's own certificate.
    #[command(subcommand)]
    Ca(ca::CaCommand),
    /// One-time codes with which agents get their certificates.
    #[command(subcommand)]
    Enrol(enrol::EnrolCommand),
    /// Programs for agents: who signs them, what is signed, when it ends.
    #[command(subcommand)]
    Release(release::ReleaseCommand),
    /// A release ring after ring, and when agencies may be updated.
    #[command(subcommand)]
    Rollout(rollout::RolloutCommand),
    /// Agents and whether they may speak.
    #[command(subcommand)]
    Agent(agent::AgentCommand),
    /// Make certificates and keys for development and demonstration.
    DevCerts(DevCerts),
    /// Try a hub: a made-up province of hundreds of agencies around a real one, with troubles.
    Simulate(simulate::Simulate),
    /// Print the version.
    Version,
}

#[derive(Debug, clap::Args)]
struct DevCerts {
    /// Folder for everything.
    #[arg(long)]
    dir: PathBuf,
    /// A name or address agents reach the hub by; may be given several times.
    #[arg(long, required = true)]
    hub_name: Vec<String>,
    /// A name or address a broker of the link is reached by; may be given several times.
    #[arg(long)]
    broker_name: Vec<String>,
    /// An agent, such as H57.12/may-1; may be given several times.
    #[arg(long, value_parser = parse::<AgentId>)]
    agent: Vec<AgentId>,
    /// How long certificates are valid.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=825))]
    days: u32,
}

fn parse<T: TryFrom<String>>(text: &str) -> Result<T, T::Error> {
    T::try_from(text.to_owned())
}

/// Runs one command and says how it ended.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    let tapped = set_up_logging(cli.log_json);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(Box::pin(execute(cli, tapped))),
        Err(error) => Err(vec![Fault::because(Code::Bug, "cannot start the runtime", error)]),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(faults) => {
            for fault in &faults {
                show(fault);
            }
            exit_code(&faults)
        }
    }
}

fn exit_code(faults: &[Fault]) -> ExitCode {
    let Some(first) = faults.first() else { return ExitCode::SUCCESS };
    ExitCode::from(match (first.code, first.code.class()) {
        (Code::ConfigInvalid | Code::SecretUnreadable, _) => 78,
        (_, Class::Operator) => 1,
        (_, Class::Retry) => 75,
        (_, Class::Bug) => 70,
    })
}

/// Lines for people or machines, and beside them the events of security for a collector.
fn set_up_logging(json: bool) -> Tapped {
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::util::SubscriberInitExt as _;
    use tracing_subscriber::{EnvFilter, Layer as _};
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let lines = if json { lines.json().boxed() } else { lines.boxed() };
    let (tap, tapped) = tap::queue();
    let all = tracing_subscriber::registry().with(lines.with_filter(filter)).with(tap.only());
    // A second set-up in one process (tests) is no fault.
    let _already = all.try_init();
    tapped
}

/// A fault for people: code, what was tried, what it means, what to do; Vietnamese first.
fn show(fault: &Fault) {
    let words = fault.code.words();
    let text = format!(
        "Lỗi (fault) {}: {}\n  Ý nghĩa: {}\n  Meaning: {}\n  Cách xử lý: {}\n  Remedy: {}",
        words.name,
        fault.chain(),
        words.meaning_vi,
        words.meaning_en,
        words.remedy_vi,
        words.remedy_en
    );
    // Where not even the error output can be written, the exit code has to do.
    let _unwritten = writeln!(std::io::stderr(), "{text}");
}

async fn execute(cli: Cli, tapped: Tapped) -> Result<(), Vec<Fault>> {
    let config = cli.config;
    match cli.command {
        Command::Serve => one(Box::pin(service::serve(Plan::read(&config)?, tapped)).await),
        Command::Check => check(&config).await,
        Command::Migrate => migrate(&config).await,
        Command::Account(command) => account::run(&config, command).await,
        Command::Contract(command) => contract::run(&config, command).await,
        Command::Incident(command) => incident::run(&config, command).await,
        Command::Notice(command) => notice::run(&config, command).await,
        Command::Category(command) => category::run(&config, command).await,
        Command::Backup(command) => backup::run(&config, command).await,
        Command::Restore(wanted) => one(backup::restore(wanted).await),
        Command::Log(command) => log::run(&config, command).await,
        Command::Fleet(command) => fleet::run(&config, command).await,
        Command::Warehouse(command) => warehouse::run(&config, command).await,
        Command::Verify { json } => proven(&config, json).await,
        Command::Ca(command) => one(ca::run(command)),
        Command::Enrol(command) => enrol::run(&config, command).await,
        Command::Agent(command) => agent::run(&config, command).await,
        Command::Release(command) => release::run(&config, command).await,
        Command::Rollout(command) => rollout::run(&config, command).await,
        Command::Simulate(asked) => Box::pin(simulate::run(asked)).await,
        Command::DevCerts(wanted) => one(dev_certs(wanted)),
        Command::Version => one(print(&format!("phusa-hub {}", crate::VERSION))),
    }
}

fn one<T>(result: Result<T, Fault>) -> Result<T, Vec<Fault>> {
    result.map_err(|fault| vec![fault])
}

/// Opens the warehouse for one command, and closes it however the command ends.
async fn with_warehouse<T>(
    plan: &Plan,
    command: impl AsyncFnOnce(&Warehouse) -> Result<T, Fault>,
) -> Result<T, Vec<Fault>> {
    let warehouse = one(service::open_warehouse(plan).await)?;
    let done = command(&warehouse).await;
    warehouse.close().await;
    one(done)
}

async fn check(config: &Path) -> Result<(), Vec<Fault>> {
    let plan = Plan::read(config)?;
    let own = Arc::new(one(Own::read(&plan))?);
    one(crate::listen::tls_config(&plan, &own))?;
    let text = format!(
        "Cấu hình đúng (configuration is sound): {} tác tử (agents), nghe tại (listens on) {}",
        plan.register.len(),
        plan.listen
    );
    one(print(&format!("{text}\n{}", plan.profile.explained())))?;
    if let Some(timestamp) = &plan.timestamp {
        one(print(&timestamp.explained()))?;
    }
    if let Some(escalation) = &plan.escalation {
        one(print(&escalation.explained()))?;
    }
    if let Some(siem) = &plan.siem {
        one(print(&siem.explained()))?;
        one(print(&siem.reached().await))?;
    }
    one(print(
        "Tên sau --by: khi đã có tài khoản thì phải là tài khoản đang hoạt động có quyền; chưa có tài khoản nào \
         thì tên không được đối chiếu (names after --by: once there is an account, that of an active one with \
         the right; until then they are believed): phusa-hub account ls",
    ))?;
    if matches!(plan.warehouse.url, Url::Embedded { .. }) {
        // Opening it would make and start it, and `check` changes nothing.
        return Ok(());
    }
    with_warehouse(&plan, async |warehouse| {
        let contracts = Catalog::open(warehouse.clone(), plan.signing_key.public())
            .await?
            .current()
            .iter()
            .count();
        let ready = "Kho dữ liệu sẵn sàng (warehouse is ready)";
        print(&format!("{ready}: {contracts} hợp đồng (contracts)"))
    })
    .await
}

async fn migrate(config: &Path) -> Result<(), Vec<Fault>> {
    let plan = Plan::read(config)?;
    let warehouse = one(Warehouse::open(&plan.warehouse).await)?;
    let migrated = warehouse.migrate().await;
    warehouse.close().await;
    one(migrated)?;
    one(print("Lược đồ đã cập nhật (schema is up to date)"))
}

async fn proven(config: &Path, as_json: bool) -> Result<(), Vec<Fault>> {
    let plan = Plan::read(config)?;
    with_warehouse(&plan, async |warehouse| {
        let client = warehouse.client().await?;
        let proven = proofs::last(&client).await?;
        print(&if as_json { json(&proven) } else { proofs::table(&proven) })
    })
    .await
}

fn dev_certs(wanted: DevCerts) -> Result<(), Fault> {
    let wanted = identity::Wanted {
        dir: wanted.dir,
        hub_names: wanted.hub_name,
        broker_names: wanted.broker_name,
        agents: wanted.agent,
        days: wanted.days,
    };
    identity::make(&wanted)?;
    print(&format!("{}: chứng chỉ đã sẵn sàng (certificates are ready)", wanted.dir.display()))
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn print(text: &str) -> Result<(), Fault> {
    writeln!(std::io::stdout(), "{}", text.trim_end())
        .map_err(|error| Fault::because(Code::DiskFailed, "cannot write to the output", error))
}
