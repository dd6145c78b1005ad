//! `phusa-hub account`: accounts of people, from the hub's own console.

use std::path::Path;

use clap::Subcommand;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgencyId;

use super::{json, parse, print, with_warehouse};
use crate::accounts::right::{Actor, Role};
use crate::accounts::secret::{Invitation, Sealer};
use crate::accounts::{Account, Change, People, Wanted};
use crate::config::plan::Plan;
use crate::transfers::Log;
use crate::transfers::deed::console;

#[derive(Debug, Subcommand)]
pub(super) enum AccountCommand {
    /// Make an account and print its invitation, which is good once and for 72 hours.
    Create(Create),
    /// All accounts.
    Ls {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// One account.
    Show {
        /// Its name.
        name: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Lock an account and end its sessions.
    Lock {
        /// Its name.
        name: String,
    },
    /// Let a locked account sign in again.
    Unlock {
        /// Its name.
        name: String,
    },
    /// End the sessions of an account, now.
    Kill {
        /// Its name.
        name: String,
    },
    /// Take password and second factor away and print a new invitation.
    Reset {
        /// Its name.
        name: String,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Create {
    /// What its holder types to sign in: 3 to 32 of a-z, 0-9, '.', '-', '_'.
    name: String,
    /// The holder's name and office; it is not written to the log.
    #[arg(long)]
    title: String,
    /// The first general administrator; refused when there is one already.
    #[arg(long, conflicts_with_all = ["role", "agency"])]
    first: bool,
    /// `general_admin`, `unit_admin`, `sector_manager`, `inspector` or `consumer`.
    #[arg(long, required_unless_present = "first", value_parser = role)]
    role: Option<Role>,
    /// The unit of a unit administrator, sector manager or consumer, such as H57.12.
    #[arg(long, value_parser = parse::<AgencyId>)]
    agency: Option<AgencyId>,
}

fn role(text: &str) -> Result<Role, String> {
    let names = || Role::ALL.map(Role::name).join(", ");
    Role::named(text).ok_or_else(|| format!("one of {}", names()))
}

pub(super) async fn run(config: &Path, command: AccountCommand) -> Result<(), Vec<Fault>> {
    let plan = Plan::read(config)?;
    with_warehouse(&plan, async |warehouse| {
        let people = People {
            warehouse: warehouse.clone(),
            log: Log::new(plan.signing_key.clone()),
            sealer: Sealer::open(&plan.accounts_key)?,
        };
        let actor = Actor::console(console());
        match command {
            AccountCommand::Create(wanted) => create(&people, &actor, wanted).await,
            AccountCommand::Ls { json: as_json } => {
                let found = people.list(&actor).await?;
                print(&if as_json { json(&found) } else { table(&found) })
            }
            AccountCommand::Show { name, json: as_json } => {
                let found = people.show(&actor, &name).await?;
                print(&if as_json { json(&found) } else { story(&found) })
            }
            AccountCommand::Lock { name } => change(&people, &actor, &name, Change::Lock).await,
            AccountCommand::Unlock { name } => change(&people, &actor, &name, Change::Unlock).await,
            AccountCommand::Kill { name } => change(&people, &actor, &name, Change::Kill).await,
            AccountCommand::Reset { name } => {
                let invitation = people.reset(&actor, &name).await?;
                print(&invited(&name, &invitation))
            }
        }
    })
    .await
}

async fn create(people: &People, actor: &Actor, wanted: Create) -> Result<(), Fault> {
    if wanted.first && people.has_first().await? {
        let what = "there is a general administrator already; leave --first out and name the role";
        return Err(Fault::new(Code::AccountInvalid, what));
    }
    let role = wanted.role.unwrap_or(Role::GeneralAdmin);
    let account = Wanted { name: wanted.name, title: wanted.title, role, agency: wanted.agency };
    let invitation = people.create(actor, &account).await?;
    print(&invited(&account.name, &invitation))
}

async fn change(people: &People, actor: &Actor, name: &str, change: Change) -> Result<(), Fault> {
    let ended = people.change(actor, name, change).await?;
    let done = match change {
        Change::Lock => "đã khóa (locked)",
        Change::Unlock => "đã mở khóa (unlocked)",
        Change::Kill => "đã chấm dứt mọi phiên (all sessions ended)",
    };
    print(&format!("{name}: {done}; {ended} phiên (sessions)"))
}

fn invited(name: &str, invitation: &Invitation) -> String {
    format!(
        "Tài khoản (account): {name}\nMã mời, dùng một lần trong 72 giờ (invitation, good once within \
         72 hours): {}\nMở trang /invitation của cổng để đặt mật khẩu và mã xác thực (open the \
         portal's page /invitation to set password and second factor)",
        invitation.to_secret_text()
    )
}

fn state(account: &Account) -> &'static str {
    match (account.locked_at, account.active, account.invited_until) {
        (Some(_), ..) => "bị khóa (locked)",
        (None, true, _) => "hoạt động (active)",
        (None, false, Some(_)) => "đã mời (invited)",
        (None, false, None) => "chưa mời (not invited)",
    }
}

fn table(accounts: &[Account]) -> String {
    if accounts.is_empty() {
        return "chưa có tài khoản nào (no account yet): account create --first".to_owned();
    }
    let line = |account: &Account| {
        let agency = account.agency.as_ref().map_or("–", AgencyId::as_str);
        let Account { name, role, sessions, title, .. } = account;
        let state = state(account);
        format!("{name}  {role}  {agency}  {state}  {sessions} phiên (sessions)  {title}")
    };
    accounts.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn story(account: &Account) -> String {
    let agency = account.agency.as_ref().map_or("–", AgencyId::as_str);
    let mut text = format!(
        "{}: {}\n  vai trò (role): {}, {} ({})\n  đơn vị (unit): {agency}\n  trạng thái (state): {}\n  \
         lập bởi (made by): {}, {}\n  phiên đang mở (open sessions): {}",
        account.name,
        account.title,
        account.role,
        account.role.words().0,
        account.role.words().1,
        state(account),
        account.made_by,
        account.made_at,
        account.sessions
    );
    if let (Some(at), Some(by)) = (account.locked_at, &account.locked_by) {
        text += &format!("\n  khóa (locked): {at}, {by}");
    }
    text
}
