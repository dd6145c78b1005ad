//! Offices with MySQL or MariaDB: a primary, and a replica whose tables are changed at its primary.

use std::sync::Arc;
use std::time::Duration;

use super::{Change, Office, Row, Way, filling, statements};
use crate::mysql::{Flavour, MySqlDatabase, MySqlServer};
use crate::process::wait_until_blocking;
use crate::province::Readable;

const WAYS: &[Way] = &[Way::Snapshot, Way::Log, Way::Watermark, Way::Reconcile];

/// How long a replica may take to have what its primary has.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(30);

/// Which column tells when a row was written must be said.
fn rules(way: Way) -> Vec<String> {
    let plain = way.rules();
    match way {
        Way::Watermark => vec![format!("{plain}\nwatermark_column = \"sua_luc\""), plain],
        _ => vec![plain],
    }
}

impl Office for MySqlDatabase {
    fn ways(&self) -> &'static [Way] {
        WAYS
    }

    fn rules(&self, way: Way) -> Vec<String> {
        rules(way)
    }

    fn create(&self, way: Way, rows: &[Row]) {
        let table = way.table();
        self.sql(&format!(
            "create table {table} (id bigint primary key, nhom int not null, ten varchar(200), \
             so bigint, sua_luc timestamp(6) not null default current_timestamp(6) \
             on update current_timestamp(6), key (sua_luc))"
        ));
        for insert in filling(table, rows) {
            self.sql(&insert);
        }
    }

    fn commit(&self, way: Way, changes: &[Change]) -> bool {
        let statements = statements(way.table(), changes);
        self.server().accepts(self.name(), &format!("begin;{statements}commit"))
    }

    fn lines(&self, way: Way) -> Vec<String> {
        let table = way.table();
        let rows =
            self.sql(&format!("select concat_ws('|', id, nhom, ten, so) from {table} order by id"));
        rows.lines().map(str::to_owned).collect()
    }

    fn stop(&self) {
        self.server().stop();
    }

    fn resume(&self) {
        self.server().resume();
    }

    fn kill(&self) {
        self.server().kill();
    }
}

/// A replica that is read, while its primary is written to.
#[derive(Debug)]
pub struct Replica {
    replica: MySqlDatabase,
    primary: MySqlDatabase,
}

impl Replica {
    /// Starts both.
    ///
    /// # Panics
    /// When one does not come up.
    #[must_use]
    pub fn start(flavour: Flavour) -> Self {
        let primary = Arc::new(MySqlServer::start(flavour, ""));
        let replica = Arc::new(primary.replica());
        let primary = primary.database();
        let replica = replica.database_named(primary.name());
        let both = Self { replica, primary };
        both.follows();
        both
    }

    /// Waits until the replica has all that its primary has now.
    fn follows(&self) {
        let position = self.primary.server().sql("", "select @@gtid_binlog_pos");
        let sql = format!("select master_gtid_wait('{}', 1)", position.trim());
        wait_until_blocking("the replica to follow", FOLLOWS_WITHIN, || {
            self.replica.server().sql("", &sql).trim() == "0"
        });
    }
}

impl Readable for Replica {
    fn engine(&self) -> &'static str {
        self.replica.engine()
    }

    fn port(&self) -> u16 {
        self.replica.port()
    }

    fn name(&self) -> &str {
        self.replica.name()
    }

    fn schema(&self) -> &str {
        self.replica.schema()
    }

    fn make_login(&self, user: &str, password: &str) {
        self.replica.make_login(user, password);
    }

    fn administer(&self, sql: &str) {
        self.replica.administer(sql);
    }
}

impl Office for Replica {
    fn ways(&self) -> &'static [Way] {
        WAYS
    }

    fn rules(&self, way: Way) -> Vec<String> {
        rules(way)
    }

    fn create(&self, way: Way, rows: &[Row]) {
        self.primary.create(way, rows);
        self.follows();
    }

    fn commit(&self, way: Way, changes: &[Change]) -> bool {
        self.primary.commit(way, changes)
    }

    fn lines(&self, way: Way) -> Vec<String> {
        self.primary.lines(way)
    }

    fn stop(&self) {
        self.replica.stop();
    }

    fn resume(&self) {
        self.replica.resume();
    }

    fn kill(&self) {
        self.replica.kill();
    }
}
