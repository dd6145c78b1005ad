//! Pure: a filter as SQL of one engine, letting through at least every row that the agent shares.
//!
//! PostgreSQL compares as the agent does, so it is asked the same. MySQL and SQL Server compare
//! text by collation ("HÀ" = "ha"), which finds too many equal and too few different. There every
//! condition is asked as its widest reading ([`Reading::Wide`], true wherever the condition is
//! true), and under a `not` as its narrowest ([`Reading::Narrow`], false wherever it is false); the
//! agent evaluates the exact filter again.

use std::fmt::Write as _;

use super::{Asks, Comparison, Condition, Literal, Test};
use crate::mapping::moment;

/// Whose SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// PostgreSQL.
    PostgreSql,
    /// MySQL and MariaDB, in a session without `ANSI_QUOTES` and `NO_BACKSLASH_ESCAPES`.
    MySql,
    /// SQL Server 2012 and later.
    SqlServer,
}

/// Which way a test may err.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// True for every row for which the test is true.
    Wide,
    /// False for every row for which the test is false.
    Narrow,
}

impl Reading {
    fn turned(self) -> Self {
        match self {
            Self::Wide => Self::Narrow,
            Self::Narrow => Self::Wide,
        }
    }

    /// What may always be said in place of a test.
    fn anything(self) -> &'static str {
        match self {
            Self::Wide => "(1 = 1)",
            Self::Narrow => "(1 = 0)",
        }
    }
}

impl Dialect {
    /// A name as SQL.
    #[must_use]
    pub fn name(self, name: &str) -> String {
        match self {
            Self::PostgreSql => format!("\"{}\"", name.replace('"', "\"\"")),
            Self::MySql => format!("`{}`", name.replace('`', "``")),
            Self::SqlServer => format!("[{}]", name.replace(']', "]]")),
        }
    }

    /// A text as SQL.
    #[must_use]
    pub fn text(self, text: &str) -> String {
        let doubled = text.replace('\'', "''");
        match self {
            // A backslash means itself only in the `E''` form, whatever the server's settings.
            Self::PostgreSql if text.contains('\\') => {
                format!("E'{}'", doubled.replace('\\', "\\\\"))
            }
            Self::PostgreSql => format!("'{doubled}'"),
            Self::MySql => format!("'{}'", doubled.replace('\\', "\\\\")),
            Self::SqlServer => format!("N'{doubled}'"),
        }
    }

    fn bool(self, value: bool) -> &'static str {
        match (self, value) {
            (Self::PostgreSql, true) => "true",
            (Self::PostgreSql, false) => "false",
            (Self::MySql | Self::SqlServer, true) => "1",
            (Self::MySql | Self::SqlServer, false) => "0",
        }
    }
}

/// The widest reading of `condition`.
pub(super) fn over(dialect: Dialect, condition: &Condition<Test>, columns: &[String]) -> String {
    let mut sql = String::new();
    Writer { dialect, columns }.condition(condition, Reading::Wide, &mut sql);
    sql
}

/// A literal as SQL.
pub(super) fn literal(dialect: Dialect, literal: &Literal) -> String {
    match literal {
        Literal::Text(text) => dialect.text(text),
        Literal::Number(text) => text.clone(),
        Literal::Bool(value) => dialect.bool(*value).to_owned(),
    }
}

struct Writer<'a> {
    dialect: Dialect,
    columns: &'a [String],
}

impl Writer<'_> {
    fn condition(&self, condition: &Condition<Test>, reading: Reading, sql: &mut String) {
        let mut joined = |parts: &[Condition<Test>], word: &str| {
            sql.push('(');
            for (index, part) in parts.iter().enumerate() {
                sql.push_str(if index == 0 { "" } else { word });
                self.condition(part, reading, sql);
            }
            sql.push(')');
        };
        match condition {
            Condition::And(parts) => joined(parts, " and "),
            Condition::Or(parts) => joined(parts, " or "),
            Condition::Not(part) => {
                sql.push_str("(not ");
                self.condition(part, reading.turned(), sql);
                sql.push(')');
            }
            Condition::Test(test) => self.test(test, reading, sql),
        }
    }

    fn test(&self, test: &Test, reading: Reading, sql: &mut String) {
        let name = self.columns.get(test.column).map(String::as_str).unwrap_or_default();
        let name = self.dialect.name(name);
        let asked = match &test.asks {
            Asks::IsNull => Some(" is null".to_owned()),
            Asks::Compare(comparison, literal) => self.compare(*comparison, literal, reading),
            Asks::In(literals) => self.one_of(literals, reading),
        };
        match asked {
            Some(asked) => {
                let _ = write!(sql, "{name}{asked}");
            }
            None => sql.push_str(reading.anything()),
        }
    }

    fn compare(
        &self,
        comparison: Comparison,
        literal: &Literal,
        reading: Reading,
    ) -> Option<String> {
        let Literal::Text(text) = literal else {
            return Some(self.comparison(comparison, literal));
        };
        if self.dialect == Dialect::PostgreSql {
            return Some(self.comparison(comparison, literal));
        }
        match (comparison, reading) {
            // Equal bytes are equal under every collation; different ones need not be different.
            (Comparison::Equal, Reading::Wide) | (Comparison::NotEqual, Reading::Narrow) => {
                Some(self.comparison(comparison, literal))
            }
            (Comparison::Equal, Reading::Narrow) => None,
            (Comparison::NotEqual, Reading::Wide) => Some(" is not null".to_owned()),
            (
                Comparison::Less
                | Comparison::LessOrEqual
                | Comparison::Greater
                | Comparison::GreaterOrEqual,
                _,
            ) => {
                let moment = self.moment(text)?;
                Some(format!(" {} {moment}", comparison.sign()))
            }
        }
    }

    fn comparison(&self, comparison: Comparison, asked: &Literal) -> String {
        format!(" {} {}", comparison.sign(), literal(self.dialect, asked))
    }

    fn one_of(&self, literals: &[Literal], reading: Reading) -> Option<String> {
        let is_text = literals.iter().any(|literal| matches!(literal, Literal::Text(_)));
        if is_text && self.dialect != Dialect::PostgreSql && reading == Reading::Narrow {
            return None;
        }
        let list: Vec<String> = literals.iter().map(|asked| literal(self.dialect, asked)).collect();
        Some(format!(" in ({})", list.join(", ")))
    }

    /// A text that has an order, which is a date, a time or a timestamp. One that names a zone is
    /// not pushed down: MariaDB would read it without.
    fn moment(&self, text: &str) -> Option<String> {
        let is_time = moment::parse_time(text).is_some();
        let is_day = moment::parse_date(text).is_some() || moment::parse_timestamp(text).is_some();
        match self.dialect {
            _ if !is_time && !is_day => None,
            Dialect::SqlServer if is_time => Some(format!("cast('{text}' as time(7))")),
            // With the letter between date and time no language setting turns month and day.
            Dialect::SqlServer => {
                Some(format!("cast('{}' as datetime2(7))", text.replace(' ', "T")))
            }
            Dialect::MySql | Dialect::PostgreSql => Some(self.dialect.text(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Filter;
    use super::*;

    #[test]
    fn names_and_texts_cannot_break_out() {
        let check = |dialect: Dialect, name: &str, text: &str| {
            assert_eq!(dialect.name("a\"`]b"), name);
            assert_eq!(dialect.text("O'x\\"), text);
        };
        check(Dialect::PostgreSql, "\"a\"\"`]b\"", "E'O''x\\\\'");
        check(Dialect::MySql, "`a\"``]b`", "'O''x\\\\'");
        check(Dialect::SqlServer, "[a\"`]]b]", "N'O''x\\'");
    }

    #[test]
    fn what_a_collation_may_blur_is_asked_more_widely() {
        let check = |text: &str, mysql: &str, sql_server: &str| {
            let filter = Filter::parse(text).unwrap();
            assert_eq!(filter.to_sql(Dialect::MySql), mysql, "{text}");
            assert_eq!(filter.to_sql(Dialect::SqlServer), sql_server, "{text}");
        };
        check("x = 'Huế'", "`x` = 'Huế'", "[x] = N'Huế'");
        check("not x = 'a'", "(not (1 = 0))", "(not (1 = 0))");
        check("x <> 'a'", "`x` is not null", "[x] is not null");
        check("not x <> 'a'", "(not `x` <> 'a')", "(not [x] <> N'a')");
        check("x in ('a', 'b')", "`x` in ('a', 'b')", "[x] in (N'a', N'b')");
        check("x not in ('a')", "(not (1 = 0))", "(not (1 = 0))");
        check("not not x = 'a'", "(not (not `x` = 'a'))", "(not (not [x] = N'a'))");
        check(
            "not (x = 'a' or y is null)",
            "(not ((1 = 0) or `y` is null))",
            "(not ((1 = 0) or [y] is null))",
        );
        check("n not in (1, 2)", "(not `n` in (1, 2))", "(not [n] in (1, 2))");
        check(
            "b = true and n >= -3.50",
            "(`b` = 1 and `n` >= -3.50)",
            "([b] = 1 and [n] >= -3.50)",
        );
        check("d < '2026-11-21'", "`d` < '2026-11-21'", "[d] < cast('2026-11-21' as datetime2(7))");
        check(
            "not t > '2026-11-21 08:30:00'",
            "(not `t` > '2026-11-21 08:30:00')",
            "(not [t] > cast('2026-11-21T08:30:00' as datetime2(7)))",
        );
        check("m > '2026-11-21 08:30:00+07:00'", "(1 = 1)", "(1 = 1)");
        check("not m > '2026-11-21 08:30:00+07:00'", "(not (1 = 0))", "(not (1 = 0))");
    }
}
