//! The PostgreSQL engine against a real private server: what a replayed capture holds is compared
//! with a scan of the table, whatever was killed on the way.
//!
//! `PHUSA_POSTGRES_BIN` names the folder of another version's programs; 15 is the default.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking; clippy's own exception does not reach its helpers"
)]

mod replay;
mod server;
mod traps;
mod writes;

use std::path::Path;
use std::time::Duration;

use phusa_agent::source::postgres::{PostgresSource, Settings, publication_name, slot_name};
use phusa_agent::source::settings::{Password, Tls};
use phusa_agent::source::{Intake, Progress, Resume, Source, Start};
use phusa_protocol::batch::Phase;
use phusa_protocol::change::Op;
use phusa_protocol::fault::Code;
use phusa_protocol::ids::{DatasetId, Epoch};
use phusa_protocol::units::ByteSize;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use self::replay::{Dataset, End};
use self::server::{Server, programs, roles, wait_for, wait_until_active, wait_until_free};
use self::writes::{COLUMNS, Writer, fill};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_killed_in_read_and_log_goes_on_without_gap_or_repeat() {
    let server = Server::start();
    let admin = server.admin().await;
    roles(&admin).await;
    for (table, primary_key, key, marker) in [
        ("by_id", "id", vec![1], vec![(-1_i64).to_be_bytes().to_vec()]),
        ("by_both", "ward, id", vec![1, 2], vec![(-1_i64).to_be_bytes().to_vec(), b"end".to_vec()]),
    ] {
        fill(&admin, table, primary_key).await;
        let mut dataset = Dataset::new(server.settings(), table, &COLUMNS, &key);
        dataset.prepare(&admin).await;
        let mut writer = Writer { client: server.admin().await, table, state: 7 };
        let mut writing = JoinSet::new();
        writing.spawn(async move {
            writer.write(400).await;
            writer
        });
        let mut blocks = 0;
        for end in [End::Before, End::After] {
            let limit = blocks + 6;
            dataset
                .capture(|_| {
                    blocks += 1;
                    (blocks >= limit).then_some(end)
                })
                .await;
        }
        assert_eq!(dataset.phases, [Phase::Read]);
        let mut writer = writing.join_next().await.unwrap().unwrap();
        dataset.capture(|block| (block.phase == Phase::Settle).then_some(End::Before)).await;
        writer.write(200).await;
        let sql = format!("insert into {table} (id, ward) values (-1, 'end')");
        admin.batch_execute(&sql).await.unwrap();
        let marker: Vec<&[u8]> = marker.iter().map(Vec::as_slice).collect();
        dataset.capture_until(&marker).await;
        assert_eq!(dataset.phases[..3], [Phase::Read, Phase::ReadEnd, Phase::Settle], "{table}");
        dataset.model.assert_same(&dataset.scan().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_in_one_go_is_exact_and_goes_live_at_once() {
    let server = Server::start();
    let admin = server.admin().await;
    roles(&admin).await;
    fill(&admin, "exact", "id").await;
    let mut settings = server.settings();
    settings.guard.snapshot_workers = 3;
    let mut dataset = Dataset::new(settings, "exact", &COLUMNS, &[1]);
    dataset.prepare(&admin).await;
    let publication = publication_name(&server.settings().agent, &dataset.selection.dataset);
    let whole = format!(
        "alter publication {publication} set table exact; alter table exact replica identity full"
    );
    admin.batch_execute(&whole).await.unwrap();
    let mut writer = Writer { client: server.admin().await, table: "exact", state: 11 };
    let mut writing = JoinSet::new();
    writing.spawn(async move { writer.write(300).await });
    dataset.capture(|block| (block.phase == Phase::Live).then_some(End::After)).await;
    writing.join_next().await.unwrap().unwrap();
    let rest = "truncate exact; insert into exact (id, name) values (1, 'một'); \
                update exact set id = 2; insert into exact (id, ward) values (-1, 'end')";
    admin.batch_execute(rest).await.unwrap();
    dataset.capture_until(&[&(-1_i64).to_be_bytes()]).await;
    assert_eq!(dataset.phases, [Phase::Read, Phase::ReadEnd, Phase::Live]);
    dataset.model.assert_same(&dataset.scan().await);
    for op in Op::ALL {
        assert!(dataset.ops.contains_key(&op), "{op:?} was never seen");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_transaction_is_cut_and_resumed_in_its_middle_over_both_transports() {
    let server = Server::start();
    let admin = server.admin().await;
    roles(&admin).await;
    for (table, catch_up) in [("stream", ByteSize::mib(4096)), ("stride", ByteSize(1))] {
        let sql = format!("create table {table} (id int primary key, name text)");
        admin.batch_execute(&sql).await.unwrap();
        let mut settings = server.settings();
        settings.catch_up_bytes = catch_up;
        let mut dataset = Dataset::new(settings, table, &["id", "name"], &[0]);
        dataset.prepare(&admin).await;
        dataset.capture(|block| (block.phase == Phase::Live).then_some(End::After)).await;
        assert_eq!(dataset.phases, [Phase::ReadEnd, Phase::Live]);
        let sql = format!(
            "insert into {table} select i, repeat('dòng ', 10) from generate_series(1, 200000) i"
        );
        admin.batch_execute(&sql).await.unwrap();
        for end in [End::Before, End::After] {
            let mut open = 0;
            dataset
                .capture(|block| {
                    assert!(block.body.len() < 300 << 10);
                    open += u64::from(block.tx_open);
                    (open == 9).then_some(end)
                })
                .await;
        }
        let sql = format!("insert into {table} values (-1, 'end')");
        admin.batch_execute(&sql).await.unwrap();
        dataset.capture_until(&[&(-1_i32).to_be_bytes()]).await;
        assert!(dataset.open_blocks > 40, "{}", dataset.open_blocks);
        assert_eq!(dataset.ops[&Op::Insert], 200_001, "nothing twice, nothing left out");
        dataset.model.assert_same(&dataset.scan().await);
    }
}

/// One column of each type, with its extremes.
const TYPES: [(&str, &[&str]); 33] = [
    ("bool", &["true", "false"]),
    ("int2", &["-32768", "32767"]),
    ("int4", &["-2147483648", "2147483647"]),
    ("int8", &["-9223372036854775808", "9223372036854775807"]),
    (
        "numeric",
        &[
            "NaN",
            "Infinity",
            "-Infinity",
            "0",
            "0.00",
            "-0.000012345",
            "1e100",
            "99999999.9999",
            "10000.0001",
            "100000000",
        ],
    ),
    ("numeric(12,4)", &["12345678.9012", "0.1"]),
    ("float4", &["NaN", "-Infinity", "3.4028235e38", "1e-45", "-0"]),
    ("float8", &["NaN", "Infinity", "1.7976931348623157e308", "5e-324", "0.1"]),
    ("text", &["", "Huế ''\\ \"", "NULL"]),
    ("varchar(8)", &["Phường"]),
    ("char(5)", &["ab"]),
    ("name", &["tên"]),
    ("xml", &["<a>ế</a>", "<?xml version=\"1.0\"?><a/>"]),
    ("bytea", &["\\x", "\\x00ff5c27"]),
    (
        "date",
        &["-infinity", "infinity", "0044-03-15 BC", "4713-01-01 BC", "5874897-12-31", "2024-02-29"],
    ),
    ("time", &["00:00:00", "24:00:00", "23:59:59.999999"]),
    ("timetz", &["00:00:00+15:59:59", "12:34:56.7-07", "24:00:00+00"]),
    (
        "timestamp",
        &[
            "infinity",
            "-infinity",
            "4713-01-01 00:00:00 BC",
            "294276-12-31 23:59:59.999999",
            "1999-12-31 23:59:59.5",
        ],
    ),
    ("timestamptz", &["infinity", "0001-01-01 00:00:00+00 BC", "2026-11-21 08:00:00.000001+07"]),
    (
        "interval",
        &["0", "-1 year 2 mons -3 days 04:05:06.789", "178000000 years", "-00:00:00.000001"],
    ),
    ("uuid", &["00000000-0000-0000-0000-000000000000", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    ("json", &["{\"a\" : 12345678901234567890.10, \"a\":null}"]),
    ("jsonb", &["{\"b\": 1.00, \"a\": [1e400]}", "null"]),
    ("inet", &["10.0.0.1", "10.0.0.1/8", "::1", "2001:db8::ffff:1.2.3.4/64"]),
    ("cidr", &["10.0.0.0/8", "2001:db8::/32"]),
    ("macaddr", &["08:00:2b:01:02:03"]),
    ("int4range", &["empty", "[1,10)", "(,)", "[5,)"]),
    ("tstzrange", &["[2020-01-01 00:00:00+00,infinity)", "(,2020-01-01 00:00:00+00]"]),
    ("color", &["đỏ", "xanh, \"lá\""]),
    ("ward_code", &["31000"]),
    ("text[]", &["{}", "{a,NULL,\"NULL\",\"\",\"x,y\",\"q\\\"\\\\\"}", "[0:1][2:3]={{a,b},{c,d}}"]),
    ("color[]", &["{đỏ,\"xanh, \\\"lá\\\"\"}"]),
    ("textrange[]", &["{\"[a,\\\"b\\\"\\\"c,\\\"]\",empty}"]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_has_the_same_bytes_in_copy_text_log_and_binary_log() {
    let server = Server::start();
    let admin = server.admin().await;
    roles(&admin).await;
    let made = "create type color as enum ('đỏ', 'xanh, \"lá\"'); \
                create domain ward_code as char(5) check (value ~ '^[0-9]+'); \
                create type textrange as range (subtype = text)";
    admin.batch_execute(made).await.unwrap();
    for (table, as_text) in [("types_binary", false), ("types_text", true)] {
        let names: Vec<String> = (0..TYPES.len()).map(|index| format!("c{index}")).collect();
        let columns: Vec<String> =
            names.iter().zip(TYPES).map(|(name, (kind, _))| format!("{name} {kind}")).collect();
        let sql = format!("create table {table} (id int primary key, {})", columns.join(", "));
        admin.batch_execute(&sql).await.unwrap();
        let mut settings = server.settings();
        settings.log_as_text = as_text;
        let mapped: Vec<&str> =
            std::iter::once("id").chain(names.iter().map(String::as_str)).collect();
        let mut dataset = Dataset::new(settings, table, &mapped, &[0]);
        dataset.prepare(&admin).await;
        dataset.capture(|block| (block.phase == Phase::Live).then_some(End::After)).await;
        let has_xml = admin.batch_execute("select '<a/>'::xml").await.is_ok();
        let mut id = 0;
        for (name, (kind, values)) in names.iter().zip(TYPES) {
            if kind == "xml" && !has_xml {
                continue;
            }
            for value in values {
                id += 1;
                let value = value.replace('\'', "''").replace("''''", "''");
                let sql =
                    format!("insert into {table} (id, {name}) values ({id}, '{value}'::{kind})");
                admin.batch_execute(&sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
            }
        }
        let sql = format!("insert into {table} (id) values (-1)");
        admin.batch_execute(&sql).await.unwrap();
        dataset.capture_until(&[&(-1_i32).to_be_bytes()]).await;
        let scanned = dataset.scan().await;
        for (key, row) in &scanned.rows {
            let captured = dataset.model.rows.get(key).unwrap();
            for (index, (captured, scanned)) in captured.iter().zip(row).enumerate() {
                let column = index.checked_sub(1).map_or("id", |index| TYPES[index].0);
                assert_eq!(captured, scanned, "{table} {column} of row {key:?}");
            }
        }
        dataset.model.assert_same(&scanned);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_in_the_way_is_named() {
    let server = Server::start();
    let admin = server.admin().await;
    roles(&admin).await;
    let made = "create table keyless (a int); create table nothing (a int primary key); \
                alter table nothing replica identity nothing; \
                create table odd (a int primary key, m money, g int generated always as (a) stored)";
    admin.batch_execute(made).await.unwrap();
    let check = |table: &'static str,
                 columns: &'static [&'static str],
                 code: Code,
                 words: &'static str| {
        let dataset = Dataset::new(server.settings(), table, columns, &[0]);
        async move {
            let findings =
                dataset.source.probe(std::slice::from_ref(&dataset.selection)).await.unwrap();
            let told: Vec<String> =
                findings.faults.iter().map(|fault| format!("{}: {fault}", fault.code)).collect();
            let wanted = findings.faults.iter();
            let mut wanted =
                wanted.filter(|fault| fault.code == code && fault.what.contains(words));
            assert!(wanted.next().is_some(), "{table}: {told:?}");
        }
    };
    check("absent", &["a"], Code::SourceTableMissing, "public.absent").await;
    check("odd", &["a", "b"], Code::SourceColumnMissing, "no column b").await;
    check("odd", &["a", "m"], Code::SourceTypeRefused, "column m").await;
    if version(&admin).await < 180_000 {
        check("odd", &["a", "g"], Code::SourceTypeRefused, "generated").await;
    }
    check("keyless", &["a"], Code::SourceKeyMissing, "no primary key").await;
    check("nothing", &["a"], Code::SourceKeyMissing, "no replica identity").await;
    check("odd", &["a"], Code::SourceRights, "SELECT").await;
    check("odd", &["a"], Code::SourceSetting, "no publication").await;
    for (grant, words) in [
        ("grant update (m) on odd to phusa", "update table public.odd"),
        ("grant insert on odd to public", "insert table public.odd"),
        (
            "create role writer noinherit; grant pg_write_all_data to writer; grant writer to phusa",
            "pg_write_all_data",
        ),
        ("create sequence seq; grant usage on seq to phusa", "sequence public.seq"),
        ("alter table odd owner to phusa", "owns table public.odd"),
        ("alter role phusa createrole", "may create roles"),
        ("alter role phusa superuser", "superuser"),
    ] {
        admin.batch_execute("begin").await.unwrap();
        admin.batch_execute(grant).await.unwrap();
        admin.batch_execute("commit").await.unwrap();
        check("odd", &["a"], Code::SourceCanWrite, words).await;
        let undo = "alter role phusa nosuperuser nocreaterole; alter table odd owner to admin; \
                    revoke all on odd from phusa, public; drop sequence if exists seq; \
                    drop role if exists writer";
        admin.batch_execute(undo).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moved_vanished_or_held_back_too_much_is_never_resumed() {
    let server = Server::start();
    let admin = server.admin().await;
    roles(&admin).await;
    admin.batch_execute("create table gap (id int primary key)").await.unwrap();
    let mut settings = server.settings();
    settings.slot_wal_max = ByteSize(1);
    let slot = slot_name(&settings.agent, "postgres", &DatasetId::new("cong_dan.gap").unwrap());
    let given_up = Dataset::new(settings, "gap", &["id"], &[0]);
    let mut dataset = Dataset::new(server.settings(), "gap", &["id"], &[0]);
    dataset.prepare(&admin).await;
    dataset.capture(|block| (block.phase == Phase::Live).then_some(End::After)).await;

    let sql = "insert into gap values (1)";
    admin.batch_execute(sql).await.unwrap();
    // The connection that was just killed may hold the slot for a moment.
    wait_until_free(&admin).await;
    let advance = format!("select pg_replication_slot_advance('{slot}', pg_current_wal_lsn())");
    admin.batch_execute(&advance).await.unwrap();
    assert_eq!(capture_fault(&dataset, true).await, Code::SourceGap);
    assert_eq!(capture_fault(&given_up, false).await, Code::SourceSlotGivenUp);
    let left = "select count(*) from pg_replication_slots";
    assert_eq!(admin.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 0);
    assert_eq!(capture_fault(&dataset, true).await, Code::SourceGap);
}

/// The fault a capture ends with while every block is taken and nothing made durable.
async fn capture_fault(dataset: &Dataset, resume: bool) -> Code {
    let (blocks, mut received) = mpsc::channel(2);
    let (_durable, durable) = watch::channel(0);
    let (progress, _) = watch::channel(Progress::default());
    let intake = Intake { blocks, durable, progress, stop: CancellationToken::new() };
    let resume = if resume { dataset.resume.clone() } else { None };
    let start = Start { epoch: Epoch(1), resume };
    let taking = async { while received.recv().await.is_some() {} };
    let capture = dataset.source.capture(&dataset.selection, start, intake);
    let (ended, ()) = tokio::join!(capture, taking);
    ended.unwrap_err().code
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_transaction_delays_the_slot_and_leaves_none_behind() {
    let server = Server::start();
    let admin = server.admin().await;
    roles(&admin).await;
    admin.batch_execute("create table waits (id int primary key)").await.unwrap();
    let mut settings = server.settings();
    settings.slot_wait = Duration::from_secs(2);
    let dataset = Dataset::new(settings, "waits", &["id"], &[0]);
    dataset.prepare(&admin).await;
    admin.batch_execute("begin; insert into waits values (1)").await.unwrap();
    assert_eq!(capture_fault(&dataset, false).await, Code::SourceSlotWait);
    admin.batch_execute("commit").await.unwrap();
    let left = "select count(*) from pg_replication_slots";
    assert_eq!(admin.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mapped_column_that_changes_stops_and_a_new_one_does_not() {
    let server = Server::start();
    let admin = server.admin().await;
    roles(&admin).await;
    admin.batch_execute("create table drift (id int primary key, name text)").await.unwrap();
    let mut dataset = Dataset::new(server.settings(), "drift", &["id", "name"], &[0]);
    dataset.prepare(&admin).await;
    dataset.capture(|block| (block.phase == Phase::Live).then_some(End::After)).await;
    let sql = "alter table drift add more int; insert into drift values (-1, 'x', 5)";
    admin.batch_execute(sql).await.unwrap();
    dataset.capture_until(&[&(-1_i32).to_be_bytes()]).await;
    wait_until_free(&admin).await;
    let rename = async {
        wait_until_active(&admin).await;
        let sql = "alter table drift rename name to full_name; \
                   insert into drift values (3, 'z', 5)";
        admin.batch_execute(sql).await.unwrap();
    };
    let (code, ()) = tokio::join!(capture_fault(&dataset, true), rename);
    assert_eq!(code, Code::SourceSchema, "while it runs");
    assert_eq!(capture_fault(&dataset, true).await, Code::SourceColumnMissing, "when it starts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_is_read_from_16_on_and_refused_by_name_before() {
    let primary = Server::start();
    let admin = primary.admin().await;
    roles(&admin).await;
    fill(&admin, "mirrored", "id").await;
    Dataset::new(primary.settings(), "mirrored", &COLUMNS, &[1]).prepare(&admin).await;
    let standby = primary.standby();
    let mut dataset = Dataset::new(standby.settings(), "mirrored", &COLUMNS, &[1]);
    if version(&admin).await < 160_000 {
        let findings = dataset.source.probe(std::slice::from_ref(&dataset.selection)).await;
        let faults = findings.unwrap().faults;
        assert!(faults.iter().any(|fault| fault.code == Code::SourceVersion), "{faults:?}");
        assert_eq!(capture_fault(&dataset, false).await, Code::SourceVersion);
        return;
    }
    let mut writer = Writer { client: primary.admin().await, table: "mirrored", state: 5 };
    let mut writing = JoinSet::new();
    writing.spawn(async move {
        for _ in 0..20 {
            writer.client.batch_execute("select pg_log_standby_snapshot()").await.unwrap();
            writer.write(10).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    let mut blocks = 0;
    dataset
        .capture(|_| {
            blocks += 1;
            (blocks == 10).then_some(End::After)
        })
        .await;
    writing.join_next().await.unwrap().unwrap();
    let sql = "insert into mirrored (id, ward) values (-1, 'end')";
    admin.batch_execute(sql).await.unwrap();
    dataset.capture_until(&[&(-1_i64).to_be_bytes()]).await;
    dataset.model.assert_same(&dataset.scan().await);
}

async fn version(admin: &Client) -> i32 {
    let sql = "select current_setting('server_version_num')::int4";
    admin.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_position_is_released_and_a_partitioned_table_is_one_table() {
    let server = Server::start();
    let admin = server.admin().await;
    roles(&admin).await;
    let made = "create table parts (id int primary key, name text) partition by range (id); \
                create table parts_low partition of parts for values from (minvalue) to (100); \
                create table parts_high partition of parts for values from (100) to (maxvalue); \
                insert into parts values (1, 'một'), (100, 'một trăm'); create table other (a int)";
    admin.batch_execute(made).await.unwrap();
    let mut dataset = Dataset::new(server.settings(), "parts", &["id", "name"], &[0]);
    dataset.prepare(&admin).await;
    dataset.capture(|block| (block.phase == Phase::Live).then_some(End::After)).await;
    let noise = "insert into other select generate_series(1, 10000); \
                 select pg_switch_wal(); update parts set id = 200 where id = 1";
    admin.batch_execute(noise).await.unwrap();
    let mut position = String::new();
    dataset
        .capture(|block| {
            let is_idle = block.body.is_empty() && block.phase == Phase::Live;
            position.clone_from(&block.position);
            is_idle.then_some(End::Released)
        })
        .await;
    dataset.model.assert_same(&dataset.scan().await);
    let sql = "select confirmed_flush_lsn::text from pg_replication_slots";
    let confirmed: String = admin.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(confirmed, position, "released, though nothing of the table changed");
    admin.batch_execute("insert into parts values (7, 'bảy')").await.unwrap();
    dataset.capture_until(&[&7_i32.to_be_bytes()]).await;
    dataset.model.assert_same(&dataset.scan().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_trusted_server_and_the_right_password_connect() {
    let server = Server::start();
    let admin = server.admin().await;
    if admin.query_one("show ssl", &[]).await.unwrap().get::<_, String>(0) == "off"
        && version(&admin).await / 10_000 != 15
    {
        return; // The wheel's servers are built without OpenSSL.
    }
    server.run(
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout ca.key -out ca.pem \
           -subj /CN=ca -addext basicConstraints=critical,CA:TRUE 2>/dev/null && \
         openssl req -newkey rsa:2048 -nodes -keyout data/server.key -out server.csr \
           -subj /CN=localhost 2>/dev/null && chmod 600 data/server.key && \
         printf 'subjectAltName=DNS:localhost,IP:127.0.0.1' > san && \
         openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
           -extfile san -out data/server.crt 2>/dev/null && \
         openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout x.key -out other.pem \
           -subj /CN=other 2>/dev/null && chmod 644 ca.pem other.pem && \
         printf 'hostssl all phusa 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n' \
           > data/pg_hba.conf",
    );
    admin.batch_execute("alter system set ssl = on").await.unwrap();
    admin.batch_execute("select pg_reload_conf()").await.unwrap();
    wait_for(&admin, "select current_setting('ssl') = 'on'").await;
    let made = "set password_encryption = 'scram-sha-256'; \
                create role phusa login replication password 'mật khẩu 1'; \
                create table safe (id int primary key); insert into safe values (1)";
    admin.batch_execute(made).await.unwrap();
    let mut settings = server.settings();
    let ca_file = |name: &str| Tls::Verify { ca_file: server.folder.path().join(name) };
    settings.password = Some(Password::new("mật khẩu 1"));
    settings.tls = ca_file("ca.pem");
    let mut dataset = Dataset::new(settings.clone(), "safe", &["id"], &[0]);
    dataset.prepare(&admin).await;
    dataset.capture(|block| (block.phase == Phase::Live).then_some(End::After)).await;
    assert_eq!(dataset.model.rows.len(), 1);
    let check = |settings: Settings, code: Code| async move {
        let fault = PostgresSource::new(settings).probe(&[]).await.unwrap_err();
        assert_eq!(fault.code, code, "{}", fault.chain());
        assert!(!fault.chain().contains("mật"));
    };
    let other = Settings { tls: ca_file("other.pem"), ..settings.clone() };
    check(other, Code::SourceTls).await;
    check(Settings { tls: ca_file("absent.pem"), ..settings.clone() }, Code::SourceTls).await;
    let wrong = Some(Password::new("mật khẩu 2"));
    check(Settings { password: wrong, ..settings.clone() }, Code::SourceLogin).await;
    check(Settings { password: None, ..settings.clone() }, Code::SourceLogin).await;
    check(Settings { database: "none".to_owned(), ..settings.clone() }, Code::SourceLogin).await;
    check(Settings { port: 1, ..settings }, Code::SourceUnreachable).await;
}

#[test]
fn the_binaries_are_there() {
    let bin = programs();
    assert!(Path::new(&bin).join("postgres").exists(), "PostgreSQL is missing from {bin}");
}
