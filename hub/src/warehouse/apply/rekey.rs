//! A record whose key changed keeps its row, its `_record` and the fields that did not change.
//!
//! In a live stream, a row that already stands at the new key belongs to a record that will move
//! on or go within the same source transaction (keys may be swapped there): it is parked, and a
//! later change of that key takes it from where it is parked. What is still parked at the commit
//! was replaced. While a stream settles, a row at the new key is this very record, read later.

use std::error::Error as StdError;

use bytes::BytesMut;
use deadpool_postgres::Transaction;
use phusa_protocol::batch::Phase;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::row::Tuple;
use phusa_protocol::value::Field;
use postgres_types::{Format, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::Error;

use super::merge::{lost_record, stamp_assignments};
use super::{Delivery, Stamp};
use crate::warehouse::compact::unchanged;
use crate::warehouse::tables::Shape;

/// Takes the record at the key `old` to the row `new`.
pub(super) async fn rekey(
    tx: &Transaction<'_>,
    delivery: &Delivery<'_>,
    stamp: &Stamp<'_>,
    (old, new): (&[u8], &[u8]),
) -> Result<(), Fault> {
    let fault = |error| delivery.fault(&error);
    let shape = delivery.shape;
    let (old, new) = (fields(old)?, fields(new)?);
    let target: Vec<_> = shape.key().iter().filter_map(|&i| new.get(i).copied()).collect();
    let moved = Move { tx, shape, stamp, new: &new };
    let is_done = if delivery.phase == Phase::Live {
        moved.park(&target).await.map_err(fault)?;
        moved.unpark(&old).await.map_err(fault)? || moved.change(&old).await.map_err(fault)?
    } else if moved.change(&target).await.map_err(fault)? {
        moved.remove(&old).await.map_err(fault)?;
        true
    } else {
        moved.change(&old).await.map_err(fault)?
    };
    match (is_done, moved.is_whole(), delivery.phase) {
        (true, _, _) => Ok(()),
        (false, true, _) => moved.insert().await.map_err(fault),
        (false, false, Phase::Live) => Err(lost_record(shape)),
        (false, false, _) => Ok(()),
    }
}

/// One change of key under way; each of its methods is one statement.
#[derive(Debug)]
struct Move<'a> {
    tx: &'a Transaction<'a>,
    shape: &'a Shape,
    stamp: &'a Stamp<'a>,
    new: &'a [Field<'a>],
}

impl Move<'_> {
    fn is_whole(&self) -> bool {
        unchanged(self.new).is_empty()
    }

    /// Puts the row at the key `target`, if there is one, aside.
    async fn park(&self, target: &[Field<'_>]) -> Result<(), Error> {
        let (table, parked) = (self.shape.table(), self.parked());
        self.tx
            .batch_execute(&format!(
                "create temporary table if not exists {parked} (like {table}) on commit delete rows"
            ))
            .await?;
        let sql = format!(
            "with gone as (delete from {table} as t where {at} returning t.*) \
             insert into {parked} select * from gone",
            at = self.at(1),
        );
        self.execute(&sql, target.iter().copied()).await.map(drop)
    }

    /// Brings a parked row back as the new one.
    async fn unpark(&self, old: &[Field<'_>]) -> Result<bool, Error> {
        let key_count = self.shape.key().len();
        let sql = format!(
            "with t as (delete from {parked} as t where {at} returning t.*) \
             insert into {table} ({columns}, _record, _version, _agency, _source_time, _transfer) \
             select {values}, t._record, $1, $2, greatest(t._source_time, $3), $1 from t",
            parked = self.parked(),
            at = self.at(4),
            table = self.shape.table(),
            columns = self.shape.column_list(""),
            values = self.values(4 + key_count),
        );
        Ok(self.execute_stamped(&sql, old).await? > 0)
    }

    /// Changes the row at `key` to the new one, where it is.
    async fn change(&self, key: &[Field<'_>]) -> Result<bool, Error> {
        let sql = format!(
            "update {table} as t set ({columns}) = row({values}), {stamps} where {at}",
            table = self.shape.table(),
            columns = self.shape.column_list(""),
            values = self.values(4 + self.shape.key().len()),
            stamps = stamp_assignments("$1", "$2", "$3"),
            at = self.at(4),
        );
        Ok(self.execute_stamped(&sql, key).await? > 0)
    }

    async fn remove(&self, key: &[Field<'_>]) -> Result<(), Error> {
        let sql = format!("delete from {} as t where {}", self.shape.table(), self.at(1));
        self.execute(&sql, key.iter().copied()).await.map(drop)
    }

    /// Writes the new row where there is none.
    async fn insert(&self) -> Result<(), Error> {
        let sql = format!(
            "insert into {table} ({columns}, _version, _agency, _source_time, _transfer) \
             values ({values}, $1, $2, $3, $1)",
            table = self.shape.table(),
            columns = self.shape.column_list(""),
            values = self.values(4),
        );
        self.execute_stamped(&sql, &[]).await.map(drop)
    }

    fn parked(&self) -> String {
        format!("pg_temp.parked_{}", self.shape.tag())
    }

    /// `t` stands at the key that is given in the parameters from `first` on.
    fn at(&self, first: usize) -> String {
        let conditions = self.shape.key_columns().enumerate();
        let conditions = conditions.map(|(i, c)| format!("t.{} = ${}", c.name, first + i));
        conditions.collect::<Vec<_>>().join(" and ")
    }

    /// The carried values as parameters from `first` on, and the unchanged ones as `t` has them.
    fn values(&self, first: usize) -> String {
        let mut next = first;
        let value = |(column, field): (&crate::warehouse::tables::Column, &Field<'_>)| {
            if *field == Field::Unchanged {
                return format!("t.{}", column.name);
            }
            next += 1;
            format!("${}::{}", next - 1, column.kind)
        };
        self.shape.columns().iter().zip(self.new).map(value).collect::<Vec<_>>().join(", ")
    }

    /// Runs `sql` with stamp, `key` and the carried values as its parameters.
    async fn execute_stamped(&self, sql: &str, key: &[Field<'_>]) -> Result<u64, Error> {
        let statement = self.tx.prepare(sql).await?;
        let carried = self.new.iter().filter(|field| **field != Field::Unchanged);
        let raw: Vec<_> = key.iter().chain(carried).map(|field| Raw(*field)).collect();
        let mut parameters = self.stamp.parameters().to_vec();
        parameters.extend(raw.iter().map(|field| field as &(dyn ToSql + Sync)));
        self.tx.execute(&statement, &parameters).await
    }

    async fn execute<'f>(
        &self,
        sql: &str,
        key: impl Iterator<Item = Field<'f>>,
    ) -> Result<u64, Error> {
        let statement = self.tx.prepare_cached(sql).await?;
        let raw: Vec<_> = key.map(Raw).collect();
        let parameters: Vec<_> = raw.iter().map(|field| field as &(dyn ToSql + Sync)).collect();
        self.tx.execute(&statement, &parameters).await
    }
}

fn fields(tuple: &[u8]) -> Result<Vec<Field<'_>>, Fault> {
    let mut rest = tuple;
    let tuple = Tuple::take(&mut rest)
        .map_err(|error| Fault::because(Code::Bug, "cannot read a staged change of key", error))?;
    Ok(tuple.fields().collect())
}

/// A field whose bytes are already what PostgreSQL's receive function wants.
#[derive(Debug)]
struct Raw<'a>(Field<'a>);

impl ToSql for Raw<'_> {
    fn to_sql(
        &self,
        _type: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match self.0 {
            Field::Value(bytes) => {
                out.extend_from_slice(bytes);
                Ok(IsNull::No)
            }
            Field::Null | Field::Unchanged => Ok(IsNull::Yes),
        }
    }

    fn accepts(_type: &Type) -> bool {
        true
    }

    fn encode_format(&self, _type: &Type) -> Format {
        Format::Binary
    }

    to_sql_checked!();
}
