//! `Filter`: which rows are shared; a small closed expression, parsed once, evaluated without
//! failing.
//!
//! ```text
//! condition  = condition "or" condition | condition "and" condition | "not" condition
//!            | "(" condition ")" | test
//! test       = column ("=" | "<>" | "<" | "<=" | ">" | ">=") literal
//!            | column ["not"] "in" "(" literal {"," literal} ")"
//!            | column "is" ["not"] "null"
//! column     = name | "\"" name "\""         exactly as the source's catalogue has it
//! literal    = 'text' | 12 | -3.50 | true | false
//! ```
//!
//! The logic is SQL's, with null as "unknown", and only what is true is shared. Text knows `=` and
//! `<>` alone: its order depends on the collation. Dates and timestamps are written as text,
//! `'2026-11-21'`, `'2026-11-21 08:30:00'`; moments name their zone, `'2026-11-21 08:30:00+07:00'`.

mod parse;
mod sql;

use std::cmp::Ordering;

use phusa_protocol::value::Field;

use super::convert::integer;
use super::moment;
use super::number::{self, Decimal};
use super::uuid;
use crate::source::{Column, Native};

pub use self::parse::BadFilter;
pub use self::sql::Dialect;

/// A parsed row filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    condition: Condition<Test>,
    columns: Vec<String>,
}

/// Tests joined by and, or, not.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition<T> {
    And(Vec<Self>),
    Or(Vec<Self>),
    Not(Box<Self>),
    Test(T),
}

/// A test as written; `column` counts in [`Filter::columns`].
#[derive(Debug, Clone, PartialEq, Eq)]
struct Test {
    column: usize,
    asks: Asks<Literal>,
}

/// What is asked of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asks<L> {
    Compare(Comparison, L),
    In(Vec<L>),
    IsNull,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A literal as written.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Literal {
    Text(String),
    Number(String),
    Bool(bool),
}

impl Filter {
    /// Parses the text of `where`.
    ///
    /// # Errors
    /// What stands at which character, and what could stand there.
    pub fn parse(text: &str) -> Result<Self, BadFilter> {
        parse::filter(text)
    }

    /// The columns it reads, each once.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(String::as_str)
    }

    /// The condition as SQL for the source to evaluate first: it lets every row through that the
    /// agent shares, and perhaps more.
    #[must_use]
    pub fn to_sql(&self, dialect: Dialect) -> String {
        sql::over(dialect, &self.condition, &self.columns)
    }

    /// Joins it to the columns of a block.
    ///
    /// # Errors
    /// Which column is missing, or cannot be compared with what.
    pub(super) fn bind(&self, columns: &[Column]) -> Result<BoundFilter, String> {
        let find = |name: &String| {
            let found = columns.iter().enumerate().find(|(_, column)| column.name == *name);
            found.ok_or_else(|| format!("`where` reads column `{name}`, which is not there"))
        };
        let found = self.columns.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        let condition = bind_condition(&self.condition, &found)?;
        Ok(BoundFilter { condition, columns: found.into_iter().map(|(index, _)| index).collect() })
    }
}

impl Comparison {
    fn sign(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }

    fn needs_order(self) -> bool {
        self != Self::Equal && self != Self::NotEqual
    }

    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

/// What a row is to the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is shared.
    Shared,
    /// It is not.
    NotShared,
    /// A column that the filter reads came without its value.
    Unknown,
}

/// A filter joined to the columns of a block.
#[derive(Debug, Clone)]
pub(super) struct BoundFilter {
    condition: Condition<BoundTest>,
    columns: Vec<usize>,
}

#[derive(Debug, Clone)]
struct BoundTest {
    /// Where the column stands among the block's.
    column: usize,
    reads: Reads,
    asks: Asks<Operand>,
}

/// How a column's bytes are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reads {
    /// Bool, integers, dates and timestamps: as a signed integer.
    Integer,
    /// As an exact decimal.
    Decimal,
    /// Text and uuid: byte by byte.
    Bytes,
    /// `char(n)`: byte by byte without the blanks at the end, as PostgreSQL compares it.
    Padded,
    /// Only for null.
    Nothing,
}

/// A literal in the form of its column.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Operand {
    Integer(i64),
    Decimal(Vec<u8>),
    Bytes(Vec<u8>),
}

fn bind_condition(
    condition: &Condition<Test>,
    columns: &[(usize, &Column)],
) -> Result<Condition<BoundTest>, String> {
    let all = |parts: &[Condition<Test>]| {
        parts.iter().map(|part| bind_condition(part, columns)).collect::<Result<Vec<_>, _>>()
    };
    Ok(match condition {
        Condition::And(parts) => Condition::And(all(parts)?),
        Condition::Or(parts) => Condition::Or(all(parts)?),
        Condition::Not(part) => Condition::Not(Box::new(bind_condition(part, columns)?)),
        Condition::Test(test) => {
            let (index, column) = columns.get(test.column).ok_or("`where` lost a column")?;
            Condition::Test(bind_test(*index, column, &test.asks)?)
        }
    })
}

fn bind_test(index: usize, column: &Column, asks: &Asks<Literal>) -> Result<BoundTest, String> {
    let reads = reads(column);
    let operand = |literal: &Literal| operand(column, literal);
    let asks = match asks {
        Asks::IsNull => Asks::IsNull,
        Asks::In(literals) => Asks::In(literals.iter().map(operand).collect::<Result<_, _>>()?),
        Asks::Compare(comparison, literal) => {
            let ordered = matches!(reads, Reads::Integer | Reads::Decimal);
            if comparison.needs_order() && !ordered {
                return Err(format!(
                    "`where` asks for the order of column `{}` ({}), which depends on the \
                     database; use =, <> or in",
                    column.name, column.type_name
                ));
            }
            Asks::Compare(*comparison, operand(literal)?)
        }
    };
    Ok(BoundTest { column: index, reads, asks })
}

fn reads(column: &Column) -> Reads {
    match &column.native {
        Native::Bool
        | Native::Int2
        | Native::Int4
        | Native::Int8
        | Native::Date
        | Native::Time
        | Native::Timestamp
        | Native::Timestamptz
        | Native::Tenths(_) => Reads::Integer,
        Native::Numeric => Reads::Decimal,
        Native::Uuid => Reads::Bytes,
        Native::Text => match column.type_name.split(['(', ' ']).next() {
            Some("bpchar" | "char" | "nchar") => Reads::Padded,
            Some("character") if !column.type_name.starts_with("character varying") => {
                Reads::Padded
            }
            // Equal to the database although the bytes differ, or not comparable at all.
            Some("citext" | "xml") => Reads::Nothing,
            _ => Reads::Bytes,
        },
        Native::Float4
        | Native::Float8
        | Native::Bytea
        | Native::Timetz
        | Native::Interval
        | Native::Json
        | Native::Jsonb
        | Native::Inet
        | Native::Cidr
        | Native::Macaddr
        | Native::Range(_)
        | Native::Array(_)
        | Native::OffsetTenths => Reads::Nothing,
    }
}

fn operand(column: &Column, literal: &Literal) -> Result<Operand, String> {
    let found = match (&column.native, literal) {
        (Native::Bool, Literal::Bool(value)) => Some(Operand::Integer(i64::from(*value))),
        (Native::Int2 | Native::Int4 | Native::Int8, Literal::Number(text)) => {
            text.parse().ok().map(Operand::Integer)
        }
        (Native::Numeric, Literal::Number(text)) => {
            number::from_literal(text).map(Operand::Decimal)
        }
        (Native::Date, Literal::Text(text)) => moment::parse_date(text).map(Operand::Integer),
        (Native::Time, Literal::Text(text)) => moment::parse_time(text).map(Operand::Integer),
        (Native::Timestamp, Literal::Text(text)) => {
            moment::parse_timestamp(text).map(Operand::Integer)
        }
        (Native::Timestamptz, Literal::Text(text)) => {
            moment::parse_timestamptz(text).map(Operand::Integer)
        }
        (Native::Tenths(of), Literal::Text(text)) => {
            let micros = match **of {
                Native::Time => moment::parse_time(text),
                _ => moment::parse_timestamp(text),
            };
            micros.map(|micros| Operand::Integer(micros * 10))
        }
        (Native::Uuid, Literal::Text(text)) => uuid::parse(text).map(Operand::Bytes),
        (Native::Text, Literal::Text(text)) => match reads(column) {
            Reads::Padded => Some(Operand::Bytes(text.trim_end_matches(' ').into())),
            Reads::Bytes => Some(Operand::Bytes(text.as_str().into())),
            Reads::Integer | Reads::Decimal | Reads::Nothing => None,
        },
        _ => None,
    };
    found.ok_or_else(|| {
        let Column { name, type_name, .. } = column;
        let literal = sql::literal(Dialect::PostgreSql, literal);
        format!("`where` cannot compare column `{name}` ({type_name}) with {literal}")
    })
}

impl BoundFilter {
    /// What a row with these fields is to the filter.
    pub(super) fn judge(&self, fields: &[Field<'_>]) -> Verdict {
        let unchanged = |&column: &usize| fields.get(column) == Some(&Field::Unchanged);
        if self.columns.iter().any(unchanged) {
            return Verdict::Unknown;
        }
        match holds(&self.condition, fields) {
            Some(true) => Verdict::Shared,
            Some(false) | None => Verdict::NotShared,
        }
    }
}

/// SQL's three values: true, false and, as `None`, unknown.
fn holds(condition: &Condition<BoundTest>, fields: &[Field<'_>]) -> Option<bool> {
    match condition {
        Condition::And(parts) => join(parts, fields, false),
        Condition::Or(parts) => join(parts, fields, true),
        Condition::Not(part) => holds(part, fields).map(|value| !value),
        Condition::Test(test) => test.holds(fields),
    }
}

/// `decisive` settles the whole; failing that, one unknown makes it unknown.
fn join(parts: &[Condition<BoundTest>], fields: &[Field<'_>], decisive: bool) -> Option<bool> {
    let mut known = true;
    for part in parts {
        match holds(part, fields) {
            Some(value) if value == decisive => return Some(decisive),
            Some(_) => {}
            None => known = false,
        }
    }
    known.then_some(!decisive)
}

impl BoundTest {
    fn holds(&self, fields: &[Field<'_>]) -> Option<bool> {
        let value = match fields.get(self.column) {
            Some(Field::Value(bytes)) => Some(*bytes),
            _ => None,
        };
        match &self.asks {
            Asks::IsNull => Some(value.is_none()),
            Asks::Compare(comparison, operand) => {
                self.compare(value?, operand).map(|order| comparison.holds(order))
            }
            Asks::In(operands) => {
                let value = value?;
                Some(operands.iter().any(|o| self.compare(value, o) == Some(Ordering::Equal)))
            }
        }
    }

    /// `None` for bytes that are not the column's type; such a row fails in conversion as well.
    fn compare(&self, value: &[u8], operand: &Operand) -> Option<Ordering> {
        match (operand, self.reads) {
            (Operand::Integer(other), _) => match value {
                [truth] => Some(i64::from(*truth).cmp(other)),
                _ => Some(integer(value).ok()?.cmp(other)),
            },
            (Operand::Decimal(other), _) => {
                Some(Decimal::read(value)?.compare(&Decimal::read(other)?))
            }
            (Operand::Bytes(other), Reads::Padded) => {
                Some(without_blanks(value).cmp(other.as_slice()))
            }
            (Operand::Bytes(other), _) => Some(value.cmp(other.as_slice())),
        }
    }
}

fn without_blanks(value: &[u8]) -> &[u8] {
    let blanks = value.iter().rev().take_while(|byte| **byte == b' ').count();
    value.get(..value.len() - blanks).unwrap_or_default()
}

#[cfg(test)]
mod tests;
