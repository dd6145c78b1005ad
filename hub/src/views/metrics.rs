//! Prometheus text: names, units, meaning; and whether this hub lives and can commit.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use phusa_protocol::change::Counts;
use phusa_protocol::fault::Code;
use phusa_protocol::ids::DatasetId;
use phusa_protocol::time::Timestamp;
use phusa_protocol::verdict::State;
use prometheus_client::encoding::{
    EncodeLabelKey, EncodeLabelSet, EncodeLabelValue, LabelSetEncoder, text,
};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::fleet::StreamRow;

/// Labels, each a name and a value from a bounded set.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Labels<const N: usize>([(&'static str, String); N]);

impl<const N: usize> EncodeLabelSet for Labels<N> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|(name, value)| {
            let mut label = encoder.encode_label();
            let mut key = label.encode_label_key()?;
            EncodeLabelKey::encode(name, &mut key)?;
            let mut out = key.encode_label_value()?;
            EncodeLabelValue::encode(value, &mut out)?;
            out.finish()
        })
    }
}

/// Every figure of this process; a clone counts into the same figures.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    rows: Family<Labels<2>, Counter>,
    batches: Family<Labels<1>, Counter>,
    bytes: Counter,
    refusals: Family<Labels<1>, Counter>,
    refusals_left_out: Counter,
    lag: Family<Labels<2>, Gauge<f64, std::sync::atomic::AtomicU64>>,
    log_entries: Gauge,
    log_unsequenced: Gauge,
    incidents_open: Family<Labels<1>, Gauge>,
    backup_age: Gauge,
    backups: Gauge,
    log_copy_behind: Gauge,
    connections: Gauge,
    certificates: Family<Labels<1>, Gauge>,
    timestamp_age: Gauge,
    fleet: Family<Labels<1>, Gauge>,
    sessions: Gauge,
    reports: Family<Labels<1>, Counter>,
    siem_connected: Gauge,
    siem_behind: Gauge,
    siem_lag: Gauge<f64, std::sync::atomic::AtomicU64>,
    siem_sent: Family<Labels<1>, Counter>,
    siem_lost: Counter,
    apply: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        // From 1 ms to 32 s: a batch of one row to one of the largest.
        let apply = Histogram::new(exponential_buckets(0.001, 2.0, 16));
        let mut metrics = Self {
            registry: Arc::default(),
            rows: Family::default(),
            batches: Family::default(),
            bytes: Counter::default(),
            refusals: Family::default(),
            refusals_left_out: Counter::default(),
            lag: Family::default(),
            log_entries: Gauge::default(),
            log_unsequenced: Gauge::default(),
            incidents_open: Family::default(),
            backup_age: Gauge::default(),
            backups: Gauge::default(),
            log_copy_behind: Gauge::default(),
            connections: Gauge::default(),
            certificates: Family::default(),
            timestamp_age: Gauge::default(),
            fleet: Family::default(),
            sessions: Gauge::default(),
            reports: Family::default(),
            siem_connected: Gauge::default(),
            siem_behind: Gauge::default(),
            siem_lag: Gauge::default(),
            siem_sent: Family::default(),
            siem_lost: Counter::default(),
            apply,
        };
        metrics.registry = Arc::new(metrics.describe());
        metrics
    }
}

impl Metrics {
    /// A batch was taken into the warehouse.
    pub fn accepted(&self, dataset: &DatasetId, counts: &Counts, bytes: u64, took: Duration) {
        let dataset = dataset.to_string();
        let by_op = [
            ("snapshot", counts.snapshot),
            ("insert", counts.insert),
            ("update", counts.update),
            ("delete", counts.delete),
            ("rekey", counts.rekey),
            ("truncate", counts.truncate),
        ];
        for (op, count) in by_op.into_iter().filter(|&(_, count)| count > 0) {
            let labels = Labels([("dataset", dataset.clone()), ("op", op.to_owned())]);
            self.rows.get_or_create(&labels).inc_by(count);
        }
        self.batches.get_or_create(&Labels([("dataset", dataset)])).inc();
        self.bytes.inc_by(bytes);
        self.apply.observe(took.as_secs_f64());
    }

    /// A delivery was refused; `logged` when it became an entry.
    pub fn refused(&self, code: Code, logged: bool) {
        self.refusals.get_or_create(&Labels([("code", code.name().to_owned())])).inc();
        if !logged {
            self.refusals_left_out.inc();
        }
    }

    /// A connection was opened (`true`) or closed.
    pub fn connection(&self, opened: bool) {
        let _before = if opened { self.connections.inc() } else { self.connections.dec() };
    }

    /// A session of the link was opened (`true`) or ended.
    pub fn session(&self, opened: bool) {
        let _before = if opened { self.sessions.inc() } else { self.sessions.dec() };
    }

    /// A report arrived, and was stored or not.
    pub fn reported(&self, stored: bool) {
        let result = if stored { "stored" } else { "failed" };
        self.reports.get_or_create(&Labels([("result", result.to_owned())])).inc();
    }

    /// Takes over how many agents are in each state.
    pub fn observe_fleet(&self, counts: &[(State, usize)]) {
        for (state, count) in counts {
            let labels = Labels([("state", state.name().to_owned())]);
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            self.fleet.get_or_create(&labels).set(count);
        }
    }

    /// Takes over what the database says: streams, and how long the log is.
    pub fn observe(&self, streams: &[StreamRow], log_entries: i64, log_unsequenced: i64) {
        for stream in streams {
            let Some(lag) = stream.lag_seconds else { continue };
            let (agent, dataset) = (stream.agent.clone(), stream.dataset.clone());
            self.lag.get_or_create(&Labels([("agent", agent), ("dataset", dataset)])).set(lag);
        }
        self.log_entries.set(log_entries);
        self.log_unsequenced.set(log_unsequenced);
    }

    /// Takes over how many incidents are open, by kind.
    pub fn observe_incidents(&self, open: &[(String, i64)]) {
        for (kind, count) in open {
            self.incidents_open.get_or_create(&Labels([("kind", kind.clone())])).set(*count);
        }
    }

    /// Takes over until when the hub's own certificate is valid, and the intermediate that renews it.
    pub fn observe_certificates(&self, own: Timestamp, authority: Option<Timestamp>) {
        for (name, ends) in [("hub", Some(own)), ("intermediate", authority)] {
            let Some(ends) = ends else { continue };
            let seconds = ends.micros().div_euclid(1_000_000);
            self.certificates
                .get_or_create(&Labels([("certificate", name.to_owned())]))
                .set(seconds);
        }
    }

    /// Takes over how old the newest complete backup is, and how many there are.
    pub fn observe_backups(&self, age: Duration, count: usize) {
        self.backup_age.set(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
        self.backups.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Takes over how many published entries the log's second copy lacks.
    pub fn observe_log_copy(&self, behind: u64) {
        self.log_copy_behind.set(i64::try_from(behind).unwrap_or(i64::MAX));
    }

    /// A line to the collector of security events was opened (`true`) or ended.
    pub fn siem_connected(&self, opened: bool) {
        let _before = self.siem_connected.set(i64::from(opened));
    }

    /// So many events of security, entries and incidents were sent to it.
    pub fn siem_sent(&self, security: usize, entries: usize, incidents: usize) {
        for (kind, count) in [("security", security), ("entry", entries), ("incident", incidents)] {
            let labels = Labels([("kind", kind.to_owned())]);
            self.siem_sent.get_or_create(&labels).inc_by(count as u64);
        }
    }

    /// So many events of security did not fit and were not sent.
    pub fn siem_lost(&self, count: u64) {
        self.siem_lost.inc_by(count);
    }

    /// Takes over how many entries it has not been sent, and how old the first of them is.
    pub fn observe_siem(&self, behind: u64, age: Duration) {
        self.siem_behind.set(i64::try_from(behind).unwrap_or(i64::MAX));
        self.siem_lag.set(age.as_secs_f64());
    }

    /// Takes over how old the log's newest timestamp is.
    pub fn observe_timestamp(&self, age: Duration) {
        self.timestamp_age.set(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
    }

    /// The text Prometheus reads.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        if text::encode(&mut out, &self.registry).is_err() {
            // Writing into a string cannot fail; if it did, half a text would be worse than none.
            out.clear();
            let _unwritten = out.write_str("# EOF\n");
        }
        out
    }

    fn describe(&self) -> Registry {
        let mut to = Registry::with_prefix("phusa");
        let rows = "Row changes taken into the warehouse, by dataset and operation";
        to.register("rows", rows, self.rows.clone());
        to.register("batches", "Batches taken into the warehouse", self.batches.clone());
        to.register("bytes", "Bytes of accepted batches as received", self.bytes.clone());
        to.register("refusals", "Deliveries refused, by fault code", self.refusals.clone());
        let left_out = "Refusals that were counted and not written to the log";
        to.register("refusals_left_out", left_out, self.refusals_left_out.clone());
        let lag = "Now, minus the commit time at the source of the newest change that is durable \
                   here, both by their own clocks; grows while a source is quiet";
        to.register("lag_seconds", lag, self.lag.clone());
        let entries = "Entries of the transfer log that have a number";
        to.register("log_entries", entries, self.log_entries.clone());
        let unsequenced = "Committed entries that have no number yet";
        to.register("log_unsequenced", unsequenced, self.log_unsequenced.clone());
        let open = "Incidents that nobody has closed, by kind";
        to.register("incidents_open", open, self.incidents_open.clone());
        let age =
            "Age of the newest complete backup in seconds; since the start where there is none";
        to.register("backup_age_seconds", age, self.backup_age.clone());
        let ends = "Until when the hub's own certificate, and the intermediate it is renewed by, are \
                    valid: Unix time";
        to.register("certificate_not_after_seconds", ends, self.certificates.clone());
        to.register("backups", "Complete backups at the independent place", self.backups.clone());
        let behind = "Published entries that the log's second copy lacks";
        to.register("log_copy_behind", behind, self.log_copy_behind.clone());
        to.register("connections", "Open connections of agents", self.connections.clone());
        let fleet = "Agents by what is said of them: the verdict of page and commands";
        to.register("fleet_agents", fleet, self.fleet.clone());
        to.register("link_sessions", "Open sessions of the link", self.sessions.clone());
        let reports = "Reports that arrived, by what became of them";
        to.register("link_reports", reports, self.reports.clone());
        self.describe_outward(&mut to);
        let apply = "Seconds from the arrival of a batch to its commit";
        to.register("apply_seconds", apply, self.apply.clone());
        to
    }

    fn describe_outward(&self, to: &mut Registry) {
        let age = "Age of the log's newest timestamp; since the start where there is none";
        to.register("timestamp_age_seconds", age, self.timestamp_age.clone());
        let connected = "1 while a line to the collector of security events stands";
        to.register("siem_connected", connected, self.siem_connected.clone());
        let behind = "Numbered entries that the collector has not been sent";
        to.register("siem_behind", behind, self.siem_behind.clone());
        let lag = "Age of the oldest entry that the collector has not been sent";
        to.register("siem_lag_seconds", lag, self.siem_lag.clone());
        let sent = "What was sent to the collector, by kind; some of it twice after a line broke";
        to.register("siem_sent", sent, self.siem_sent.clone());
        let lost = "Events of security that did not fit into their queue and were not sent";
        to.register("siem_lost", lost, self.siem_lost.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_their_documented_names() {
        let metrics = Metrics::default();
        let dataset = DatasetId::new("cong_dan.citizens").unwrap();
        let counts = Counts { insert: 3, ..Counts::default() };
        metrics.accepted(&dataset, &counts, 100, Duration::from_millis(3));
        metrics.refused(Code::SignatureWrong, true);
        metrics.observe(&[], 5, 1);
        metrics.observe_incidents(&[("contract".to_owned(), 2)]);
        let text = metrics.text();
        for line in [
            "phusa_rows_total{dataset=\"cong_dan.citizens\",op=\"insert\"} 3",
            "phusa_batches_total{dataset=\"cong_dan.citizens\"} 1",
            "phusa_bytes_total 100",
            "phusa_refusals_total{code=\"signature_wrong\"} 1",
            "phusa_log_entries 5",
            "phusa_log_unsequenced 1",
            "phusa_incidents_open{kind=\"contract\"} 2",
            "phusa_connections 0",
            "phusa_apply_seconds_count 1",
        ] {
            assert!(text.contains(line), "{line} not in {text}");
        }
    }
}
