//! Curves instead of points: what a row, a column, a dataset, an entry of the log and an agent cost as
//! their number grows, each as a table and as a drawing on two logarithmic axes.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use phusa_tests::process::wait_until;
use phusa_tests::province::Dataset;
use phusa_tests::workload::probe_contract;

use crate::fleet;
use crate::footprint::watch_agents;
use crate::lab::{Engine, Lab, Outcome};
use crate::log;
use crate::meter::family_cpu;
use crate::movers::{Mover as _, WITHIN};
use crate::ours::{AGENCY, Ours};

/// What grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Axis {
    /// Rows of one table of five columns, 10,000 and more
    Rows,
    /// Columns of one table of 20,000 rows, 5 to 200
    Columns,
    /// Datasets of 500 rows each at one agent, 1 and more
    Datasets,
    /// Entries of the transfer log, 1,000 and more
    Log,
    /// Agents that report and deliver nothing, 1 to 1,000
    Agents,
}

/// One point of a curve.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point {
    /// How many there were.
    pub(crate) count: u64,
    /// Microseconds for each of them; of agents, CPU microseconds a second of hub and database.
    pub(crate) micros: f64,
    /// CPU microseconds of the agent for each of them; of the log, the same as `micros`; of agents, the
    /// hub's part.
    pub(crate) cpu_micros: f64,
    /// The most memory the agent had, in MiB; of the log, what its files hold for each entry, in bytes;
    /// of agents, the hub's memory, in MiB.
    pub(crate) memory: f64,
    /// CPU microseconds a second of the agent and of the source for each of them once all is read;
    /// `None` where it was not looked at.
    pub(crate) at_rest: Option<[f64; 2]>,
}

/// How long an agent whose datasets are read is looked at.
const REST: Duration = Duration::from_secs(60);

/// A table that is read: its name, rows and columns.
type Table = (String, u64, u64);

/// Follows each axis up to `max` and writes `curve-<axis>.svg` into `folder`.
pub(crate) async fn take(axes: &[Axis], max: u64, folder: &Path) -> Outcome<()> {
    std::fs::create_dir_all(folder)?;
    let needs_lab = axes.iter().any(|axis| !matches!(axis, Axis::Log | Axis::Agents));
    let lab = if needs_lab { Some(Lab::start(1).await?) } else { None };
    for axis in axes {
        let rest = if *axis == Axis::Datasets {
            " | at rest, CPU µs a second each: agent | source"
        } else {
            ""
        };
        println!("\n{axis:?} | µs each | CPU µs each | {}{rest}", axis.memory());
        let mut points = Vec::new();
        for count in axis.counts(max) {
            let point = match (&lab, axis) {
                (Some(lab), Axis::Rows) => {
                    read(lab, count, vec![(name("r", count), count, 5)]).await?
                }
                (Some(lab), Axis::Columns) => {
                    let table = (name("c", count), 20_000, count);
                    read(lab, 20_000 * count, vec![table]).await?
                }
                (Some(lab), Axis::Datasets) => {
                    let tables =
                        (0..count).map(|at| (format!("{}_{at}", name("d", count)), 500, 5));
                    read(lab, count, tables.collect()).await?
                }
                (_, Axis::Agents) => fleet::point(count).await?,
                (_, Axis::Log) | (None, _) => log::point(count)?,
            };
            let point = Point { count, ..point };
            let Point { micros, cpu_micros, memory, at_rest, .. } = point;
            let rest = at_rest
                .map_or_else(String::new, |[agent, source]| format!(" | {agent:.0} | {source:.0}"));
            println!("{count} | {micros:.2} | {cpu_micros:.2} | {memory:.1}{rest}");
            points.push(point);
        }
        std::fs::write(folder.join(format!("curve-{}.svg", axis.file())), drawn(*axis, &points))?;
    }
    Ok(())
}

fn name(kind: &str, count: u64) -> String {
    format!("curve_{kind}{count}")
}

impl Axis {
    /// What is measured, up to `max` rows or entries, and as many datasets as ten thousandths of it.
    fn counts(self, max: u64) -> Vec<u64> {
        let decades = |from: u64, to: u64| {
            std::iter::successors(Some(from), |count| count.checked_mul(10))
                .take_while(|count| *count <= to)
                .collect()
        };
        match self {
            Self::Rows => decades(10_000, max),
            Self::Columns => vec![5, 10, 20, 50, 100, 200],
            Self::Datasets => {
                [1, 10, 100, 500].into_iter().filter(|count| *count <= max / 10_000).collect()
            }
            Self::Log => decades(1_000, max),
            Self::Agents => decades(1, (max / 1_000).min(1_000)),
        }
    }

    fn file(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Columns => "columns",
            Self::Datasets => "datasets",
            Self::Log => "log",
            Self::Agents => "agents",
        }
    }

    fn memory(self) -> &'static str {
        match self {
            Self::Log => "bytes of files each",
            Self::Agents => "MiB of the hub",
            Self::Rows | Self::Columns | Self::Datasets => "peak MiB of the agent",
        }
    }

    /// Title, what is counted, and what the two lines are, each in both languages.
    fn titles(self) -> [&'static str; 4] {
        let memory = "bộ nhớ cao nhất của tác tử, MiB · peak memory of the agent, MiB";
        match self {
            Self::Rows => [
                "Đọc toàn bộ theo số dòng · A full read by rows",
                "dòng · rows",
                "µs mỗi dòng · µs per row",
                memory,
            ],
            Self::Columns => [
                "Đọc 20.000 dòng theo số cột · A read of 20,000 rows by columns",
                "cột · columns",
                "µs mỗi ô · µs per cell",
                memory,
            ],
            Self::Datasets => [
                "Nhiều bộ dữ liệu ở một tác tử · Datasets of one agent",
                "bộ dữ liệu · datasets",
                "µs mỗi bộ · µs per dataset",
                memory,
            ],
            Self::Log => [
                "Nhật ký truyền theo số mục · The transfer log by entries",
                "mục · entries",
                "µs mỗi mục · µs per entry",
                "byte tệp mỗi mục · bytes of files per entry",
            ],
            Self::Agents => [
                "Đội tác tử báo về trung tâm · A hub and the agents that report",
                "tác tử · agents",
                "µs CPU mỗi tác tử mỗi giây · CPU µs per agent and second",
                "bộ nhớ trung tâm, MiB · memory of the hub, MiB",
            ],
        }
    }
}

/// Reads tables from beginning to end, from the agent's start to the last row in the warehouse; of
/// datasets, what they cost thereafter.
async fn read(lab: &Lab, units: u64, tables: Vec<Table>) -> Outcome<Point> {
    tables.iter().for_each(|table| make(lab, table));
    let datasets: Vec<Dataset> = tables.iter().map(dataset).collect();
    let target = lab.fresh_target();
    let mut ours = Ours::new(Engine::PostgreSql);
    ours.prepare_those(lab, &target, &datasets)?;
    lab.settle();
    let watch = watch_agents();
    let began = Instant::now();
    ours.start_agent();
    let rows: u64 = tables.iter().map(|(_, rows, _)| rows).sum();
    let (client, rows) = (target.connect().await, i64::try_from(rows)?);
    let sql = "select 1 from phusa.streams having sum(rows)::int8 >= $1";
    wait_until("every row", WITHIN, async || client.query_opt(sql, &[&rows]).await.ok().flatten())
        .await;
    let seconds = began.elapsed().as_secs_f64();
    let (cpu, peak) = watch.finish();
    let at_rest = if units == tables.len() as u64 { Some(rests(lab).await) } else { None };
    ours.finish(lab, &target).await?;
    lab.drop_slots();
    for (name, ..) in &tables {
        lab.source.psql(&format!("drop table {name} cascade"));
    }
    let each = |seconds: f64| seconds * 1e6 / small(units);
    let memory = small(peak / 1_024) / 1_024.0;
    let at_rest = at_rest.map(|used| used.map(each));
    Ok(Point { count: units, micros: each(seconds), cpu_micros: each(cpu), memory, at_rest })
}

/// CPU seconds a second of agents that have nothing to send, and of their source.
async fn rests(lab: &Lab) -> [f64; 2] {
    // Receipts and proofs of the last rows still arrive; no side tells when the last of them has.
    tokio::time::sleep(REST / 6).await;
    let [server, _] = lab.servers(Engine::PostgreSql);
    let (watch, began, before) = (watch_agents(), Instant::now(), family_cpu(server));
    tokio::time::sleep(REST).await;
    let used = [watch.finish().0, family_cpu(server) - before];
    used.map(|cpu| cpu / began.elapsed().as_secs_f64())
}

/// The numbers here are far below 2^32.
pub(crate) fn small(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Columns besides the key are numbers and texts in turn.
fn kind(column: u64) -> &'static str {
    if column.is_multiple_of(2) { "text" } else { "int8" }
}

fn make(lab: &Lab, (name, rows, columns): &Table) {
    let (mut kinds, mut values) = (String::new(), String::new());
    for column in 1..*columns {
        let value = match kind(column) {
            "text" => format!(", 'ô ' || (n * {column}) % 9973"),
            _ => format!(", n * {column}"),
        };
        let kind = kind(column);
        kinds.push_str(&format!(", c{column} {kind} not null"));
        values.push_str(&value);
    }
    lab.source.psql(&format!(
        "create table {name} (id int4 primary key{kinds});
         insert into {name} select n{values} from generate_series(1, {rows}) n; analyze {name}"
    ));
}

fn dataset((name, _, columns): &Table) -> Dataset {
    let id = format!("danh_muc.{name}");
    let contract = probe_contract(AGENCY).replace("danh_muc.probe", &id);
    let head = contract.split("\n[[field]]").next().unwrap_or_default();
    let names = (0..*columns).map(|at| match at {
        0 => ("id".to_owned(), "int4"),
        at => (format!("c{at}"), kind(at)),
    });
    let (mut fields, mut mapped) = (String::new(), String::new());
    for (field, kind) in names {
        fields.push_str(&format!(
            "\n[[field]]\nname = \"{field}\"\ntype = \"{kind}\"\nclass = \"P\"\nname_vi = \"{field}\"\n"
        ));
        mapped.push_str(&format!(
            "\n[[field]]\nfrom = \"{field}\"\nto = \"{field}\"\nclass = \"P\"\n"
        ));
    }
    let mapping = format!(
        "dataset = \"{id}\"\ncontract = \"../contracts/{id}.toml\"\ntable = \"public.{name}\"\n{mapped}"
    );
    Dataset { id, contract: format!("{head}{fields}"), mapping }
}

/// Where the drawing's field begins and ends.
const FIELD: [f64; 4] = [70.0, 50.0, 650.0, 330.0];

/// Both lines over the counts, all of it logarithmic.
fn drawn(axis: Axis, points: &[Point]) -> String {
    let [left, top, right, bottom] = FIELD;
    let [title, counted, time, memory] = axis.titles();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 430\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <title>{title}</title>\n<rect width=\"720\" height=\"430\" fill=\"#fff\"/>\n\
         <text x=\"360\" y=\"24\" text-anchor=\"middle\" font-size=\"15\">{title}</text>\n\
         <text x=\"360\" y=\"372\" text-anchor=\"middle\">{counted}</text>\n\
         <text x=\"70\" y=\"398\" fill=\"#1f5f8b\">● {time}</text>\n\
         <text x=\"70\" y=\"418\" fill=\"#a8541c\">■ {memory}</text>\n"
    );
    let across = Scale::over(points.iter().map(|point| small(point.count)), (left, right));
    let values = points.iter().flat_map(|point| [point.micros, point.memory]);
    let up = Scale::over(values, (bottom, top));
    for (at, label) in across.marks() {
        let _ = writeln!(
            svg,
            "<path d=\"M{at:.1} {top} V{bottom}\" stroke=\"#ddd\"/><text x=\"{at:.1}\" y=\"350\" text-anchor=\"middle\">{label}</text>"
        );
    }
    for (at, label) in up.marks() {
        let _ = writeln!(
            svg,
            "<path d=\"M{left} {at:.1} H{right}\" stroke=\"#ddd\"/><text x=\"64\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            at + 4.0
        );
    }
    line(&mut svg, "#1f5f8b", points.iter().map(|p| (across.at(small(p.count)), up.at(p.micros))));
    line(&mut svg, "#a8541c", points.iter().map(|p| (across.at(small(p.count)), up.at(p.memory))));
    svg.push_str("</svg>\n");
    svg
}

fn line(svg: &mut String, colour: &str, places: impl Iterator<Item = (f64, f64)>) {
    let mut path = String::new();
    for (x, y) in places {
        let _ = write!(path, "{}{x:.1} {y:.1} ", if path.is_empty() { 'M' } else { 'L' });
        let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>");
    }
    let _ =
        writeln!(svg, "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>");
}

/// A logarithmic axis of whole decades.
struct Scale {
    decades: (i32, i32),
    ends: (f64, f64),
}

impl Scale {
    fn over(values: impl Iterator<Item = f64>, ends: (f64, f64)) -> Self {
        let decades: Vec<f64> = values.filter(|value| *value > 0.0).map(f64::log10).collect();
        let whole = |exact: f64| (-12..12).find(|decade| f64::from(*decade) >= exact).unwrap_or(12);
        let least = decades.iter().copied().fold(f64::INFINITY, f64::min);
        let most = decades.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (from, to) = (whole(least.floor()), whole(most));
        Self { decades: (from, to.max(from + 1)), ends }
    }

    fn at(&self, value: f64) -> f64 {
        let (from, to) = (f64::from(self.decades.0), f64::from(self.decades.1));
        let part = (value.max(1e-12).log10() - from) / (to - from);
        self.ends.0 + part * (self.ends.1 - self.ends.0)
    }

    fn marks(&self) -> Vec<(f64, String)> {
        let value = |decade: i32| 10f64.powi(decade);
        let label = |decade: i32| {
            if decade < 5 { format!("{}", value(decade)) } else { format!("10^{decade}") }
        };
        (self.decades.0..=self.decades.1).map(|d| (self.at(value(d)), label(d))).collect()
    }
}
