//! What destroyed rows leave in the warehouse: marks by which the same row is known if it is delivered
//! again, and the trigger that then leaves it out (decision 0018).
//!
//! A mark is `SHA-256(salt · the row's agreed fields)`. It covers the whole row, so that a row that has
//! changed at its source since is a new one and comes in, and so that nobody who does not know every
//! field can tell from it which row it was. Marks of rows with other columns, of an earlier contract,
//! are a generation of their own. Datasets in which nothing was destroyed have no trigger.

use phusa_protocol::ids::DatasetId;
use tokio_postgres::{Error, GenericClient, Row};

use super::tables::Shape;

/// The columns that one generation of marks covers, in order, and its salt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// Its number within the dataset, from 1.
    pub number: i32,
    /// Column names without quotes.
    pub columns: Vec<String>,
    /// Its salt.
    pub salt: Vec<u8>,
}

/// The generations of marks that a dataset has; none where no row in force was destroyed.
///
/// # Errors
/// The database's.
pub async fn generations(
    client: &impl GenericClient,
    dataset: &DatasetId,
) -> Result<Vec<Generation>, Error> {
    let sql = "select generation, columns, salt from phusa.gone where dataset = $1 order by 1";
    let rows = client.query(sql, &[&dataset.to_string()]).await?;
    let read = |row: &Row| {
        Ok(Generation { number: row.try_get(0)?, columns: row.try_get(1)?, salt: row.try_get(2)? })
    };
    rows.iter().map(read).collect()
}

impl Shape {
    /// The table of marks, with its schema and quotes.
    #[must_use]
    pub fn gone(&self) -> String {
        self.beside("gone")
    }

    /// The agreed columns without quotes, in contract order.
    #[must_use]
    pub fn column_names(&self) -> Vec<String> {
        self.columns().iter().map(|column| column.name.trim_matches('"').to_owned()).collect()
    }

    /// The statements that make the table of marks and the trigger, for these generations.
    #[must_use]
    pub fn make_gone(&self, generations: &[Generation]) -> Vec<String> {
        let (table, gone, refuse) = (self.table(), self.gone(), self.beside("refuse_gone"));
        let known = |generation: &Generation| {
            let has = |name: &String| self.column_names().contains(name);
            generation.columns.iter().all(has)
        };
        let conditions: Vec<_> = generations
            .iter()
            .filter(|generation| known(generation))
            .map(|generation| {
                format!(
                    "exists (select from {gone} where generation = {} and mark = {})",
                    generation.number,
                    mark(generation, "new.")
                )
            })
            .collect();
        let condition =
            if conditions.is_empty() { "false".to_owned() } else { conditions.join(" or ") };
        vec![
            format!(
                "create table if not exists {gone} (generation int not null, mark bytea not null, \
                 primary key (generation, mark))"
            ),
            format!(
                "create or replace function {refuse}() returns trigger language plpgsql as $gone$\n\
                 begin\n  if {condition} then return null; end if;\n  return new;\nend $gone$"
            ),
            format!("drop trigger if exists refuse_gone on {table}"),
            format!(
                "create trigger refuse_gone before insert on {table} for each row \
                 execute function {refuse}()"
            ),
        ]
    }

    /// The statement that writes the marks of the rows in force that were last changed before `$1`.
    #[must_use]
    pub fn mark_rows(&self, generation: &Generation) -> String {
        format!(
            "insert into {gone} (generation, mark) select {number}, {mark} from {table} as t \
             where t._source_time < $1 on conflict do nothing",
            gone = self.gone(),
            number = generation.number,
            mark = mark(generation, "t."),
            table = self.table(),
        )
    }
}

fn mark(generation: &Generation, prefix: &str) -> String {
    let columns: Vec<_> =
        generation.columns.iter().map(|name| format!("{prefix}\"{name}\"")).collect();
    let salt: String = generation.salt.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256('\\x{salt}'::bytea || convert_to(row({})::text, 'UTF8'))", columns.join(", "))
}

#[cfg(test)]
mod tests {
    use phusa_protocol::contract::Contract;

    use super::*;

    const CONTRACT: &str = "dataset = \"a.b\"\nversion = 1\ntitle_vi = \"B\"\nowner = \"H57\"\n\
        legal_basis = \"QĐ\"\nsharing = \"open\"\nfrequency = \"1d\"\nretention = \"1d\"\n\
        key = [\"ma\"]\n[[field]]\nname = \"ma\"\ntype = \"int8\"\nclass = \"P\"\nname_vi = \"M\"\n\
        [[field]]\nname = \"ten\"\ntype = \"text\"\nclass = \"P\"\nname_vi = \"T\"\n";

    #[test]
    fn a_mark_covers_every_agreed_field_and_generations_that_no_longer_fit_are_passed_over() {
        let shape = Shape::of(&Contract::from_toml(CONTRACT).unwrap());
        let generation = |number, columns: &[&str]| Generation {
            number,
            columns: columns.iter().map(|name| (*name).to_owned()).collect(),
            salt: vec![1, 0xab],
        };
        let all = [generation(1, &["ma", "cu"]), generation(2, &["ma", "ten"])];
        let statements = shape.make_gone(&all);
        let function = &statements[1];
        assert!(!function.contains("generation = 1") && function.contains("generation = 2"));
        let mark =
            r#"sha256('\x01ab'::bytea || convert_to(row(new."ma", new."ten")::text, 'UTF8'))"#;
        assert!(function.contains(mark), "{function}");
        assert!(statements[3].contains("before insert on \"a\".\"b\""), "{}", statements[3]);
        assert_eq!(shape.gone(), "\"a\".\"b__gone\"");
    }
}
