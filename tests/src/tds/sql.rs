//! The small part of T-SQL that the engine sends about rows, evaluated against the model: select
//! lists of casts, conditions over keys, order.

use std::cmp::Ordering;

use super::value::{Type, Value};

/// What a name stands for: alias and column to type and value.
pub(super) type Scope<'a> = dyn Fn(&str, &str) -> (Type, Value) + 'a;

/// A place in the text of a statement, and what its names and parameters stand for.
pub(super) struct Parser<'a> {
    pub(super) rest: &'a str,
    pub(super) scope: &'a Scope<'a>,
    pub(super) params: &'a [Value],
}

/// Two values in the server's order; text without case and trailing spaces.
///
/// # Panics
/// For values of different types.
pub(super) fn compare(left: &Value, right: &Value) -> Ordering {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => left.cmp(right),
        (Value::Bit(left), Value::Bit(right)) => left.cmp(right),
        (Value::Decimal(left, _), Value::Decimal(right, _)) => left.cmp(right),
        (Value::Text(left), Value::Text(right)) => folded(left).cmp(&folded(right)),
        (Value::Bytes(left), Value::Bytes(right)) => left.cmp(right),
        (Value::Guid(left), Value::Guid(right)) => guid_order(left).cmp(&guid_order(right)),
        (Value::Date(left), Value::Date(right)) => left.cmp(right),
        (Value::Time(left), Value::Time(right)) => left.cmp(right),
        (Value::Moment(a, b), Value::Moment(c, d)) => (a, b).cmp(&(c, d)),
        (Value::Offset(a, b, _), Value::Offset(c, d, _)) => (a, b).cmp(&(c, d)),
        (left, right) => panic!("{left:?} and {right:?} are not compared"),
    }
}

fn folded(units: &[u16]) -> String {
    String::from_utf16_lossy(units).trim_end().to_uppercase()
}

/// The server compares the last six bytes first.
fn guid_order(bytes: &[u8; 16]) -> Vec<u8> {
    [&bytes[10..], &bytes[8..10], &bytes[6..8], &bytes[4..6], &bytes[..4]].concat()
}

impl<'a> Parser<'a> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Takes `word` if it stands here.
    pub(super) fn eats(&mut self, word: &str) -> bool {
        self.skip();
        match self.rest.strip_prefix(word) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    pub(super) fn expect(&mut self, word: &str) {
        assert!(self.eats(word), "{word:?} is expected before {:?}", self.rest);
    }

    /// What stands before `end`, which is taken too.
    pub(super) fn until(&mut self, end: &str) -> &'a str {
        let at = self.rest.find(end).unwrap_or_else(|| panic!("no {end:?} in {:?}", self.rest));
        let (before, rest) = self.rest.split_at(at);
        self.rest = &rest[end.len()..];
        before
    }

    /// `name` or `[name]`.
    pub(super) fn name(&mut self) -> String {
        self.skip();
        if self.eats("[") {
            return self.until("]").to_owned();
        }
        let is_word = |letter: char| letter.is_alphanumeric() || "_$@".contains(letter);
        let end = self.rest.find(|letter| !is_word(letter)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word.to_owned()
    }

    /// A type such as `nvarchar(50)`.
    fn kind(&mut self) -> Type {
        let mut text = self.name();
        if self.rest.starts_with('(') {
            text += self.until(")");
            text.push(')');
        }
        Type::parse(&text)
    }

    /// A select list up to ` from `.
    pub(super) fn list(&mut self) -> Vec<(Type, Value)> {
        let mut values = vec![self.value()];
        while self.eats(",") {
            values.push(self.value());
        }
        values
    }

    pub(super) fn value(&mut self) -> (Type, Value) {
        self.skip();
        if self.eats("cast(") {
            let (_, value) = self.value();
            self.expect("as");
            let kind = self.kind();
            self.expect(")");
            let value = cast(value, &kind);
            return (kind, value);
        }
        if self.eats("convert(") {
            let kind = self.kind();
            self.expect(",");
            let (_, value) = self.value();
            if self.eats("collate") {
                assert_eq!(self.name(), "Vietnamese_CI_AS");
            }
            let style = if self.eats(",") { self.name() } else { String::new() };
            self.expect(")");
            let value = read(&value, &kind, &style);
            return (kind, value);
        }
        if self.eats("case when") {
            let (_, value) = self.value();
            self.expect("is null then 0 else 1 end");
            return (Type::parse("int"), Value::Int(i64::from(value != Value::Null)));
        }
        if self.eats("@P") {
            let number: usize = self.name().parse().expect("a parameter");
            return (Type::parse("nvarchar(max)"), self.params[number - 1].clone());
        }
        if self.eats("N'") {
            return (Type::parse("nvarchar(max)"), Value::text(self.until("'")));
        }
        if self.rest.starts_with('[') {
            let column = self.name();
            return (self.scope)("t", &column);
        }
        let alias = self.name();
        self.expect(".");
        let column = self.name();
        (self.scope)(&alias, &column)
    }

    /// A condition: `or` of `and` of comparisons, with brackets.
    pub(super) fn condition(&mut self) -> bool {
        let mut holds = self.all();
        while self.eats("or ") {
            holds |= self.all();
        }
        holds
    }

    fn all(&mut self) -> bool {
        let mut holds = self.comparison();
        while self.eats("and ") {
            holds &= self.comparison();
        }
        holds
    }

    fn comparison(&mut self) -> bool {
        if self.eats("(") {
            let holds = self.condition();
            self.expect(")");
            return holds;
        }
        if self.eats("not ") {
            return !self.comparison();
        }
        let (_, left) = self.value();
        if self.eats("is null") {
            return left == Value::Null;
        }
        let operator = ["<=", ">=", "<", ">", "="].into_iter().find(|sign| self.eats(sign));
        let (_, right) = self.value();
        let order = compare(&left, &right);
        match operator.expect("a comparison") {
            "<=" => order.is_le(),
            ">=" => order.is_ge(),
            "<" => order.is_lt(),
            ">" => order.is_gt(),
            _ => order.is_eq(),
        }
    }
}

/// `cast(value as kind)` as the server does it.
fn cast(value: Value, kind: &Type) -> Value {
    match (value, kind.base.as_str()) {
        (Value::Text(units), "varbinary") => {
            Value::Bytes(units.iter().flat_map(|unit| unit.to_le_bytes()).collect())
        }
        (Value::Moment(days, tenths), "datetime2") => {
            let finer = 10_u64.pow(u32::try_from(7 - kind.scale).expect("a scale"));
            Value::Moment(days, (tenths + finer / 2) / finer * finer)
        }
        (value, _) => value,
    }
}

/// `convert(kind, text, style)`: text as a value of a type.
fn read(value: &Value, kind: &Type, style: &str) -> Value {
    let Value::Text(units) = value else { panic!("{value:?} is converted") };
    let text = String::from_utf16_lossy(units);
    match kind.base.as_str() {
        "tinyint" | "smallint" | "int" | "bigint" => Value::Int(text.parse().expect("a number")),
        "bit" => Value::Bit(text == "1"),
        "decimal" | "numeric" | "money" => {
            let scale = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
            let digits = text.replace('.', "").parse().expect("a decimal");
            Value::Decimal(digits, u8::try_from(scale).expect("a scale"))
        }
        "nvarchar" | "nchar" | "varchar" | "char" => Value::Text(units.clone()),
        "binary" | "varbinary" => {
            assert_eq!(style, "1");
            Value::Bytes(hex(text.strip_prefix("0x").expect("bytes")))
        }
        "uniqueidentifier" => {
            Value::Guid(hex(&text.replace('-', "")).try_into().expect("sixteen bytes"))
        }
        "date" => Value::Date(days(&text)),
        "time" => Value::Time(tenths(&text)),
        "datetime" => {
            assert_eq!(style, "121");
            let (date, time) = text.split_once(' ').expect("a moment");
            Value::Moment(days(date), three_hundredths(tenths(time)))
        }
        "datetime2" => {
            let (date, time) = text.split_once(' ').expect("a moment");
            Value::Moment(days(date), tenths(time))
        }
        base => panic!("no key is of the type {base}"),
    }
}

/// What `datetime` keeps of a time: three hundredths of a second.
#[must_use]
pub fn three_hundredths(tenths: u64) -> u64 {
    (tenths * 300 + 5_000_000) / 10_000_000 * 10_000_000 / 300
}

fn hex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("a byte");
    (0..text.len()).step_by(2).map(digit).collect()
}

/// Days since 0001-01-01 of a date.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn days(text: &str) -> u32 {
    let mut parts = text.split('-').map(|part| part.parse::<i64>().expect("a date"));
    let mut part = || parts.next().expect("a date");
    let (year, month, day) = (part(), part(), part());
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let before = year - 1;
    let lengths = [31, if is_leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let months: i64 = lengths.iter().take(usize::try_from(month - 1).expect("a month")).sum();
    let count = before * 365 + before / 4 - before / 100 + before / 400 + months + day - 1;
    u32::try_from(count).expect("a date of this era")
}

/// Tenths of a microsecond since midnight.
///
/// # Panics
/// When it is no time.
#[must_use]
pub fn tenths(text: &str) -> u64 {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let parts: Vec<u64> = clock.split(':').map(|part| part.parse().expect("a time")).collect();
    let seconds = parts[0] * 3_600 + parts[1] * 60 + parts[2];
    seconds * 10_000_000 + format!("{fraction:0<7}").parse::<u64>().expect("a fraction")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_and_casts_are_evaluated() {
        let scope = |_: &str, column: &str| match column {
            "a" => (Type::parse("int"), Value::Int(5)),
            _ => (Type::parse("nvarchar(5)"), Value::text("Hà")),
        };
        let params = [Value::text("5"), Value::text("hà ")];
        let parser = |rest| Parser { rest, scope: &scope, params: &params };
        let holds = |text| parser(text).condition();
        assert!(holds(
            "t.[a] >= convert(int, @P1) and (t.[a] > convert(int, @P1) or \
                       (t.[a] = convert(int, @P1) and t.[b] = convert(nvarchar(5), @P2)))"
        ));
        assert!(!holds("t.[a] > convert(int, @P1)"));
        let list = parser("t.[a], cast(t.[b] as varbinary(10)) from").list();
        assert_eq!(list[1].1, Value::Bytes(vec![0x48, 0, 0xe0, 0]));
        assert_eq!(days("2000-01-01"), 730_119);
        assert_eq!(three_hundredths(tenths("00:00:00.003")), 33_333);
    }
}
