//! `Report`: every figure as a line of JSON, and at the end medians and ratios as a table.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use phusa_protocol::time::Timestamp;
use phusa_tests::latency::Latency;
use serde::Serialize;

use crate::meter::Cost;

/// Bytes of a megabyte as people count memory.
const MIB: f64 = 1_048_576.0;

/// One figure; what does not apply is absent.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figure {
    at: Timestamp,
    work: &'static str,
    who: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<Rate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<Latency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<f64>,
    #[serde(skip)]
    unit: &'static str,
}

/// How fast, and at what cost; CPU in seconds per million rows or changes.
#[derive(Debug, Clone, Copy, Serialize)]
struct Rate {
    rows: u64,
    seconds: f64,
    per_second: f64,
    mover_cpu: f64,
    source_cpu: f64,
    target_cpu: f64,
    peak_mib: f64,
    same: bool,
}

impl Figure {
    fn new(work: &'static str, who: &'static str) -> Self {
        let at = Timestamp::now();
        Self { at, work, who, rate: None, latency: None, value: None, unit: "" }
    }

    /// Rows or changes moved; `same` says whether both ends were equal afterwards.
    pub(crate) fn rate(
        work: &'static str,
        who: &'static str,
        rows: u64,
        cost: Cost,
        same: bool,
    ) -> Self {
        let count = to_f64(rows);
        let rate = Rate {
            rows,
            seconds: cost.seconds,
            per_second: count / cost.seconds,
            mover_cpu: cost.mover_cpu / count * 1e6,
            source_cpu: cost.server_cpu[0] / count * 1e6,
            target_cpu: cost.server_cpu[1] / count * 1e6,
            peak_mib: to_f64(cost.peak_bytes) / MIB,
            same,
        };
        Self { rate: Some(rate), ..Self::new(work, who) }
    }

    /// Commit to visible.
    pub(crate) fn latency(who: &'static str, latency: Latency, _cost: Cost) -> Self {
        Self { latency: Some(latency), ..Self::new("latency", who) }
    }

    /// A pass over unchanged rows: how long it took, and the agent's CPU seconds.
    pub(crate) fn pass(
        who: &'static str,
        rows: u64,
        seconds: f64,
        mover_cpu: f64,
        same: bool,
    ) -> Self {
        let cost = Cost { seconds, mover_cpu, server_cpu: [f64::NAN; 2], peak_bytes: 0 };
        Self::rate("reconcile, nothing changed", who, rows, cost, same)
    }

    /// A size in bytes.
    pub(crate) fn bytes(work: &'static str, who: &'static str, bytes: u64) -> Self {
        Self { value: Some(to_f64(bytes) / MIB), unit: "MiB", ..Self::new(work, who) }
    }

    /// A figure with its unit.
    pub(crate) fn plain(
        work: &'static str,
        who: &'static str,
        value: f64,
        unit: &'static str,
    ) -> Self {
        Self { value: Some(value), unit, ..Self::new(work, who) }
    }

    /// A share of one core.
    pub(crate) fn share(work: &'static str, who: &'static str, share: f64) -> Self {
        Self { value: Some(share * 100.0), unit: "% of a core", ..Self::new(work, who) }
    }
}

/// Row counts and bytes here are far below 2^53.
fn to_f64(count: u64) -> f64 {
    u32::try_from(count >> 32).map_or(0.0, f64::from) * 4_294_967_296.0
        + u32::try_from(count & 0xFFFF_FFFF).map_or(0.0, f64::from)
}

/// All figures of a run.
pub(crate) struct Report {
    file: PathBuf,
    figures: Vec<Figure>,
}

impl Report {
    /// Empty; figures are also added to `file`.
    pub(crate) fn new(file: &Path) -> Self {
        Self { file: file.to_owned(), figures: Vec::new() }
    }

    /// Takes a figure and writes it down at once.
    pub(crate) fn add(&mut self, figure: Figure) {
        let line = serde_json::to_string(&figure).unwrap_or_default();
        eprintln!("  {line}");
        let file = File::options().create(true).append(true).open(&self.file);
        if let Err(error) = file.and_then(|mut file| writeln!(file, "{line}")) {
            eprintln!("phusa-bench: {}: {error}", self.file.display());
        }
        self.figures.push(figure);
    }

    /// Prints medians and ratios.
    pub(crate) fn print(&self) {
        self.print_rates("snapshot", "COPY pipe");
        self.print_rates("catch-up", "logical replication");
        self.print_rates("MariaDB snapshot", "pgloader");
        self.print_rates("MariaDB catch-up", "pg_chameleon");
        self.print_rates("reconcile, nothing changed", "PostgreSQL");
        self.print_latency();
        for figure in &self.figures {
            if let Some(value) = figure.value {
                println!("{:28} {:14} {value:8.2} {}", figure.work, figure.who, figure.unit);
            }
        }
    }

    fn names(&self, work: &str) -> Vec<&'static str> {
        let mut names = Vec::new();
        for figure in self.figures.iter().filter(|figure| figure.work == work) {
            if !names.contains(&figure.who) {
                names.push(figure.who);
            }
        }
        names
    }

    fn rates(&self, work: &str, who: &str) -> Vec<Rate> {
        let those = self.figures.iter().filter(|figure| figure.work == work && figure.who == who);
        those.filter_map(|figure| figure.rate).collect()
    }

    fn print_rates(&self, work: &str, measure: &str) {
        let names = self.names(work);
        if names.is_empty() {
            return;
        }
        println!(
            "\n| {work} | runs | s | rows/s | ratio to {measure} | CPU s/M mover | source | target | peak RSS MiB | equal |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|");
        let limit = median(self.rates(work, measure).iter().map(|rate| rate.per_second));
        for who in names {
            let rates = self.rates(work, who);
            let of = |value: fn(&Rate) -> f64| median(rates.iter().map(value));
            let per_second = of(|rate| rate.per_second);
            println!(
                "| {who} | {} | {:.2} | {per_second:.0} | {:.2} | {:.2} | {:.2} | {:.2} | {:.0} | {} |",
                rates.len(),
                of(|rate| rate.seconds),
                per_second / limit,
                of(|rate| rate.mover_cpu),
                of(|rate| rate.source_cpu),
                of(|rate| rate.target_cpu),
                of(|rate| rate.peak_mib),
                if rates.iter().all(|rate| rate.same) { "yes" } else { "NO" },
            );
        }
    }

    fn print_latency(&self) {
        let names = self.names("latency");
        if names.is_empty() {
            return;
        }
        println!("\n| latency, ms | runs | p50 | p90 | p99 | max | missing |");
        println!("|---|---|---|---|---|---|---|");
        for who in names {
            let those = self.figures.iter().filter(|figure| figure.who == who);
            let found: Vec<Latency> = those.filter_map(|figure| figure.latency).collect();
            let of = |value: fn(&Latency) -> f64| median(found.iter().map(value));
            println!(
                "| {who} | {} | {:.1} | {:.1} | {:.1} | {:.1} | {} |",
                found.len(),
                of(|latency| latency.p50_ms),
                of(|latency| latency.p90_ms),
                of(|latency| latency.p99_ms),
                of(|latency| latency.max_ms),
                found.iter().map(|latency| latency.missing).sum::<usize>(),
            );
        }
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match (values.len() / 2, values.len() % 2) {
        (0, 0) => f64::NAN,
        (half, 0) => f64::midpoint(values[half - 1], values[half]),
        (half, _) => values[half],
    }
}
