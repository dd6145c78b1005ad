//! The warehouse against a real private cluster: every operation, order within a batch, history,
//! widening, and a server that is killed.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a step that fails fails its test")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use phusa_hub::warehouse::apply::{self, Delivery};
use phusa_hub::warehouse::history;
use phusa_hub::warehouse::tables::Shape;
use phusa_hub::warehouse::{Settings, Url, Warehouse};
use phusa_protocol::batch::Phase;
use phusa_protocol::change::{BodyWriter, Op};
use phusa_protocol::contract::Contract;
use phusa_protocol::digest::RowsDigest;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgencyId;
use phusa_protocol::row::put_tuple;
use phusa_protocol::time::Timestamp;
use phusa_protocol::value::Field;
use tempfile::TempDir;

const CONTRACT: &str = r#"
dataset = "cong_dan.nguoi"
version = 1
title_vi = "Người của 'phường'"
owner = "H57.12"
legal_basis = "Quyết định 1046/QĐ-UBND"
sharing = "default"
frequency = "15m"
retention = "3650d"
key = ["ma"]
[[field]]
name = "ma"
type = "int4"
class = "N"
name_vi = "Mã"
[[field]]
name = "order"
type = "text"
class = "B"
required = true
name_vi = "Thứ tự"
[[field]]
name = "phi"
type = "numeric"
class = "B"
name_vi = "Phí"
[[field]]
name = "ghi_chu"
type = "text"
class = "B"
name_vi = "Ghi chú"
"#;

/// One change of the test dataset; `"="` stands for unchanged, `"-"` for null.
#[derive(Clone, Copy)]
enum C {
    S(i32, &'static str, &'static str),
    I(i32, &'static str, &'static str),
    U(i32, &'static str, &'static str),
    D(i32),
    K(i32, i32, &'static str, &'static str),
    T,
}
use C::{D, I, K, S, T, U};

fn field(text: &'static str) -> Field<'static> {
    match text {
        "=" => Field::Unchanged,
        "-" => Field::Null,
        _ => Field::Value(text.as_bytes()),
    }
}

/// 1.0 with `scale` decimals shown.
fn one(scale: u8) -> [u8; 10] {
    [0, 1, 0, 0, 0, 0, 0, scale, 0, 1]
}

fn put_row(out: &mut Vec<u8>, id: i32, order: &'static str, note: &'static str) {
    let fields =
        [Field::Value(&id.to_be_bytes()), field(order), Field::Value(&one(2)), field(note)];
    put_tuple(out, &fields);
}

fn body(changes: &[C]) -> Vec<u8> {
    let mut writer = BodyWriter::default();
    for change in changes {
        match *change {
            S(id, order, note) => put_row(writer.begin_row(Op::Snapshot), id, order, note),
            I(id, order, note) => put_row(writer.begin_row(Op::Insert), id, order, note),
            U(id, order, note) => put_row(writer.begin_row(Op::Update), id, order, note),
            D(id) => put_tuple(writer.begin_row(Op::Delete), &[Field::Value(&id.to_be_bytes())]),
            K(old, id, order, note) => {
                let out = writer.begin_row(Op::Rekey);
                put_tuple(out, &[Field::Value(&old.to_be_bytes())]);
                put_row(out, id, order, note);
            }
            T => drop(writer.begin_row(Op::Truncate)),
        }
    }
    writer.finish().0
}

/// A warehouse with one dataset in a cluster of its own.
struct Lab {
    dir: TempDir,
    warehouse: Warehouse,
    shape: Shape,
    agency: AgencyId,
    next_transfer: i64,
    initial_load: bool,
}

impl Lab {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let warehouse = Warehouse::open(&settings(dir.path())).await.unwrap();
        assert_eq!(warehouse.check_schema().await.unwrap_err().code, Code::WarehouseSchema);
        warehouse.migrate().await.unwrap();
        warehouse.migrate().await.unwrap();
        warehouse.check_schema().await.unwrap();
        let shape = Shape::of(&Contract::from_toml(CONTRACT).unwrap());
        let agency = AgencyId::new("H57.12").unwrap();
        let lab = Self { dir, warehouse, shape, agency, next_transfer: 100, initial_load: true };
        lab.run(&lab.shape.create()).await;
        lab
    }

    async fn run(&self, statements: &[String]) {
        let client = self.warehouse.client().await.unwrap();
        for statement in statements {
            client.batch_execute(statement).await.unwrap_or_else(|e| panic!("{statement}: {e:?}"));
        }
    }

    /// Applies the changes in one transaction, an hour after the batch before them.
    async fn apply(&mut self, phase: Phase, changes: &[C]) -> Result<(), Fault> {
        self.apply_bodies(phase, &[body(changes)]).await
    }

    async fn apply_bodies(&mut self, phase: Phase, bodies: &[Vec<u8>]) -> Result<(), Fault> {
        self.next_transfer += 1;
        let transfer = self.next_transfer;
        let mut client = self.warehouse.client().await.unwrap();
        let tx = client.transaction().await.unwrap();
        let delivery = Delivery {
            shape: &self.shape,
            agency: &self.agency,
            source_time: hour(transfer),
            phase,
            initial_load: self.initial_load,
            stream_key: 7,
        };
        for body in bodies {
            let prepared = apply::prepare(&tx, &delivery, transfer, body).await?;
            apply::finish(&tx, &delivery, transfer, prepared).await?;
        }
        tx.commit().await.unwrap();
        Ok(())
    }

    async fn live(&mut self, changes: &[C]) {
        self.apply(Phase::Live, changes).await.unwrap();
    }

    async fn start(&mut self, changes: &[C]) {
        self.apply(Phase::Read, changes).await.unwrap();
        self.initial_load = false;
    }

    async fn texts(&self, sql: &str) -> Vec<String> {
        let client = self.warehouse.client().await.unwrap();
        let rows = client.query(sql, &[]).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Rows as `ma order ghi_chu`, in key order.
    async fn rows(&self) -> Vec<String> {
        let sql = r#"select concat_ws(' ', ma, "order", ghi_chu) from cong_dan.nguoi order by ma"#;
        self.texts(sql).await
    }

    /// History as `ma order version→until`, in the order in which it was written.
    async fn history(&self) -> Vec<String> {
        let sql = r#"select concat(ma, ' ', "order", ' ', _version, '→', _until_transfer)
                     from cong_dan.nguoi__history order by _until_transfer, ma"#;
        self.texts(sql).await
    }

    async fn end(self) {
        self.warehouse.close().await;
        assert!(!self.dir.path().join("postgresql/data/postmaster.pid").exists());
    }
}

fn settings(dir: &Path) -> Settings {
    let url = Url::Embedded { dir: dir.into() };
    Settings { url, password: None, tls_ca_pem: None, connections_max: 4 }
}

fn hour(transfer: i64) -> Timestamp {
    Timestamp::from_micros(transfer * 3_600_000_000)
}

#[tokio::test]
async fn rows_arrive_change_and_go_and_the_history_keeps_what_they_were() {
    let mut lab = Lab::new().await;
    lab.start(&[S(1, "a", "x"), S(2, "b", "-"), S(3, "c", "z")]).await;
    assert_eq!(lab.rows().await, ["1 a x", "2 b", "3 c z"]);
    lab.live(&[U(1, "A", "x"), D(2), I(4, "d", "w")]).await;
    assert_eq!(lab.rows().await, ["1 A x", "3 c z", "4 d w"]);
    assert_eq!(lab.history().await, ["1 a 101→102", "2 b 101→102"]);
    lab.live(&[T, I(9, "i", "-")]).await;
    assert_eq!(lab.rows().await, ["9 i"]);
    let sql = "select concat_ws(' ', ma, _version, _transfer, _agency, _source_time = \
               to_timestamp(103 * 3600)) from cong_dan.nguoi";
    assert_eq!(lab.texts(sql).await, ["9 103 103 H57.12 t"]);
    let comment = "select obj_description('cong_dan.nguoi'::regclass)";
    assert_eq!(lab.texts(comment).await, ["Người của 'phường'"]);
    lab.end().await;
}

#[tokio::test]
async fn the_last_change_of_a_key_wins_within_a_batch() {
    let mut lab = Lab::new().await;
    lab.start(&[S(1, "a", "x")]).await;
    let check = async |lab: &mut Lab, changes: &[C], expected: &[&str]| {
        lab.live(changes).await;
        assert_eq!(lab.rows().await, expected);
        lab.live(&[T, I(1, "a", "x")]).await;
    };
    check(&mut lab, &[U(1, "b", "x"), U(1, "c", "x")], &["1 c x"]).await;
    check(&mut lab, &[D(1), I(1, "n", "-")], &["1 n"]).await;
    check(&mut lab, &[I(2, "b", "-"), D(2)], &["1 a x"]).await;
    check(&mut lab, &[I(2, "b", "y"), U(2, "c", "=")], &["1 a x", "2 c y"]).await;
    check(&mut lab, &[U(1, "b", "="), U(1, "=", "z")], &["1 b z"]).await;
    check(&mut lab, &[U(1, "b", "y"), T, I(1, "c", "-")], &["1 c"]).await;
    check(&mut lab, &[U(1, "b", "y"), K(1, 5, "c", "="), U(5, "d", "=")], &["5 d y"]).await;
    check(&mut lab, &[D(1), K(2, 2, "c", "y")], &["2 c y"]).await;
    lab.end().await;
}

#[tokio::test]
async fn unchanged_fields_stay_and_a_lost_record_is_a_conflict_only_in_a_live_stream() {
    let mut lab = Lab::new().await;
    lab.start(&[S(1, "a", "dài"), S(2, "b", "rộng")]).await;
    lab.live(&[U(1, "c", "="), U(2, "=", "hẹp")]).await;
    assert_eq!(lab.rows().await, ["1 c dài", "2 b hẹp"]);
    let fault = lab.apply(Phase::Live, &[U(7, "x", "=")]).await.unwrap_err();
    assert_eq!(fault.code, Code::BatchConflict);
    let fault = lab.apply(Phase::Live, &[D(1), U(1, "x", "=")]).await.unwrap_err();
    assert_eq!(fault.code, Code::BatchConflict);
    lab.apply(Phase::Settle, &[U(7, "x", "="), K(8, 9, "x", "="), D(6)]).await.unwrap();
    assert_eq!(lab.rows().await, ["1 c dài", "2 b hẹp"]);
    lab.apply(Phase::Settle, &[I(1, "d", "-"), K(8, 9, "y", "-")]).await.unwrap();
    assert_eq!(lab.rows().await, ["1 d", "2 b hẹp", "9 y"]);
    lab.end().await;
}

#[tokio::test]
async fn a_change_of_key_keeps_the_record_and_keys_can_be_chained_and_swapped() {
    let mut lab = Lab::new().await;
    lab.start(&[S(1, "a", "x"), S(2, "b", "y"), S(3, "c", "z")]).await;
    let records = r#"select concat("order", ':', _record) from cong_dan.nguoi order by "order""#;
    let before = lab.texts(records).await;
    lab.live(&[K(1, 10, "a", "="), K(10, 11, "a", "=")]).await;
    assert_eq!(lab.rows().await, ["2 b y", "3 c z", "11 a x"]);
    lab.live(&[K(2, 3, "b", "="), K(3, 2, "c", "=")]).await;
    assert_eq!(lab.rows().await, ["2 c z", "3 b y", "11 a x"]);
    lab.live(&[K(11, 2, "a", "="), K(2, 3, "c", "="), K(3, 11, "b", "=")]).await;
    assert_eq!(lab.rows().await, ["2 a x", "3 c z", "11 b y"]);
    assert_eq!(lab.texts(records).await, before);
    lab.live(&[K(2, 3, "a", "=")]).await;
    assert_eq!(lab.rows().await, ["3 a x", "11 b y"]);
    let bodies = [body(&[K(3, 11, "a", "=")]), body(&[K(11, 3, "b", "=")])];
    lab.apply_bodies(Phase::Live, &bodies).await.unwrap();
    assert_eq!(lab.rows().await, ["3 b y", "11 a x"]);
    let fault = lab.apply(Phase::Live, &[K(77, 78, "x", "=")]).await.unwrap_err();
    assert_eq!(fault.code, Code::BatchConflict);
    lab.end().await;
}

#[tokio::test]
async fn a_replay_over_rows_read_later_converges() {
    let mut lab = Lab::new().await;
    // What happened: 1 is inserted, changed, moved to 2, and a new 1 comes. All of it was read.
    lab.start(&[S(1, "new", "n"), S(2, "b", "long")]).await;
    let log = [I(1, "a", "long"), U(1, "b", "="), K(1, 2, "b", "="), I(1, "new", "n")];
    lab.apply(Phase::Settle, &log).await.unwrap();
    assert_eq!(lab.rows().await, ["1 new n", "2 b long"]);
    lab.apply(Phase::Settle, &log).await.unwrap();
    assert_eq!(lab.rows().await, ["1 new n", "2 b long"]);
    lab.end().await;
}

#[tokio::test]
async fn rows_that_are_equal_make_no_version_but_another_scale_does() {
    let mut lab = Lab::new().await;
    lab.start(&[S(1, "a", "x"), S(2, "b", "-")]).await;
    lab.live(&[U(1, "a", "x"), I(2, "b", "-"), U(1, "a", "=")]).await;
    lab.apply(Phase::Read, &[S(1, "a", "x"), S(2, "b", "-")]).await.unwrap();
    let versions = "select string_agg(_version::text, ',') from cong_dan.nguoi";
    assert_eq!(lab.texts(versions).await, ["101,101"]);
    assert_eq!(lab.history().await, Vec::<String>::new());
    let mut writer = BodyWriter::default();
    let id = 1_i32.to_be_bytes();
    let fields = [Field::Value(&id), Field::Value(b"a"), Field::Value(&one(5)), Field::Value(b"x")];
    put_tuple(writer.begin_row(Op::Update), &fields);
    lab.apply_bodies(Phase::Live, &[writer.finish().0]).await.unwrap();
    assert_eq!(lab.texts("select phi::text from cong_dan.nguoi where ma = 1").await, ["1.00000"]);
    assert_eq!(lab.history().await, ["1 a 101→104"]);
    lab.end().await;
}

#[tokio::test]
async fn a_second_full_read_sweeps_what_it_did_not_see() {
    let mut lab = Lab::new().await;
    lab.start(&[S(1, "a", "x"), S(2, "b", "y"), S(3, "c", "z")]).await;
    let elsewhere = AgencyId::new("H57.99").unwrap();
    let here = std::mem::replace(&mut lab.agency, elsewhere);
    lab.live(&[U(3, "d", "z")]).await;
    lab.agency = here;
    lab.apply(Phase::Read, &[S(2, "b", "y")]).await.unwrap();
    let mut client = lab.warehouse.client().await.unwrap();
    let tx = client.transaction().await.unwrap();
    apply::begin_epoch(&tx, 7).await.unwrap();
    tx.commit().await.unwrap();
    drop(client);
    lab.apply(Phase::Read, &[S(1, "A", "x")]).await.unwrap();
    lab.apply(Phase::Read, &[S(4, "d", "-")]).await.unwrap();
    lab.apply(Phase::ReadEnd, &[]).await.unwrap();
    assert_eq!(lab.rows().await, ["1 A x", "3 d z", "4 d"]);
    assert_eq!(
        lab.texts("select 'there' where to_regclass('phusa.seen_7') is not null").await,
        [""; 0]
    );
    lab.end().await;
}

#[tokio::test]
async fn as_of_shows_every_past_hour() {
    let mut lab = Lab::new().await;
    lab.start(&[S(1, "a", "x"), S(2, "b", "-")]).await;
    lab.live(&[U(1, "A", "x"), K(2, 3, "b", "-")]).await;
    lab.live(&[D(1), U(3, "B", "-")]).await;
    let at = async |lab: &Lab, transfer: i64| {
        let sql =
            history::as_of(&lab.shape).replace("$1", &format!("to_timestamp({transfer} * 3600)"));
        let sql = format!(r#"select concat(ma, "order", _version) from ({sql}) as t order by 1"#);
        lab.texts(&sql).await
    };
    assert_eq!(at(&lab, 100).await, [""; 0]);
    assert_eq!(at(&lab, 101).await, ["1a101", "2b101"]);
    assert_eq!(at(&lab, 102).await, ["1A102", "3b102"]);
    assert_eq!(at(&lab, 103).await, ["3B103"]);
    lab.end().await;
}

#[tokio::test]
async fn a_contract_that_adds_and_widens_changes_the_tables_and_others_are_refused() {
    let mut lab = Lab::new().await;
    lab.start(&[S(1, "a", "x")]).await;
    let extra = "[[field]]\nname = \"moi\"\ntype = \"bool\"\nclass = \"B\"\nname_vi = \"Mới\"\n";
    let wide = format!("{CONTRACT}{extra}").replace("\"int4\"", "\"int8\"");
    let wide = Shape::of(&Contract::from_toml(&wide).unwrap());
    lab.run(&lab.shape.widen(&wide).unwrap()).await;
    let mut writer = BodyWriter::default();
    let id = 1_i64.to_be_bytes();
    let fields =
        [Field::Value(&id), Field::Value(b"a"), Field::Null, Field::Unchanged, Field::Value(&[1])];
    put_tuple(writer.begin_row(Op::Update), &fields);
    lab.shape = wide;
    lab.apply_bodies(Phase::Live, &[writer.finish().0]).await.unwrap();
    let sql = r#"select concat_ws(' ', ma, "order", ghi_chu, moi) from cong_dan.nguoi"#;
    assert_eq!(lab.texts(sql).await, ["1 a x t"]);
    assert_eq!(lab.history().await, ["1 a 101→102"]);
    let check = |from: &str, to: &str, expected: &str| {
        let old = Shape::of(&Contract::from_toml(CONTRACT).unwrap());
        let new = Shape::of(&Contract::from_toml(&CONTRACT.replace(from, to)).unwrap());
        assert_eq!(old.widen(&new), Err(expected.to_owned()));
    };
    check("\"numeric\"", "\"int8\"", "\"phi\" changes from numeric to int8, which may lose values");
    check("required = true\n", "", "\"order\" now may be null");
    check("name = \"phi\"", "name = \"le_phi\"", "\"phi\" goes away");
    check("key = [\"ma\"]", "key = [\"ma\", \"order\"]", "the key of cong_dan.nguoi changes");
    lab.end().await;
}

#[tokio::test]
async fn the_digest_is_of_the_rows_as_they_were_sent() {
    let mut lab = Lab::new().await;
    let mut expected = RowsDigest::default();
    for (id, order, note) in [(1, "a", "Huế"), (2, "b", "-")] {
        let mut row = Vec::new();
        put_row(&mut row, id, order, note);
        expected.add_tuple(&row);
    }
    let digest = async |lab: &Lab| {
        apply::digest(&lab.warehouse.client().await.unwrap(), &lab.shape).await.unwrap()
    };
    assert_eq!(digest(&lab).await, RowsDigest::default());
    lab.start(&[S(1, "a", "Huế")]).await;
    lab.live(&[I(2, "b", "-")]).await;
    assert_eq!(digest(&lab).await, expected);
    lab.end().await;
}

#[tokio::test]
async fn a_batch_that_does_not_fit_is_a_fault_without_values() {
    let mut lab = Lab::new().await;
    lab.start(&[S(1, "a", "x")]).await;
    let mut writer = BodyWriter::default();
    put_tuple(writer.begin_row(Op::Insert), &[Field::Value(b"bimat")]);
    let fault = lab.apply_bodies(Phase::Live, &[writer.finish().0]).await.unwrap_err();
    assert_eq!(fault.code, Code::ContractViolation);
    for changes in [&[I(2, "-", "bimat")][..], &[I(2, "bi\0mat", "-")][..]] {
        let fault = lab.apply(Phase::Live, changes).await.unwrap_err();
        assert_eq!(fault.code, Code::ContractViolation);
        assert!(!fault.chain().contains("mat"), "{}", fault.chain());
    }
    lab.initial_load = true;
    let fault = lab.apply(Phase::Read, &[S(1, "bimat", "x")]).await.unwrap_err();
    assert_eq!(fault.code, Code::BatchConflict);
    assert!(fault.chain().ends_with("SQLSTATE 23505"), "{}", fault.chain());
    lab.end().await;
}

#[tokio::test]
async fn a_killed_server_comes_back_and_a_running_one_is_taken_over() {
    let mut lab = Lab::new().await;
    lab.start(&[S(1, "a", "x")]).await;
    // A hub killed with -9 closes nothing: the next one finds the server running.
    let other = Warehouse::open(&settings(lab.dir.path())).await.unwrap();
    lab.warehouse.close().await;
    drop(other.client().await.unwrap());
    let pid =
        std::fs::read_to_string(lab.dir.path().join("postgresql/data/postmaster.pid")).unwrap();
    let pid = rustix::process::Pid::from_raw(pid.lines().next().unwrap().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    while rustix::process::test_kill_process(pid).is_ok() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    lab.warehouse = Warehouse::open(&settings(lab.dir.path())).await.unwrap();
    assert_eq!(lab.rows().await, ["1 a x"]);
    lab.live(&[U(1, "b", "x")]).await;
    other.close().await;
    assert_eq!(lab.rows().await, ["1 b x"]);
    assert!(lab.warehouse.disk_free_bytes().await.unwrap() > 0);
    lab.end().await;
}

#[tokio::test]
async fn a_cluster_of_another_version_and_a_remote_server_are_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let data = dir.path().join("postgresql/data");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("PG_VERSION"), "9\n").unwrap();
    let fault = Warehouse::open(&settings(dir.path())).await.unwrap_err();
    assert_eq!(fault.code, Code::WarehouseSchema);
    assert!(fault.what.starts_with("the cluster is of PostgreSQL 9, installed are ["));
    let url = Url::External("postgres://hub@192.0.2.1/kho".to_owned());
    let remote = Settings { url, password: None, tls_ca_pem: None, connections_max: 1 };
    let fault = Warehouse::open(&remote).await.unwrap_err();
    assert_eq!(fault.code, Code::ConfigInvalid);
}
