//! Focal points: whom to call at an agency (CT-14), with the five items NA-10 asks for. A change
//! keeps what was before.

use deadpool_postgres::Object;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgencyId;
use phusa_protocol::time::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;

use super::not_read;
use crate::transfers::{from_system_time, system_time};

/// Characters of an item.
const ITEM_CHARACTERS_MAX: usize = 120;

/// Handovers that are shown.
const SHOWN_MAX: i64 = 100;

/// The focal point of an agency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Contact {
    /// Of which agency.
    pub agency: String,
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

const COLUMNS: &str = "agency, name, position, duty, phone, email, set_by, set_at";

/// Writes down who the focal point is from now on.
///
/// # Errors
/// [`Code::ContactInvalid`], or when the database does not answer.
pub async fn set(client: &Object, contact: &Contact) -> Result<(), Fault> {
    contact.check()?;
    let Contact { agency, name, position, duty, phone, email, set_by, set_at } = contact;
    let at = system_time(*set_at);
    let sql =
        format!("insert into phusa.contacts ({COLUMNS}) values ($1, $2, $3, $4, $5, $6, $7, $8)");
    let row: [&(dyn postgres_types::ToSql + Sync); 8] =
        [agency, name, position, duty, phone, email, set_by, &at];
    client.execute(&sql, &row).await.map(drop).map_err(not_read)
}

/// Everybody who was the focal point of an agency, the newest first.
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

/// The focal point of every agency.
///
/// # Errors
/// When the database does not answer.
pub async fn all(client: &Object) -> Result<Vec<Contact>, Fault> {
    let sql = format!(
        "select distinct on (agency) {COLUMNS} from phusa.contacts order by agency, contact desc"
    );
    let rows = client.query(&sql, &[]).await.map_err(not_read)?;
    rows.iter().map(|row| read(row).map_err(not_read)).collect()
}

fn read(row: &Row) -> Result<Contact, tokio_postgres::Error> {
    Ok(Contact {
        agency: row.try_get(0)?,
        name: row.try_get(1)?,
        position: row.try_get(2)?,
        duty: row.try_get(3)?,
        phone: row.try_get(4)?,
        email: row.try_get(5)?,
        set_by: row.try_get(6)?,
        set_at: from_system_time(row.try_get(7)?),
    })
}
