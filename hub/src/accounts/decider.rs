//! Names after `--by` are people: from the first account on, whoever decides at the console is named by
//! an active account whose role may do it. A try by another name is an entry.
//!
//! No password is asked there: whoever runs the hub's commands holds its keys and its database, and could
//! leave the question out. What the rule gives is that the log names people who exist (decision 0019).

use phusa_protocol::deed::{Action, Deed, Denied};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgencyId;

use super::right::{self, Deciding};
use super::{SELECT, bounded, not_read, read, unknown};
use crate::transfers::{Log, deed};
use crate::warehouse::Warehouse;

/// Holds a name against the accounts; without any account every name is taken, as before.
///
/// # Errors
/// `account_unknown` for a name that is no active account, `right_missing` for a role that may not do
/// this, both after the try became an entry; or when the database does not answer.
pub async fn check(
    warehouse: &Warehouse,
    log: &Log,
    name: &str,
    (deciding, of): (Deciding, Option<&AgencyId>),
) -> Result<(), Fault> {
    if !exist(warehouse).await? {
        return Ok(());
    }
    let client = warehouse.client().await?;
    let sql = format!("{SELECT} where a.name = $1");
    let row = client.query_opt(&sql, &[&name]).await.map_err(|error| not_read(&error))?;
    let account = row.as_ref().map(read).transpose()?;
    drop(client);
    let active = |account: &&super::Account| account.active && account.locked_at.is_none();
    let fault = match account.as_ref().filter(active) {
        Some(found) if right::may_decide(found.role, found.agency.as_ref(), deciding, of) => {
            return Ok(());
        }
        Some(found) => {
            let what = format!("{} is {} and may not {}", found.name, found.role, deciding.words());
            Fault::new(Code::RightMissing, what)
        }
        None => unknown(name),
    };
    // What was typed as a name stands in the log only where there is such an account.
    let tried = account.map_or_else(|| "-".to_owned(), |found| bounded(&found.name).to_owned());
    let told = Deed::new(deed::console(), Action::Decide).on(tried).denied(Denied::Right);
    deed::write_alone(warehouse, log, told).await?;
    Err(fault)
}

/// Whether there is any account.
///
/// # Errors
/// When the database does not answer.
pub async fn exist(warehouse: &Warehouse) -> Result<bool, Fault> {
    let client = warehouse.client().await?;
    let row = client.query_one("select exists (select from phusa.accounts)", &[]).await;
    row.and_then(|row| row.try_get(0)).map_err(|error| not_read(&error))
}
