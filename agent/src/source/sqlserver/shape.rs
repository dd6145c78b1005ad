//! Pure: a column's type at the source: how it is selected so that nothing of it is changed, how
//! its bytes are read then, and how a key part comes back as a parameter of that very type.

use crate::source::Native;

/// `[name]`, whatever the name holds.
pub(super) fn ident(name: &str) -> String {
    format!("[{}]", name.replace(']', "]]"))
}

/// Several names with commas between them.
pub(super) fn idents<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(ident).collect::<Vec<_>>().join(", ")
}

/// `N'text'`.
pub(super) fn literal(text: &str) -> String {
    format!("N'{}'", text.replace('\'', "''"))
}

/// A type as the catalogue describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Described {
    /// The type under an alias, such as `nvarchar`.
    pub(super) base: String,
    /// Bytes; -1 is `max`.
    pub(super) max_length: i64,
    pub(super) precision: i64,
    pub(super) scale: i64,
    pub(super) collation: String,
}

/// How a column is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    /// As the agency's administrator would write it.
    pub(super) type_name: String,
    pub(super) native: Native,
    /// The select list's expression, with `{}` where the column stands.
    template: String,
    /// The expression of a key part, with `{}` where the parameter stands; `None` for types along
    /// which no table is read.
    key: Option<String>,
}

/// What a type is refused for.
const NO_TYPE: &str = "this type is not carried";

impl Shape {
    /// How `described` is read.
    ///
    /// # Errors
    /// Its name and why it is not.
    pub(super) fn of(described: &Described) -> Result<Self, (String, &'static str)> {
        let type_name = described.type_name();
        let Described { base, scale, .. } = described;
        let tenths = |of: Native| if *scale > 6 { Native::Tenths(Box::new(of)) } else { of };
        let plain = |native: Native| (native, "{}".to_owned());
        let cast = |native: Native, to: &str| (native, format!("cast({{}} as {to})"));
        let (native, template) = match base.as_str() {
            "bit" => plain(Native::Bool),
            "tinyint" => cast(Native::Int2, "smallint"),
            "smallint" => plain(Native::Int2),
            "int" => plain(Native::Int4),
            "bigint" => plain(Native::Int8),
            "decimal" | "numeric" => plain(Native::Numeric),
            "money" | "smallmoney" => cast(Native::Numeric, "decimal(19, 4)"),
            "real" => plain(Native::Float4),
            "float" => plain(Native::Float8),
            "date" => plain(Native::Date),
            "time" => plain(tenths(Native::Time)),
            "datetime2" => plain(tenths(Native::Timestamp)),
            "datetimeoffset" => plain(Native::OffsetTenths),
            // Its thirds of milliseconds as the server prints them.
            "datetime" => cast(Native::Timestamp, "datetime2(3)"),
            "smalldatetime" => cast(Native::Timestamp, "datetime2(0)"),
            "uniqueidentifier" => plain(Native::Uuid),
            "binary" | "varbinary" => plain(Native::Bytea),
            "image" => cast(Native::Bytea, "varbinary(max)"),
            "timestamp" => cast(Native::Bytea, "binary(8)"),
            "nchar" | "nvarchar" | "char" | "varchar" | "text" | "ntext" | "xml" => {
                (Native::Text, described.utf16())
            }
            "hierarchyid" | "geometry" | "geography" => {
                return Err((type_name, "types of the CLR are not carried"));
            }
            "sql_variant" => return Err((type_name, "each of its values has a type of its own")),
            _ => return Err((type_name, NO_TYPE)),
        };
        Ok(Self { key: described.key(&type_name), type_name, native, template })
    }

    /// The select list's expression for the column `name` of `alias`.
    pub(super) fn select(&self, alias: &str, name: &str) -> String {
        self.template.replace("{}", &format!("{alias}.{}", ident(name)))
    }

    /// A parameter as a value of the column's type; `None` for types that make no key.
    pub(super) fn key_part(&self, parameter: &str) -> Option<String> {
        self.key.as_ref().map(|template| template.replace("{}", parameter))
    }

    /// Whether a table is read along a column of this type.
    pub(super) fn makes_a_key(&self) -> bool {
        self.key.is_some()
    }
}

impl Described {
    /// Characters of a text type, bytes of a binary one.
    fn length(&self) -> i64 {
        if self.base.starts_with('n') { self.max_length / 2 } else { self.max_length }
    }

    fn type_name(&self) -> String {
        let base = &self.base;
        match base.as_str() {
            "nvarchar" | "varchar" | "varbinary" if self.max_length < 0 => format!("{base}(max)"),
            "nchar" | "nvarchar" | "char" | "varchar" | "binary" | "varbinary" => {
                format!("{base}({})", self.length())
            }
            "decimal" | "numeric" => format!("{base}({}, {})", self.precision, self.scale),
            "time" | "datetime2" | "datetimeoffset" => format!("{base}({})", self.scale),
            "timestamp" => "rowversion".to_owned(),
            _ => base.clone(),
        }
    }

    /// The server converts each code page to Unicode, and hands on UTF-16 as it lies: the driver
    /// would stop at text that is no Unicode, and a row that holds such text is to be set aside.
    fn utf16(&self) -> String {
        const UNITS_MAX: i64 = 4_000;
        let length = self.length();
        let is_short = |length: i64| (1..=UNITS_MAX).contains(&length);
        let bytes = if is_short(length) { (2 * length).to_string() } else { "max".to_owned() };
        let value = match self.base.as_str() {
            "nchar" | "nvarchar" => "{}".to_owned(),
            "char" | "varchar" if is_short(length) => format!("cast({{}} as nvarchar({length}))"),
            _ => "cast({} as nvarchar(max))".to_owned(),
        };
        match self.base.as_str() {
            "text" | "ntext" | "xml" => format!("cast({value} as varbinary(max))"),
            _ => format!("cast({value} as varbinary({bytes}))"),
        }
    }

    fn key(&self, type_name: &str) -> Option<String> {
        match self.base.as_str() {
            "bit" | "tinyint" | "smallint" | "int" | "bigint" | "decimal" | "numeric" | "money"
            | "smallmoney" | "uniqueidentifier" | "date" | "time" | "datetime2"
            | "datetimeoffset" => Some(format!("convert({type_name}, {{}})")),
            // Without the style, what a text means would depend on the login's language.
            "datetime" | "smalldatetime" => Some(format!("convert({type_name}, {{}}, 121)")),
            "nchar" | "nvarchar" if self.max_length > 0 => {
                Some(format!("convert({type_name}, {{}})"))
            }
            // Without the collation, the text would go through the database's own code page.
            "char" | "varchar" if self.max_length > 0 => {
                Some(format!("convert({type_name}, {{}} collate {})", self.collation))
            }
            "binary" | "varbinary" if self.max_length > 0 => {
                Some(format!("convert({type_name}, {{}}, 1)"))
            }
            "timestamp" => Some("convert(binary(8), {}, 1)".to_owned()),
            _ => None,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::source::sqlserver) fn described(base: &str, length: i64) -> Described {
        Described {
            base: base.to_owned(),
            max_length: length,
            precision: 14,
            scale: 2,
            collation: "Vietnamese_CI_AS".to_owned(),
        }
    }

    #[test]
    fn every_type_is_selected_so_that_nothing_of_it_changes() {
        let check = |base: &str, length: i64, native: Native, select: &str, key: &str| {
            let shape = Shape::of(&described(base, length)).unwrap();
            assert_eq!(shape.native, native, "{base}");
            assert_eq!(shape.select("t", "a]b"), select, "{base}");
            assert_eq!(shape.key_part("@P1").unwrap_or_default(), key, "{base}");
        };
        check("int", 4, Native::Int4, "t.[a]]b]", "convert(int, @P1)");
        check("tinyint", 1, Native::Int2, "cast(t.[a]]b] as smallint)", "convert(tinyint, @P1)");
        let decimal = "convert(decimal(14, 2), @P1)";
        check("decimal", 9, Native::Numeric, "t.[a]]b]", decimal);
        let money = "cast(t.[a]]b] as decimal(19, 4))";
        check("money", 8, Native::Numeric, money, "convert(money, @P1)");
        let datetime = "cast(t.[a]]b] as datetime2(3))";
        check("datetime", 8, Native::Timestamp, datetime, "convert(datetime, @P1, 121)");
        let nvarchar = "cast(t.[a]]b] as varbinary(100))";
        check("nvarchar", 100, Native::Text, nvarchar, "convert(nvarchar(50), @P1)");
        check("nvarchar", -1, Native::Text, "cast(t.[a]]b] as varbinary(max))", "");
        let varchar = "cast(cast(t.[a]]b] as nvarchar(50)) as varbinary(100))";
        let by_page = "convert(varchar(50), @P1 collate Vietnamese_CI_AS)";
        check("varchar", 50, Native::Text, varchar, by_page);
        let long = "cast(cast(t.[a]]b] as nvarchar(max)) as varbinary(max))";
        check(
            "varchar",
            8_000,
            Native::Text,
            long,
            "convert(varchar(8000), @P1 collate Vietnamese_CI_AS)",
        );
        check("text", 16, Native::Text, long, "");
        check("xml", -1, Native::Text, long, "");
        check("image", 16, Native::Bytea, "cast(t.[a]]b] as varbinary(max))", "");
        check("binary", 4, Native::Bytea, "t.[a]]b]", "convert(binary(4), @P1, 1)");
        check(
            "timestamp",
            8,
            Native::Bytea,
            "cast(t.[a]]b] as binary(8))",
            "convert(binary(8), @P1, 1)",
        );
        check("float", 8, Native::Float8, "t.[a]]b]", "");
    }

    #[test]
    fn the_finest_times_keep_their_last_digit() {
        let native = |base: &str, scale: i64| {
            Shape::of(&Described { scale, ..described(base, 8) }).unwrap().native
        };
        assert_eq!(native("datetime2", 6), Native::Timestamp);
        assert_eq!(native("datetime2", 7), Native::Tenths(Box::new(Native::Timestamp)));
        assert_eq!(native("time", 7), Native::Tenths(Box::new(Native::Time)));
        assert_eq!(native("datetimeoffset", 0), Native::OffsetTenths);
    }

    #[test]
    fn a_type_that_is_not_carried_is_refused_by_name() {
        for base in ["hierarchyid", "geography", "geometry", "sql_variant", "vector", "json"] {
            let (name, _) = Shape::of(&described(base, 8)).unwrap_err();
            assert_eq!(name, base);
        }
    }
}
