//! What is written to a source while it is read.

use tokio_postgres::Client;

/// Random writes to a table `t (a, b, name, big, n)`, the same for every seed.
pub(super) struct Writer {
    pub(super) client: Client,
    pub(super) table: &'static str,
    pub(super) state: u64,
}

impl Writer {
    pub(super) fn next(&mut self, below: u64) -> u64 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.state >> 33) % below
    }

    pub(super) async fn write(&mut self, count: usize) {
        for step in 0..count {
            let (row, other, table) = (self.next(6_000), self.next(1 << 40), self.table);
            let statement = match self.next(6) {
                0 => format!(
                    "insert into {table} (id, name, big) values ({other} + 100000, 'mới {step}', repeat('y', 3000)) on conflict do nothing"
                ),
                1 => format!("delete from {table} where id = {row}"),
                2 => format!("update {table} set id = id + 1000000000000 where id = {row}"),
                3 => format!(
                    "begin; update {table} set name = 'bỏ' where id = {row}; savepoint s; delete from {table} where id < {row}; rollback to s; commit"
                ),
                4 => format!("update {table} set big = repeat('z', 4000) where id = {row}"),
                _ => format!(
                    "update {table} set n = n + 1, name = null where id between {row} and {row} + 20"
                ),
            };
            self.client.batch_execute(&statement).await.unwrap();
        }
    }
}

pub(super) async fn fill(admin: &Client, table: &str, key: &str) {
    admin
        .batch_execute(&format!(
            "create table {table} (id bigint not null, ward text not null default 'Phường ''1', \
             name text, big text, n numeric default 1.50, secret text default 'canary'); \
             alter table {table} alter big set storage external, add primary key ({key}); \
             insert into {table} (id, name, big) select i, 'tên ' || i, repeat('x', 2500) \
             from generate_series(1, 6000) i; analyze {table}"
        ))
        .await
        .unwrap();
}

pub(super) const COLUMNS: [&str; 5] = ["n", "id", "ward", "big", "name"];
