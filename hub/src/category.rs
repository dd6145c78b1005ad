//! Category lists of the province: versions kept in the schema `danh_muc`, one of each in force.
//!
//! A version is never changed: what was in force at any time stays readable in SQL. Bringing one
//! in is one transaction with the log entry that says so.

pub mod csv;
pub mod xlsx;
pub mod list;
pub mod catalogue;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use phusa_protocol::batch::canonical_json;
use phusa_protocol::digest::Digest;
use phusa_protocol::entry::{Entry, Kind};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::DatasetId;
use phusa_protocol::time::Timestamp;
use tokio_postgres::GenericClient;

use self::list::{Day, List};
use crate::error::statement_fault;
use crate::transfers::{Log, Record};
use crate::warehouse::Warehouse;

/// What a batch's codes are held against.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Codes {
    known: BTreeSet<Vec<u8>>,
    digits: Option<usize>,
    digest: Option<Digest>,
}

/// The lists in force, by name.
pub type Lists = BTreeMap<String, Arc<Codes>>;

/// What bringing in a list came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Imported {
    /// It is in force as this version.
    Version(i32),
    /// Exactly this one was in force already.
    Unchanged,
}

/// One list as `category ls` shows it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Held {
    /// Its name.
    pub list: String,
    /// The version in force.
    pub version: i32,
    /// How many codes that has.
    pub codes: i64,
    /// Its title.
    pub title_vi: String,
    /// Where it comes from.
    pub source: String,
}

impl Codes {
    /// What a list lets through.
    ///
    /// Codes that are no longer in force pass too: records of their time keep them. Which day
    /// counts for a record is known to the agency alone, whose mapping checks it.
    #[must_use]
    pub fn of(list: &List) -> Self {
        let known = list.codes.iter().map(|item| item.code.clone().into_bytes()).collect();
        Self { known, digits: list.any_of_digits, digest: Some(list.digest()) }
    }

    /// Digest of the list it was made of.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest.unwrap_or(Digest::ZERO)
    }

    /// Whether `code` is one of them. A list without content yet holds everything.
    #[must_use]
    pub fn holds(&self, code: &[u8]) -> bool {
        let is_open = self.known.is_empty() && self.digits.is_none();
        let fits = |digits| code.len() == digits && code.iter().all(u8::is_ascii_digit);
        is_open || self.known.contains(code) || self.digits.is_some_and(fits)
    }
}

/// Brings a list into force as its next version.
///
/// # Errors
/// When the database does not answer.
pub async fn import(warehouse: &Warehouse, list: &List, log: &Log) -> Result<Imported, Fault> {
    let fault = |error| statement_fault(format!("cannot import list {}", list.list), &error);
    let mut client = warehouse.client().await?;
    let tx = client.transaction().await.map_err(fault)?;
    let lock = "lock table danh_muc._list in share row exclusive mode";
    tx.batch_execute(lock).await.map_err(fault)?;
    let digest = list.digest();
    let sql = "select version, digest, in_force from danh_muc._list where list = $1 \
               order by version desc limit 1";
    let last = tx.query_opt(sql, &[&list.list]).await.map_err(fault)?;
    let last_version: i32 = last.as_ref().map_or(0, |row| row.get(0));
    if last.is_some_and(|row| row.get::<_, String>(1) == digest.to_string()) {
        return Ok(Imported::Unchanged);
    }
    let version = last_version + 1;
    put(&tx, list, version).await.map_err(fault)?;
    let transfer = log.next_transfer(&tx).await?;
    log.insert(&tx, &record(list, transfer)?).await?;
    tx.commit().await.map_err(fault)?;
    log.wake();
    Ok(Imported::Version(version))
}

/// A list in force, or one version of it.
///
/// # Errors
/// `list_invalid` when there is none, or the database does not answer.
pub async fn read(
    client: &impl GenericClient,
    name: &str,
    version: Option<i32>,
) -> Result<List, Fault> {
    let sql = "select body from danh_muc._list where list = $1 \
               and case when $2::int is null then in_force else version = $2 end";
    let fault = |error| statement_fault(format!("cannot read list {name}"), &error);
    let Some(row) = client.query_opt(sql, &[&name, &version]).await.map_err(fault)? else {
        let what = format!("no list {name:?} of that version is held");
        return Err(Fault::new(Code::ListInvalid, what));
    };
    parse(row.get(0))
}

/// The canonical JSON of a list in force: what agents are given, and whose SHA-256 is its digest.
///
/// # Errors
/// `list_invalid` when there is none, or the database does not answer.
pub async fn body(client: &impl GenericClient, name: &str) -> Result<String, Fault> {
    let sql = "select body from danh_muc._list where list = $1 and in_force";
    let fault = |error| statement_fault("cannot read a list", &error);
    let row = client.query_opt(sql, &[&name]).await.map_err(fault)?;
    let unknown = || Fault::new(Code::ListInvalid, "no list of that name is held");
    row.ok_or_else(unknown)?.try_get(0).map_err(fault)
}

/// Every list in force.
///
/// # Errors
/// When the database does not answer.
pub async fn held(client: &impl GenericClient) -> Result<Vec<Held>, Fault> {
    let sql = "select l.list, l.version, count(c.code), l.title_vi, l.source \
               from danh_muc._list l left join danh_muc._code c using (list, version) \
               where l.in_force group by l.list, l.version order by l.list";
    let fault = |error| statement_fault("cannot read the lists", &error);
    let held = |row: &tokio_postgres::Row| Held {
        list: row.get(0),
        version: row.get(1),
        codes: row.get(2),
        title_vi: row.get(3),
        source: row.get(4),
    };
    Ok(client.query(sql, &[]).await.map_err(fault)?.iter().map(held).collect())
}

/// What batches are held against: the lists in force.
///
/// # Errors
/// When the database does not answer.
pub async fn in_force(client: &impl GenericClient) -> Result<Lists, Fault> {
    let sql = "select body from danh_muc._list where in_force";
    let fault = |error| statement_fault("cannot read the lists in force", &error);
    let mut lists = Lists::new();
    for row in client.query(sql, &[]).await.map_err(fault)? {
        let list = parse(row.get(0))?;
        lists.insert(list.list.clone(), Arc::new(Codes::of(&list)));
    }
    Ok(lists)
}

fn parse(body: &str) -> Result<List, Fault> {
    let what = "cannot read a list that is kept";
    serde_json::from_str(body).map_err(|error| Fault::because(Code::WarehouseSchema, what, error))
}

async fn put(
    tx: &deadpool_postgres::Transaction<'_>,
    list: &List,
    version: i32,
) -> Result<(), tokio_postgres::Error> {
    let sql = "update danh_muc._list set in_force = false where list = $1 and in_force";
    tx.execute(sql, &[&list.list]).await?;
    let sql = "insert into danh_muc._list (list, version, title_vi, title_en, source, valid_from, \
               valid_to, any_of_digits, digest, body, in_force) values ($1, $2, $3, $4, $5, \
               $6::text::date, $7::text::date, $8, $9, $10, true)";
    let body = String::from_utf8(canonical_json(list)).unwrap_or_default();
    let digits = list.any_of_digits.and_then(|digits| i32::try_from(digits).ok());
    let (from, to) = (days([&list.valid_from]), days([&list.valid_to]));
    let (from, to) = (from.first(), to.first());
    let digest = list.digest().to_string();
    let head: [&(dyn tokio_postgres::types::ToSql + Sync); 10] = [
        &list.list,
        &version,
        &list.title_vi,
        &list.title_en,
        &list.source,
        &from,
        &to,
        &digits,
        &digest,
        &body,
    ];
    tx.execute(sql, &head).await?;
    let codes: Vec<&str> = list.codes.iter().map(|item| item.code.as_str()).collect();
    let names: Vec<&str> = list.codes.iter().map(|item| item.name.as_str()).collect();
    let from = days(list.codes.iter().map(|item| &item.valid_from));
    let to = days(list.codes.iter().map(|item| &item.valid_to));
    let sql = "insert into danh_muc._code (list, version, place, code, name, valid_from, valid_to) \
               select $1, $2, place, code, name, f::date, t::date \
               from unnest($3::text[], $4::text[], $5::text[], $6::text[]) \
               with ordinality as u (code, name, f, t, place)";
    tx.execute(sql, &[&list.list, &version, &codes, &names, &from, &to]).await?;
    let olds: Vec<&str> = list.becomes.iter().map(|becomes| becomes.from.as_str()).collect();
    let news: Vec<&str> = list.becomes.iter().map(|becomes| becomes.to.as_str()).collect();
    let from = days(list.becomes.iter().map(|becomes| &becomes.valid_from));
    let to = days(list.becomes.iter().map(|becomes| &becomes.valid_to));
    let sql = "insert into danh_muc._becomes \
               (list, version, place, code_from, code_to, valid_from, valid_to) \
               select $1, $2, place, code_from, code_to, f::date, t::date \
               from unnest($3::text[], $4::text[], $5::text[], $6::text[]) \
               with ordinality as u (code_from, code_to, f, t, place)";
    tx.execute(sql, &[&list.list, &version, &olds, &news, &from, &to]).await.map(drop)
}

fn days<'d>(days: impl IntoIterator<Item = &'d Option<Day>>) -> Vec<Option<&'d str>> {
    days.into_iter().map(|day| day.as_ref().map(Day::as_str)).collect()
}

fn record(list: &List, transfer: i64) -> Result<Record, Fault> {
    let dataset = DatasetId::new(format!("danh_muc.{}", list.list));
    let what = "a list's name in the log";
    let dataset = dataset.map_err(|error| Fault::because(Code::ConfigInvalid, what, error))?;
    let now = Timestamp::now();
    let entry = Entry {
        v: 1,
        kind: Kind::Category,
        transfer: transfer.unsigned_abs(),
        agent: None,
        dataset: Some(dataset),
        header: None,
        agent_signature: None,
        refused: None,
        compared: None,
        contract: Some(list.digest()),
        bytes: 0,
        received_at: now,
        committed_at: now,
        hub_version: crate::VERSION.to_owned(),
        step: None,
        restored: None,
        identity: None,
        act: None,
        deed: None,
    };
    Ok(Record { entry, push: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_any_time_pass_and_an_empty_list_lets_everything_pass() {
        let head = "list = \"x\"\ntitle_vi = \"X\"\nsource = \"QĐ 1\"\n";
        let check = |rest: &str, code: &str, expected: bool| {
            let codes = Codes::of(&List::from_toml(&format!("{head}{rest}")).unwrap());
            assert_eq!(codes.holds(code.as_bytes()), expected, "{rest} {code}");
        };
        let old = "code = [{ code = \"45\", name = \"Cũ\", valid_to = \"2025-07-01\" }]";
        check(old, "45", true);
        check(old, "46", false);
        check("any_of_digits = 5", "31000", true);
        check("any_of_digits = 5", "3100", false);
        check("", "anything", true);
    }
}
