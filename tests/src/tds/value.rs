//! Values and types of the scripted server, and their bytes on the wire.

/// A value as the model holds it.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// SQL null.
    Null,
    /// `bit`.
    Bit(bool),
    /// `tinyint` to `bigint`.
    Int(i64),
    /// `decimal` and `money`: digits and how many stand after the point.
    Decimal(i128, u8),
    /// `real`.
    Real(f32),
    /// `float`.
    Float(f64),
    /// Every type of text, in UTF-16.
    Text(Vec<u16>),
    /// Every type of bytes.
    Bytes(Vec<u8>),
    /// `uniqueidentifier`, in the order in which it is written.
    Guid([u8; 16]),
    /// Days since 0001-01-01.
    Date(u32),
    /// Tenths of a microsecond since midnight.
    Time(u64),
    /// Days since 0001-01-01 and tenths of a microsecond since midnight.
    Moment(u32, u64),
    /// The same in UTC, and minutes east of it.
    Offset(u32, u64, i16),
}

impl Value {
    /// Text.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::Text(text.encode_utf16().collect())
    }
}

/// A type: as the catalogue names it, with its measures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Type {
    /// `nvarchar`.
    pub base: String,
    /// Bytes; -1 is `max`.
    pub max_length: i64,
    /// Digits.
    pub precision: i64,
    /// Digits after the point.
    pub scale: i64,
}

impl Type {
    /// Reads `nvarchar(50)`, `decimal(14, 2)`, `datetime2(7)`, `int`.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let (base, rest) = text.split_once('(').unwrap_or((text, ""));
        let mut numbers = rest.trim_end_matches(')').split(", ");
        let mut number = || match numbers.next().filter(|part| !part.is_empty()) {
            Some("max") => -1,
            Some(part) => part.parse().unwrap_or_else(|_| panic!("{text:?} is no type")),
            None => 0,
        };
        let (first, second) = (number(), number());
        let base = if base == "rowversion" { "timestamp" } else { base };
        let (max_length, precision, scale) = match base {
            "nvarchar" | "nchar" if first > 0 => (2 * first, 0, 0),
            "nvarchar" | "nchar" | "varchar" | "char" | "varbinary" | "binary" => (first, 0, 0),
            "decimal" | "numeric" => (17, first, second),
            "time" | "datetime2" | "datetimeoffset" => (8, 0, first),
            "timestamp" | "bigint" | "float" | "datetime" | "money" => (8, 0, 0),
            "xml" => (-1, 0, 0),
            _ => (4, 0, 0),
        };
        Self { base: base.to_owned(), max_length, precision, scale }
    }

    /// `TYPE_INFO` of a column.
    pub(super) fn info(&self, collation: [u8; 5]) -> Vec<u8> {
        let scale = u8::try_from(self.scale).unwrap_or(0);
        let length = u16::try_from(self.max_length).unwrap_or(0xffff).to_le_bytes();
        let text = |kind: u8| [&[kind][..], &length, &collation].concat();
        let bytes = |kind: u8| [&[kind][..], &length].concat();
        match self.base.as_str() {
            "bit" => vec![0x68, 1],
            "tinyint" => vec![0x26, 1],
            "smallint" => vec![0x26, 2],
            "int" => vec![0x26, 4],
            "bigint" => vec![0x26, 8],
            "decimal" | "numeric" => {
                vec![0x6a, 17, u8::try_from(self.precision).unwrap_or(38), scale]
            }
            "money" => vec![0x6e, 8],
            "real" => vec![0x6d, 4],
            "float" => vec![0x6d, 8],
            "date" => vec![0x28],
            "time" => vec![0x29, scale],
            "datetime2" => vec![0x2a, scale],
            "datetimeoffset" => vec![0x2b, scale],
            "datetime" => vec![0x6f, 8],
            "uniqueidentifier" => vec![0x24, 16],
            "nvarchar" => text(0xe7),
            "nchar" => text(0xef),
            "varchar" => text(0xa7),
            "char" => text(0xaf),
            "varbinary" => bytes(0xa5),
            "binary" | "timestamp" => bytes(0xad),
            base => panic!("{base} is never selected as it is"),
        }
    }

    /// A value that is not null.
    pub(super) fn encode(&self, value: &Value) -> Vec<u8> {
        let sized = |bytes: &[u8]| {
            [&[u8::try_from(bytes.len()).expect("a short value")][..], bytes].concat()
        };
        match (value, self.base.as_str()) {
            (Value::Bit(value), "bit") => sized(&[u8::from(*value)]),
            (Value::Int(value), "tinyint") => sized(&value.to_le_bytes()[..1]),
            (Value::Int(value), "smallint") => sized(&value.to_le_bytes()[..2]),
            (Value::Int(value), "int") => sized(&value.to_le_bytes()[..4]),
            (Value::Int(value), "bigint") => sized(&value.to_le_bytes()),
            (Value::Decimal(value, scale), "decimal" | "numeric") => {
                assert_eq!(i64::from(*scale), self.scale, "a decimal of another scale");
                let sign = u8::from(*value >= 0);
                sized(&[&[sign][..], &value.unsigned_abs().to_le_bytes()].concat())
            }
            (Value::Real(value), "real") => sized(&value.to_le_bytes()),
            (Value::Float(value), "float") => sized(&value.to_le_bytes()),
            (Value::Date(days), "date") => sized(&days.to_le_bytes()[..3]),
            (Value::Time(tenths), "time") => sized(&self.time(*tenths)),
            (Value::Moment(days, tenths), "datetime2") => {
                sized(&[&self.time(*tenths)[..], &days.to_le_bytes()[..3]].concat())
            }
            (Value::Offset(days, tenths, minutes), "datetimeoffset") => {
                let (time, day) = (self.time(*tenths), days.to_le_bytes());
                sized(&[&time[..], &day[..3], &minutes.to_le_bytes()].concat())
            }
            (Value::Guid(bytes), "uniqueidentifier") => {
                let [a, b, c, d, e, f, g, h, rest @ ..] = bytes;
                sized(&[&[*d, *c, *b, *a, *f, *e, *h, *g][..], rest].concat())
            }
            (Value::Text(units), "nvarchar" | "nchar") => {
                self.long(&units.iter().flat_map(|unit| unit.to_le_bytes()).collect::<Vec<_>>())
            }
            (Value::Bytes(bytes), "varbinary" | "binary" | "timestamp") => self.long(bytes),
            (value, base) => panic!("{value:?} is no {base}"),
        }
    }

    /// A time in the units of its scale, in as many bytes as they need.
    fn time(&self, tenths: u64) -> Vec<u8> {
        let finer = 10_u64.pow(u32::try_from(7 - self.scale).expect("a scale"));
        assert_eq!(tenths % finer, 0, "a time finer than its scale");
        let length = match self.scale {
            0..=2 => 3,
            3 | 4 => 4,
            _ => 5,
        };
        (tenths / finer).to_le_bytes()[..length].to_vec()
    }

    /// Text or bytes: with a length of two bytes, or for `max` in chunks.
    fn long(&self, bytes: &[u8]) -> Vec<u8> {
        if self.max_length >= 0 {
            let length = u16::try_from(bytes.len()).expect("a value that fits");
            assert!(i64::from(length) <= self.max_length, "a value that fits");
            return [&length.to_le_bytes()[..], bytes].concat();
        }
        let mut out = u64::try_from(bytes.len()).expect("a length").to_le_bytes().to_vec();
        for chunk in bytes.chunks(1_000) {
            out.extend(u32::try_from(chunk.len()).expect("a chunk").to_le_bytes());
            out.extend_from_slice(chunk);
        }
        out.extend([0; 4]);
        out
    }
}
