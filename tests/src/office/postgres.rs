//! Offices with PostgreSQL: a primary, a hot standby whose tables are changed at its primary, and a
//! primary whose standby takes its place when it is lost.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Change, Office, Row, Way, filling, statements};
use crate::database::{Database, Server, Version};
use crate::process::wait_until_blocking;
use crate::province::Readable;

const WAYS: &[Way] = &[Way::Snapshot, Way::Log, Way::Functions, Way::Watermark, Way::Reconcile];

/// How long a standby may take to have what its primary has.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(30);

impl Office for Database {
    fn ways(&self) -> &'static [Way] {
        WAYS
    }

    fn create(&self, way: Way, rows: &[Row]) {
        make_table(self.server(), Readable::name(self), way.table(), rows);
    }

    fn commit(&self, way: Way, changes: &[Change]) -> bool {
        let statements = statements(way.table(), changes);
        self.server().accepts(Readable::name(self), &format!("begin;{statements}commit"))
    }

    fn lines(&self, way: Way) -> Vec<String> {
        lines(self.server(), Readable::name(self), way.table())
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

    fn bustle(&self) {
        let (server, name) = (self.server(), Readable::name(self));
        // It may be away at this moment.
        if server.accepts(name, BUSTLE) {
            let _ = server.accepts(name, "call bustle()");
        }
    }
}

/// 400 commits in a second, which is more than followers of several tables are to be woken by.
const BUSTLE: &str = "
    create table if not exists bustle (n int not null);
    create or replace procedure bustle() language plpgsql as $$ begin
      set synchronous_commit = off;
      delete from bustle;
      insert into bustle values (0);
      for turn in 1..40 loop
        for part in 1..10 loop update bustle set n = n + 1; commit; end loop;
        perform pg_sleep(0.02);
      end loop;
    end $$";

/// A hot standby that is read, while its primary is written to.
#[derive(Debug)]
pub struct Standby {
    standby: Server,
    primary: Database,
}

impl Standby {
    /// Starts both.
    #[must_use]
    pub fn start(version: Version) -> Self {
        let primary = Arc::new(Server::start(version, "")).database();
        Self { standby: primary.server().standby(), primary }
    }

    /// Waits until the standby has all that its primary has now.
    fn follows(&self) {
        let position = self.primary.psql("select pg_current_wal_lsn()");
        let sql = format!("select pg_last_wal_replay_lsn() >= '{}'", position.trim());
        wait_until_blocking("the standby to follow", FOLLOWS_WITHIN, || {
            self.standby.psql("postgres", &sql).trim() == "t"
        });
    }
}

impl Readable for Standby {
    fn engine(&self) -> &'static str {
        self.primary.engine()
    }

    fn port(&self) -> u16 {
        self.standby.port()
    }

    fn name(&self) -> &str {
        Readable::name(&self.primary)
    }

    fn schema(&self) -> &str {
        self.primary.schema()
    }

    fn make_login(&self, user: &str, password: &str) {
        self.primary.make_login(user, password);
        self.follows();
    }

    fn administer(&self, sql: &str) {
        self.primary.administer(sql);
        self.follows();
    }
}

impl Office for Standby {
    fn ways(&self) -> &'static [Way] {
        WAYS
    }

    fn create(&self, way: Way, rows: &[Row]) {
        self.primary.create(way, rows);
    }

    fn commit(&self, way: Way, changes: &[Change]) -> bool {
        self.primary.commit(way, changes)
    }

    fn lines(&self, way: Way) -> Vec<String> {
        self.primary.lines(way)
    }

    fn stop(&self) {
        self.standby.stop();
    }

    fn resume(&self) {
        self.standby.resume();
    }

    fn kill(&self) {
        self.standby.kill();
    }

    /// A slot on a standby begins where its primary says so, which an idle one does not.
    fn nudge(&self) {
        self.primary.psql("select pg_log_standby_snapshot()");
    }
}

/// A primary that is read and written to, and the standby that takes its place when it is lost. The
/// standby is told of commits after they were confirmed, so the last ones may be lost with the primary.
#[derive(Debug)]
pub struct Pair {
    name: String,
    servers: Mutex<[Arc<Server>; 2]>,
}

impl Pair {
    /// Starts both.
    #[must_use]
    pub fn start(version: Version) -> Self {
        let primary = Arc::new(Server::start(version, ""));
        let name = "thu".to_owned();
        primary.psql("postgres", &format!("create database {name} template template0"));
        let standby = Arc::new(primary.standby());
        Self { name, servers: Mutex::new([primary, standby]) }
    }

    fn primary(&self) -> Arc<Server> {
        let [primary, _] = &*self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(primary)
    }
}

impl Readable for Pair {
    fn engine(&self) -> &'static str {
        "postgresql"
    }

    fn port(&self) -> u16 {
        self.primary().port()
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn schema(&self) -> &'static str {
        "public"
    }

    fn make_login(&self, user: &str, password: &str) {
        let sql = format!("create role {user} login replication password '{password}'");
        self.primary().psql(&self.name, &sql);
    }

    fn administer(&self, sql: &str) {
        self.primary().psql(&self.name, sql);
    }
}

impl Office for Pair {
    fn ways(&self) -> &'static [Way] {
        WAYS
    }

    fn create(&self, way: Way, rows: &[Row]) {
        make_table(&self.primary(), &self.name, way.table(), rows);
    }

    fn commit(&self, way: Way, changes: &[Change]) -> bool {
        let statements = statements(way.table(), changes);
        self.primary().accepts(&self.name, &format!("begin;{statements}commit"))
    }

    fn lines(&self, way: Way) -> Vec<String> {
        lines(&self.primary(), &self.name, way.table())
    }

    fn stop(&self) {
        self.primary().stop();
    }

    fn resume(&self) {
        self.primary().resume();
    }

    fn kill(&self) {
        self.primary().kill();
    }

    fn fail_over(&self) -> bool {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let [lost, next] = &*servers;
        lost.kill();
        next.promote();
        let standby = Arc::new(next.standby());
        *servers = [Arc::clone(next), standby];
        true
    }
}

fn make_table(server: &Server, database: &str, table: &str, rows: &[Row]) {
    let sql = format!(
        "create table {table} (id bigint primary key, nhom int not null, ten text, so bigint)"
    );
    server.psql(database, &sql);
    for insert in filling(table, rows) {
        server.psql(database, &insert);
    }
}

fn lines(server: &Server, database: &str, table: &str) -> Vec<String> {
    let sql = format!("select id, nhom, ten, so from {table} order by id");
    server.psql(database, &sql).lines().map(str::to_owned).collect()
}
