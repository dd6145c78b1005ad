//! Net changes lie in a temporary table of the session until their batch's turn has come.
//!
//! Each row bears the number of the part it belongs to; a part is what one statement merges. The
//! table is made once per connection and dataset, is never logged, and empties itself with each
//! commit.

use deadpool_postgres::Transaction;
use phusa_protocol::fault::Fault;
use phusa_protocol::row::Tuple;
use phusa_protocol::value::Field;
use tokio_postgres::Error;

use super::load::{copy_in, sliced};
use crate::error::database_fault;
use crate::warehouse::compact::{Net, Row, Step};
use crate::warehouse::tables::Shape;

/// What [`super::finish`] does, in this order.
#[derive(Debug)]
pub(super) enum Part {
    /// Removes the records whose keys are staged under this number.
    Delete(i32),
    /// Writes the rows staged under this number, over what is there.
    Upsert(i32),
    /// Writes the rows staged under this number, all but the fields they leave unchanged.
    Patch { part: i32, unchanged: Vec<usize>, row_count: i64 },
    /// Takes one record to another key; both are tuples.
    Rekey { old: Vec<u8>, new: Vec<u8> },
    /// Removes all rows of the agency.
    Truncate,
}

/// The staging table of `shape`.
pub(super) fn table(shape: &Shape) -> String {
    format!("pg_temp.stage_{}", shape.tag())
}

/// Stages `steps` and says what to do with them.
pub(super) async fn stage(
    tx: &Transaction<'_>,
    shape: &Shape,
    steps: Vec<Step<'_>>,
) -> Result<Vec<Part>, Fault> {
    let mut staged = Staged::new(shape);
    for step in steps {
        staged.put(step);
    }
    if staged.next > 0 {
        let what = || format!("cannot stage rows for {}", shape.dataset());
        copy(tx, shape, staged.rows).await.map_err(|error| database_fault(what(), &error))?;
    }
    Ok(staged.parts)
}

async fn copy(tx: &Transaction<'_>, shape: &Shape, rows: Vec<u8>) -> Result<(), Error> {
    let table = table(shape);
    let columns: Vec<_> =
        shape.columns().iter().map(|c| format!("{} {}", c.name, c.kind)).collect();
    let columns = columns.join(", ");
    // A transaction may apply many bodies, one after the other.
    tx.batch_execute(&format!(
        "create temporary table if not exists {table} (_part int4 not null, {columns}) \
         on commit delete rows"
    ))
    .await?;
    let is_used = tx.prepare_cached(&format!("select exists (select from {table})")).await?;
    if tx.query_one(&is_used, &[]).await?.get(0) {
        tx.batch_execute(&format!("truncate {table}")).await?;
    }
    let columns = shape.column_list("");
    let sql = format!("copy {table} (_part, {columns}) from stdin (format binary)");
    let statement = tx.prepare_cached(&sql).await?;
    copy_in(tx, &statement, sliced(rows)).await
}

/// The rows of all parts as COPY takes them.
#[derive(Debug)]
struct Staged<'a> {
    shape: &'a Shape,
    rows: Vec<u8>,
    parts: Vec<Part>,
    next: i32,
}

impl<'a> Staged<'a> {
    fn new(shape: &'a Shape) -> Self {
        Self { shape, rows: Vec::new(), parts: Vec::new(), next: 0 }
    }

    fn put(&mut self, step: Step<'_>) {
        match step {
            Step::Net(net) => self.put_net(&net),
            Step::Truncate => self.parts.push(Part::Truncate),
            Step::Rekey { old, new } => {
                let (old, new) = (old.as_bytes().to_vec(), new.as_bytes().to_vec());
                self.parts.push(Part::Rekey { old, new });
            }
        }
    }

    fn put_net(&mut self, net: &Net<'_>) {
        if !net.deletes.is_empty() {
            let part = self.number();
            net.deletes.iter().for_each(|key| self.put_key(part, *key));
            self.parts.push(Part::Delete(part));
        }
        if !net.upserts.is_empty() {
            let part = self.number();
            net.upserts.iter().for_each(|row| match row {
                Row::Whole(row) => self.put_tuple(part, *row),
                Row::Joined(fields) => self.put_fields(part, fields),
            });
            self.parts.push(Part::Upsert(part));
        }
        for (unchanged, rows) in &net.patches {
            let part = self.number();
            rows.iter().for_each(|fields| self.put_fields(part, fields));
            let row_count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
            self.parts.push(Part::Patch { part, unchanged: unchanged.clone(), row_count });
        }
    }

    fn number(&mut self) -> i32 {
        self.next += 1;
        self.next
    }

    fn begin(&mut self, part: i32) {
        phusa_protocol::row::begin_tuple(&mut self.rows, self.shape.columns().len() + 1);
        self.put_field(Field::Value(&part.to_be_bytes()));
    }

    fn put_tuple(&mut self, part: i32, row: Tuple<'_>) {
        self.begin(part);
        self.rows.extend_from_slice(row.as_bytes().get(2..).unwrap_or_default());
    }

    fn put_fields(&mut self, part: i32, fields: &[Field<'_>]) {
        self.begin(part);
        fields.iter().for_each(|field| self.put_field(*field));
    }

    fn put_key(&mut self, part: i32, key: Tuple<'_>) {
        let mut fields = vec![Field::Null; self.shape.columns().len()];
        for (index, value) in self.shape.key().iter().zip(key.fields()) {
            if let Some(field) = fields.get_mut(*index) {
                *field = value;
            }
        }
        self.put_fields(part, &fields);
    }

    /// A field that is unchanged is staged as null and never read.
    fn put_field(&mut self, field: Field<'_>) {
        let field = if field == Field::Unchanged { Field::Null } else { field };
        phusa_protocol::row::put_field(&mut self.rows, field);
    }
}
