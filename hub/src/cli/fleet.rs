//! `phusa-hub fleet`: how every agent is, where its streams stand, whom to call.

mod ask;
mod diagnosis;
mod watch;

use std::path::Path;

use clap::Subcommand;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::{AgencyId, AgentId, DatasetId};
use phusa_protocol::release::UpdateReport;
use phusa_protocol::time::Timestamp;
use phusa_protocol::verdict::{State, Verdict};

use self::ask::{cancel, listed, of_agents, of_dataset};
use super::{figures, json, print, with_warehouse};
use crate::accounts::decider;
use crate::accounts::right::Deciding;
use crate::catalog::Catalog;
use crate::config::plan::Plan;
use crate::fleet::contact::{self, Contact, Level};
use crate::fleet::health::{self, Health};
use crate::fleet::orders::{self, Kind};
use crate::fleet::{self, aligned, reports};
use crate::release::store::Store;
use crate::release::{countdown, online};
use crate::transfers::Log;
use crate::warehouse::Warehouse;

#[derive(Debug, Subcommand)]
pub(super) enum FleetCommand {
    /// Every agent, the worst first; the exit code is 1 when one needs a person, 0 when none does.
    Ls {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Say how agents are whenever that changes, until Ctrl-C; the exit code as of `ls`, at the end.
    Watch(watch::Asked),
    /// The agents of one agency with their datasets; the exit code as of `ls`.
    Show {
        /// Which, such as H57.12.
        #[arg(value_parser = super::parse::<AgencyId>)]
        agency: AgencyId,
        /// As JSON, with the figures of the last day.
        #[arg(long)]
        json: bool,
    },
    /// Have an agent deliver nothing of a dataset; reading goes on into its spool.
    Pause(ask::OfDataset),
    /// End a pause.
    Resume {
        /// Which agent.
        #[arg(value_parser = super::parse::<AgentId>)]
        agent: AgentId,
        /// Which dataset.
        #[arg(value_parser = super::parse::<DatasetId>)]
        dataset: DatasetId,
    },
    /// Have an agent read a dataset again from the beginning.
    ReRead(ask::OfDataset),
    /// Have an agent compare a dataset with the warehouse now, within its agency's hours.
    Reconcile(ask::OfDataset),
    /// Have agents renew their certificates now, with new keys.
    RotateCertificate(ask::OfAgents),
    /// Have agents say how they are set up and what went wrong of late; `show` tells it.
    Diagnose(ask::OfAgents),
    /// Have agents ask now which program is to run.
    CheckUpdate(ask::OfAgents),
    /// What is wanted of agents and not done yet.
    Orders {
        /// What is done, cancelled or over, too.
        #[arg(long)]
        all: bool,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Take an open order back.
    Cancel {
        /// Its number.
        order: i64,
    },
    /// Lateness of the last seven days, by agency (HU-10).
    Digest(figures::Digest),
    /// How long the hub could be used in a month (CB-15).
    Availability(figures::Available),
    /// Focal points and heads of agencies (CT-14).
    #[command(subcommand)]
    Contact(ContactCommand),
}

#[derive(Debug, Subcommand)]
pub(super) enum ContactCommand {
    /// Write down who is called at an agency from now on; this is an entry of the log.
    Set(Wanted),
    /// Who it is and was, the newest first.
    Show {
        /// Which agency.
        #[arg(value_parser = super::parse::<AgencyId>)]
        agency: AgencyId,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Wanted {
    /// Which agency.
    #[arg(value_parser = super::parse::<AgencyId>)]
    agency: AgencyId,
    /// The head of the unit, who is told when the focal point has not acted.
    #[arg(long)]
    head: bool,
    /// Name.
    #[arg(long)]
    name: String,
    /// Position.
    #[arg(long)]
    position: String,
    /// What they look after.
    #[arg(long)]
    duty: String,
    /// Telephone number.
    #[arg(long)]
    phone: String,
    /// E-mail address.
    #[arg(long)]
    email: String,
    /// Who writes it down.
    #[arg(long)]
    by: String,
}

/// Runs one of the commands.
pub(super) async fn run(config: &Path, command: FleetCommand) -> Result<(), Vec<Fault>> {
    let plan = Plan::read(config)?;
    with_warehouse(&plan, async |warehouse| match command {
        FleetCommand::Ls { json: as_json } => {
            let all = all(&plan, warehouse).await?;
            if !as_json {
                countdown(&plan)?;
            }
            print(&if as_json { json(&all) } else { list(&all) })?;
            needs_nobody(&all)
        }
        FleetCommand::Watch(asked) => watch::run(&plan, warehouse, asked).await,
        FleetCommand::Show { agency, json: as_json } => {
            let mut all = all(&plan, warehouse).await?;
            all.retain(|one| one.agency() == agency.as_str());
            if all.is_empty() {
                return Err(Fault::new(
                    Code::AgentUnknown,
                    format!("agency {agency} has no agent"),
                ));
            }
            print(&match as_json {
                true => with_days(warehouse, &all).await?,
                false => told(warehouse, &all).await?,
            })?;
            needs_nobody(&all)
        }
        FleetCommand::Pause(asked) => of_dataset(&plan, warehouse, (asked, Kind::Pause)).await,
        FleetCommand::ReRead(asked) => of_dataset(&plan, warehouse, (asked, Kind::Reread)).await,
        FleetCommand::Reconcile(asked) => {
            of_dataset(&plan, warehouse, (asked, Kind::Compare)).await
        }
        FleetCommand::RotateCertificate(asked) => {
            of_agents(&plan, warehouse, (asked, Kind::Rotate)).await
        }
        FleetCommand::Diagnose(asked) => of_agents(&plan, warehouse, (asked, Kind::Diagnose)).await,
        FleetCommand::CheckUpdate(asked) => {
            of_agents(&plan, warehouse, (asked, Kind::CheckUpdate)).await
        }
        FleetCommand::Resume { agent, dataset } => {
            let number = orders::pause_of(&warehouse.client().await?, &agent, &dataset).await?;
            cancel(&plan, warehouse, number).await
        }
        FleetCommand::Cancel { order } => cancel(&plan, warehouse, order).await,
        FleetCommand::Orders { all, json: as_json } => {
            let found = orders::list(&warehouse.client().await?, all).await?;
            print(&if as_json { json(&found) } else { listed(&found) })
        }
        FleetCommand::Digest(wanted) => figures::of_week(&plan, warehouse, wanted).await,
        FleetCommand::Availability(wanted) => figures::of_month(&plan, warehouse, wanted).await,
        FleetCommand::Contact(command) => of_contacts(&plan, warehouse, command).await,
    })
    .await
}

/// Signatures of releases that are near their end, above the agents that they concern.
fn countdown(plan: &Plan) -> Result<(), Fault> {
    let now = Timestamp::now();
    let ends = online::ends(&Store::new(&plan.state_dir))?.unwrap_or_default();
    for (vi, en) in ends.iter().filter_map(|end| countdown::words(end, now)) {
        print(&format!("⚠ {vi} ({en})"))?;
    }
    Ok(())
}

async fn all(plan: &Plan, warehouse: &Warehouse) -> Result<Vec<Health>, Fault> {
    let catalog = Catalog::open(warehouse.clone(), plan.signing_key.public()).await?;
    let client = warehouse.client().await?;
    health::all(&client, (&plan.register, &catalog.current()), Timestamp::now()).await
}

/// What goes by itself, and whoever does not report, needs nobody; the rest does.
fn needs_nobody(all: &[Health]) -> Result<(), Fault> {
    let unwell = all.iter().filter(|one| one.verdict.state >= State::Attention).count();
    match unwell {
        0 => Ok(()),
        _ => {
            let what = format!("{unwell} / {} tác tử (agents)", all.len());
            Err(Fault::new(Code::FleetUnwell, what))
        }
    }
}

fn list(all: &[Health]) -> String {
    let head = [
        "Trạng thái (state)",
        "Tác tử (agent)",
        "Từ (since)",
        "Hạn (deadline)",
        "Đầu mối (focal point)",
    ];
    let mut lines = vec![head.map(str::to_owned)];
    for one in all {
        let deadline = one.verdict.deadline.map_or("–".to_owned(), Timestamp::vietnamese);
        let contact = one.contact.as_ref();
        let contact = contact.map_or("–".to_owned(), |who| format!("{} {}", who.name, who.phone));
        let agent = one.row.agent.clone();
        lines.push([
            state(one.verdict.state),
            agent,
            one.verdict.since.vietnamese(),
            deadline,
            contact,
        ]);
    }
    let rows: Vec<_> = all.iter().map(|one| one.row.clone()).collect();
    format!("{}\n{}", aligned(&lines), fleet::table(&rows))
}

fn state(state: State) -> String {
    let (vi, en) = state.words();
    format!("{vi} ({en})")
}

async fn told(warehouse: &Warehouse, all: &[Health]) -> Result<String, Fault> {
    let client = warehouse.client().await?;
    let mut told = Vec::new();
    for health in all {
        let mut text = one(health);
        let diagnosed = orders::diagnosed(&client, &health.row.agent).await?;
        for line in diagnosed.iter().flat_map(diagnosis::lines) {
            text.push('\n');
            text.push_str(&line);
        }
        told.push(text);
    }
    Ok(told.join("\n\n"))
}

fn one(health: &Health) -> String {
    let mut lines = vec![format!("{}  {}", health.row.agent, state(health.verdict.state))];
    lines.extend(why(&health.verdict, "  "));
    if let Some(contact) = &health.contact {
        lines.push(format!(
            "  đầu mối (focal point): {}, {}, {}; {}; {}",
            contact.name, contact.position, contact.duty, contact.phone, contact.email
        ));
    }
    let Some(report) = &health.report else { return lines.join("\n") };
    let reported = health.reported_at.map(Timestamp::vietnamese).unwrap_or_default();
    lines.push(format!(
        "  báo cáo lúc (reported at): {reported}; phiên bản (version) {}",
        report.version
    ));
    lines.extend(report.update.as_ref().map(update));
    lines.push(format!(
        "  hàng đợi (spool): {} / {} bytes",
        report.spool.bytes, report.spool.bytes_max
    ));
    for (dataset, verdict) in report.datasets.iter().zip(&health.datasets) {
        lines.push(format!("  {}  {}", dataset.dataset, state(verdict.state)));
        lines.push(format!(
            "    kỷ (epoch) {}, lô (batch) {} / {}, trễ (lag) {} s, dòng (rows) {}, bị loại (rejects) {}",
            dataset.epoch,
            dataset.released_seq,
            dataset.spooled_seq,
            dataset.lag_seconds,
            dataset.rows,
            dataset.rejects
        ));
        if verdict.state >= State::Attention {
            lines.extend(why(verdict, "    "));
        }
    }
    lines.join("\n")
}

/// How far its update is; only what stays is done.
fn update(update: &UpdateReport) -> String {
    let (vi, en) = update.stage.words();
    let target = update.target.map(|target| format!(" {target}")).unwrap_or_default();
    let because = update.why.iter().chain(&update.obstacle);
    let because: String = because.map(|word| format!(" [{word}]")).collect();
    format!("  cập nhật (update): {} – {vi} ({en}){target}{because}", update.running)
}

fn why(verdict: &Verdict, indent: &str) -> Vec<String> {
    let words = verdict.words();
    let fault = verdict.fault.as_ref().map(|fault| format!(" [{fault}]")).unwrap_or_default();
    let mut lines = vec![
        format!("{indent}{}{fault}", words.reason_vi),
        format!("{indent}{}", words.reason_en),
        format!("{indent}→ {}", words.remedy_vi),
        format!("{indent}→ {}", words.remedy_en),
    ];
    let deadline = verdict.deadline.map(Timestamp::vietnamese);
    let deadline = deadline.map(|at| format!("; hạn (deadline) {at}")).unwrap_or_default();
    lines.push(format!("{indent}từ (since) {}{deadline}", verdict.since.vietnamese()));
    lines
}

async fn with_days(warehouse: &Warehouse, all: &[Health]) -> Result<String, Fault> {
    let client = warehouse.client().await?;
    let mut found = Vec::new();
    for one in all {
        let day = reports::history(&client, &one.row.agent).await?;
        let mut value = serde_json::to_value(one).unwrap_or_default();
        if let Some(object) = value.as_object_mut() {
            object.insert("day".to_owned(), serde_json::to_value(day).unwrap_or_default());
            let told = orders::diagnosed(&client, &one.row.agent).await?;
            object.insert("diagnosed".to_owned(), serde_json::to_value(told).unwrap_or_default());
        }
        found.push(value);
    }
    Ok(json(&found))
}

async fn of_contacts(
    plan: &Plan,
    warehouse: &Warehouse,
    command: ContactCommand,
) -> Result<(), Fault> {
    let mut client = warehouse.client().await?;
    match command {
        ContactCommand::Set(wanted) => {
            let log = Log::new(plan.signing_key.clone());
            let about = (Deciding::Call, Some(&wanted.agency));
            decider::check(warehouse, &log, &wanted.by, about).await?;
            let contact = Contact {
                agency: wanted.agency.to_string(),
                level: if wanted.head { Level::Head } else { Level::Focal },
                name: wanted.name,
                position: wanted.position,
                duty: wanted.duty,
                phone: wanted.phone,
                email: wanted.email,
                set_by: wanted.by,
                set_at: Timestamp::now(),
            };
            contact::set(&mut client, &log, &contact, None).await?;
            print(&format!("{}: đã ghi (written down)", contact.agency))
        }
        ContactCommand::Show { agency, json: as_json } => {
            let found = contact::history(&client, &agency).await?;
            print(&if as_json { json(&found) } else { handovers(&found) })
        }
    }
}

fn handovers(found: &[Contact]) -> String {
    if found.is_empty() {
        return "chưa có đầu mối (no focal point yet)".to_owned();
    }
    let line = |one: &Contact| {
        format!(
            "{}  {} ({}): {}, {}, {}; {}; {}  ({})",
            one.set_at.vietnamese(),
            one.level.words().0,
            one.level.words().1,
            one.name,
            one.position,
            one.duty,
            one.phone,
            one.email,
            one.set_by
        )
    };
    found.iter().map(line).collect::<Vec<_>>().join("\n")
}
