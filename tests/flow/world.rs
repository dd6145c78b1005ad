//! `World`: a source, a warehouse that can be asked, and a province between them; datasets are
//! written as one line a field.

use std::fmt::Write as _;
use std::fs;
use std::process::Output;
use std::sync::Arc;

use phusa_tests::database::{Database, Server, Version};
use phusa_tests::process::{wait_until, wait_until_blocking};
use phusa_tests::province::{ARRIVES_WITHIN, Dataset, Province, Readable, Reader};
use serde_json::Value;

/// The agency of every world.
pub(crate) const AGENCY: &str = "H57.12";

/// A table that is shared as dataset `thu.<table>`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Share<'a> {
    /// Its name at the source and in the warehouse.
    pub(crate) table: &'a str,
    /// The key's fields, between spaces.
    pub(crate) key: &'a str,
    /// `name type`, or `column>name type`, and then perhaps a mask.
    pub(crate) fields: &'a [&'a str],
    /// Added to the head of the mapping, such as `where = "…"`.
    pub(crate) rules: &'a str,
}

impl Share<'_> {
    /// Its name as a dataset.
    pub(crate) fn id(&self) -> String {
        format!("thu.{}", self.table)
    }

    /// Its two files, of a table in PostgreSQL's usual schema.
    pub(crate) fn dataset(&self) -> Dataset {
        self.dataset_of("public")
    }

    /// Its two files, of a table in this schema.
    pub(crate) fn dataset_of(&self, schema: &str) -> Dataset {
        let id = self.id();
        let key: Vec<_> = self.key.split(' ').map(|name| format!("\"{name}\"")).collect();
        let mut contract = format!(
            "dataset = \"{id}\"\nversion = 1\ntitle_vi = \"Bộ dữ liệu thử\"\nowner = \"{AGENCY}\"\n\
             legal_basis = \"Nghị định 47/2020/NĐ-CP\"\nsharing = \"default\"\nfrequency = \"15m\"\n\
             retention = \"3650d\"\nkey = [{}]\n",
            key.join(", ")
        );
        let mut mapping = format!(
            "dataset = \"{id}\"\ncontract = \"../contracts/{id}.toml\"\n\
             table = \"{schema}.{}\"\n{}\n",
            self.table, self.rules
        );
        for field in self.fields {
            let mut parts = field.splitn(3, ' ');
            let name = parts.next().unwrap_or_default();
            let (from, to) = name.split_once('>').unwrap_or((name, name));
            let kind = parts.next().unwrap_or_default();
            let mask = parts.next().map(|mask| format!("mask = {mask}\n")).unwrap_or_default();
            let _ = write!(
                contract,
                "\n[[field]]\nname = \"{to}\"\ntype = \"{kind}\"\nclass = \"I\"\nname_vi = \"{to}\"\n"
            );
            let _ = write!(
                mapping,
                "\n[[field]]\nfrom = \"{from}\"\nto = \"{to}\"\nclass = \"I\"\n{mask}"
            );
        }
        Dataset { id, contract, mapping }
    }
}

/// One source, one agent, one hub and a warehouse that a test can ask.
#[derive(Debug)]
pub(crate) struct World<S = Database> {
    pub(crate) province: Province,
    pub(crate) source: S,
    pub(crate) warehouse: Database,
}

impl World {
    /// A world with a server of its own: every world has the same agent, and slots of one name
    /// are known to all databases of a server.
    pub(crate) fn new(version: Version) -> Self {
        Self::around(Arc::new(Server::start(version.or_given(), "")).database())
    }

    /// A world whose warehouse takes connections by TLS alone.
    pub(crate) fn with_warehouse_by_tls() -> Self {
        let warehouse = Arc::new(Server::start_with_tls()).database();
        let province = Province::with_external_by_tls(&warehouse, &warehouse.server().ca_file());
        let source = Server::shared(Version::V15).database();
        Self::of(province, source, warehouse)
    }

    /// The source's version, as `150004` is 15.4.
    pub(crate) fn source_version(&self) -> u32 {
        self.source.psql("show server_version_num").trim().parse().unwrap()
    }

    /// Names of the agent's slots at the source.
    pub(crate) fn slots(&self) -> String {
        let sql = "select string_agg(slot_name, ' ' order by slot_name) from pg_replication_slots
                   where database = current_database()";
        self.source.psql(sql).trim().to_owned()
    }
}

impl<S: Readable> World<S> {
    /// A world around a source.
    pub(crate) fn around(source: S) -> Self {
        let warehouse = Server::shared(Version::V15).database();
        let province = Province::with_external(&warehouse);
        Self::of(province, source, warehouse)
    }

    fn of(province: Province, source: S, warehouse: Database) -> Self {
        let migrated = province.hub(&["migrate"]);
        assert!(migrated.status.success(), "{}", said(&migrated));
        Self { province, source, warehouse }
    }

    /// Makes the agent that shares these tables, admitted at the source; `settings` is added to its
    /// `agent.toml`. Nothing runs yet.
    pub(crate) fn share(&mut self, settings: &str, shares: &[Share<'_>]) {
        let schema = self.source.schema();
        let datasets: Vec<_> = shares.iter().map(|share| share.dataset_of(schema)).collect();
        let reader = Reader { agency: AGENCY, database: &self.source, settings };
        self.province.add_agent(reader, &datasets);
    }

    /// Starts hub and agent.
    pub(crate) fn start(&mut self) {
        self.province.start_hub();
        self.start_agent();
    }

    /// Starts the agent, which must find nothing wrong with its files.
    pub(crate) fn start_agent(&mut self) {
        self.province.start_agent(AGENCY);
        let agent = self.province.agent_process(AGENCY);
        wait_until_blocking("the agent to run", ARRIVES_WITHIN, || {
            assert!(agent.is_running(), "the agent ended:\n{}", agent.log());
            agent.log().contains("is running")
        });
    }

    /// The agent's login at the source.
    pub(crate) fn login(&self) -> String {
        format!("phusa_{}", self.source.name())
    }

    /// Runs a command of the agent to its end.
    pub(crate) fn agent(&self, arguments: &[&str]) -> Output {
        self.province.agent(AGENCY, arguments)
    }

    /// Replaces text in a file of the agent's folder.
    pub(crate) fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.province.agent_folder(AGENCY).join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from:?} is not in {file}:\n{text}");
        fs::write(&path, text.replace(from, to)).unwrap();
    }

    /// What the running agent says of a table's dataset.
    pub(crate) fn status(&self, table: &str) -> Option<Value> {
        let output = self.agent(&["status", "--json"]);
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        let id = format!("thu.{table}");
        status["datasets"].as_array()?.iter().find(|one| one["dataset"] == id.as_str()).cloned()
    }

    /// Waits until the agent shows a fault of this code while reading a table; returns its words.
    pub(crate) async fn trouble(&self, table: &str, code: &str) -> String {
        let what = format!("{table} to be in trouble with {code}");
        wait_until(&what, ARRIVES_WITHIN, async || {
            let trouble = self.status(table)?["reading_trouble"].clone();
            (trouble["code"] == code).then(|| trouble["what"].as_str().unwrap_or("").to_owned())
        })
        .await
    }

    /// Waits until both ends hold the same rows of a table; returns how many.
    pub(crate) async fn identical(&self, table: &str) -> u64 {
        self.province.wait_until_identical(AGENCY, &format!("thu.{table}")).await
    }

    /// Waits until the warehouse answers a question so.
    pub(crate) async fn warehouse_says(&self, sql: &str, expected: &str) {
        wait_until(&format!("{sql} to give {expected}"), ARRIVES_WITHIN, async || {
            (self.warehouse.psql(sql).trim_end() == expected).then_some(())
        })
        .await;
    }

    /// The epoch in which a table's newest batch was committed; 0 before the first.
    pub(crate) fn epoch(&self, table: &str) -> u64 {
        let sql = format!(
            "select coalesce(max(epoch), 0) from phusa.streams where dataset = 'thu.{table}'"
        );
        self.warehouse.psql(&sql).trim().parse().unwrap()
    }

    /// Rows that accepted batches of a table carried, by operation.
    pub(crate) fn carried(&self, table: &str, op: &str) -> u64 {
        let sql = format!(
            "select coalesce(sum((((entry::json->>'header')::json->'counts')->>'{op}')::int8), 0)
             from phusa.transfers where kind = 'push' and dataset = 'thu.{table}'"
        );
        self.warehouse.psql(&sql).trim().parse().unwrap()
    }
}

/// All a command printed.
pub(crate) fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}
