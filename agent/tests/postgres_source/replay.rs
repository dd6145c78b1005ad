//! A dataset captured, stopped and captured again, and what a warehouse would hold of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use phusa_agent::source::postgres::{PostgresSource, Settings};
use phusa_agent::source::{
    Block, Capture, Intake, Progress, Resume, Selection, Source as _, Start,
};
use phusa_protocol::batch::Phase;
use phusa_protocol::change::{Change, Op, runs};
use phusa_protocol::fault::Fault;
use phusa_protocol::ids::{DatasetId, Epoch};
use phusa_protocol::row::Tuple;
use phusa_protocol::value::Field;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use crate::server::{admin_of, wait_for_slots};

pub(super) type Key = Vec<Vec<u8>>;
pub(super) type Row = Vec<Option<Vec<u8>>>;

/// What a warehouse would hold.
#[derive(Default, Clone, PartialEq)]
pub(super) struct Model {
    pub(super) rows: BTreeMap<Key, Row>,
}

impl Model {
    pub(super) fn apply(&mut self, key: &[usize], body: &[u8]) {
        for run in runs(body) {
            for change in run.unwrap().changes() {
                self.change(key, change.unwrap());
            }
        }
    }

    pub(super) fn change(&mut self, key: &[usize], change: Change<'_>) {
        match change {
            Change::Snapshot(new) | Change::Insert(new) | Change::Update(new) => {
                self.put(None, key, new);
            }
            Change::Delete(old) => {
                self.rows.remove(&key_fields(old));
            }
            Change::Truncate => self.rows.clear(),
            Change::Rekey { old, new } => {
                let old = self.rows.remove(&key_fields(old));
                self.put(old, key, new);
            }
        }
    }

    pub(super) fn put(&mut self, before: Option<Row>, key: &[usize], new: Tuple<'_>) {
        let fields: Vec<Field<'_>> = new.fields().collect();
        let key: Key = key.iter().map(|&index| key_field(fields[index])).collect();
        let before = before.or_else(|| self.rows.get(&key).cloned());
        let row = fields.iter().enumerate().map(|(index, field)| match field {
            Field::Value(bytes) => Some(bytes.to_vec()),
            Field::Null => None,
            Field::Unchanged => before.as_ref().and_then(|row| row[index].clone()),
        });
        self.rows.insert(key, row.collect());
    }

    pub(super) fn assert_same(&self, other: &Self) {
        let differing = self.rows.iter().filter(|(key, row)| other.rows.get(*key) != Some(*row));
        let differing = differing.count();
        assert_eq!((self.rows.len(), differing), (other.rows.len(), 0), "rows, differing rows");
    }
}

pub(super) fn key_fields(tuple: Tuple<'_>) -> Key {
    tuple.fields().map(key_field).collect()
}

pub(super) fn key_field(field: Field<'_>) -> Vec<u8> {
    let Field::Value(bytes) = field else { panic!("a key field without a value") };
    bytes.to_vec()
}

/// Whether a block brings the row with this key.
pub(super) fn brings(body: &[u8], key: &[usize], wanted: &Key) -> bool {
    let is_wanted = |change: Change<'_>| {
        let (Change::Snapshot(new) | Change::Insert(new)) = change else { return false };
        let fields: Vec<Field<'_>> = new.fields().collect();
        key.iter().zip(wanted).all(|(&at, part)| fields[at] == Field::Value(part))
    };
    runs(body).any(|run| run.unwrap().changes().any(|change| is_wanted(change.unwrap())))
}

/// One dataset being captured, stopped and captured again.
pub(super) struct Dataset {
    pub(super) source: Arc<PostgresSource>,
    pub(super) port: u16,
    pub(super) selection: Selection,
    pub(super) model: Model,
    pub(super) resume: Option<Resume>,
    pub(super) phases: Vec<Phase>,
    pub(super) open_blocks: u64,
    pub(super) ops: BTreeMap<Op, u64>,
}

/// How a capture is ended by the test.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum End {
    /// After this block is durable.
    After,
    /// Before this block is durable.
    Before,
    /// Once the server knows that it is durable.
    Released,
}

impl Dataset {
    pub(super) fn new(settings: Settings, table: &str, columns: &[&str], key: &[usize]) -> Self {
        let selection = Selection {
            dataset: DatasetId::new(format!("cong_dan.{table}")).unwrap(),
            schema: "public".to_owned(),
            table: table.to_owned(),
            columns: columns.iter().map(|&column| column.to_owned()).collect(),
            key: key.to_vec(),
            filter: None,
            capture: Capture::Log,
            watermark: None,
        };
        Self {
            port: settings.port,
            source: Arc::new(PostgresSource::new(settings)),
            selection,
            model: Model::default(),
            resume: None,
            phases: Vec::new(),
            open_blocks: 0,
            ops: BTreeMap::new(),
        }
    }

    /// Runs what `check` prints, and sees that nothing stands in the way then.
    pub(super) async fn prepare(&self, admin: &Client) {
        let selections = std::slice::from_ref(&self.selection);
        let findings = self.source.probe(selections).await.unwrap();
        for statement in &findings.statements {
            admin.batch_execute(statement).await.unwrap_or_else(|e| panic!("{statement}: {e:?}"));
        }
        let findings = self.source.probe(selections).await.unwrap();
        let faults: Vec<String> = findings.faults.iter().map(Fault::chain).collect();
        assert_eq!(faults, Vec::<String>::new(), "{:?}", findings.statements);
        assert!(findings.statements.is_empty());
    }

    /// Captures until `end` says so of a block.
    pub(super) async fn capture(&mut self, mut end: impl FnMut(&Block) -> Option<End>) {
        let (blocks, mut received) = mpsc::channel(2);
        let (durable, durable_seen) = watch::channel(0);
        let (progress, _) = watch::channel(Progress::default());
        let stop = CancellationToken::new();
        let intake = Intake { blocks, durable: durable_seen, progress, stop };
        let (source, selection) = (Arc::clone(&self.source), self.selection.clone());
        let start = Start { epoch: Epoch(1), resume: self.resume.clone() };
        let mut task = JoinSet::new();
        task.spawn(async move { source.capture(&selection, start, intake).await });
        let mut number = 0;
        let limit = tokio::time::Instant::now() + Duration::from_secs(100);
        loop {
            let Ok(received) = tokio::time::timeout_at(limit, received.recv()).await else {
                panic!("no end after {number} blocks, {} rows", self.model.rows.len());
            };
            let Some(block) = received else {
                let ended = task.join_next().await.unwrap().unwrap();
                panic!("capture ended: {:?}", ended.map_err(|fault| fault.chain()));
            };
            number += 1;
            assert_eq!(block.number, number);
            let ending = end(&block);
            if ending == Some(End::Before) {
                break;
            }
            self.take(&block);
            durable.send(number).unwrap();
            if ending == Some(End::Released) {
                wait_for_slots(
                    &admin_of(self.port, "postgres").await,
                    &format!("bool_and(confirmed_flush_lsn >= '{}'::pg_lsn)", block.position),
                )
                .await;
            }
            if ending.is_some() {
                break;
            }
        }
        task.shutdown().await;
    }

    pub(super) fn take(&mut self, block: &Block) {
        for run in runs(&block.body) {
            let run = run.unwrap();
            *self.ops.entry(run.op).or_default() += u64::from(run.row_count);
        }
        self.model.apply(&self.selection.key, &block.body);
        self.resume = Some(block.resume.clone());
        self.open_blocks += u64::from(block.tx_open);
        if self.phases.last() != Some(&block.phase) {
            self.phases.push(block.phase);
        }
    }

    /// Captures until the row with this key has come and no transaction is open.
    pub(super) async fn capture_until(&mut self, key: &[&[u8]]) {
        let wanted: Key = key.iter().map(|part| part.to_vec()).collect();
        let key = self.selection.key.clone();
        let mut found = false;
        self.capture(|block| {
            found |= brings(&block.body, &key, &wanted);
            (found && !block.tx_open).then_some(End::After)
        })
        .await;
    }

    /// Captures from the beginning in what would be a new epoch, until it is live.
    pub(super) async fn begin_anew(&mut self) {
        (self.model, self.resume) = (Model::default(), None);
        self.capture(|block| (block.phase == Phase::Live).then_some(End::After)).await;
    }

    pub(super) async fn scan(&self) -> Model {
        let (blocks, mut received) = mpsc::channel(2);
        let (source, selection) = (Arc::clone(&self.source), self.selection.clone());
        let mut task = JoinSet::new();
        task.spawn(async move { source.scan(&selection, None, blocks).await });
        let mut model = Model::default();
        while let Some(block) = received.recv().await {
            model.apply(&self.selection.key, &block.body);
        }
        task.join_next().await.unwrap().unwrap().unwrap();
        model
    }
}
