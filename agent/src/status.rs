//! What the agent knows of itself; written to a local socket that never reads.
//!
//! Whoever opens `<state_dir>/status.sock` gets one JSON document and the end of the stream; what
//! they write is never looked at, so there is nothing to attack. The same values make the
//! Prometheus text of `phusa-agent status --prometheus`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::{AgentId, DatasetId};
use phusa_protocol::release::UpdateReport;
use phusa_protocol::time::Timestamp;
use phusa_protocol::verdict::Verdict;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::transport::renew::IdentityStatus;
use crate::trouble::Trouble;

/// Readers served at once; the rest wait in the listener's queue.
const READERS_MAX: usize = 8;
/// How often the status is made without being asked for, so that its verdict knows since when it holds.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A reader slower than this is cut off.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);

/// What a dataset is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not begun: waiting for the hub to say which epoch comes next.
    Starting,
    /// The full read is under way.
    Reading,
    /// Changes are followed.
    Following,
    /// Reading has stopped on a fault, which is shown beside.
    Faulted,
}

/// One dataset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatasetStatus {
    /// Which.
    pub dataset: DatasetId,
    /// What it is doing.
    pub state: State,
    /// The epoch it is in; 0 before the first.
    pub epoch: u64,
    /// The newest batch in the spool.
    pub spooled_seq: u64,
    /// Batches up to here have a recorded receipt.
    pub released_seq: u64,
    /// Batches in the spool without a receipt.
    pub waiting_batches: u64,
    /// Where reading stands at the source.
    pub position: String,
    /// Commit time of the newest source transaction that is in the spool.
    pub source_time: Option<Timestamp>,
    /// Rows read in this full read, and how many there are by the source's estimate.
    pub snapshot_rows: u64,
    /// See `snapshot_rows`.
    pub snapshot_rows_estimated: u64,
    /// Bytes of log not yet read, where the source says.
    pub lag_bytes: Option<u64>,
    /// Bytes of log the source keeps for this dataset.
    pub retained_bytes: Option<u64>,
    /// How long it waits before it asks the source again, in milliseconds, where it has to ask.
    #[serde(default)]
    pub poll_pause_ms: Option<u64>,
    /// How often all rows were compared since reading last began, where they are.
    #[serde(default)]
    pub passes: Option<u64>,
    /// Rows spooled since the start, by operation.
    pub rows: BTreeMap<String, u64>,
    /// Batches spooled since the start.
    pub batches: u64,
    /// Bytes delivered since the start.
    pub delivered_bytes: u64,
    /// Deliveries the hub refused since the start.
    pub refusals: u64,
    /// Rows that stayed at the agency since the start, by field and rule.
    pub rejects: BTreeMap<String, u64>,
    /// Rows that broke a rule and travelled all the same since the start, by field and rule.
    pub noted: BTreeMap<String, u64>,
    /// What stands in the way of reading.
    pub reading_trouble: Option<Trouble>,
    /// What stands in the way of delivering.
    pub delivery_trouble: Option<Trouble>,
    /// How far the hub's clock is ahead, in milliseconds.
    pub hub_skew_ms: Option<i64>,
    /// When the hub last answered.
    pub hub_heard_at: Option<Timestamp>,
}

/// The whole agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Which agent.
    pub agent: AgentId,
    /// Version of its program.
    pub version: String,
    /// Since when it runs.
    pub started_at: Timestamp,
    /// When this was written.
    pub at: Timestamp,
    /// Bytes in the spool.
    pub spool_bytes: u64,
    /// The limit they keep to.
    pub spool_bytes_max: u64,
    /// How far the hub's clock is ahead, in milliseconds, by the date of its newest answer.
    #[serde(default)]
    pub hub_skew_ms: Option<i64>,
    /// Every dataset, by name.
    pub datasets: Vec<DatasetStatus>,
    /// The hub's transfer log, as this agent sees it; none from agents before there was one.
    #[serde(default)]
    pub log: Option<LogStatus>,
    /// The agent's certificate, where it renews it by itself.
    #[serde(default)]
    pub identity: Option<IdentityStatus>,
    /// How far an update of the program is, where it takes any.
    #[serde(default)]
    pub update: Option<UpdateReport>,
    /// How the hub would judge this agent, had it everything that has a receipt; none from agents
    /// before there was one.
    #[serde(default)]
    pub verdict: Option<Verdict>,
}

/// The hub's transfer log, as this agent sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LogStatus {
    /// Entries in the newest checkpoint that was seen, verified and kept.
    pub entries: u64,
    /// When that was.
    pub seen_at: Option<Timestamp>,
    /// Entries in the newest checkpoint this agent cosigned.
    pub cosigned: u64,
    /// Batches with a receipt and a kept proof.
    pub proven: u64,
    /// Batches with a receipt whose proof is still to come.
    pub pending: u64,
    /// Batches with a receipt whose entries the log does not hold.
    pub missing: u64,
    /// Contradictions the hub has signed; both versions are kept.
    pub forks: u64,
    /// What stands in the way of proofs.
    pub trouble: Option<Trouble>,
}

/// Where the socket lies.
#[must_use]
pub fn socket_path(state_dir: &Path) -> PathBuf {
    state_dir.join("status.sock")
}

/// Serves the status until stopped.
///
/// # Errors
/// `disk_failed` when the socket cannot be made.
pub async fn serve(
    state_dir: &Path,
    snapshot: impl Fn() -> AgentStatus,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<(), Fault> {
    let path = socket_path(state_dir);
    let failed = |error| {
        Fault::because(Code::DiskFailed, format!("cannot listen on {}", path.display()), error)
    };
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&path).map_err(failed)?;
    let readers = Arc::new(Semaphore::new(READERS_MAX));
    let mut looks = tokio::time::interval(LOOK_EVERY);
    loop {
        let (mut stream, permit) = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = looks.tick() => {
                drop(snapshot());
                continue;
            }
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let Ok(permit) = Arc::clone(&readers).acquire_owned().await else { return Ok(()) };
                (stream, permit)
            }
        };
        let text = serde_json::to_vec(&snapshot()).unwrap_or_default();
        tasks.spawn(async move {
            // A reader that goes away early or reads too slowly loses the rest; nobody else does.
            let _ = tokio::time::timeout(WRITE_TIMEOUT, stream.write_all(&text)).await;
            drop(permit);
        });
    }
}

/// Asks a running agent.
///
/// # Errors
/// `disk_failed` when nobody listens there.
pub async fn ask(state_dir: &Path) -> Result<AgentStatus, Fault> {
    use tokio::io::AsyncReadExt as _;
    let path = socket_path(state_dir);
    let what = || format!("no agent answers on {}; is it running?", path.display());
    let failed = |error| Fault::because(Code::DiskFailed, what(), error);
    let mut stream = tokio::net::UnixStream::connect(&path).await.map_err(failed)?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.map_err(failed)?;
    serde_json::from_slice(&text)
        .map_err(|error| Fault::because(Code::ProtocolVersion, what(), error))
}

/// The status as Prometheus text (docs/OPERATIONS.md lists the metrics).
#[must_use]
pub fn prometheus(status: &AgentStatus) -> String {
    let mut text = String::new();
    metric(&mut text, "phusa_agent_spool_bytes", "gauge", [(String::new(), status.spool_bytes)]);
    let limit = [(String::new(), status.spool_bytes_max)];
    metric(&mut text, "phusa_agent_spool_bytes_max", "gauge", limit);
    let left = status
        .identity
        .iter()
        .map(|identity| (String::new(), identity.valid_until.since(status.at).as_secs()));
    metric(&mut text, "phusa_agent_certificate_seconds", "gauge", left);
    let each = |value: fn(&DatasetStatus) -> u64| {
        status.datasets.iter().map(move |d| (format!("{{dataset=\"{}\"}}", d.dataset), value(d)))
    };
    let now = status.at;
    let rows = status.datasets.iter().flat_map(|d| {
        d.rows.iter().map(|(op, n)| (format!("{{dataset=\"{}\",op=\"{op}\"}}", d.dataset), *n))
    });
    metric(&mut text, "phusa_agent_rows_total", "counter", rows);
    metric(&mut text, "phusa_agent_rejects_total", "counter", by_rule(status, |d| &d.rejects));
    metric(&mut text, "phusa_agent_noted_total", "counter", by_rule(status, |d| &d.noted));
    metric(&mut text, "phusa_agent_batches_total", "counter", each(|d| d.batches));
    metric(&mut text, "phusa_agent_bytes_total", "counter", each(|d| d.delivered_bytes));
    metric(&mut text, "phusa_agent_refusals_total", "counter", each(|d| d.refusals));
    metric(&mut text, "phusa_agent_waiting_batches", "gauge", each(|d| d.waiting_batches));
    metric(&mut text, "phusa_agent_lag_bytes", "gauge", each(|d| d.lag_bytes.unwrap_or(0)));
    let retained = each(|d| d.retained_bytes.unwrap_or(0));
    metric(&mut text, "phusa_agent_retained_bytes", "gauge", retained);
    let pause = each(|d| d.poll_pause_ms.unwrap_or(0));
    metric(&mut text, "phusa_agent_poll_pause_milliseconds", "gauge", pause);
    let passes = each(|d| d.passes.unwrap_or(0));
    metric(&mut text, "phusa_agent_passes_total", "counter", passes);
    let faulted =
        |d: &DatasetStatus| u64::from(d.reading_trouble.is_some() || d.delivery_trouble.is_some());
    metric(&mut text, "phusa_agent_faulted", "gauge", each(faulted));
    let lag = status.datasets.iter().map(|d| {
        let lag = if d.waiting_batches == 0 { Duration::ZERO } else { since(now, d.source_time) };
        (format!("{{dataset=\"{}\"}}", d.dataset), lag.as_secs())
    });
    metric(&mut text, "phusa_agent_lag_seconds", "gauge", lag);
    text
}

fn by_rule(
    status: &AgentStatus,
    counts: fn(&DatasetStatus) -> &BTreeMap<String, u64>,
) -> impl Iterator<Item = (String, u64)> {
    status.datasets.iter().flat_map(move |d| {
        let label = move |(rule, n): (&String, &u64)| {
            (format!("{{dataset=\"{}\",rule=\"{rule}\"}}", d.dataset), *n)
        };
        counts(d).iter().map(label)
    })
}

fn since(now: Timestamp, then: Option<Timestamp>) -> Duration {
    then.map_or(Duration::ZERO, |then| now.since(then))
}

fn metric(
    text: &mut String,
    name: &str,
    kind: &str,
    samples: impl IntoIterator<Item = (String, u64)>,
) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "# TYPE {name} {kind}");
    for (labels, value) in samples {
        let _ = writeln!(text, "{name}{labels} {value}");
    }
}
