//! `Witness`: looks all the while at a table of the warehouse that is only ever changed as a whole,
//! and notes whatever it sees half.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use phusa_tests::database::connect_with;
use tokio_postgres::Config;
use tokio_util::sync::CancellationToken;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Before the warehouse is asked again after it was away.
const COME_BACK_EVERY: Duration = Duration::from_millis(20);

/// A table of which every row has the same number, one more with each transaction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    pub(crate) dataset: &'static str,
    pub(crate) number: &'static str,
    pub(crate) rows: i64,
}

/// What was seen of it.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) generations: BTreeSet<i64>,
    pub(crate) halves: Vec<String>,
}

/// Who looks at one block.
#[derive(Debug, Clone)]
pub(crate) struct Witness {
    block: Block,
    seen: Arc<Mutex<Seen>>,
}

impl Witness {
    pub(crate) fn of(block: Block) -> Self {
        Self { block, seen: Arc::default() }
    }

    /// How many whole states it saw.
    pub(crate) fn generations(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).generations.len()
    }

    /// What it saw half.
    pub(crate) fn halves(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).halves.clone()
    }

    /// Looks until it is told to stop, whatever happens to the warehouse.
    pub(crate) async fn look(self, warehouse: Config, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.look_while_it_is_there(&warehouse, &stop).await;
            tokio::time::sleep(COME_BACK_EVERY).await;
        }
    }

    /// Only a consistent dataset promises whole transactions.
    async fn look_while_it_is_there(&self, warehouse: &Config, stop: &CancellationToken) {
        let Ok(client) = connect_with(warehouse).await else { return };
        let Block { dataset, number, .. } = self.block;
        let sql = format!(
            "select min({number})::int8, max({number})::int8, count(*),
                    (select bool_and(consistent_at is not null) from phusa.streams
                     where dataset = '{dataset}')
             from {dataset}"
        );
        let mut newest = i64::MIN;
        while !stop.is_cancelled() {
            let Ok(row) = client.query_one(&sql, &[]).await else { return };
            let (Some(first), Some(last), rows, Some(true)) = (
                row.get::<_, Option<i64>>(0),
                row.get::<_, Option<i64>>(1),
                row.get::<_, i64>(2),
                row.get::<_, Option<bool>>(3),
            ) else {
                continue;
            };
            self.note(first..=last, rows, newest);
            newest = last;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn note(&self, generations: RangeInclusive<i64>, rows: i64, newest: i64) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, last) = (*generations.start(), *generations.end());
        if first != last || rows != self.block.rows || first < newest {
            let half = format!("{rows} rows of {first} to {last} after {newest}");
            let is_new = seen.halves.last() != Some(&half);
            seen.halves.extend(is_new.then_some(half));
        }
        seen.generations.insert(last);
    }
}
