//! SQL Server as a source, against the scripted server: what changes there stands in the warehouse,
//! exactly once, whatever breaks on the way.

mod compare;
mod offers;
mod types;

use phusa_tests::database::{Database, Server, Version};
use phusa_tests::process::{wait_until, wait_until_blocking};
use phusa_tests::province::{ARRIVES_WITHIN, Province, statements};
use phusa_tests::tds::model::Table;
use phusa_tests::tds::sql::{days, three_hundredths};
use phusa_tests::tds::tls::Encryption;
use phusa_tests::tds::value::Value;
use phusa_tests::tds::{SqlServer, Trouble};

use crate::world::{AGENCY, Share, said};

/// One agency with a SQL Server, and a warehouse that can be asked.
struct Agency {
    province: Province,
    server: SqlServer,
    warehouse: Database,
}

impl Agency {
    fn new() -> Self {
        let warehouse = Server::shared(Version::V15).database();
        let province = Province::with_external(&warehouse);
        let migrated = province.hub(&["migrate"]);
        assert!(migrated.status.success(), "{}", said(&migrated));
        Self { province, server: SqlServer::start("bi-mat"), warehouse }
    }

    /// Writes the agent's files; nothing is asked of the server.
    fn place(&mut self, settings: &str, shares: &[Share<'_>]) {
        let datasets: Vec<_> = shares
            .iter()
            .map(|share| {
                let mut dataset = share.dataset();
                dataset.mapping = dataset.mapping.replace("\"public.", "\"dbo.");
                dataset
            })
            .collect();
        let source = format!(
            "engine = \"sqlserver\"\nhost = \"127.0.0.1\"\nport = {}\ndatabase = \"hotich\"\n\
             user = \"phusa\"\npassword_file = \"source.password\"\ntls = \"off\"\n\n{settings}",
            self.server.port()
        );
        self.province.place_agent(AGENCY, &source, &datasets);
    }

    /// Writes the agent's files and runs what `check` prints until nothing is missing; returns what
    /// it said last.
    fn share(&mut self, settings: &str, shares: &[Share<'_>]) -> String {
        self.place(settings, shares);
        for _ in 0..4 {
            let checked = self.province.agent(AGENCY, &["check", "--offline"]);
            let said = said(&checked);
            if checked.status.success() {
                return said;
            }
            let wanted = statements(&said);
            assert!(!wanted.is_empty(), "check failed:\n{said}");
            for statement in wanted {
                self.server.database().administer(statement);
            }
        }
        panic!("check is never satisfied")
    }

    fn start(&mut self) {
        self.province.start_hub();
        self.start_agent();
    }

    fn start_agent(&mut self) {
        self.province.start_agent(AGENCY);
        let agent = self.province.agent_process(AGENCY);
        wait_until_blocking("the agent to run", ARRIVES_WITHIN, || {
            assert!(agent.is_running(), "the agent ended:\n{}", agent.log());
            agent.log().contains("is running")
        });
    }

    async fn identical(&self, table: &str) -> u64 {
        self.province.wait_until_identical(AGENCY, &format!("thu.{table}")).await
    }

    async fn says(&self, sql: &str, expected: &str) {
        wait_until(&format!("{sql} to give {expected}"), ARRIVES_WITHIN, async || {
            (self.warehouse.psql(sql).trim_end() == expected).then_some(())
        })
        .await;
    }

    fn epoch(&self, table: &str) -> u64 {
        let sql = format!("select max(epoch) from phusa.streams where dataset = 'thu.{table}'");
        self.warehouse.psql(&sql).trim().parse().unwrap()
    }

    async fn trouble(&self, code: &str) -> String {
        wait_until(&format!("trouble with {code}"), ARRIVES_WITHIN, async || {
            let output = self.province.agent(AGENCY, &["status", "--json"]);
            let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
            let trouble = status["datasets"][0]["reading_trouble"].clone();
            (trouble["code"] == code).then(|| trouble["what"].as_str().unwrap_or("").to_owned())
        })
        .await
    }
}

fn int(number: i64) -> Value {
    Value::Int(number)
}

fn people(count: i64) -> Table {
    let mut table = Table::new("nguoi", &["id int", "ten nvarchar(50) null", "so int"], &["id"]);
    let row = |id: i64| vec![int(id), Value::text(&format!("Nguyễn Văn {id}")), int(0)];
    table.rows = (1..=count).map(row).collect();
    table
}

const PEOPLE: Share<'_> =
    Share { table: "nguoi", key: "id", fields: &["id int4", "ten text", "so int4"], rules: "" };

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_read_followed_and_read_again_when_its_changes_are_gone() {
    let mut agency = Agency::new();
    agency.server.database().create(people(500));
    let said = agency.share("[guard]\nchunk_rows = 120\n[batch]\nbatch_rows_max = 50\n", &[PEOPLE]);
    for fact in ["not yet verified against a real server", "capture of dbo.nguoi: change tracking"]
    {
        assert!(said.contains(fact), "{fact}: {said}");
    }
    agency.start();
    assert_eq!(agency.identical("nguoi").await, 500);
    agency.server.database().commit(|database| {
        database.update("nguoi", &[int(7)], |row| row[1] = Value::text("Trần Thị Bảy"));
        database.delete("nguoi", &[int(8)]);
        database.insert("nguoi", vec![int(1_000), Value::Null, int(1)]);
        database.update("nguoi", &[int(9)], |row| row[0] = int(9_000));
    });
    agency.says("select ten from thu.nguoi where id = 7", "Trần Thị Bảy").await;
    agency.says("select count(*) from thu.nguoi where id in (8, 9)", "0").await;
    assert_eq!(agency.identical("nguoi").await, 500);

    agency.province.agent_process(AGENCY).kill();
    agency.server.database().commit(|database| database.delete("nguoi", &[int(1)]));
    agency.start_agent();
    assert_eq!(agency.identical("nguoi").await, 499);
    assert_eq!(agency.epoch("nguoi"), 1, "a kill is no reason to begin anew");

    agency.province.agent_process(AGENCY).kill();
    {
        let mut database = agency.server.database();
        database.commit(|database| database.delete("nguoi", &[int(2)]));
        database.forget();
    }
    agency.start_agent();
    assert_eq!(agency.identical("nguoi").await, 498);
    assert_eq!(agency.epoch("nguoi"), 2, "what was forgotten is read again");

    agency.server.database().truncate("nguoi");
    assert_eq!(agency.identical("nguoi").await, 0);
    assert_eq!(agency.epoch("nguoi"), 3, "a truncated table is read again");
    // Restored from a backup: the same rows, and versions that count on from an older one.
    {
        let mut database = agency.server.database();
        (database.made, database.version) = (2, database.version - 1);
        let version = database.version;
        let table = database.table("nguoi");
        (table.rows, table.tracked_since) = (people(3).rows, Some(version));
    }
    assert_eq!(agency.identical("nguoi").await, 3);
    assert_eq!(agency.epoch("nguoi"), 4, "a restored database is read again");
    agency.province.verify_log();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_read_goes_on_after_kill_9_and_a_cut_line_with_keys_of_several_columns() {
    const ROWS: i64 = 3_000;
    let mut agency = Agency::new();
    let columns = ["xa varchar(5)", "ma uniqueidentifier", "luc datetime", "so int"];
    let mut table = Table::new("ho_so", &columns, &["xa", "ma", "luc"]);
    let row = |n: i64| {
        let mut guid = [0; 16];
        guid[..8].copy_from_slice(&(n * 7_919).to_be_bytes());
        guid[15] = u8::try_from(n % 251).unwrap();
        let time = three_hundredths(u64::try_from(n).unwrap() * 33_333);
        let luc = Value::Moment(days("2026-11-21"), time);
        vec![Value::text(&format!("X{}", n % 5)), Value::Guid(guid), luc, int(0)]
    };
    table.rows = (1..=ROWS).map(row).collect();
    agency.server.database().create(table);
    let settings = "[guard]\nchunk_rows = 100\nrows_per_second_max = 1000\n\
                    [batch]\nbatch_rows_max = 30\n";
    let share = Share {
        table: "ho_so",
        key: "ma xa luc",
        fields: &["xa text", "ma uuid", "luc timestamp", "so int4"],
        rules: "",
    };
    agency.share(settings, &[share]);
    agency.server.plan("order by t.[xa], t.[ma], t.[luc]", Trouble::DropAfter(20), 2);
    agency.start();
    let carried = "select coalesce(sum((((entry::json->>'header')::json->'counts')->>'snapshot')::int8), 0) \
                   from phusa.transfers where kind = 'push' and dataset = 'thu.ho_so'";
    let count = |agency: &Agency| agency.warehouse.psql(carried).trim().parse::<i64>().unwrap();
    wait_until("the read to be in its middle", ARRIVES_WITHIN, async || {
        (count(&agency) >= ROWS / 3).then_some(())
    })
    .await;
    agency.province.agent_process(AGENCY).kill();
    assert!(count(&agency) < ROWS, "the read was over too early");
    agency.server.database().commit(|database| {
        for n in [1, 600, 1_500, 2_999] {
            let key = row(n)[..3].to_vec();
            database.update("ho_so", &key, |row| row[3] = int(n));
        }
        let key = row(2)[..3].to_vec();
        database.delete("ho_so", &key);
    });
    agency.start_agent();
    assert_eq!(agency.identical("ho_so").await, 2_999);
    agency.says("select count(*) from phusa.streams where consistent_at is not null", "1").await;
    assert_eq!(agency.epoch("ho_so"), 1);
    assert!(agency.server.all_went_wrong());
    let read = count(&agency);
    assert!(read < ROWS + 1_000, "{read} rows were read of {ROWS}: too many twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_of_changes_is_never_half_visible_however_often_it_is_cut() {
    let mut agency = Agency::new();
    agency.server.database().create(people(200));
    agency.share("[batch]\nbatch_rows_max = 20\n", &[PEOPLE]);
    agency.start();
    assert_eq!(agency.identical("nguoi").await, 200);
    agency.server.plan("from changetable(", Trouble::DropAfter(90), 3);
    agency.server.database().commit(|database| {
        for id in 1..=200 {
            database.update("nguoi", &[int(id)], |row| row[2] = int(1));
        }
    });
    wait_until("all rows to have changed", ARRIVES_WITHIN, async || {
        let seen = agency.warehouse.psql("select count(distinct so), min(so) from thu.nguoi");
        assert!(["1|0", "1|1"].contains(&seen.trim()), "half of a transaction is visible: {seen}");
        (seen.trim() == "1|1").then_some(())
    })
    .await;
    assert!(agency.server.all_went_wrong(), "the line was cut three times");
    assert_eq!(agency.identical("nguoi").await, 200);
    agency.province.verify_log();
}

#[tokio::test(flavor = "multi_thread")]
async fn change_data_capture_is_followed_transaction_by_transaction() {
    let mut agency = Agency::new();
    {
        let mut database = agency.server.database();
        database.create(people(100));
        database.capture("nguoi");
        database.table("nguoi").granted = true;
    }
    let said = agency.share("[batch]\nbatch_rows_max = 20\n", &[PEOPLE]);
    assert!(
        said.contains("capture of dbo.nguoi: change data capture, instance dbo_nguoi"),
        "{said}"
    );
    agency.start();
    assert_eq!(agency.identical("nguoi").await, 100);
    agency.says("select count(*) from phusa.streams where consistent_at is not null", "1").await;
    agency.server.plan("fn_cdc_get_all_changes", Trouble::DropAfter(131), 2);
    {
        let mut database = agency.server.database();
        database
            .commit(|database| database.insert("nguoi", vec![int(300), Value::text("Ba"), int(2)]));
        database.commit(|database| {
            for id in 1..=100 {
                database.update("nguoi", &[int(id)], |row| row[2] = int(1));
            }
        });
        database.commit(|database| database.delete("nguoi", &[int(1)]));
        database.commit(|database| database.update("nguoi", &[int(2)], |row| row[0] = int(-2)));
    }
    wait_until("all rows to have changed", ARRIVES_WITHIN, async || {
        let seen = agency.warehouse.psql("select count(distinct so) from thu.nguoi where id < 300");
        assert_eq!(seen.trim(), "1", "half of a transaction is visible");
        let done = agency.warehouse.psql("select count(*) from thu.nguoi where id = -2");
        (done.trim() == "1").then_some(())
    })
    .await;
    assert!(agency.server.all_went_wrong(), "the line was cut twice");
    assert_eq!(agency.identical("nguoi").await, 100);
    // When the server says that it was committed, and not when it was read.
    let sql = "select _source_time at time zone 'utc' from thu.nguoi where id = -2";
    agency.says(sql, "2026-11-01 08:15:30.003").await;
    assert_eq!(agency.epoch("nguoi"), 1);
    agency.province.agent_process(AGENCY).kill();
    {
        let mut database = agency.server.database();
        database.commit(|database| database.delete("nguoi", &[int(300)]));
        database.forget();
    }
    agency.start_agent();
    assert_eq!(agency.identical("nguoi").await, 99);
    assert_eq!(agency.epoch("nguoi"), 2, "what was cleaned up is read again");
    agency.province.verify_log();
}

#[tokio::test(flavor = "multi_thread")]
async fn by_row_version_everything_but_deletes_arrives_and_check_says_so() {
    let mut agency = Agency::new();
    let columns = ["id int", "ten nvarchar(50) null", "so int", "rv rowversion"];
    let mut table = Table::new("nguoi", &columns, &["id"]);
    table.granted = true;
    {
        let mut database = agency.server.database();
        database.create(table);
        for id in 1..=40 {
            database.commit(|d| d.insert("nguoi", vec![int(id), Value::Null, int(0), Value::Null]));
        }
    }
    let said = agency.share("", &[PEOPLE]);
    for part in ["row version rv; DELETES ARE NOT SEEN", "enable change_tracking;"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    agency.start();
    assert_eq!(agency.identical("nguoi").await, 40);
    agency.server.database().commit(|database| {
        database.update("nguoi", &[int(3)], |row| row[1] = Value::text("Ba"));
        database.insert("nguoi", vec![int(41), Value::text("Mới"), int(1), Value::Null]);
    });
    assert_eq!(agency.identical("nguoi").await, 41);
    agency.says("select ten from thu.nguoi where id = 3", "Ba").await;
    assert!(agency.province.agent_process(AGENCY).log().contains("deletes are not seen"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_filter_is_asked_of_the_server_and_a_row_that_no_longer_fits_is_forgotten() {
    let mut agency = Agency::new();
    let mut table = people(10);
    (0..10).for_each(|at| {
        table.rows[at][1] = Value::text(if at < 4 { "Huế" } else { "Đà Nẵng" });
    });
    agency.server.database().create(table);
    let said = agency.share("", &[Share { rules: "where = \"ten = 'Huế'\"", ..PEOPLE }]);
    assert!(said.contains("filtered at the source: [ten] = N'Huế'"), "{said}");
    agency.start();
    assert_eq!(agency.identical("nguoi").await, 4);
    agency.server.database().commit(|database| {
        database.update("nguoi", &[int(1)], |row| row[1] = Value::text("Hội An"));
        database.update("nguoi", &[int(9)], |row| row[1] = Value::text("Huế"));
        database.insert("nguoi", vec![int(11), Value::text("Huế"), int(1)]);
        database.insert("nguoi", vec![int(12), Value::text("Huê"), int(1)]);
    });
    assert_eq!(agency.identical("nguoi").await, 5);
    agency.says("select string_agg(id::text, ' ' order by id) from thu.nguoi", "2 3 4 9 11").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_server_are_said_plainly_and_nothing_is_lost_by_them() {
    let mut agency = Agency::new();
    agency.server.database().create(people(20));
    agency.place("", &[PEOPLE]);
    let check = |agency: &Agency| said(&agency.province.agent(AGENCY, &["check", "--offline"]));
    let says = |agency: &Agency, parts: &[&str]| {
        let said = check(agency);
        for part in parts {
            assert!(said.contains(part), "{part}: {said}");
        }
    };
    says(&agency, &["source_table_missing", "grant select ([id], [ten], [so]) on [dbo].[nguoi]"]);
    agency.server.plan("login", Trouble::Error(18_456), 1);
    says(&agency, &["source_login", "error 18456", "create login [phusa]"]);
    agency.server.plan("login", Trouble::Route(agency.server.port()), 1);
    says(&agency, &["source_table_missing"]);
    agency.server.plan("login", Trouble::Drop, 1);
    says(&agency, &["source_unreachable"]);
    agency.server.database().ways = vec!["it is a member of database role db_owner".to_owned()];
    says(&agency, &["source_can_write", "db_owner", "create login [phusa_reader]"]);
    agency.server.database().ways.clear();
    agency.server.database().snapshots = false;
    says(&agency, &["snapshot isolation is off", "set allow_snapshot_isolation on;"]);

    let settings = "[guard]\nstatement_timeout = \"1s\"\n";
    agency.share(settings, &[PEOPLE]);
    agency.start();
    assert_eq!(agency.identical("nguoi").await, 20);
    agency.server.plan("from changetable(", Trouble::Hang, 1);
    agency.server.database().commit(|d| d.delete("nguoi", &[int(1)]));
    let said = agency.trouble("source_unreachable").await;
    assert!(said.contains("stayed silent"), "{said}");
    assert_eq!(agency.identical("nguoi").await, 19);
    agency.server.plan("from changetable(", Trouble::Error(1_205), 2);
    agency.server.database().commit(|d| d.delete("nguoi", &[int(2)]));
    assert_eq!(agency.identical("nguoi").await, 18);

    agency.server.database().retype("nguoi", "so", "bigint");
    let said = agency.trouble("source_schema").await;
    assert!(said.contains("column so of dbo.nguoi is no longer int"), "{said}");
    agency.server.database().retype("nguoi", "so", "int");
    agency.server.database().commit(|d| d.delete("nguoi", &[int(3)]));
    assert_eq!(agency.identical("nguoi").await, 17);
    agency.province.verify_log();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_carried_or_followed_is_refused_by_name() {
    let mut agency = Agency::new();
    let mut table =
        Table::new("dia_diem", &["id int", "cho geography", "goc sql_variant"], &["id"]);
    table.granted = true;
    agency.server.database().create(table);
    let share = Share {
        table: "dia_diem",
        key: "id",
        fields: &["id int4", "cho bytea", "goc text"],
        rules: "capture = \"log\"",
    };
    agency.place("", &[share]);
    let said = said(&agency.province.agent(AGENCY, &["check", "--offline"]));
    for part in [
        "column cho of dbo.dia_diem is geography: types of the CLR are not carried",
        "column goc of dbo.dia_diem is sql_variant: each of its values has a type of its own",
        "dbo.dia_diem has neither change tracking nor change data capture nor a rowversion column",
        "alter database [hotich] set change_tracking = on (change_retention = 7 days, auto_cleanup = on);",
        "alter table [dbo].[dia_diem] enable change_tracking;",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_known_by_its_certificate_and_old_tls_is_said_plainly() {
    let mut agency = Agency::new();
    agency.server.database().create(people(30));
    agency.place("", &[PEOPLE]);
    let path = agency.province.agent_config(AGENCY);
    let text = std::fs::read_to_string(&path).unwrap();
    let hub = agency.province.hub_folder();
    let protect = |ca: &std::path::Path| {
        let tls = format!("tls = \"verify\"\ntls_ca_file = \"{}\"", ca.display());
        std::fs::write(&path, text.replace("tls = \"off\"", &tls)).unwrap();
    };
    let says = |agency: &Agency, parts: &[&str]| {
        let said = said(&agency.province.agent(AGENCY, &["check", "--offline"]));
        for part in parts {
            assert!(said.contains(part), "{part}: {said}");
        }
    };
    protect(&hub.join("ca.pem"));
    says(&agency, &["source_tls", "this server does not encrypt"]);
    agency.server.encrypt(Encryption::Old);
    says(&agency, &["source_tls", "speaks only TLS 1.0 or 1.1"]);
    agency.server.encrypt(Encryption::with(&hub.join("hub.pem"), &hub.join("hub.key")));
    says(&agency, &["source_table_missing"]);
    let stranger = Province::new();
    protect(&stranger.hub_folder().join("ca.pem"));
    says(&agency, &["source_tls", "certificate was rejected"]);
    protect(&hub.join("ca.pem"));
    for statement in [
        "alter database [hotich] set change_tracking = on (change_retention = 7 days);",
        "alter table [dbo].[nguoi] enable change_tracking;",
        "grant select ([id]) on [dbo].[nguoi] to [phusa];",
        "grant view change tracking on [dbo].[nguoi] to [phusa];",
    ] {
        agency.server.database().administer(statement);
    }
    agency.start();
    assert_eq!(agency.identical("nguoi").await, 30);
    // A line that is in the clear all the way is not taken for one that is not.
    assert!(said(&agency.province.agent(AGENCY, &["check", "--offline"])).contains("ready"));
}

#[test]
fn keys_of_other_engines_and_instance_names_are_refused_in_the_file() {
    let mut agency = Agency::new();
    agency.place("", &[PEOPLE]);
    let path = agency.province.agent_config(AGENCY);
    let text = std::fs::read_to_string(&path).unwrap();
    let check = |from: &str, to: &str, expected: &str| {
        std::fs::write(&path, text.replace(from, to)).unwrap();
        let said = said(&agency.province.agent(AGENCY, &["check", "--offline"]));
        assert!(said.contains(expected), "{expected}: {said}");
    };
    check(
        "tls = \"off\"",
        "tls = \"off\"\nslot_wal_max = \"1GiB\"",
        "`slot_wal_max` is for engine \"postgresql\"",
    );
    check(
        "[source]\nengine = \"sqlserver\"\nhost = \"127.0.0.1\"",
        "[source]\nengine = \"sqlserver\"\nhost = 'may\\HOTICH'",
        "a named instance is reached by its own `port`",
    );
    check("user = \"phusa\"", "user = 'SO\\phusa'", "is a Windows login");
}
