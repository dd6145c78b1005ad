//! Commands of the agent: enrol, check, probe, preview, doctor, describe, propose, contract, wizard, run,
//! status, verify, spool, ledger, update, self-test, version.
//!
//! What people see is Vietnamese with English beside it; `--json` is for programs. Exit codes: 0 as
//! it should be, 1 a fault, 2 wrong arguments.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use phusa_protocol::fault::{Class, Code, Fault};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::config::plan::Plan;
use crate::pipeline::wiring;
use crate::trouble::lately::counting;

mod report;
mod meaning;
mod look;
mod offers;
mod prove;
mod preview;
mod doctor;
mod describe;
mod contract;
mod enrol;
mod columns;
mod draft;
mod propose;
mod wizard;
mod ledger;
mod update;

/// Tác tử Phù Sa đứng cạnh cơ sở dữ liệu của cơ quan · the agent beside an agency's database.
#[derive(Debug, Parser)]
#[command(name = "phusa-agent", version, disable_version_flag = true)]
pub struct Cli {
    /// Tệp cấu hình · the configuration file.
    #[arg(long, short, global = true, default_value = "/etc/phusa/agent.toml")]
    config: PathBuf,
    /// Nhật ký dạng JSON · log lines as JSON.
    #[arg(long, global = true)]
    log_json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ghi danh máy này với trung tâm bằng mã một lần: lập khóa, nhận chứng thư · enrol this machine with a one-time code.
    Enrol(enrol::Enrol),
    /// Kiểm tra cấu hình, tài khoản, bảng và trung tâm, nói rõ cấu hình có nghĩa gì · check everything, say what it means.
    Check {
        /// Không hỏi trung tâm · do not ask the hub.
        #[arg(long)]
        offline: bool,
        /// Không đọc bản ghi mẫu nào · read no sample of rows.
        #[arg(long)]
        no_rows: bool,
    },
    /// Cho biết cơ sở dữ liệu cho phép đọc theo những cách nào, cần quyền gì, rủi ro gì · what the database offers, and what each way needs.
    Probe {
        /// Dạng JSON · as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Xem trước các bản ghi đúng như sẽ được gửi; không gửi gì · show rows as they would be sent, send nothing.
    Preview {
        /// Chỉ bộ dữ liệu này · only this dataset.
        dataset: Option<String>,
        /// Số bản ghi · number of rows.
        #[arg(long, default_value_t = 20)]
        rows: u64,
    },
    /// Khám bệnh: khóa, đĩa, chứng thư, mạng, trung tâm, giờ, nguồn, bảng mã; in một mã ngắn để đọc qua điện thoại · look at everything, print a short code for the phone.
    Doctor {
        /// Giải mã một mã đã đọc qua điện thoại · what a code means.
        #[arg(long, value_name = "CODE")]
        explain: Option<String>,
    },
    /// Lập tài liệu kỹ thuật (HTML, XLSX, DOCX) của bộ dữ liệu, không có giá trị nào · make a dataset's technical document, without values (CT-13).
    Describe(describe::Describe),
    /// Đề xuất tệp ánh xạ cho một hợp đồng và một bảng, theo tên cột và kiểu; không đọc bản ghi nào · propose a dataset file for a contract and a table.
    Propose {
        /// Tệp hợp đồng · the contract file.
        contract: PathBuf,
        /// Bảng nguồn · the table, `schema.table`.
        table: String,
    },
    /// Hợp đồng: xem bản đề xuất, ký, xem bản đã thống nhất · contracts: read, sign, see what was agreed.
    #[command(subcommand)]
    Contract(contract::ContractCommand),
    /// Hỏi từng bước rồi lập mọi tệp cấu hình, kiểm tra và cho xem trước · ask step by step, write every file, check, preview.
    Wizard(wizard::Wizard),
    /// Chạy tác tử · run the agent.
    Run,
    /// Hỏi tác tử đang chạy · ask the running agent.
    Status {
        /// Dạng JSON · as JSON.
        #[arg(long)]
        json: bool,
        /// Dạng Prometheus · as Prometheus text.
        #[arg(long, conflicts_with = "json")]
        prometheus: bool,
    },
    /// Đối chiếu nguồn với kho ở trung tâm, nêu bản ghi khác nhau · compare source and warehouse, name the records that differ.
    Verify(Verify),
    /// Xem hàng đợi: lô nào đang chờ · what waits in the spool.
    Spool {
        /// Dạng JSON · as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Sổ của cơ quan: biên nhận và bằng chứng của những gì đã rời đi · the agency's ledger: receipts and proofs.
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
    /// Cập nhật chương trình: bộ cập nhật, tình trạng, đồng ý · updates of the program.
    #[command(subcommand)]
    Update(update::UpdateCommand),
    /// Tự kiểm tra: chương trình này có làm việc được ở đây không · whether this program can work here.
    SelfTest,
    /// Phiên bản · version.
    Version,
}

#[derive(Debug, clap::Args)]
struct Verify {
    /// Chỉ bộ dữ liệu này · only this dataset.
    dataset: Option<String>,
    /// Dạng JSON, mỗi bộ một dòng · JSON, one dataset a line.
    #[arg(long)]
    json: bool,
    /// Không hỏi trung tâm, chỉ tính ở nguồn · do not ask the hub, only count the source.
    #[arg(long)]
    offline: bool,
    /// Đọc lại bộ dữ liệu khác nhau rồi đối chiếu lại · read anew what differs, and compare again.
    #[arg(long, conflicts_with = "offline")]
    repair: bool,
}

impl Cli {
    /// Runs the command and says how it ended.
    #[must_use]
    pub fn run(self) -> ExitCode {
        self.start_log();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => {
                let what = "cannot start the asynchronous runtime";
                return report::faults(&[Fault::because(Code::Bug, what, error)]);
            }
        };
        match runtime.block_on(self.command()) {
            Ok(code) => code,
            Err(faults) => report::faults(&faults),
        }
    }

    fn start_log(&self) {
        // A person at the wizard reads its words alone.
        let usual = if matches!(self.command, Command::Wizard(_)) { "warn" } else { "info" };
        // pgwire-replication logs the server's own words, which may quote rows; faults say it all.
        let filter = EnvFilter::try_from_env("PHUSA_LOG")
            .unwrap_or_else(|_| EnvFilter::new(format!("{usual},pgwire_replication=off")));
        // The driver of SQL Server repeats what the server says, which can quote values.
        let filter = match "tiberius=off".parse() {
            Ok(directive) => filter.add_directive(directive),
            Err(_) => filter,
        };
        let all = tracing_subscriber::registry().with(counting());
        let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        if self.log_json {
            all.with(log.json().with_filter(filter)).init();
        } else {
            all.with(log.with_target(false).with_filter(filter)).init();
        }
    }

    async fn command(self) -> Result<ExitCode, Vec<Fault>> {
        if matches!(self.command, Command::Version) {
            say(&format!("phusa-agent {}", env!("CARGO_PKG_VERSION")));
            return Ok(ExitCode::SUCCESS);
        }
        if let Command::Doctor { explain: Some(code) } = &self.command {
            return doctor::explain(code).map_err(|fault| vec![fault]);
        }
        if let Command::Wizard(wanted) = &self.command {
            return wizard::wizard(wanted).await.map_err(|fault| vec![fault]);
        }
        if let Command::Propose { contract, table } = &self.command {
            let plan = Plan::load_without_datasets(&self.config)?;
            return propose::propose(&plan, contract, table).await.map_err(|fault| vec![fault]);
        }
        if let Command::Enrol(wanted) = self.command {
            return enrol::run(&self.config, wanted).await;
        }
        if let Command::Contract(command) = self.command {
            let plan = Plan::load_without_datasets(&self.config)?;
            return contract::run(&plan, command).await.map_err(|fault| vec![fault]);
        }
        let one = |fault| vec![fault];
        if let Command::Update(command) = self.command {
            return match update::without_plan(command).await {
                Ok(ended) => ended.map_err(one),
                Err(other) => {
                    let plan = Plan::load_without_datasets(&self.config)?;
                    update::run((&plan, &self.config), &other).await.map_err(one)
                }
            };
        }
        let plan = Arc::new(Plan::load(&self.config)?);
        match self.command {
            Command::Probe { json } => offers::probe(&plan, json).await.map_err(one),
            Command::Check { offline, no_rows } => {
                look::check(&plan, offline, no_rows).await.map_err(one)
            }
            Command::Preview { dataset, rows } => {
                preview::preview(&plan, dataset.as_deref(), rows).await.map_err(one)
            }
            Command::Doctor { .. } => Ok(doctor::doctor(&plan).await),
            Command::Describe(wanted) => describe::describe(&plan, &wanted).await.map_err(one),
            Command::Run => run(plan).await.map_err(one),
            Command::Status { json, prometheus } => {
                report::status(&plan, json, prometheus).await.map_err(one)
            }
            Command::Verify(Verify { dataset, json, offline: true, .. }) => {
                look::count(&plan, dataset.as_deref(), json).await.map_err(one)
            }
            Command::Verify(Verify { dataset, json, repair, .. }) => {
                prove::verify(&plan, dataset.as_deref(), json, repair).await.map_err(one)
            }
            Command::Spool { json } => report::spool(&plan, json).map_err(one),
            Command::Ledger(command) => ledger::run(&plan, command).map_err(one),
            Command::SelfTest => update::self_test(&plan).await.map_err(one),
            Command::Contract(_)
            | Command::Update(_)
            | Command::Enrol(_)
            | Command::Propose { .. }
            | Command::Wizard(_)
            | Command::Version => Ok(ExitCode::SUCCESS),
        }
    }
}

async fn run(plan: Arc<Plan>) -> Result<ExitCode, Fault> {
    let source = Arc::new(wiring::source(&plan)?);
    let stop = CancellationToken::new();
    let signals = {
        use tokio::signal::unix::{SignalKind, signal};
        let failed = |error| Fault::because(Code::Bug, "cannot listen for signals", error);
        (
            signal(SignalKind::terminate()).map_err(failed)?,
            signal(SignalKind::interrupt()).map_err(failed)?,
        )
    };
    let (mut terminate, mut interrupt) = signals;
    let stopping = stop.clone();
    let wait = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("Stopping");
        stopping.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = crate::pipeline::run(plan, source, stop) => ended.map(|()| ExitCode::SUCCESS),
        () = wait => Ok(ExitCode::SUCCESS),
    }
}

/// Writes one line for a person or a program to standard output.
pub(crate) fn say(line: &str) {
    // A reader that has gone away is no reason to fail.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// The exit code of a set of faults: faults that pass by themselves do not fail a check.
pub(crate) fn exit_code(faults: &[Fault]) -> ExitCode {
    if faults.iter().any(|fault| fault.code.class() != Class::Retry) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
