//! Whom to call at an agency: its focal point (CT-14), with the five items NA-10 asks for, and the head of
//! the unit, who is told when that one has not acted. A change keeps what was before, and is an entry of
//! the transfer log, which names the agency and no person.

use deadpool_postgres::Object;
use phusa_protocol::deed::{Action, Deed};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgencyId;
use phusa_protocol::time::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;

use super::not_read;
use crate::transfers::{Log, deed, from_system_time, system_time};

/// Characters of an item.
const ITEM_CHARACTERS_MAX: usize = 120;

/// Handovers that are shown.
const SHOWN_MAX: i64 = 100;

/// Which of an agency's people it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The focal point, who is called first.
    Focal,
    /// The head of the unit.
    Head,
}

impl Level {
    /// Both, in the order they are called.
    pub const ALL: [Self; 2] = [Self::Focal, Self::Head];

    /// Its name in the database and in forms.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Focal => "focal",
            Self::Head => "head",
        }
    }

    /// What it is called, Vietnamese and English.
    #[must_use]
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Focal => ("Đầu mối", "Focal point"),
            Self::Head => ("Thủ trưởng đơn vị", "Head of the unit"),
        }
    }

    /// The level of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }
}

/// Somebody to be called at an agency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Contact {
    /// Of which agency.
    pub agency: String,
    /// Which of its people.
    pub level: Level,
    /// Name.
    pub name: String,
    /// Position.
    pub position: String,
    /// What they look after.
    pub duty: String,
    /// Telephone number.
    pub phone: String,
    /// E-mail address.
    pub email: String,
    /// Who wrote it down.
    pub set_by: String,
    /// When.
    pub set_at: Timestamp,
}

impl Contact {
    /// Whether every item is there, short and plain.
    ///
    /// # Errors
    /// [`Code::ContactInvalid`] naming the first that is not.
    pub fn check(&self) -> Result<(), Fault> {
        let items = [
            ("--name", &self.name),
            ("--position", &self.position),
            ("--duty", &self.duty),
            ("--phone", &self.phone),
            ("--email", &self.email),
            ("--by", &self.set_by),
        ];
        let is_wrong = |text: &str| {
            text.trim().is_empty()
                || text.chars().count() > ITEM_CHARACTERS_MAX
                || text.chars().any(char::is_control)
        };
        if let Some((name, _)) = items.iter().find(|(_, text)| is_wrong(text)) {
            let what =
                format!("{name} must have 1 to {ITEM_CHARACTERS_MAX} characters on one line");
            return Err(Fault::new(Code::ContactInvalid, what));
        }
        let dials = |c: char| c.is_ascii_digit() || " +().-".contains(c);
        if !self.phone.chars().all(dials)
            || self.phone.chars().filter(char::is_ascii_digit).count() < 3
        {
            let what = "--phone has digits, blanks and + ( ) . - alone, and at least three digits";
            return Err(Fault::new(Code::ContactInvalid, what));
        }
        if !self.email.contains('@') {
            return Err(Fault::new(Code::ContactInvalid, "--email has no @"));
        }
        Ok(())
    }
}

const COLUMNS: &str = "agency, name, position, duty, phone, email, set_by, set_at, level";

/// Writes down who it is from now on, with its entry; `from` is the address it comes from, over the network.
///
/// # Errors
/// [`Code::ContactInvalid`], or when the database does not answer.
pub async fn set(
    client: &mut Object,
    log: &Log,
    contact: &Contact,
    from: Option<&str>,
) -> Result<(), Fault> {
    contact.check()?;
    let Contact { agency, level, name, position, duty, phone, email, set_by, set_at } = contact;
    let (at, level) = (system_time(*set_at), level.name());
    let sql = format!(
        "insert into phusa.contacts ({COLUMNS}) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
    );
    let row: [&(dyn postgres_types::ToSql + Sync); 9] =
        [agency, name, position, duty, phone, email, set_by, &at, &level];
    let tx = client.transaction().await.map_err(not_read)?;
    tx.execute(&sql, &row).await.map_err(not_read)?;
    // A name that was typed at the console may be a person's; accounts' names are none.
    let by = if from.is_some() { set_by.clone() } else { deed::console() };
    let told = Deed::new(by, Action::ContactSet).on(format!("{agency} {level}"));
    deed::write(&tx, log, Deed { from: from.map(ToOwned::to_owned), ..told }).await?;
    tx.commit().await.map_err(not_read)?;
    log.wake();
    Ok(())
}

/// Everybody who was focal point or head of an agency, the newest first.
///
/// # Errors
/// When the database does not answer.
pub async fn history(client: &Object, agency: &AgencyId) -> Result<Vec<Contact>, Fault> {
    let sql = format!(
        "select {COLUMNS} from phusa.contacts where agency = $1 order by contact desc limit $2"
    );
    let rows = client.query(&sql, &[&agency.as_str(), &SHOWN_MAX]).await.map_err(not_read)?;
    rows.iter().map(|row| read(row).map_err(not_read)).collect()
}

/// Focal point and head of every agency.
///
/// # Errors
/// When the database does not answer.
pub async fn all(client: &Object) -> Result<Vec<Contact>, Fault> {
    let sql = format!(
        "select distinct on (agency, level) {COLUMNS} from phusa.contacts \
         order by agency, level, contact desc"
    );
    let rows = client.query(&sql, &[]).await.map_err(not_read)?;
    rows.iter().map(|row| read(row).map_err(not_read)).collect()
}

/// The one of an agency at a level.
#[must_use]
pub fn of<'a>(all: &'a [Contact], agency: &str, level: Level) -> Option<&'a Contact> {
    all.iter().find(|contact| contact.agency == agency && contact.level == level)
}

fn read(row: &Row) -> Result<Contact, tokio_postgres::Error> {
    Ok(Contact {
        agency: row.try_get(0)?,
        level: Level::named(row.try_get(8)?).unwrap_or(Level::Focal),
        name: row.try_get(1)?,
        position: row.try_get(2)?,
        duty: row.try_get(3)?,
        phone: row.try_get(4)?,
        email: row.try_get(5)?,
        set_by: row.try_get(6)?,
        set_at: from_system_time(row.try_get(7)?),
    })
}
