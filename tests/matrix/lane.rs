//! `Lane`: one server with a table for each way of following it, one agent, one hub; every event
//! happens first while a table is read for the first time and then while the others are followed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use phusa_tests::office::{Change, Followed, Office, Way, share};
use phusa_tests::province::ARRIVES_WITHIN;
use phusa_tests::world::{AGENCY, World};
use tokio_postgres::Client;

use crate::event::Event;
use crate::table::{Cell, Line};

/// Batches so small that every event has several.
const SETTINGS: &str = "[guard]\nchunk_rows = 100\nreconcile_interval = \"300ms\"\n\
                        watermark_interval = \"200ms\"\nrows_per_second_max = 160\n\n\
                        [batch]\nbatch_rows_max = 100\nbatch_linger = \"10ms\"\n";

/// The full read is held back, so that every event finds it under way.
const SLOW: &str = "rows_per_second_max = 160\n";

/// Rows of the table whose full read is looked at, and of the others.
const READ_ROWS: i64 = 4_000;
const FOLLOWED_ROWS: i64 = 600;

/// How long changes may take to be in the warehouse.
const SAME_WITHIN: Duration = Duration::from_secs(60);

/// How often the warehouse is asked meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How many looks lie between two nudges of an idle server.
const NUDGE_EVERY: u32 = 25;

/// Goes through every event on one server; a line for each way.
pub(crate) fn run<O: Office>(place: &str, office: O) -> Vec<Line> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_all().build().expect("a runtime");
    let began = Instant::now();
    let lines = runtime.block_on(Lane::goes(place, office));
    println!("{place}: {:.0} s", began.elapsed().as_secs_f64());
    lines
}

/// A way that the server goes, and what came of each event.
struct Column {
    followed: Followed,
    cells: Vec<Cell>,
}

struct Lane<O> {
    world: World<O>,
    warehouse: Client,
    /// The first is the one whose full read is looked at.
    columns: Vec<Column>,
}

impl<O: Office> Lane<O> {
    async fn goes(place: &str, office: O) -> Vec<Line> {
        let mut lane = {
            let world = World::around(office);
            let warehouse = world.warehouse.connect().await;
            Self { world, warehouse, columns: Vec::new() }
        };
        let mut lines = lane.prepare(place);
        lane.world.start();
        lane.read_meanwhile().await;
        lane.follow().await;
        for Column { followed, cells } in &lane.columns {
            let end = lane.end(followed.way).await;
            let (place, way) = (place.to_owned(), followed.way.name().to_owned());
            lines.push(Line { place, way, cells: cells.clone(), end });
        }
        let order: Vec<_> = lane.world.source.ways().iter().map(|way| way.name()).collect();
        lines.sort_by_key(|line| order.iter().position(|name| *name == line.way));
        lane.world.province.verify_log();
        assert!(lane.world.province.agent_process(AGENCY).stop().success());
        lines
    }

    /// Makes the tables and the agent's files; ways that the agent refuses here are lines already.
    fn prepare(&mut self, place: &str) -> Vec<Line> {
        let office = &self.world.source;
        for &way in office.ways() {
            let rows = if way == Way::Snapshot { READ_ROWS } else { FOLLOWED_ROWS };
            office.create(way, &Event::rows(rows));
        }
        let shared = share(&mut self.world.province, office, SETTINGS);
        let column = |followed| Column { followed, cells: Vec::new() };
        self.columns = shared.followed.into_iter().map(column).collect();
        let refused = shared.refused.into_iter();
        refused.map(|(way, why)| Line::impossible(place, way.name(), why)).collect()
    }

    /// Every event while the one table is read, and then the rest of the read.
    async fn read_meanwhile(&mut self) {
        let way = Way::Snapshot;
        let mut missed = Vec::new();
        // What stops and starts takes long; the agent comes back without the brake.
        let last = [Event::Restart, Event::HubCrash, Event::AgentCrash];
        let order = Event::ALL.into_iter().filter(|event| !last.contains(event)).chain(last);
        for (step, event) in (1..).zip(order) {
            self.wait_until_read(step * READ_ROWS / 20).await;
            let [before, after] = event.changes(READ_ROWS, true);
            self.commit(way, &before);
            if event == Event::AgentCrash {
                self.world.province.agent_process(AGENCY).kill();
                self.world.edit("agent.toml", SLOW, "");
            } else {
                self.breaks(event).await;
            }
            self.commit(way, &after);
            if self.is_read().await {
                missed.push(event);
            }
            self.goes_on(event);
        }
        self.wait_until_consistent().await;
        for event in Event::ALL {
            let mut cells = self.become_same(event, &[(0, Vec::new())]).await;
            let cell = cells.pop().expect("a cell");
            let late = || Cell::Failed("the read was over before it happened".to_owned());
            self.columns[0].cells.push(if missed.contains(&event) { late() } else { cell });
        }
    }

    /// Every event while the other tables are followed.
    async fn follow(&mut self) {
        for event in Event::ALL {
            let mut waiting = Vec::new();
            let mut afterwards = Vec::new();
            for at in 1..self.columns.len() {
                let Followed { way, sees_deletes } = self.columns[at].followed;
                if event.is_deletion() && !sees_deletes {
                    let why = "this way does not see deletes here, as `check` says".to_owned();
                    self.columns[at].cells.push(Cell::Impossible(why));
                    continue;
                }
                let [before, after] = event.changes(FOLLOWED_ROWS, sees_deletes);
                waiting.push((at, self.lines(way, event)));
                self.commit(way, &before);
                afterwards.push((way, after));
            }
            self.breaks(event).await;
            for (way, after) in afterwards {
                self.commit(way, &after);
            }
            self.goes_on(event);
            let cells = self.become_same(event, &waiting).await;
            for ((at, _), cell) in waiting.into_iter().zip(cells) {
                self.columns[at].cells.push(cell);
            }
        }
    }

    /// Kills or stops what the event is about, in the middle of changes.
    async fn breaks(&mut self, event: Event) {
        match event {
            Event::AgentCrash | Event::HubCrash => {
                self.wait_until_under_way().await;
                let province = &mut self.world.province;
                match event {
                    Event::HubCrash => province.hub_process().kill(),
                    _ => province.agent_process(AGENCY).kill(),
                }
            }
            Event::Restart => {
                self.world.source.stop();
                self.world.source.resume();
            }
            _ => {}
        }
    }

    /// Starts what was killed.
    fn goes_on(&mut self, event: Event) {
        match event {
            Event::AgentCrash => self.world.start_agent(),
            Event::HubCrash => self.world.province.start_hub_with(&[]),
            _ => {}
        }
    }

    fn commit(&self, way: Way, changes: &[Change]) {
        if !changes.is_empty() {
            assert!(self.world.source.commit(way, changes), "{} was not changed", way.table());
        }
    }

    /// The rows of an event's part as the source has them.
    fn lines(&self, way: Way, event: Event) -> Vec<String> {
        let part = event.part().to_string();
        let lines = self.world.source.lines(way).into_iter();
        lines.filter(|line| line.split('|').nth(1) == Some(&part)).collect()
    }

    /// The same as the warehouse has them.
    async fn arrived(&self, way: Way, event: Event) -> Vec<String> {
        let sql = format!(
            "select concat_ws('|', id, nhom, ten, so) from thu.{} where nhom = {} order by id",
            way.table(),
            event.part()
        );
        let rows = self.warehouse.query(&sql, &[]).await.expect("the warehouse's rows");
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Waits until the warehouse has what the source has; of a transaction in the log, all or
    /// nothing is seen. `waiting` is where a way stands, and the rows before the event.
    async fn become_same(&self, event: Event, waiting: &[(usize, Vec<String>)]) -> Vec<Cell> {
        let began = Instant::now();
        let expected: BTreeMap<usize, Vec<String>> = waiting
            .iter()
            .map(|(at, _)| (*at, self.lines(self.columns[*at].followed.way, event)))
            .collect();
        let mut cells: BTreeMap<usize, Cell> = BTreeMap::new();
        while cells.len() < waiting.len() {
            let late = began.elapsed() > SAME_WITHIN;
            for (at, before) in
                waiting.iter().filter(|(at, _)| !cells.contains_key(at)).collect::<Vec<_>>()
            {
                let (way, wanted) = (self.columns[*at].followed.way, &expected[at]);
                let found = self.arrived(way, event).await;
                let is_whole = matches!(way, Way::Log | Way::Functions | Way::Captured);
                if found == *wanted {
                    cells.insert(*at, Cell::Same(found.len()));
                } else if event == Event::Large && is_whole && found != *before {
                    let what = "half of a transaction was visible".to_owned();
                    cells.insert(*at, Cell::Failed(what));
                } else if late {
                    let what = format!(
                        "{} records and not the {} of the source",
                        found.len(),
                        wanted.len()
                    );
                    cells.insert(*at, Cell::Failed(what));
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        cells.into_values().collect()
    }

    async fn wait_until_read(&self, rows: i64) {
        let table = Way::Snapshot.table();
        self.wait(&format!("{rows} rows to be read"), async || {
            i64::try_from(self.world.carried(table, "snapshot")).is_ok_and(|read| read >= rows)
        })
        .await;
    }

    /// Whether the full read is over.
    async fn is_read(&self) -> bool {
        let table = Way::Snapshot.table();
        i64::try_from(self.world.carried(table, "snapshot")).is_ok_and(|read| read >= READ_ROWS)
    }

    async fn wait_until_consistent(&self) {
        let sql = "select count(*) from phusa.streams where consistent_at is not null";
        let count = i64::try_from(self.columns.len()).expect("a few ways");
        self.wait("every table to be consistent", async || {
            let rows = self.warehouse.query_one(sql, &[]).await;
            rows.is_ok_and(|row| row.get::<_, i64>(0) == count)
        })
        .await;
    }

    /// Waits until a batch more is at the hub, or there was time enough for all of them.
    async fn wait_until_under_way(&self) {
        let sql = "select count(*) from phusa.transfers where kind = 'push'";
        let count =
            async || self.warehouse.query_one(sql, &[]).await.map_or(0, |row| row.get::<_, i64>(0));
        let (before, began) = (count().await, Instant::now());
        while count().await == before && began.elapsed() < Duration::from_secs(3) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn wait(&self, what: &str, mut condition: impl AsyncFnMut() -> bool) {
        let (began, mut looks) = (Instant::now(), 0_u32);
        while !condition().await {
            assert!(began.elapsed() < ARRIVES_WITHIN, "waited in vain for {what}");
            if looks % NUDGE_EVERY == 0 {
                self.world.source.nudge();
            }
            looks += 1;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The whole table of a way, by the digests that `verify` takes; and whether it was read anew.
    async fn end(&self, way: Way) -> Cell {
        let dataset = format!("thu.{}", way.table());
        let epoch = self.world.epoch(way.table());
        if epoch != 1 {
            return Cell::Failed(format!("it was read anew: epoch {epoch}"));
        }
        let began = Instant::now();
        loop {
            match self.world.province.both_ends(AGENCY, &dataset) {
                [Some(source), Some(warehouse)] if source == warehouse => {
                    return Cell::Same(usize::try_from(source.rows).unwrap_or(usize::MAX));
                }
                ends if began.elapsed() > SAME_WITHIN => {
                    return Cell::Failed(format!("digests differ: {ends:?}"));
                }
                _ => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }
}
