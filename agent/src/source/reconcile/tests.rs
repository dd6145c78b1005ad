//! A table that changes while it is compared, a server that breaks off, and an agent that ends at
//! any moment, all from one seed, against the hub's rule for what may come when.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use phusa_protocol::batch::Phase;
use phusa_protocol::change::{Change, runs};
use phusa_protocol::ids::Epoch;
use phusa_protocol::row::{Tuple, begin_tuple, put_field};
use phusa_protocol::value::Field;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::source::{Block, Column, Native, Resume};

/// Seeds of one run of the test; `PHUSA_SEED` runs one of them alone.
const SEEDS: u64 = 150;

/// How often the agent ends in one day.
const LIVES: u64 = 25;

/// How far a look goes back beyond its mark, in rows written.
const OVERLAP: u64 = 6;

/// Rows are known by one of so many keys.
const KEYS: u64 = 40;

/// Numbers that depend on nothing but a seed (`SplitMix64`).
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

/// The agency's table, and what befalls it.
#[derive(Debug)]
struct Office {
    random: Random,
    /// By key: a number, and when it was written.
    rows: BTreeMap<u64, (u64, u64)>,
    written: u64,
    /// Whether anything changes or breaks any more.
    busy: bool,
}

impl Office {
    fn new(seed: u64) -> Self {
        let rows = (1..=KEYS).filter(|key| key % 3 > 0).map(|key| (key, (0, 0))).collect();
        Self { random: Random(seed), rows, written: 0, busy: true }
    }

    /// Some rows are written, some removed; a few values are there again and again.
    fn work(&mut self) {
        if !self.busy || self.random.one_in(2) {
            return;
        }
        for _ in 0..self.random.below(20) {
            let key = 1 + self.random.below(KEYS);
            if self.random.one_in(2) {
                self.rows.remove(&key);
            } else {
                self.written += 1;
                self.rows.insert(key, (self.random.below(2), self.written));
            }
        }
    }

    fn breaks_off(&mut self) -> bool {
        self.busy && self.random.one_in(12)
    }
}

fn tuple(key: u64, number: u64) -> Bytes {
    let mut row = Vec::new();
    begin_tuple(&mut row, 2);
    put_field(&mut row, Field::Value(&key.to_be_bytes()));
    put_field(&mut row, Field::Value(&number.to_be_bytes()));
    Bytes::from(row)
}

/// The table as an engine reads it.
#[derive(Debug, Clone)]
struct Desk(Arc<Mutex<Office>>);

impl Desk {
    fn office(&self) -> MutexGuard<'_, Office> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn hand_over(&self, found: Vec<Bytes>, rows: &Rows) -> Result<(), Fault> {
        for row in found {
            if self.office().breaks_off() {
                return Err(Fault::new(Code::SourceUnreachable, "the server is gone"));
            }
            if !rows.take(row).await {
                break;
            }
        }
        self.office().work();
        Ok(())
    }
}

impl KeyOrder for Desk {
    async fn identify(&mut self) -> Result<String, Fault> {
        Ok("two columns".to_owned())
    }

    async fn read(&mut self, range: &Range, rows: Rows) -> Result<(), Fault> {
        let bound = |text: &Option<KeyText>, open| {
            text.as_ref().and_then(|parts| parts.first()?.parse().ok()).unwrap_or(open)
        };
        let (after, upto): (u64, u64) = (bound(&range.after, 0), bound(&range.upto, u64::MAX));
        let rows_max = usize::try_from(range.rows_max).unwrap();
        let within = (Bound::Excluded(after), Bound::Included(upto));
        let found = |office: &Office| {
            let rows = office.rows.range(within).take(rows_max);
            rows.map(|(key, row)| tuple(*key, row.0)).collect()
        };
        let found = found(&self.office());
        self.hand_over(found, &rows).await
    }

    async fn answers(&mut self) -> Result<(), Fault> {
        Ok(())
    }

    async fn work(&mut self) -> Result<Option<Work>, Fault> {
        Ok(None)
    }

    async fn text_of(&mut self, key: &[Vec<u8>]) -> Result<KeyText, Fault> {
        let number = |part: &Vec<u8>| u64::from_be_bytes(part.as_slice().try_into().unwrap());
        Ok(key.iter().map(|part| number(part).to_string()).collect())
    }

    async fn written_since(
        &mut self,
        mark: Option<&str>,
        rows: Rows,
    ) -> Result<Option<String>, Fault> {
        let (next, found) = {
            let mut office = self.office();
            if office.busy && office.random.one_in(4) {
                return Ok(None);
            }
            let mark = mark.map_or(u64::MAX, |mark| mark.parse().unwrap());
            let since = mark.saturating_sub(OVERLAP);
            let written = office.rows.iter().filter(|(_, row)| row.1 > since);
            let found = written.map(|(key, row)| tuple(*key, row.0)).collect();
            (office.written.to_string(), found)
        };
        self.hand_over(found, &rows).await?;
        Ok(Some(next))
    }
}

/// The warehouse, by the hub's rules for a dataset with a key.
#[derive(Debug)]
struct Warehouse {
    seed: u64,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    is_read: bool,
}

impl Warehouse {
    fn new(seed: u64) -> Self {
        Self { seed, rows: BTreeMap::new(), is_read: false }
    }

    fn take(&mut self, block: &Block) {
        let seed = self.seed;
        let key = |tuple: &Tuple<'_>| match tuple.fields().next() {
            Some(Field::Value(bytes)) => bytes.to_vec(),
            Some(_) | None => panic!("a row without a key"),
        };
        let known = |tuple: &Tuple<'_>| tuple.as_bytes().to_vec();
        let all = runs(&block.body).flat_map(|run| run.unwrap().changes());
        for change in all.map(Result::unwrap) {
            match change {
                Change::Snapshot(row) => {
                    assert!(!self.is_read, "seed {seed}: a row of the full read after its end");
                    let before = self.rows.insert(key(&row), known(&row));
                    assert!(before.is_none(), "seed {seed}: read twice");
                }
                Change::Insert(row) => {
                    assert_eq!(block.phase, Phase::Live);
                    let before = self.rows.insert(key(&row), known(&row));
                    assert!(before.is_none(), "seed {seed}: came into being twice");
                }
                Change::Update(row) => {
                    assert_eq!(block.phase, Phase::Live);
                    self.rows.insert(key(&row), known(&row));
                }
                Change::Delete(row) => {
                    assert_eq!(block.phase, Phase::Live);
                    let before = self.rows.remove(&key(&row));
                    assert!(before.is_some(), "seed {seed}: removed twice");
                }
                Change::Truncate | Change::Rekey { .. } => panic!("no comparison tells this"),
            }
        }
        self.is_read |= block.phase == Phase::ReadEnd;
    }
}

/// The rows that a block brings after the full read.
fn written(block: &Block) -> Vec<Vec<u8>> {
    let all = runs(&block.body).flat_map(|run| run.unwrap().changes());
    let row = |change| match change {
        Change::Insert(row) | Change::Update(row) => Some(row.as_bytes().to_vec()),
        Change::Snapshot(_) | Change::Delete(_) | Change::Truncate | Change::Rekey { .. } => None,
    };
    all.map(Result::unwrap).filter_map(row).collect()
}

fn job(folder: &std::path::Path, watermark: bool) -> Job {
    let column = |name: &str| Column {
        name: name.to_owned(),
        type_name: "bigint".to_owned(),
        native: Native::Int8,
        nullable: false,
    };
    Job {
        dataset: DatasetId::new("thu.dan").unwrap(),
        table: "thu.dan".to_owned(),
        keep: Keep::new(folder.to_owned(), [7; 32]),
        columns: Arc::new([column("id"), column("so")]),
        key: vec![0],
        walk: vec![0],
        watermark,
        limits: Limits { rows_max: 3, ..Limits::default() },
        guard: Guard {
            chunk_rows: 5,
            reconcile_interval: Duration::from_millis(6),
            watermark_interval: Duration::from_millis(1),
            ..Guard::default()
        },
        rows_estimated: 0,
    }
}

/// Lives of the agent, one after the other, until the table is at rest; then both are the same.
async fn live_a_day(seed: u64) {
    // In memory where there is such a folder: the index waits for the disk at every step.
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let desk = Desk(Arc::new(Mutex::new(Office::new(seed))));
    let (mut warehouse, mut resume) = (Warehouse::new(seed), None::<Resume>);
    for life in 0..=LIVES {
        let at_rest = life == LIVES;
        desk.office().busy = !at_rest;
        desk.office().work();
        let (blocks, mut taken) = mpsc::channel(1);
        let (durable, seen) = watch::channel(0);
        let (progress, mut shown) = watch::channel(Progress::default());
        let mut sent = BTreeSet::new();
        let intake = Intake { blocks, durable: seen, progress, stop: CancellationToken::new() };
        let start = Start { epoch: Epoch(1), resume: resume.clone() };
        let read = follow(desk.clone(), job(folder.path(), seed.is_multiple_of(2)), start, intake);
        // Until the agent is killed with what was not durable, or both ends are at rest.
        let receive = async {
            while let Some(block) = taken.recv().await {
                if !at_rest && desk.office().random.one_in(25) {
                    break;
                }
                if at_rest {
                    for row in written(&block) {
                        assert!(
                            sent.insert(row),
                            "seed {seed}: sent again, though nothing changed"
                        );
                    }
                }
                warehouse.take(&block);
                resume = Some(block.resume.clone());
                durable.send_replace(block.number);
                if !at_rest && desk.office().random.one_in(25) {
                    break;
                }
            }
        };
        let rest = async {
            let ended = shown.wait_for(|progress| at_rest && progress.passes >= Some(3)).await;
            assert!(ended.is_ok(), "the comparison ended by itself");
        };
        tokio::select! {
            ended = read => {
                let fault = ended.expect_err("it reads for ever");
                assert_eq!(fault.code, Code::SourceUnreachable, "seed {seed}: {}", fault.chain());
            }
            () = receive => {}
            () = rest, if at_rest => {}
        }
    }
    let rows = desk.office().rows.clone();
    let wanted =
        rows.iter().map(|(key, row)| (key.to_be_bytes().to_vec(), tuple(*key, row.0).to_vec()));
    assert_eq!(warehouse.rows, wanted.collect(), "seed {seed}");
    assert!(warehouse.is_read, "seed {seed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn whatever_changes_or_breaks_every_difference_is_told_once() {
    let given = std::env::var("PHUSA_SEED").ok().and_then(|text| text.parse().ok());
    let seeds = given.map_or(0..SEEDS, |seed| seed..seed + 1);
    for seed in seeds {
        live_a_day(seed).await;
    }
}
