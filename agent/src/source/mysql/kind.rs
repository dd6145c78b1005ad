//! Pure: what a column holds and how its bytes are to be read, from the catalogue's words for it.

use crate::source::Native;

/// How texts of a column are stored, which matters in the log alone: for a query the server
/// brings them to UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Charset {
    /// utf8mb4, utf8mb3 and ascii: the bytes are UTF-8.
    Utf8,
    /// What MySQL calls latin1: Windows-1252, its five gaps being control characters.
    Latin1,
}

/// What a column holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Int {
        bytes: u8,
        unsigned: bool,
    },
    Year,
    Float,
    Double,
    Decimal {
        precision: u8,
        scale: u8,
    },
    Bit {
        bits: u16,
    },
    Text(Charset),
    /// One of these; the empty text stands for what was none of them.
    Enum(Charset, Vec<String>),
    /// Any of these, in this order.
    Set(Charset, Vec<String>),
    /// Bytes filled up to this length with zeros, which the log leaves out.
    Binary {
        length: usize,
    },
    Bytes,
    /// MySQL's own binary JSON; MariaDB's is a text.
    Json,
    Date,
    Time,
    DateTime,
    /// A moment; UTC in the log and in this agent's sessions.
    Timestamp,
}

/// What the catalogue says of a column's type.
#[derive(Debug, Clone, Copy)]
pub(super) struct Described<'a> {
    /// Such as `int`.
    pub(super) data_type: &'a str,
    /// Such as `int(10) unsigned`.
    pub(super) column_type: &'a str,
    /// Of texts.
    pub(super) charset: Option<&'a str>,
    /// Digits of numbers; bits of `bit`.
    pub(super) precision: Option<u64>,
    /// Digits after the point.
    pub(super) scale: Option<u64>,
    /// Bytes of `binary`.
    pub(super) bytes_max: Option<u64>,
}

impl Kind {
    /// What a column of this description holds.
    ///
    /// # Errors
    /// Why it cannot be carried.
    pub(super) fn of(described: Described<'_>) -> Result<Self, String> {
        let Described { data_type, column_type, .. } = described;
        let lower = column_type.to_ascii_lowercase();
        if lower.contains("compressed") {
            return Err("compressed columns are not carried".to_owned());
        }
        let int = |bytes| Self::Int { bytes, unsigned: lower.contains("unsigned") };
        let small = |number: Option<u64>, default: u8| {
            number.and_then(|number| u8::try_from(number).ok()).unwrap_or(default)
        };
        Ok(match data_type.to_ascii_lowercase().as_str() {
            "tinyint" => int(1),
            "smallint" => int(2),
            "mediumint" => int(3),
            "int" => int(4),
            "bigint" => int(8),
            "year" => Self::Year,
            "float" => Self::Float,
            "double" => Self::Double,
            "decimal" => Self::Decimal {
                precision: small(described.precision, 10),
                scale: small(described.scale, 0),
            },
            "bit" => Self::Bit { bits: u16::from(small(described.precision, 1)) },
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => {
                Self::Text(charset(described.charset)?)
            }
            "enum" => Self::Enum(charset(described.charset)?, labels(column_type)?),
            "set" => Self::Set(charset(described.charset)?, labels(column_type)?),
            "binary" => Self::Binary {
                length: usize::try_from(described.bytes_max.unwrap_or(1)).unwrap_or(1),
            },
            "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => Self::Bytes,
            "json" => Self::Json,
            "date" => Self::Date,
            "time" => Self::Time,
            "datetime" => Self::DateTime,
            "timestamp" => Self::Timestamp,
            other => return Err(format!("type {other} cannot be carried exactly")),
        })
    }

    /// The PostgreSQL type whose binary form its values are given.
    pub(super) fn native(&self) -> Native {
        match self {
            Self::Int { bytes: 1, .. } | Self::Int { bytes: 2, unsigned: false } | Self::Year => {
                Native::Int2
            }
            Self::Int { bytes: 2 | 3, .. } | Self::Int { bytes: 4, unsigned: false } => {
                Native::Int4
            }
            Self::Int { bytes: 8, unsigned: true } | Self::Decimal { .. } => Native::Numeric,
            Self::Int { .. } => Native::Int8,
            Self::Float => Native::Float4,
            Self::Double => Native::Float8,
            Self::Bit { bits: 1 } => Native::Bool,
            Self::Bit { .. } | Self::Binary { .. } | Self::Bytes => Native::Bytea,
            Self::Text(_) | Self::Enum(..) | Self::Set(..) => Native::Text,
            Self::Json => Native::Json,
            Self::Date => Native::Date,
            // A TIME reaches from -838 to 838 hours.
            Self::Time => Native::Interval,
            Self::DateTime => Native::Timestamp,
            Self::Timestamp => Native::Timestamptz,
        }
    }

    /// Why a table cannot be read along a key with such a column, if it cannot.
    pub(super) fn cannot_be_walked(&self) -> bool {
        matches!(self, Self::Float | Self::Double | Self::Set(..) | Self::Json)
    }
}

fn charset(name: Option<&str>) -> Result<Charset, String> {
    match name {
        Some("utf8mb4" | "utf8mb3" | "utf8" | "ascii") => Ok(Charset::Utf8),
        Some("latin1") => Ok(Charset::Latin1),
        Some(other) => Err(format!("character set {other} cannot be carried exactly")),
        None => Err("its character set is not known".to_owned()),
    }
}

/// The names between the quotes of `enum('a','it''s')`.
fn labels(column_type: &str) -> Result<Vec<String>, String> {
    let bad = || "its values cannot be read".to_owned();
    let inner = column_type.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')'));
    let (inner, _) = inner.ok_or_else(bad)?;
    let mut labels = Vec::new();
    let mut rest = inner.chars().peekable();
    while rest.next_if_eq(&'\'').is_some() {
        let mut label = String::new();
        loop {
            match rest.next() {
                Some('\'') if rest.next_if_eq(&'\'').is_some() => label.push('\''),
                Some('\'') => break,
                Some(letter) => label.push(letter),
                None => return Err(bad()),
            }
        }
        labels.push(label);
        if rest.next_if_eq(&',').is_none() {
            break;
        }
    }
    if rest.next().is_none() && !labels.is_empty() { Ok(labels) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described<'a>(data_type: &'a str, column_type: &'a str) -> Described<'a> {
        let (charset, precision, scale) = (Some("utf8mb4"), Some(65), Some(30));
        Described { data_type, column_type, charset, precision, scale, bytes_max: Some(16) }
    }

    #[test]
    fn each_type_has_a_binary_form_that_holds_all_its_values() {
        let check = |data_type: &str, column_type: &str, native: Native| {
            let kind = Kind::of(described(data_type, column_type)).unwrap();
            assert_eq!(kind.native(), native, "{column_type}");
        };
        check("tinyint", "tinyint(1)", Native::Int2);
        check("tinyint", "tinyint(3) unsigned", Native::Int2);
        check("smallint", "smallint(6)", Native::Int2);
        check("smallint", "smallint unsigned", Native::Int4);
        check("mediumint", "mediumint(8) unsigned", Native::Int4);
        check("int", "int(11)", Native::Int4);
        check("int", "int(10) unsigned zerofill", Native::Int8);
        check("bigint", "bigint(20)", Native::Int8);
        check("bigint", "bigint unsigned", Native::Numeric);
        check("decimal", "decimal(65,30)", Native::Numeric);
        check("time", "time(6)", Native::Interval);
        check("timestamp", "timestamp", Native::Timestamptz);
        check("binary", "binary(16)", Native::Bytea);
        check("json", "json", Native::Json);
    }

    #[test]
    fn what_cannot_be_carried_is_refused_by_name() {
        let check = |described: Described<'_>, words: &str| {
            assert_eq!(Kind::of(described), Err(words.to_owned()));
        };
        check(described("geometry", "geometry"), "type geometry cannot be carried exactly");
        check(described("inet6", "inet6"), "type inet6 cannot be carried exactly");
        let sjis = Described { charset: Some("sjis"), ..described("varchar", "varchar(9)") };
        check(sjis, "character set sjis cannot be carried exactly");
        let packed = described("text", "text /*M!100301 COMPRESSED*/");
        check(packed, "compressed columns are not carried");
    }

    #[test]
    fn labels_keep_their_quotes_commas_and_parentheses() {
        let check = |column_type: &str, expected: Option<&[&str]>| {
            let found = labels(column_type).ok();
            let found: Option<Vec<&str>> =
                found.as_ref().map(|labels| labels.iter().map(String::as_str).collect());
            assert_eq!(found.as_deref(), expected, "{column_type}");
        };
        check("enum('nam','nữ')", Some(&["nam", "nữ"]));
        check("set('it''s','a,b','(x)','')", Some(&["it's", "a,b", "(x)", ""]));
        check("enum('a", None);
        check("enum", None);
    }
}
