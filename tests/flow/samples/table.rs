//! A table that fits a sample mapping: its columns by what the mapping does with them, and rows that
//! keep to its checks.

use std::fs;
use std::path::Path;

use phusa_protocol::contract::Contract;
use phusa_protocol::value::Kind;
use phusa_tests::province::Dataset;
use phusa_tests::tds::sql::{days, tenths};
use phusa_tests::tds::value::Value;
use toml::Table;

/// Whose types the table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Postgresql,
    Mysql,
    Sqlserver,
}

/// A sample mapping, its contract, and the columns it reads.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) id: String,
    pub(crate) table: String,
    contract_text: String,
    contract: Contract,
    mapping: Table,
    columns: Vec<Column>,
}

/// A column and what stands in it.
#[derive(Debug)]
struct Column {
    name: String,
    kind: Kind,
    is_key: bool,
    required: bool,
    /// Of what its texts are made.
    content: Content,
}

/// What stands in a column.
#[derive(Debug, Clone)]
enum Content {
    /// By its type alone, with so many characters at most.
    Plain(usize),
    CitizenId,
    TaxCode,
    SocialInsurance,
    Phone,
    Email,
    Commune,
    Address,
    Name,
    DayMonthYear,
    Decimal,
    OneOf(Vec<String>),
}

fn text<'t>(table: &'t Table, key: &str) -> Option<&'t str> {
    table.get(key)?.as_str()
}

impl Sample {
    /// Reads a file of `configs/datasets` with its contract and its lists.
    pub(crate) fn read(configs: &Path, file: &Path) -> Self {
        let mapping: Table = fs::read_to_string(file).unwrap().parse().unwrap();
        let id = text(&mapping, "dataset").unwrap().to_owned();
        let contract_text =
            fs::read_to_string(configs.join(format!("contracts/{id}.toml"))).unwrap();
        let contract = Contract::from_toml(&contract_text).unwrap();
        let table = text(&mapping, "table").unwrap().split_once('.').unwrap().1.to_owned();
        let mut columns: Vec<Column> = Vec::new();
        for field in mapping["field"].as_array().unwrap() {
            for column in columns_of(configs, &contract, field.as_table().unwrap()) {
                if !columns.iter().any(|known| known.name == column.name) {
                    columns.push(column);
                }
            }
        }
        Self { id, table, contract_text, contract, mapping, columns }
    }

    /// Whether a field has a type that only PostgreSQL has.
    pub(crate) fn has_arrays_or_json(&self) -> bool {
        self.contract.fields.iter().any(|field| is_of_postgresql(field.kind))
    }

    /// The sample for this engine and schema: what the engine has no type for is sent as null.
    pub(crate) fn dataset(&self, engine: Engine, schema: &str) -> Dataset {
        let mut mapping = self.mapping.clone();
        mapping.insert("table".to_owned(), format!("{schema}.{}", self.table).into());
        let fields = mapping["field"].as_array_mut().unwrap();
        for field in fields.iter_mut().map(|field| field.as_table_mut().unwrap()) {
            let to = text(field, "to").unwrap();
            let kind = self.contract.fields.iter().find(|agreed| agreed.name == to).unwrap().kind;
            if engine != Engine::Postgresql && is_of_postgresql(kind) {
                field.insert("mask".to_owned(), "drop".into());
            }
        }
        let mapping = toml::to_string(&mapping).unwrap();
        Dataset { id: self.id.clone(), contract: self.contract_text.clone(), mapping }
    }

    /// The statements that make the table with so many rows.
    pub(crate) fn sql(&self, engine: Engine, rows: u64) -> String {
        let column = |column: &Column| {
            let null = if column.required { "not null" } else { "null" };
            format!("{} {} {null}", column.name, column.sql_type(engine))
        };
        let columns: Vec<String> = self.columns.iter().map(column).collect();
        let key: Vec<&str> =
            self.columns.iter().filter(|c| c.is_key).map(|c| c.name.as_str()).collect();
        let row = |n: u64| {
            let cells: Vec<String> = self.columns.iter().map(|c| c.literal(engine, n)).collect();
            format!("({})", cells.join(", "))
        };
        let rows: Vec<String> = (1..=rows).map(row).collect();
        let zone = if engine == Engine::Mysql { "set time_zone = '+00:00'; " } else { "" };
        format!(
            "{zone}create table {} ({}, primary key ({})); insert into {} values {};",
            self.table,
            columns.join(", "),
            key.join(", "),
            self.table,
            rows.join(", ")
        )
    }

    /// Columns and key for the scripted server.
    pub(crate) fn scripted_columns(&self) -> (Vec<String>, Vec<String>) {
        let column = |column: &Column| {
            let null = if column.required { "" } else { " null" };
            format!("{} {}{null}", column.name, column.sql_type(Engine::Sqlserver))
        };
        let key = self.columns.iter().filter(|column| column.is_key);
        (self.columns.iter().map(column).collect(), key.map(|c| c.name.clone()).collect())
    }

    /// Row `n` for the scripted server.
    pub(crate) fn scripted_row(&self, n: u64) -> Vec<Value> {
        self.columns.iter().map(|column| column.scripted(n)).collect()
    }
}

fn is_of_postgresql(kind: Kind) -> bool {
    matches!(kind, Kind::TextArray | Kind::Jsonb)
}

/// The columns that one field reads.
fn columns_of(configs: &Path, contract: &Contract, field: &Table) -> Vec<Column> {
    let to = text(field, "to").unwrap();
    let index = contract.fields.iter().position(|agreed| agreed.name == to).unwrap();
    let agreed = &contract.fields[index];
    let most = agreed.max_length.map_or(60, |most| usize::try_from(most).unwrap().min(60));
    let (is_key, required) = (contract.key.contains(&agreed.name), !contract.is_nullable(index));
    let one = |name: &str, kind: Kind, content: Content| Column {
        name: name.to_owned(),
        kind,
        is_key,
        required,
        content,
    };
    if let Some(compute) = field.get("compute").and_then(toml::Value::as_table) {
        if let Some(year) = text(compute, "year") {
            return vec![one(year, Kind::Date, Content::Plain(most))];
        }
        let names = compute["concat"]["columns"].as_array().unwrap();
        let names = names.iter().map(|name| name.as_str().unwrap());
        return names.map(|name| one(name, Kind::Text, Content::Name)).collect();
    }
    let from = text(field, "from").unwrap();
    let content = content(configs, field).unwrap_or(Content::Plain(most));
    let by_text = matches!(content, Content::Plain(_)) && !field.contains_key("convert");
    let kind = if by_text { agreed.kind } else { Kind::Text };
    vec![one(from, kind, content)]
}

/// What a field's rules ask of the text, where they ask anything.
fn content(configs: &Path, field: &Table) -> Option<Content> {
    if let Some(convert) = field.get("convert").and_then(toml::Value::as_table) {
        let list = |key: &str| {
            let texts = convert["bool"][key].as_array().unwrap().iter();
            texts.map(|text| text.as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        return Some(if convert.contains_key("date") {
            Content::DayMonthYear
        } else if convert.contains_key("bool") {
            Content::OneOf([list("yes"), list("no")].concat())
        } else {
            Content::Decimal
        });
    }
    if let Some(crosswalk) = field.get("crosswalk").and_then(toml::Value::as_table) {
        return Some(Content::OneOf(codes(configs, text(crosswalk, "list").unwrap())));
    }
    let checks = field.get("check").and_then(toml::Value::as_array);
    let of_rule = |check: &toml::Value| {
        let check = check.as_table()?;
        Some(match text(check, "rule")? {
            "citizen_id" => Content::CitizenId,
            "tax_code" => Content::TaxCode,
            "social_insurance" | "health_card" => Content::SocialInsurance,
            "phone" => Content::Phone,
            "email" => Content::Email,
            "in_list" if text(check, "list")?.contains("commune") => Content::Commune,
            "in_list" => Content::OneOf(codes(configs, text(check, "list")?)),
            "regex" if text(check, "pattern")?.contains('|') => {
                Content::OneOf(text(check, "pattern")?.split('|').map(str::to_owned).collect())
            }
            _ => return None,
        })
    };
    // A mask by commune needs an address; in an old encoding the letters would be others.
    let masked = field.get("mask").and_then(toml::Value::as_str);
    if masked == Some("commune") && !field.contains_key("encoding") {
        return Some(Content::Address);
    }
    let checked = checks.into_iter().flatten().find_map(of_rule);
    let named = field.contains_key("encoding") || masked == Some("initials");
    checked.or(named.then_some(Content::Name))
}

/// Codes that a list knows or that become one of its own.
fn codes(configs: &Path, list: &str) -> Vec<String> {
    let file = configs.join("datasets").join(list);
    let list: Table = fs::read_to_string(file).unwrap().parse().unwrap();
    let of = |part: &str, key: &str| {
        let codes = list.get(part).and_then(toml::Value::as_array).into_iter().flatten();
        codes.map(|code| code[key].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let becomes = of("becomes", "from");
    if becomes.is_empty() { of("code", "code") } else { becomes }
}

/// Ten digits of which the last checks the others.
fn tax_code(n: u64) -> String {
    let main = format!("{:09}", 100_000_000 + n * 7);
    let weights = [31, 29, 23, 19, 17, 13, 7, 5, 3];
    let sum: u32 =
        main.bytes().zip(weights).map(|(digit, weight)| u32::from(digit - b'0') * weight).sum();
    format!("{main}{}", (10 - sum % 11) % 10)
}

impl Column {
    fn sql_type(&self, engine: Engine) -> &'static str {
        let place = match engine {
            Engine::Postgresql => 0,
            Engine::Mysql => 1,
            Engine::Sqlserver => 2,
        };
        let types = match self.kind {
            Kind::Int2 => ["smallint"; 3],
            Kind::Int4 => ["int"; 3],
            Kind::Int8 => ["bigint"; 3],
            Kind::Numeric => ["numeric(14,2)", "decimal(14,2)", "decimal(14, 2)"],
            Kind::Date => ["date"; 3],
            Kind::Timestamptz => ["timestamptz", "timestamp", "datetimeoffset(6)"],
            // Nothing of these kinds is read of other engines.
            Kind::Jsonb => ["jsonb", "text", "nvarchar(200)"],
            Kind::TextArray => ["text[]", "text", "nvarchar(200)"],
            _ => ["text", "varchar(100)", "nvarchar(100)"],
        };
        types[place]
    }

    /// The value of row `n` as words; `None` is null. A tenth of what may be null is.
    fn words(&self, n: u64) -> Option<String> {
        let may_be_null = !self.required && !self.name.starts_with("ma_tinh");
        if may_be_null && (n + self.name.len() as u64).is_multiple_of(10) {
            return None;
        }
        Some(match &self.content {
            // The zero before is lost, as in sheets.
            Content::CitizenId => format!("46{}{:02}{n:06}", 1 + n % 2, 50 + n % 50),
            Content::TaxCode => tax_code(n),
            Content::SocialInsurance => format!("46{n:08}"),
            Content::Phone => format!("0905 1{n:05}"),
            Content::Email => format!("dan{n}@example.vn"),
            Content::Commune => format!("19{n:03}"),
            Content::Address => format!("Số {n}, Xã Lìa, Quảng Trị"),
            Content::Name => ["Nguyen Van", "Tran Thi", "Le"][n as usize % 3].to_owned(),
            Content::DayMonthYear => format!("{}/{}/{}", 1 + n % 28, 1 + n % 12, 1950 + n % 60),
            Content::Decimal => format!("{n}.234,5"),
            Content::OneOf(texts) => texts[n as usize % texts.len()].clone(),
            Content::Plain(most) => self.plain(*most, n),
        })
    }

    fn plain(&self, most: usize, n: u64) -> String {
        match self.kind {
            Kind::Int2 | Kind::Int4 | Kind::Int8 => n.to_string(),
            Kind::Numeric => format!("{n}.50"),
            Kind::Date => format!("2020-{:02}-{:02}", 1 + n % 12, 1 + n % 28),
            Kind::Timestamptz => format!("2026-02-{:02} 03:04:05", 1 + n % 28),
            Kind::Jsonb => format!("{{\"so\": {n}}}"),
            Kind::TextArray => format!("{{a{n},b}}"),
            _ => {
                let number = format!("{n:02}");
                let words = format!("Giá trị {n}");
                if self.is_key || words.chars().count() > most { number } else { words }
            }
        }
    }

    fn literal(&self, engine: Engine, n: u64) -> String {
        let Some(words) = self.words(n) else { return "null".to_owned() };
        let zone = self.kind == Kind::Timestamptz && engine == Engine::Postgresql;
        format!("'{words}{}'", if zone { "+00" } else { "" })
    }

    fn scripted(&self, n: u64) -> Value {
        let Some(words) = self.words(n) else { return Value::Null };
        match self.kind {
            Kind::Int2 | Kind::Int4 | Kind::Int8 => Value::Int(words.parse().unwrap()),
            Kind::Numeric => Value::Decimal(words.replace('.', "").parse().unwrap(), 2),
            Kind::Date => Value::Date(days(&words)),
            Kind::Timestamptz => {
                let (date, time) = words.split_once(' ').unwrap();
                Value::Offset(days(date), tenths(time), 0)
            }
            _ => Value::text(&words),
        }
    }
}
