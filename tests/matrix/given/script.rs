//! SQL Server's scripts, read as far as given data needs: tables with their keys, and rows.

use phusa_tests::tds::model::{Database, Table};
use phusa_tests::tds::sql::days;
use phusa_tests::tds::value::Value;

/// A column as a script declares it.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: String,
    /// `nvarchar(160)`, in small letters.
    kind: String,
    nullable: bool,
}

impl Column {
    /// What a contract calls its type.
    pub(super) fn contract_type(&self) -> &'static str {
        match self.kind.split('(').next() {
            Some("int") => "int4",
            Some("numeric") => "numeric",
            Some("datetime") => "timestamp",
            _ => "text",
        }
    }

    /// What a script writes as the model holds it.
    fn value(&self, written: &Written) -> Value {
        match (written, self.contract_type()) {
            (Written::Null, _) => Value::Null,
            (Written::Number(number), "int4") => {
                Value::Int(number.parse().expect("a whole number"))
            }
            (Written::Number(number), _) => {
                let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
                Value::Decimal(format!("{whole}{fraction:0<2}").parse().expect("a decimal"), 2)
            }
            (Written::Text(text), "timestamp") => {
                let date = text.split(' ').next().unwrap_or_default();
                Value::Moment(days(&date.replace('/', "-")), 0)
            }
            (Written::Text(text), _) => Value::text(text),
        }
    }
}

/// A table as a script declares it.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    pub(super) key: Vec<String>,
}

impl Given {
    /// The empty table of the scripted server.
    pub(super) fn model(&self) -> Table {
        let column = |column: &Column| {
            let Column { name, kind, nullable } = column;
            format!("{name} {kind}{}", if *nullable { " null" } else { "" })
        };
        let columns: Vec<String> = self.columns.iter().map(column).collect();
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        let key: Vec<&str> = self.key.iter().map(String::as_str).collect();
        Table::new(&self.name, &columns, &key)
    }
}

/// `InvoiceLine` as `invoice_line`.
pub(super) fn snake(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

fn bare(name: &str) -> String {
    name.trim().trim_start_matches("[dbo].").trim_matches(['[', ']']).to_owned()
}

/// The tables that a script makes.
pub(super) fn tables(script: &str) -> Vec<Given> {
    let mut tables: Vec<Given> = Vec::new();
    let mut open = false;
    for line in script.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("CREATE TABLE ") {
            let name = bare(name.trim_end_matches('('));
            tables.push(Given { name, columns: Vec::new(), key: Vec::new() });
            open = true;
        } else if line.starts_with(");") {
            open = false;
        } else if let Some(table) = tables.last_mut().filter(|_| open) {
            declare(table, line);
        }
    }
    tables
}

fn declare(table: &mut Given, line: &str) {
    if line.starts_with("CONSTRAINT") {
        let names = line.rsplit_once('(').map_or("", |(_, names)| names);
        table.key = names.trim_end_matches([',', ')']).split(',').map(bare).collect();
        return;
    }
    let mut words = line.trim_end_matches(',').split_whitespace();
    if let (Some(name), Some(kind)) = (words.next(), words.next()) {
        let kind = kind.to_lowercase().replace("integer", "int").replace(',', ", ");
        let nullable = !line.contains("NOT NULL");
        table.columns.push(Column { name: bare(name), kind, nullable });
    }
}

/// A value as a script writes it.
enum Written {
    Null,
    Number(String),
    Text(String),
}

/// Puts the rows of a script into the tables of the scripted server.
pub(super) fn insert(script: &str, tables: &[Given], database: &mut Database) {
    let mut rest = script;
    while let Some((_, statement)) = rest.split_once("INSERT INTO ") {
        let (name, after) = statement.split_once('(').expect("a list of columns");
        let (names, after) = after.split_once(')').expect("the end of the columns");
        let name = bare(name);
        let table = tables.iter().find(|table| table.name == name).expect("a table of the script");
        let names: Vec<String> = names.split(',').map(bare).collect();
        let mut place = after.trim_start().strip_prefix("VALUES").expect("values").trim_start();
        while let Some(row) = place.strip_prefix('(') {
            let (values, after) = row_of(row);
            let value = |column: &Column| {
                let at = names.iter().position(|name| *name == column.name);
                at.and_then(|at| values.get(at)).map_or(Value::Null, |value| column.value(value))
            };
            database.insert(&name, table.columns.iter().map(value).collect());
            place = after.trim_start().trim_start_matches(',').trim_start();
        }
        rest = place;
    }
}

/// The values up to the closing bracket, and what stands after it.
fn row_of(text: &str) -> (Vec<Written>, &str) {
    let (mut values, mut rest) = (Vec::new(), text.trim_start());
    loop {
        if let Some(quoted) = rest.strip_prefix("N'").or_else(|| rest.strip_prefix('\'')) {
            let (text, after) = text_of(quoted);
            values.push(Written::Text(text));
            rest = after.trim_start();
        } else {
            let end = rest.find([',', ')']).expect("the end of a value");
            let word = rest[..end].trim();
            let is_null = word.eq_ignore_ascii_case("null");
            values.push(if is_null { Written::Null } else { Written::Number(word.to_owned()) });
            rest = &rest[end..];
        }
        if let Some(after) = rest.strip_prefix(')') {
            return (values, after);
        }
        rest = rest.strip_prefix(',').expect("another value").trim_start();
    }
}

/// Text up to its closing quote, and what stands after it.
fn text_of(quoted: &str) -> (String, &str) {
    let (mut text, mut rest) = (String::new(), quoted);
    loop {
        let (part, after) = rest.split_once('\'').expect("a closing quote");
        text.push_str(part);
        match after.strip_prefix('\'') {
            Some(after) => {
                text.push('\'');
                rest = after;
            }
            None => return (text, after),
        }
    }
}

#[test]
fn scripts_of_sql_server_are_read() {
    let script = "CREATE TABLE [dbo].[HoSo]\n(\n    [HoSoId] INT NOT NULL,\n    [Ten] NVARCHAR(9),\n    \
                  [Phi] NUMERIC(10,2) NOT NULL,\n    CONSTRAINT [PK] PRIMARY KEY NONCLUSTERED ([HoSoId], [Ten])\n);\n\
                  INSERT INTO [dbo].[HoSo] ([HoSoId], [Ten], [Phi]) VALUES\n    (1, N'O''Hà, (x)', 0.9),\n    (2, NULL, 12);";
    let tables = tables(script);
    assert_eq!(
        (snake(&tables[0].name), &tables[0].key.join(" ")),
        ("ho_so".to_owned(), &"HoSoId Ten".to_owned())
    );
    let mut database = Database::new();
    database.create(tables[0].model());
    insert(script, &tables, &mut database);
    let rows = &database.table("HoSo").rows;
    assert_eq!(rows[0], [Value::Int(1), Value::text("O'Hà, (x)"), Value::Decimal(90, 2)]);
    assert_eq!(rows[1], [Value::Int(2), Value::Null, Value::Decimal(1_200, 2)]);
}
