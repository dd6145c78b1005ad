//! Data that was given and is not ours: Vietnam's administrative units and a shop's records, each in
//! three dialects. Loaded into every engine and moved by the mappings that `propose` makes, they are
//! the same in every warehouse. The folder is never part of the project; where it is not, nothing
//! is tested and that is said.

mod script;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use phusa_protocol::digest::RowsDigest;
use phusa_tests::database::{Database, Server, Version};
use phusa_tests::mysql::{Flavour, MySqlDatabase, MySqlServer};
use phusa_tests::process::wait_until;
use phusa_tests::province::{ARRIVES_WITHIN, Dataset, Readable, Reader};
use phusa_tests::tds::SqlServer;
use phusa_tests::world::{AGENCY, Share, World, said};

use self::script::{Given, snake};

/// Records and digest of every dataset.
type Digests = BTreeMap<String, RowsDigest>;

/// The scripts of one set in the order they are run: PostgreSQL's, MySQL's, SQL Server's.
const SETS: [[&[&str]; 3]; 2] = [
    [
        &[
            "vn-units/postgresql/postgres_CreateTables_vn_units.sql",
            "vn-units/postgresql/postgres_ImportData_vn_units.sql",
        ],
        &[
            "vn-units/mysql/mysql_CreateTables_vn_units.sql",
            "vn-units/mysql/mysql_ImportData_vn_units.sql",
        ],
        &[
            "vn-units/sqlserver/mssql_CreateTables_vn_units.sql",
            "vn-units/sqlserver/mssql_ImportData_vn_units.sql",
        ],
    ],
    [
        &["chinook/Chinook_PostgreSql.sql"],
        &["chinook/Chinook_MySql.sql"],
        &["chinook/Chinook_SqlServer.sql"],
    ],
];

/// Where the data is: what `PHUSA_SHARED_DATA` names, or beside the project.
fn folder() -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    std::env::var_os("PHUSA_SHARED_DATA").map_or_else(beside, PathBuf::from)
}

/// The scripts of all sets in one dialect, without what would make a database of their own.
fn scripts(folder: &Path, dialect: usize) -> Vec<String> {
    let files = SETS.iter().flat_map(|set| set[dialect]);
    let is_own = |line: &&str| {
        let line = line.to_uppercase();
        ["DROP DATABASE", "CREATE DATABASE", "USE ", "\\C "]
            .iter()
            .any(|word| line.starts_with(word))
    };
    let read = |file: &&str| {
        let text = std::fs::read_to_string(folder.join(file)).expect("a script that was given");
        let text = text.trim_start_matches('\u{feff}');
        text.lines().filter(|line| !is_own(line)).collect::<Vec<_>>().join("\n")
    };
    files.map(read).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn given_data_is_the_same_in_every_warehouse_whatever_engine_it_comes_from() {
    let folder = folder();
    if !folder.is_dir() {
        println!("no data in {}: nothing was moved (PHUSA_SHARED_DATA names it)", folder.display());
        return;
    }
    let server = scripts(&folder, 2);
    let tables: Vec<Given> = server.iter().flat_map(|text| script::tables(text)).collect();
    let postgres = Arc::new(Server::start(Version::V15, "")).database();
    load_postgres(&postgres, &scripts(&folder, 0)).await;
    let from_postgres = moved("PostgreSQL", postgres, &tables, snake).await;
    let mariadb = Arc::new(MySqlServer::start(Flavour::MariaDb, "")).database();
    load_mariadb(&mariadb, &scripts(&folder, 1));
    let from_mariadb = moved("MariaDB", mariadb, &tables, str::to_owned).await;
    let sqlserver = SqlServer::start("bi-mat");
    load_sqlserver(&sqlserver, &tables, &server);
    let from_sqlserver = moved("SQL Server (scripted)", sqlserver, &tables, str::to_owned).await;
    assert_eq!(from_postgres, from_mariadb, "PostgreSQL and MariaDB");
    assert_eq!(from_postgres, from_sqlserver, "PostgreSQL and SQL Server");
    let records: u64 = from_postgres.values().map(|digest| digest.rows).sum();
    println!("{} tables, {records} records: the same from three engines", from_postgres.len());
}

/// To PostgreSQL `N'…'` is `char`, of which it drops spaces at the end; other servers keep them.
async fn load_postgres(database: &Database, scripts: &[String]) {
    let client = database.connect().await;
    for script in scripts {
        let script = script.replace("(N'", "('").replace(", N'", ", '");
        client.batch_execute(&script).await.expect("a script that PostgreSQL takes");
    }
}

/// The scripts write a backslash as other servers do.
fn load_mariadb(database: &MySqlDatabase, scripts: &[String]) {
    for script in scripts {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), script).expect("a script");
        let mode = "set sql_mode = concat(@@sql_mode, ',NO_BACKSLASH_ESCAPES')";
        database.sql(&format!("{mode};\nsource {}", file.path().display()));
    }
}

fn load_sqlserver(server: &SqlServer, tables: &[Given], scripts: &[String]) {
    let mut database = server.database();
    for table in tables {
        database.create(table.model());
    }
    database.commit(|database| {
        for script in scripts {
            script::insert(script, tables, database);
        }
    });
}

/// Moves every table by the mapping that `propose` makes of its contract; `spelled` is how the
/// source writes a name.
async fn moved<S: Readable>(
    engine: &str,
    source: S,
    tables: &[Given],
    spelled: fn(&str) -> String,
) -> Digests {
    let mut world = World::around(source);
    let schema = world.source.schema().to_owned();
    let written: Vec<Dataset> = tables.iter().map(|t| by_hand(t, &schema, spelled)).collect();
    let reader = Reader { agency: AGENCY, database: &world.source, settings: "" };
    world.province.add_agent(reader, &written);
    for (table, dataset) in tables.iter().zip(&written) {
        propose(&world, &format!("{schema}.{}", spelled(&table.name)), dataset);
    }
    let checked = world.agent(&["check", "--offline"]);
    assert!(checked.status.success(), "{}", said(&checked));
    world.start();
    let ids: Vec<&str> = written.iter().map(|dataset| dataset.id.as_str()).collect();
    let digests: Digests = wait_until("every table to be the same", ARRIVES_WITHIN, async || {
        let ends = world.province.ends_of(AGENCY, &ids);
        let same = |(id, ends): (&&str, [Option<RowsDigest>; 2])| {
            ends[0].filter(|_| ends[0] == ends[1]).map(|digest| ((*id).to_owned(), digest))
        };
        ids.iter().zip(ends).map(same).collect()
    })
    .await;
    world.province.verify_log();
    assert!(world.province.agent_process(AGENCY).stop().success());
    let records: u64 = digests.values().map(|digest| digest.rows).sum();
    println!("{engine}: {} tables, {records} records; counts and digests identical", digests.len());
    digests
}

/// A table's contract, and a mapping as a person would write it.
fn by_hand(table: &Given, schema: &str, spelled: fn(&str) -> String) -> Dataset {
    let own = snake(&table.name);
    let key: Vec<String> = table.key.iter().map(|name| snake(name)).collect();
    let field = |column: &script::Column| {
        format!("{}>{} {}", spelled(&column.name), snake(&column.name), column.contract_type())
    };
    let fields: Vec<String> = table.columns.iter().map(field).collect();
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    let share = Share { table: &own, key: &key.join(" "), fields: &fields, rules: "" };
    let mut dataset = share.dataset_of(schema);
    let (from, to) = (format!("{schema}.{own}\""), format!("{schema}.{}\"", spelled(&table.name)));
    dataset.mapping = dataset.mapping.replace(&from, &to);
    dataset
}

/// Puts what `propose` makes in the place of the mapping, which must map as a person would.
fn propose<S: Readable>(world: &World<S>, table: &str, dataset: &Dataset) {
    let folder = world.province.agent_folder(AGENCY);
    let contract = folder.join("contracts").join(format!("{}.toml", dataset.id));
    let proposed = world.agent(&["propose", &contract.display().to_string(), table]);
    assert!(proposed.status.success(), "{table}: {}", said(&proposed));
    let proposed = String::from_utf8(proposed.stdout).expect("text");
    assert_eq!(pairs(&proposed), pairs(&dataset.mapping), "{table}: {proposed}");
    let file = folder.join("datasets").join(format!("{}.toml", dataset.id));
    std::fs::write(file, proposed).expect("a dataset's file");
}

/// Which column becomes which field.
fn pairs(mapping: &str) -> Vec<(String, String)> {
    let file: toml::Table = toml::from_str(mapping).expect("a dataset's file");
    let text = |field: &toml::Value, key: &str| field[key].as_str().unwrap_or_default().to_owned();
    let fields = file["field"].as_array().expect("fields").iter();
    fields.map(|field| (text(field, "from"), text(field, "to"))).collect()
}
