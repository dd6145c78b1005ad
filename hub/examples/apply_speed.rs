//! How fast rows get into the warehouse: full read, and mixed changes with history, beside a plain
//! `psql` COPY of the same rows.
//!
//! `cargo run --release -p phusa-hub --example apply_speed [rows] [changes] [batch_rows]`
#![expect(clippy::print_stdout, reason = "what it finds is for a person at a terminal")]
#![expect(clippy::cast_possible_truncation, reason = "made-up rows: any number will do")]

use std::error::Error;
use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use phusa_hub::warehouse::apply::{self, Delivery};
use phusa_hub::warehouse::tables::Shape;
use phusa_hub::warehouse::{Settings, Url, Warehouse};
use phusa_protocol::batch::Phase;
use phusa_protocol::change::{BodyWriter, Op};
use phusa_protocol::contract::Contract;
use phusa_protocol::ids::AgencyId;
use phusa_protocol::row::{begin_tuple, put_field};
use phusa_protocol::time::Timestamp;
use phusa_protocol::value::Field;

type Outcome<T> = Result<T, Box<dyn Error>>;

const FIELDS: [(&str, &str); 20] = [
    ("id", "int8"),
    ("national_id", "text"),
    ("full_name", "text"),
    ("dob", "date"),
    ("gender_code", "int2"),
    ("ethnicity_code", "text"),
    ("religion_code", "text"),
    ("address", "text"),
    ("ward_code", "text"),
    ("household_no", "text"),
    ("phone", "text"),
    ("email", "text"),
    ("blood_type", "text"),
    ("marital_code", "int2"),
    ("income", "numeric"),
    ("photo_hash", "bytea"),
    ("attributes", "jsonb"),
    ("notes", "text"),
    ("created_at", "timestamptz"),
    ("updated_at", "timestamptz"),
];

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let row_count = arguments.next().transpose()?.unwrap_or(1_000_000);
    let change_count = arguments.next().transpose()?.unwrap_or(500_000);
    let batch_rows = arguments.next().transpose()?.unwrap_or(10_000);
    let dir = tempfile::tempdir()?;
    std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
    let url = Url::Embedded { dir: dir.path().into() };
    let settings = Settings { url, password: None, tls_ca_pem: None, connections_max: 4 };
    let warehouse = Warehouse::open(&settings).await?;
    warehouse.migrate().await?;
    let bodies = snapshot(row_count, batch_rows);
    let plain = psql(&warehouse, dir.path(), &bodies).await?;
    let report = |what: &str, count: usize, took: Duration| {
        let rate = per_second(count, took);
        let ratio = rate / per_second(row_count, plain);
        println!("{what:<44} {:>8.2} s {rate:>12.0} rows/s {ratio:>6.2}", took.as_secs_f64());
    };
    report("psql \\copy binary, key only", row_count, plain);

    let two = Lab::new(&warehouse, "cong_dan.two").await?;
    let start = Instant::now();
    let (even, odd) = bodies.split_at(bodies.len() / 2);
    let both = tokio::join!(two.load(even, 0), two.load(odd, 1_000_000));
    both.0.and(both.1)?;
    report("full read, two connections", row_count, start.elapsed());
    two.drop_tables().await?;

    let one = Lab::new(&warehouse, "cong_dan.one").await?;
    let start = Instant::now();
    one.load(&bodies, 0).await?;
    report("full read, one connection", row_count, start.elapsed());

    let changes = mixed(row_count, change_count, batch_rows);
    one.client().await?.batch_execute("vacuum analyze cong_dan.one").await?;
    one.client().await?.batch_execute("checkpoint").await?;
    let [staging, merging, committing] = one.merge(&changes).await?;
    report("mixed changes with history", change_count, staging + merging + committing);
    println!("  of it staging {staging:.2?}, merging {merging:.2?}, committing {committing:.2?}");
    warehouse.close().await;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn per_second(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// One dataset under measurement.
struct Lab {
    warehouse: Warehouse,
    shape: Shape,
    agency: AgencyId,
}

impl Lab {
    async fn new(warehouse: &Warehouse, dataset: &str) -> Outcome<Self> {
        let shape = Shape::of(&contract(dataset)?);
        let lab = Self { warehouse: warehouse.clone(), shape, agency: AgencyId::new("H57.12")? };
        for statement in lab.shape.create() {
            lab.client().await?.batch_execute(&statement).await?;
        }
        Ok(lab)
    }

    async fn client(&self) -> Outcome<deadpool_postgres::Object> {
        Ok(self.warehouse.client().await?)
    }

    fn delivery(&self, phase: Phase) -> Delivery<'_> {
        Delivery {
            shape: &self.shape,
            agency: &self.agency,
            source_time: Timestamp::now(),
            phase,
            initial_load: phase == Phase::Read,
            stream_key: 1,
        }
    }

    async fn load(&self, bodies: &[Vec<u8>], first_transfer: i64) -> Outcome<()> {
        let mut client = self.client().await?;
        let delivery = self.delivery(Phase::Read);
        for (transfer, body) in (first_transfer..).zip(bodies) {
            let tx = client.transaction().await?;
            let prepared = apply::prepare(&tx, &delivery, transfer, body).await?;
            apply::finish(&tx, &delivery, transfer, prepared).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// How long staging, merging and committing took.
    async fn merge(&self, bodies: &[Vec<u8>]) -> Outcome<[Duration; 3]> {
        let mut client = self.client().await?;
        let delivery = self.delivery(Phase::Live);
        let mut parts = [Duration::ZERO; 3];
        for (transfer, body) in (5_000_000..).zip(bodies) {
            let start = Instant::now();
            let tx = client.transaction().await?;
            let prepared = apply::prepare(&tx, &delivery, transfer, body).await?;
            let staged = Instant::now();
            apply::finish(&tx, &delivery, transfer, prepared).await?;
            let merged = Instant::now();
            tx.commit().await?;
            let took = [staged - start, merged - staged, merged.elapsed()];
            parts.iter_mut().zip(took).for_each(|(sum, part)| *sum += part);
        }
        Ok(parts)
    }

    async fn drop_tables(&self) -> Outcome<()> {
        let sql = format!("drop table {}, {}", self.shape.table(), self.shape.history());
        Ok(self.client().await?.batch_execute(&sql).await?)
    }
}

/// Copies the rows with `psql` into a table that has nothing but the columns and the key.
async fn psql(warehouse: &Warehouse, dir: &Path, bodies: &[Vec<u8>]) -> Outcome<Duration> {
    let file = dir.join("rows.copy");
    let mut out = std::io::BufWriter::new(std::fs::File::create(&file)?);
    out.write_all(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0")?;
    for body in bodies {
        for run in phusa_protocol::change::runs(body) {
            out.write_all(run?.bytes)?;
        }
    }
    out.write_all(b"\xff\xff")?;
    out.into_inner()?.sync_all()?;
    let columns: Vec<_> = FIELDS.iter().map(|(name, kind)| format!("{name} {kind}")).collect();
    let columns = columns.join(", ");
    let client = warehouse.client().await?;
    client.batch_execute(&format!("create table plain ({columns}, primary key (id))")).await?;
    let socket: String = client.query_one("show unix_socket_directories", &[]).await?.get(0);
    let copy = format!("\\copy plain from '{}' with (format binary)", file.display());
    let start = Instant::now();
    let status = Command::new("psql")
        .args(["-qX", "-h", &socket, "-U", "phusa", "-d", "postgres", "-c", &copy])
        .status()?;
    let took = start.elapsed();
    if !status.success() {
        return Err("psql failed".into());
    }
    client.batch_execute("drop table plain").await?;
    std::fs::remove_file(&file)?;
    Ok(took)
}

fn contract(dataset: &str) -> Outcome<Contract> {
    let mut text = format!(
        "dataset = \"{dataset}\"\nversion = 1\ntitle_vi = \"Công dân\"\nowner = \"H57.12\"\n\
         legal_basis = \"QĐ\"\nsharing = \"default\"\nfrequency = \"15m\"\n\
         retention = \"3650d\"\nkey = [\"id\"]\n"
    );
    for (name, kind) in FIELDS {
        text.push_str(&format!(
            "[[field]]\nname = \"{name}\"\ntype = \"{kind}\"\nclass = \"B\"\nname_vi = \"{name}\"\n"
        ));
    }
    Ok(Contract::from_toml(&text)?)
}

/// Rows 0 to `row_count` in bodies of `batch_rows`.
fn snapshot(row_count: usize, batch_rows: usize) -> Vec<Vec<u8>> {
    let ids: Vec<_> = (0..row_count).collect();
    ids.chunks(batch_rows).map(|ids| body(ids.iter().map(|&id| (Op::Snapshot, id, 0)))).collect()
}

/// 60 % updates, 25 % inserts, 15 % deletes at random places.
fn mixed(row_count: usize, change_count: usize, batch_rows: usize) -> Vec<Vec<u8>> {
    let (mut ids, mut next, mut random) =
        ((0..row_count).collect::<Vec<_>>(), row_count, Random(7));
    let changes: Vec<_> = (0..change_count)
        .map(|change| match random.below(100) {
            0..60 => {
                (Op::Update, ids.get(random.below(ids.len())).copied().unwrap_or(0), change + 1)
            }
            60..85 => {
                ids.push(next);
                next += 1;
                (Op::Insert, next - 1, 0)
            }
            _ => (Op::Delete, ids.swap_remove(random.below(ids.len())), 0),
        })
        .collect();
    changes.chunks(batch_rows).map(|changes| body(changes.iter().copied())).collect()
}

fn body(changes: impl Iterator<Item = (Op, usize, usize)>) -> Vec<u8> {
    let mut writer = BodyWriter::default();
    for (op, id, version) in changes {
        let out = writer.begin_row(op);
        if op == Op::Delete {
            begin_tuple(out, 1);
            put_field(out, Field::Value(&id.to_be_bytes()));
        } else {
            put_row(out, id, version);
        }
    }
    writer.finish().0
}

/// About 410 bytes of civil registry.
fn put_row(out: &mut Vec<u8>, id: usize, version: usize) {
    const NAMES: [&str; 4] =
        ["Nguyễn Thị Ngọc Hương", "Trần Văn Dũng", "Lê Quốc Khánh", "Phạm Mỹ Vy"];
    const NOTES: [&str; 3] = [
        "Hồ sơ đã đối chiếu bản giấy, đủ chữ ký và xác nhận của Ủy ban nhân dân phường.",
        "Công dân đề nghị cập nhật nơi thường trú theo giấy xác nhận ngày gần nhất.",
        "Đã xác thực định danh mức độ 2, dữ liệu khớp với cơ sở dữ liệu quốc gia.",
    ];
    let mut random = Random((id * 31 + version) as u64 + 1);
    let name = NAMES.get(random.below(4)).copied().unwrap_or_default();
    let note = NOTES.get(random.below(3)).copied().unwrap_or_default();
    let house = random.below(900);
    let text = |text: String| text.into_bytes();
    let small = |number: usize| (number as u16).to_be_bytes().to_vec();
    let moment = |at: usize| (700_000_000_000_000 + at * 1_000_000).to_be_bytes().to_vec();
    let digits = |number: usize| ((number % 10_000) as u16).to_be_bytes();
    let mut income = vec![0, 2, 0, 1, 0, 0, 0, 2];
    income.extend(digits(random.below(2_000) + 1));
    income.extend(digits(random.below(10_000)));
    let hash: Vec<_> = (0..32).map(|_| random.below(256) as u8).collect();
    let attributes =
        format!("\u{1}{{\"job\": \"giáo viên\", \"edu\": \"Đại học\", \"kids\": {}}}", id % 5);
    let fields: [Option<Vec<u8>>; 20] = [
        Some(id.to_be_bytes().to_vec()),
        Some(text(format!("0{:011}", 31_000_000_000 + id))),
        Some(text(name.to_owned())),
        Some((random.below(9_000) as u32).to_be_bytes().to_vec()),
        Some(small(id % 2 + 1)),
        Some(text("01".to_owned())),
        id.is_multiple_of(3).then(|| text("05".to_owned())),
        Some(text(format!("Số {house} đường Nguyễn Trãi, phường Ninh Kiều, thành phố Cần Thơ"))),
        Some(text(format!("3{:04}", id % 9_999))),
        Some(text(format!("HK{:09}", id / 4))),
        Some(text(format!("09{:08}", random.below(100_000_000)))),
        id.is_multiple_of(2).then(|| text(format!("cong.dan.{id}@example.vn"))),
        Some(text("O+".to_owned())),
        Some(small(id % 4)),
        Some(income),
        Some(hash),
        Some(text(attributes)),
        Some(text(note.to_owned())),
        Some(moment(id)),
        Some(moment(id + version)),
    ];
    begin_tuple(out, fields.len());
    for field in &fields {
        put_field(out, field.as_deref().map_or(Field::Null, Field::Value));
    }
}

/// A small generator of the same numbers each run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound.max(1)
    }
}
