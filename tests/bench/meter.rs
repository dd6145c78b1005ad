//! What a stretch of work costs: time, CPU of the mover and of both servers, memory of the mover.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two looks at the mover's processes.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What it cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// From start to end.
    pub(crate) seconds: f64,
    /// CPU seconds of the mover's own processes.
    pub(crate) mover_cpu: f64,
    /// CPU seconds of the source's server and of the target's.
    pub(crate) server_cpu: [f64; 2],
    /// The most memory the mover had, without memory shared among processes.
    pub(crate) peak_bytes: u64,
}

/// Says which processes are the mover's just now.
pub(crate) type Processes = Box<dyn Fn() -> Vec<u32> + Send>;

/// Does `work` and says what it cost; `servers` are the first processes of source and target.
pub(crate) async fn measured<T>(
    servers: [u32; 2],
    processes: Processes,
    work: impl Future<Output = T>,
) -> (Cost, T) {
    let servers = || servers.map(family_cpu);
    let (server_before, children_before) = (servers(), children_cpu());
    let watch = Watch::start(processes);
    let start = Instant::now();
    let result = work.await;
    let seconds = start.elapsed().as_secs_f64();
    let (live_cpu, peak_bytes) = watch.finish();
    let mover_cpu = live_cpu.max(children_cpu() - children_before);
    let [source, target] = servers();
    let server_cpu = [source - server_before[0], target - server_before[1]];
    let cost = Cost { seconds, mover_cpu, server_cpu, peak_bytes };
    (cost, result)
}

/// Looks at processes again and again from a thread of its own.
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

/// What a watch has seen.
#[derive(Default)]
struct Seen {
    first: BTreeMap<u32, f64>,
    last: BTreeMap<u32, f64>,
    peak: u64,
}

impl Watch {
    /// Begins to look.
    pub(crate) fn start(processes: Processes) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut seen = Seen::default();
            // What runs already has used CPU before; what starts later counts from nothing.
            for id in processes() {
                seen.first.insert(id, own_cpu(id).unwrap_or(0.0));
            }
            while !asked.load(Ordering::Relaxed) {
                seen.look(&processes());
                std::thread::sleep(LOOK_EVERY);
            }
            seen.look(&processes());
            seen
        });
        Self { stop, thread }
    }

    /// CPU seconds used since the start, and the peak of memory in bytes.
    pub(crate) fn finish(self) -> (f64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.thread.join().unwrap_or_default();
        let used = |(id, last): (&u32, &f64)| last - seen.first.get(id).unwrap_or(&0.0);
        (seen.last.iter().map(used).sum(), seen.peak)
    }
}

impl Seen {
    fn look(&mut self, ids: &[u32]) {
        for id in ids {
            if let Some(cpu) = own_cpu(*id) {
                self.last.insert(*id, cpu);
            }
        }
        self.peak = self.peak.max(ids.iter().map(|id| private_bytes(*id)).sum());
    }
}

/// `/proc/<id>/stat` after the name, which may itself hold spaces: field 0 is the state.
fn stat(id: &str) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

fn ticks(fields: &[String], index: usize) -> f64 {
    fields.get(index).and_then(|text| text.parse().ok()).unwrap_or(0.0)
}

fn seconds(ticks: f64) -> f64 {
    // USER_HZ, which Linux shows to user space as 100 on every machine.
    ticks / 100.0
}

/// CPU seconds of one process.
pub(crate) fn own_cpu(id: u32) -> Option<f64> {
    let fields = stat(&id.to_string())?;
    Some(seconds(ticks(&fields, 11) + ticks(&fields, 12)))
}

/// CPU seconds of all children of this process that have ended.
fn children_cpu() -> f64 {
    stat("self").map_or(0.0, |fields| seconds(ticks(&fields, 13) + ticks(&fields, 14)))
}

/// CPU seconds of a server: its first process, its running children, and those it has seen end.
pub(crate) fn family_cpu(root: u32) -> f64 {
    let ended = stat(&root.to_string())
        .map_or(0.0, |fields| seconds(ticks(&fields, 13) + ticks(&fields, 14)));
    let living: f64 = family(root).into_iter().filter_map(own_cpu).sum();
    ended + living
}

/// A process and all below it.
pub(crate) fn family(root: u32) -> Vec<u32> {
    let mut ids = vec![root];
    let mut at = 0;
    while let Some(id) = ids.get(at).copied() {
        let tasks = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            ids.extend(text.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
        at += 1;
    }
    ids
}

/// Children of a server whose title holds one of `words`.
pub(crate) fn workers(server: u32, words: &[&str]) -> Vec<u32> {
    let is_one = |id: &u32| {
        let title = fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
        words.iter().any(|word| title.contains(word))
    };
    family(server).into_iter().filter(is_one).collect()
}

/// Memory of a process without what it shares with others.
pub(crate) fn private_bytes(id: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let kilobytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    (kilobytes("RssAnon:") + kilobytes("RssFile:")) * 1_024
}
