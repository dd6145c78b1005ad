//! Every sample mapping of `configs/datasets` moves rows: from tables made to fit it, in PostgreSQL,
//! MariaDB and SQL Server, to the warehouse, with the same digest at both ends and from every engine.

mod table;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use phusa_protocol::digest::RowsDigest;
use phusa_tests::database::{Server, Version};
use phusa_tests::mysql::MySqlServer;
use phusa_tests::province::{Dataset, Province, Reader, private, statements};
use phusa_tests::tds::SqlServer;
use phusa_tests::tds::model;

use crate::world::{AGENCY, World, said};
use table::{Engine, Sample};

/// So many rows of each table.
const ROWS: u64 = 60;

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs")
}

/// Every sample, in the order of their files.
fn samples() -> Vec<Sample> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(configs().join("datasets")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let samples: Vec<Sample> = files.iter().map(|file| Sample::read(&configs(), file)).collect();
    let themes: Vec<&str> = samples.iter().map(|s| s.id.split('.').next().unwrap()).collect();
    for theme in ["cong_dan", "doanh_nghiep", "cbccvc", "ho_so", "tthc", "danh_muc"] {
        assert!(themes.contains(&theme), "no sample of theme {theme}");
    }
    samples
}

/// The lists and the key that the samples name, where the agent's files will be.
fn place_lists_and_key(province: &Province) {
    let folder = province.path().join(format!("certs/agents/{AGENCY}__may-1"));
    for part in ["lists", "datasets"] {
        fs::create_dir_all(folder.join(part)).unwrap();
    }
    for entry in fs::read_dir(configs().join("lists")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.join("lists").join(path.file_name().unwrap())).unwrap();
    }
    let key = folder.join("datasets/hmac.key");
    fs::write(&key, "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=").unwrap();
    private(&key);
}

/// Everything arrives; returns each dataset's digest.
async fn all_arrive(province: &mut Province, samples: &[Sample]) -> BTreeMap<String, RowsDigest> {
    let catalogue = configs().join("categories.toml").display().to_string();
    let imported = province.hub(&["category", "import", "--catalogue", &catalogue]);
    assert!(imported.status.success(), "{}", said(&imported));
    province.start_hub();
    province.start_agent(AGENCY);
    let mut digests = BTreeMap::new();
    for sample in samples {
        let rows = province.wait_until_identical(AGENCY, &sample.id).await;
        assert_eq!(rows, ROWS, "{}", sample.id);
        let [source, _] = province.both_ends(AGENCY, &sample.id);
        digests.insert(sample.id.clone(), source.unwrap());
    }
    province.verify_log();
    digests
}

async fn postgresql(samples: &[Sample]) -> BTreeMap<String, RowsDigest> {
    let mut world = World::new(Version::V15);
    samples
        .iter()
        .for_each(|sample| drop(world.source.psql(&sample.sql(Engine::Postgresql, ROWS))));
    place_lists_and_key(&world.province);
    let datasets: Vec<Dataset> =
        samples.iter().map(|sample| sample.dataset(Engine::Postgresql, "public")).collect();
    let reader = Reader { agency: AGENCY, database: &world.source, settings: "" };
    world.province.add_agent(reader, &datasets);
    all_arrive(&mut world.province, samples).await
}

async fn mariadb(samples: &[Sample]) -> BTreeMap<String, RowsDigest> {
    let mut world = World::around(MySqlServer::shared().database());
    samples.iter().for_each(|sample| drop(world.source.sql(&sample.sql(Engine::Mysql, ROWS))));
    place_lists_and_key(&world.province);
    let schema = phusa_tests::province::Readable::schema(&world.source).to_owned();
    let datasets: Vec<Dataset> =
        samples.iter().map(|sample| sample.dataset(Engine::Mysql, &schema)).collect();
    let reader = Reader { agency: AGENCY, database: &world.source, settings: "" };
    world.province.add_agent(reader, &datasets);
    all_arrive(&mut world.province, samples).await
}

async fn sqlserver(samples: &[Sample]) -> BTreeMap<String, RowsDigest> {
    let warehouse = Server::shared(Version::V15).database();
    let mut province = Province::with_external(&warehouse);
    let migrated = province.hub(&["migrate"]);
    assert!(migrated.status.success(), "{}", said(&migrated));
    let server = SqlServer::start("bi-mat");
    for sample in samples {
        let (columns, key) = sample.scripted_columns();
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        let key: Vec<&str> = key.iter().map(String::as_str).collect();
        let mut database = server.database();
        database.create(model::Table::new(&sample.table, &columns, &key));
        database.commit(|database| {
            (1..=ROWS).for_each(|n| database.insert(&sample.table, sample.scripted_row(n)));
        });
    }
    place_lists_and_key(&province);
    let source = format!(
        "engine = \"sqlserver\"\nhost = \"127.0.0.1\"\nport = {}\ndatabase = \"hotich\"\n\
         user = \"phusa\"\npassword_file = \"source.password\"\ntls = \"off\"\n",
        server.port()
    );
    let datasets: Vec<Dataset> =
        samples.iter().map(|sample| sample.dataset(Engine::Sqlserver, "dbo")).collect();
    province.place_agent(AGENCY, &source, &datasets);
    for _ in 0..4 {
        let checked = said(&province.agent(AGENCY, &["check", "--offline"]));
        statements(&checked).into_iter().for_each(|sql| server.database().administer(sql));
    }
    all_arrive(&mut province, samples).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sample_mapping_moves_rows_and_all_engines_give_the_same() {
    let samples = samples();
    let postgresql = postgresql(&samples).await;
    let mariadb = mariadb(&samples).await;
    let sqlserver = sqlserver(&samples).await;
    assert_eq!(mariadb, sqlserver, "MariaDB and SQL Server differ");
    for sample in &samples {
        // Arrays and JSON are PostgreSQL's alone; elsewhere the sample sends null.
        let same = postgresql.get(&sample.id) == mariadb.get(&sample.id);
        assert_eq!(same, !sample.has_arrays_or_json(), "{}", sample.id);
    }
    println!("{} samples, {ROWS} rows each, three engines: identical", samples.len());
}
