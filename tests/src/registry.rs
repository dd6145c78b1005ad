//! A civil registry that does not exist: Vietnamese citizens and their dossiers, the same for the
//! same seed, with the contracts and mappings under which they are shared.
//!
//! Names, streets and notes are invented from common ones; ids have the shape of real ones and
//! belong to nobody. A citizen has 20 columns and about 410 bytes, a dossier 15 columns.

use std::fmt::Write as _;

use futures_util::SinkExt as _;
use phusa_protocol::time::Timestamp;
use tokio_postgres::{Client, Error};

use crate::random::Random;

pub mod columns;
mod words;
use columns::{CITIZEN, Column, DOSSIER};
use words::{
    BLOOD, CHANNEL, EDUCATION, ETHNICITY, GIVEN_F, GIVEN_M, JOBS, MIDDLE_F, MIDDLE_M, NOTES,
    PROVINCES, RELIGION, STATUS, STREETS, SURNAMES, WARDS,
};

/// One value in PostgreSQL's text form; `None` is null.
pub type Cell = Option<String>;

/// The tables of the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// People.
    Citizens,
    /// What people asked of an office, by citizen.
    Dossiers,
}

/// Which columns are shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// All of them as they are, for measuring.
    Everything,
    /// As an agency would: some not at all, telephone numbers masked.
    Agreed,
}

/// Rows of one seed; each chunk has a random stream of its own, so any prefix is stable.
const CHUNK_ROWS: u64 = 10_000;

/// 2015-01-01T00:00:00Z in microseconds: no generated row is older.
const OLDEST: i64 = 1_420_070_400_000_000;

/// 2026-01-01T00:00:00Z in microseconds: no generated row is younger; workloads write from then on.
pub(crate) const CUTOFF: i64 = 1_767_225_600_000_000;

/// A day in microseconds.
const DAY: i64 = 86_400_000_000;

impl Table {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Citizens, Self::Dossiers];

    /// Its name at the source, in schema `public`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Citizens => "citizens",
            Self::Dossiers => "dossiers",
        }
    }

    /// The dataset it is shared as.
    #[must_use]
    pub fn dataset(self) -> &'static str {
        match self {
            Self::Citizens => "cong_dan.citizens",
            Self::Dossiers => "ho_so.dossiers",
        }
    }

    /// Its columns, in order.
    #[must_use]
    pub fn columns(self) -> &'static [Column] {
        match self {
            Self::Citizens => &CITIZEN,
            Self::Dossiers => &DOSSIER,
        }
    }

    /// The statement that makes it.
    #[must_use]
    pub fn ddl(self) -> String {
        let columns: Vec<String> =
            self.columns().iter().map(|column| format!("{} {}", column.name, column.sql)).collect();
        format!("create table {} (\n  {});\n", self.name(), columns.join(",\n  "))
    }

    /// The contract it is shared under, owned by `owner`.
    #[must_use]
    pub fn contract(self, owner: &str, share: Share) -> String {
        let title = match self {
            Self::Citizens => "Công dân",
            Self::Dossiers => "Hồ sơ thủ tục hành chính",
        };
        let mut text = format!(
            "dataset = \"{}\"\nversion = 1\ntitle_vi = \"{title}\"\nowner = \"{owner}\"\n\
             legal_basis = \"Nghị định 47/2020/NĐ-CP\"\nsharing = \"default\"\nfrequency = \"15m\"\n\
             retention = \"3650d\"\nkey = [\"id\"]\n",
            self.dataset()
        );
        for column in shared(self, share) {
            let Column { field, kind, class, name_vi, .. } = *column;
            let _ = write!(
                text,
                "\n[[field]]\nname = \"{field}\"\ntype = \"{kind}\"\nclass = \"{class}\"\n\
                 required = {}\nname_vi = \"{name_vi}\"\n",
                column.is_required()
            );
            if class == "X" {
                text.push_str("legal_basis = \"Nghị định 356/2025/NĐ-CP, điều 4\"\n");
            }
        }
        text
    }

    /// The mapping file whose contract stands in `contract_file`, relative to the mapping file.
    #[must_use]
    pub fn mapping(self, contract_file: &str, share: Share) -> String {
        let mut text = format!(
            "dataset = \"{}\"\ncontract = \"{contract_file}\"\ntable = \"public.{}\"\n",
            self.dataset(),
            self.name()
        );
        for column in shared(self, share) {
            let Column { name, field, class, .. } = *column;
            let _ = write!(
                text,
                "\n[[field]]\nfrom = \"{name}\"\nto = \"{field}\"\nclass = \"{class}\"\n"
            );
            if share == Share::Agreed && name == "phone" {
                text.push_str("mask = { keep_last = 4 }\n");
            }
        }
        text
    }

    /// Row `id` of `random`'s chunk, in column order.
    #[must_use]
    pub fn row(self, random: &mut Random, id: u64, linked: u64) -> Vec<Cell> {
        match self {
            Self::Citizens => citizen(random, id, None),
            Self::Dossiers => {
                let citizen = 1 + random.below(linked);
                dossier(random, id, citizen, None)
            }
        }
    }

    fn stream(self, chunk: u64) -> u64 {
        chunk * 2 + u64::from(self == Self::Dossiers)
    }
}

fn shared(table: Table, share: Share) -> impl Iterator<Item = &'static Column> {
    let held_back = ["email", "photo_hash", "notes", "remarks"];
    table
        .columns()
        .iter()
        .filter(move |column| share == Share::Everything || !held_back.contains(&column.name))
}

/// How many citizens dossiers refer to; the rest may be deleted.
#[must_use]
pub fn linked(rows: u64) -> u64 {
    (rows * 6 / 10).max(1)
}

/// Writes `rows` generated rows into an empty table by COPY.
///
/// # Errors
/// What PostgreSQL says.
pub async fn load(client: &Client, table: Table, rows: u64, seed: u64) -> Result<u64, Error> {
    let copy = format!("copy {} from stdin", table.name());
    let mut sink = Box::pin(client.copy_in::<_, bytes::Bytes>(&copy).await?);
    let mut text = String::new();
    for chunk in 0..rows.div_ceil(CHUNK_ROWS) {
        let mut random = Random::new(seed, table.stream(chunk));
        let first = chunk * CHUNK_ROWS + 1;
        for id in first..(first + CHUNK_ROWS).min(rows + 1) {
            copy_line(&table.row(&mut random, id, linked(rows)), &mut text);
            if text.len() > 1 << 18 {
                sink.send(std::mem::take(&mut text).into()).await?;
            }
        }
    }
    sink.send(text.into()).await?;
    sink.as_mut().finish().await
}

fn copy_line(row: &[Cell], text: &mut String) {
    for (index, cell) in row.iter().enumerate() {
        text.push_str(if index == 0 { "" } else { "\t" });
        match cell {
            None => text.push_str("\\N"),
            Some(value) => text.push_str(&value.replace('\\', "\\\\")),
        }
    }
    text.push('\n');
}

/// A row as the values of an SQL statement.
#[must_use]
pub fn literals(row: &[Cell]) -> String {
    let literal = |cell: &Cell| match cell {
        None => "null".to_owned(),
        Some(value) => format!("'{}'", value.replace('\'', "''")),
    };
    row.iter().map(literal).collect::<Vec<_>>().join(", ")
}

/// Citizen `id`; `at` is when the row was made and last changed, by default some time in the past.
#[must_use]
pub fn citizen(random: &mut Random, id: u64, at: Option<Timestamp>) -> Vec<Cell> {
    let female = random.chance(50);
    let name = full_name(random, female);
    let created = at.unwrap_or_else(|| moment(random, OLDEST, CUTOFF - 400 * DAY));
    let updated = at.unwrap_or_else(|| moment(random, created.micros(), CUTOFF));
    let given = name.rsplit(' ').next().unwrap_or_default();
    let email = format!("{}.{id}@example.vn", plain(given));
    let row = [
        Some(id.to_string()),
        Some(national_id(id)),
        Some(name),
        Some(birthday(random)),
        Some(if female { "2" } else { "1" }.to_owned()),
        Some(random.weighted(ETHNICITY).to_owned()),
        some(random, 83, |r| r.weighted(RELIGION).to_owned()),
        Some(address(random)),
        Some((31_000 + random.below(600)).to_string()),
        Some(format!("HK{:010}", random.below(9_000_000_000))),
        some(random, 80, |r| format!("09{:08}", r.below(100_000_000))),
        some(random, 40, |_| email),
        some(random, 71, |r| r.weighted(BLOOD).to_owned()),
        Some(random.between(1, 4).to_string()),
        some(random, 70, income),
        Some(photo_hash(random)),
        Some(attributes(random)),
        Some(random.pick(NOTES).to_owned()),
        Some(created.to_string()),
        Some(updated.to_string()),
    ];
    row.into()
}

/// Dossier `id` of `citizen`; `at` is when it was submitted and last changed, by default some time
/// in the past.
#[must_use]
pub fn dossier(random: &mut Random, id: u64, citizen: u64, at: Option<Timestamp>) -> Vec<Cell> {
    let submitted = at.unwrap_or_else(|| moment(random, OLDEST, CUTOFF - 60 * DAY));
    let received = within(random, submitted, 0, DAY);
    let due = within(random, received, 3 * DAY, 30 * DAY);
    let fee = random.pick(&["0.00", "8000.00", "20000.00", "50000.00", "75000.00", "150000.00"]);
    let row = [
        Some(id.to_string()),
        Some(citizen.to_string()),
        Some(format!("{}.{:06}", random.between(1, 2), random.below(1_000_000))),
        Some(random.pick(STATUS).to_owned()),
        Some(random.pick(CHANNEL).to_owned()),
        Some((31_000 + random.below(600)).to_string()),
        Some(officer(random)),
        Some(fee.to_owned()),
        some(random, 70, |_| fee.to_owned()),
        Some(submitted.to_string()),
        Some(received.to_string()),
        Some(due.to_string()),
        some(random, 80, |r| within(r, submitted, 0, 30 * DAY).to_string()),
        some(random, 50, |r| r.pick(NOTES).to_owned()),
        Some(at.unwrap_or_else(|| moment(random, submitted.micros(), CUTOFF)).to_string()),
    ];
    row.into()
}

fn some(random: &mut Random, percent: u64, make: impl FnOnce(&mut Random) -> String) -> Cell {
    random.chance(percent).then(|| make(random))
}

/// A moment between two counts of microseconds since 1970.
fn moment(random: &mut Random, from: i64, to: i64) -> Timestamp {
    let past = random.below(u64::try_from(to - from).unwrap_or(0));
    Timestamp::from_micros(from + i64::try_from(past).unwrap_or(0))
}

/// A moment `from` to `to` microseconds after `start`.
fn within(random: &mut Random, start: Timestamp, from: i64, to: i64) -> Timestamp {
    moment(random, start.micros() + from, start.micros() + to)
}

fn birthday(random: &mut Random) -> String {
    let in_1930 = -14_610 * DAY;
    let day = moment(random, in_1930, in_1930 + 34_700 * DAY).to_string();
    day.get(..10).unwrap_or(&day).to_owned()
}

/// Twelve digits: province, century and sex, year of birth, number.
fn national_id(id: u64) -> String {
    let province = (id * 7_919) % 96;
    format!("0{province:02}{}{}{:06}", id % 10, 50 + id % 50, id % 1_000_000)
}

fn photo_hash(random: &mut Random) -> String {
    let mut text = "\\x".to_owned();
    for _ in 0..4 {
        let _ = write!(text, "{:016x}", random.bits());
    }
    text
}

/// A monthly income in đồng with two decimals.
pub(crate) fn income(random: &mut Random) -> String {
    let cents = random.below(5_000_000_000);
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// A name of two to four words.
pub(crate) fn full_name(random: &mut Random, female: bool) -> String {
    let (middle, given) = if female { (MIDDLE_F, GIVEN_F) } else { (MIDDLE_M, GIVEN_M) };
    format!("{} {} {}", random.weighted(SURNAMES), random.pick(middle), random.pick(given))
}

/// The name of someone who works at an office.
pub(crate) fn officer(random: &mut Random) -> String {
    let female = random.chance(60);
    full_name(random, female)
}

/// An address in one of the five provinces.
pub(crate) fn address(random: &mut Random) -> String {
    format!(
        "Số {}, đường {}, phường {}, {}",
        random.between(1, 400),
        random.pick(STREETS),
        random.pick(WARDS),
        random.pick(PROVINCES)
    )
}

/// A small JSON object.
pub(crate) fn attributes(random: &mut Random) -> String {
    let trust = random.below(10_000);
    format!(
        r#"{{"nghe_nghiep": "{}", "trinh_do": "{}", "bhyt": {}, "so_con": {}, "diem_tin_cay": {}.{:02}}}"#,
        random.pick(JOBS),
        random.pick(EDUCATION),
        random.chance(90),
        random.below(4),
        trust / 100,
        trust % 100
    )
}

/// A remark of an officer, about 80 characters.
pub(crate) fn note(random: &mut Random) -> &'static str {
    random.pick(NOTES)
}

/// Where a dossier stands.
pub(crate) fn status(random: &mut Random) -> &'static str {
    random.pick(STATUS)
}

/// A given name without its marks, for an e-mail address.
fn plain(name: &str) -> String {
    let marked = "ăâđêôơưàáảãạằắẳẵặầấẩẫậèéẻẽẹềếểễệìíỉĩịòóỏõọồốổỗộờớởỡợùúủũụừứửữựỳýỷỹỵ";
    let bare = "aadeoouaaaaaaaaaaaaaaaeeeeeeeeeeiiiiiooooooooooooooouuuuuuuuuuyyyyy";
    let unmark = |letter: char| {
        let at = marked.chars().position(|other| other == letter);
        at.and_then(|at| bare.chars().nth(at)).unwrap_or(letter)
    };
    name.to_lowercase().chars().map(unmark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use phusa_protocol::contract::Contract;

    #[test]
    fn the_same_seed_gives_the_same_row_and_columns_are_all_there() {
        for table in Table::ALL {
            let row = |seed| table.row(&mut Random::new(seed, 0), 17, 60);
            assert_eq!(row(1), row(1));
            assert_ne!(row(1), row(2));
            assert_eq!(row(1).len(), table.columns().len());
        }
    }

    #[test]
    fn contracts_are_sound_and_share_what_they_should() {
        for table in Table::ALL {
            let read = |share| Contract::from_toml(&table.contract("H57.12", share)).unwrap();
            assert_eq!(read(Share::Everything).fields.len(), table.columns().len());
            let names: Vec<_> =
                read(Share::Agreed).fields.iter().map(|field| field.name.clone()).collect();
            assert!(!names.iter().any(|name| name == "ghi_chu"), "{names:?}");
        }
    }

    #[test]
    fn a_line_of_copy_escapes_and_marks_nulls() {
        let mut line = String::new();
        copy_line(&[Some("\\x00".to_owned()), None], &mut line);
        assert_eq!(line, "\\\\x00\t\\N\n");
        assert_eq!(literals(&[Some("it's".to_owned()), None]), "'it''s', null");
    }
}
