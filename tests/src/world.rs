//! `World`: a source, a warehouse that can be asked, and a province between them; datasets are
//! written as one line a field.

use std::fmt::Write as _;
use std::fs;
use std::process::Output;
use std::sync::Arc;

use serde_json::Value;

use crate::database::{Database, Server, Version};
use crate::process::{wait_until, wait_until_blocking};
use crate::province::{ARRIVES_WITHIN, Dataset, Province, Readable, Reader};

/// The agency of every world.
pub const AGENCY: &str = "H57.12";

/// A table that is shared as dataset `thu.<table>`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Share<'a> {
    /// Its name at the source and in the warehouse.
    pub table: &'a str,
    /// The key's fields, between spaces.
    pub key: &'a str,
    /// `name type`, or `column>name type`, and then perhaps a mask.
    pub fields: &'a [&'a str],
    /// Added to the head of the mapping, such as `where = "…"`.
    pub rules: &'a str,
}

impl Share<'_> {
    /// Its name as a dataset.
    #[must_use]
    pub fn id(&self) -> String {
        format!("thu.{}", self.table)
    }

    /// Its two files, of a table in PostgreSQL's usual schema.
    #[must_use]
    pub fn dataset(&self) -> Dataset {
        self.dataset_of("public")
    }

    /// Its two files, of a table in this schema.
    #[must_use]
    pub fn dataset_of(&self, schema: &str) -> Dataset {
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
pub struct World<S = Database> {
    /// The hub, its agent, and their files.
    pub province: Province,
    /// What the agent reads.
    pub source: S,
    /// The hub's warehouse.
    pub warehouse: Database,
}

impl World {
    /// A world with a server of its own: every world has the same agent, and slots of one name
    /// are known to all databases of a server.
    ///
    /// # Panics
    /// When the server does not come up.
    #[must_use]
    pub fn new(version: Version) -> Self {
        Self::around(Arc::new(Server::start(version.or_given(), "")).database())
    }

    /// A world whose warehouse takes connections by TLS alone.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn with_warehouse_by_tls() -> Self {
        let warehouse = Arc::new(Server::start_with_tls()).database();
        let province = Province::with_external_by_tls(&warehouse, &warehouse.server().ca_file());
        let source = Server::shared(Version::V15).database();
        Self::of(province, source, warehouse)
    }

    /// The source's version, as `150004` is 15.4.
    ///
    /// # Panics
    /// When the server does not say.
    #[must_use]
    pub fn source_version(&self) -> u32 {
        self.source.psql("show server_version_num").trim().parse().unwrap()
    }

    /// Names of the agent's slots at the source.
    #[must_use]
    pub fn slots(&self) -> String {
        let sql = "select string_agg(slot_name, ' ' order by slot_name) from pg_replication_slots
                   where database = current_database()";
        self.source.psql(sql).trim().to_owned()
    }
}

impl<S: Readable> World<S> {
    /// A world around a source.
    ///
    /// # Panics
    /// When the hub does not bring it to its schema.
    #[must_use]
    pub fn around(source: S) -> Self {
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
    pub fn share(&mut self, settings: &str, shares: &[Share<'_>]) {
        let schema = self.source.schema();
        let datasets: Vec<_> = shares.iter().map(|share| share.dataset_of(schema)).collect();
        let reader = Reader { agency: AGENCY, database: &self.source, settings };
        self.province.add_agent(reader, &datasets);
    }

    /// Starts hub and agent.
    pub fn start(&mut self) {
        self.province.start_hub();
        self.start_agent();
    }

    /// Starts the agent, which must find nothing wrong with its files.
    ///
    /// # Panics
    /// With its log, when it ends.
    pub fn start_agent(&mut self) {
        self.province.start_agent(AGENCY);
        let agent = self.province.agent_process(AGENCY);
        wait_until_blocking("the agent to run", ARRIVES_WITHIN, || {
            assert!(agent.is_running(), "the agent ended:\n{}", agent.log());
            agent.log().contains("is running")
        });
    }

    /// The agent's login at the source.
    #[must_use]
    pub fn login(&self) -> String {
        format!("phusa_{}", self.source.name())
    }

    /// Runs a command of the agent to its end.
    #[must_use]
    pub fn agent(&self, arguments: &[&str]) -> Output {
        self.province.agent(AGENCY, arguments)
    }

    /// Replaces text in a file of the agent's folder.
    ///
    /// # Panics
    /// When it does not stand there.
    pub fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.province.agent_folder(AGENCY).join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from:?} is not in {file}:\n{text}");
        fs::write(&path, text.replace(from, to)).unwrap();
    }

    /// What the running agent says of a table's dataset.
    #[must_use]
    pub fn status(&self, table: &str) -> Option<Value> {
        let output = self.agent(&["status", "--json"]);
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        let id = format!("thu.{table}");
        status["datasets"].as_array()?.iter().find(|one| one["dataset"] == id.as_str()).cloned()
    }

    /// Waits until the agent shows a fault of this code while reading a table; returns its words.
    pub async fn trouble(&self, table: &str, code: &str) -> String {
        let what = format!("{table} to be in trouble with {code}");
        wait_until(&what, ARRIVES_WITHIN, async || {
            let trouble = self.status(table)?["reading_trouble"].clone();
            (trouble["code"] == code).then(|| trouble["what"].as_str().unwrap_or("").to_owned())
        })
        .await
    }

    /// Waits until both ends hold the same rows of a table; returns how many.
    pub async fn identical(&self, table: &str) -> u64 {
        self.province.wait_until_identical(AGENCY, &format!("thu.{table}")).await
    }

    /// Waits until the warehouse answers a question so.
    pub async fn warehouse_says(&self, sql: &str, expected: &str) {
        wait_until(&format!("{sql} to give {expected}"), ARRIVES_WITHIN, async || {
            (self.warehouse.psql(sql).trim_end() == expected).then_some(())
        })
        .await;
    }

    /// The epoch in which a table's newest batch was committed; 0 before the first.
    ///
    /// # Panics
    /// When the warehouse does not say.
    #[must_use]
    pub fn epoch(&self, table: &str) -> u64 {
        let sql = format!(
            "select coalesce(max(epoch), 0) from phusa.streams where dataset = 'thu.{table}'"
        );
        self.warehouse.psql(&sql).trim().parse().unwrap()
    }

    /// Rows that accepted batches of a table carried, by operation.
    ///
    /// # Panics
    /// When the warehouse does not say.
    #[must_use]
    pub fn carried(&self, table: &str, op: &str) -> u64 {
        let sql = format!(
            "select coalesce(sum((((entry::json->>'header')::json->'counts')->>'{op}')::int8), 0)
             from phusa.transfers where kind = 'push' and dataset = 'thu.{table}'"
        );
        self.warehouse.psql(&sql).trim().parse().unwrap()
    }
}

/// All a command printed.
#[must_use]
pub fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}
