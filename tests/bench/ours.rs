//! Phù Sa as a mover: hub with the target server as its warehouse, and one agent.

use phusa_tests::process::wait_until;
use phusa_tests::province::{Dataset, Province, Readable, Reader};
use phusa_tests::registry::{Share, Table};
use phusa_tests::workload::{probe_contract, probe_mapping};

use crate::lab::{Engine, Lab, Outcome};
use crate::movers::{Mover, Names, Target, WITHIN, wait_for_marker};

/// Whose rows they are.
pub(crate) const AGENCY: &str = "H57.12";

/// The small table for measuring latency, as a dataset.
const PROBE: &str = "danh_muc.probe";

/// Agent and hub.
pub(crate) struct Ours {
    from: Engine,
    capture: &'static str,
    settings: &'static str,
    province: Option<Province>,
    datasets: Vec<(&'static str, u64)>,
}

impl Ours {
    /// By the source's log.
    pub(crate) fn new(from: Engine) -> Self {
        Self::by(from, "log", "")
    }

    /// In this way, with this added to `agent.toml`.
    pub(crate) fn by(from: Engine, capture: &'static str, settings: &'static str) -> Self {
        Self { from, capture, settings, province: None, datasets: Vec::new() }
    }

    /// What the agent says of itself; `None` until it does.
    pub(crate) fn status(&self) -> Option<serde_json::Value> {
        let said = self.province.as_ref()?.agent(AGENCY, &["status", "--json"]);
        serde_json::from_slice(&said.stdout).ok()
    }

    /// The agent's process.
    pub(crate) fn agent_id(&mut self) -> u32 {
        self.province().agent_process(AGENCY).id()
    }

    fn province(&mut self) -> &mut Province {
        self.province.get_or_insert_with(Province::new)
    }

    fn set_up(
        &mut self,
        lab: &Lab,
        target: &Target,
        datasets: &[Dataset],
        settings: &str,
    ) -> Outcome<()> {
        let mut province = Province::with_external(target);
        let database: &dyn Readable = match self.from {
            Engine::PostgreSql => &lab.source,
            Engine::MariaDb => lab.maria()?.database(),
        };
        province.add_agent(Reader { agency: AGENCY, database, settings }, datasets);
        province.start_hub();
        self.province = Some(province);
        Ok(())
    }

    /// A table of the registry as this source has it, captured as wished.
    fn dataset(&self, lab: &Lab, table: Table) -> Outcome<Dataset> {
        let mut dataset = Dataset::of_registry(table, AGENCY, Share::Everything);
        let schema = match self.from {
            Engine::PostgreSql => "public",
            Engine::MariaDb => lab.maria()?.database().schema(),
        };
        let (before, after) = (format!("\"public.{}\"", table.name()), table.name());
        let place = format!("\"{schema}.{after}\"\ncapture = \"{}\"", self.capture);
        dataset.mapping = dataset.mapping.replace(&before, &place);
        if self.from == Engine::MariaDb {
            // Its JSON is text with a check.
            dataset.contract = dataset.contract.replace("type = \"jsonb\"", "type = \"text\"");
        }
        Ok(dataset)
    }

    /// Makes ready for one dataset of the caller's; nothing is started.
    pub(crate) fn prepare_one(
        &mut self,
        lab: &Lab,
        target: &Target,
        dataset: &Dataset,
    ) -> Outcome<()> {
        self.prepare_those(lab, target, std::slice::from_ref(dataset))
    }

    /// The same for several.
    pub(crate) fn prepare_those(
        &mut self,
        lab: &Lab,
        target: &Target,
        datasets: &[Dataset],
    ) -> Outcome<()> {
        self.set_up(lab, target, datasets, self.settings)
    }

    /// Starts the agent.
    pub(crate) fn start_agent(&mut self) {
        self.province().start_agent(AGENCY);
    }

    async fn wait_until_read(&self, target: &Target) -> Outcome<()> {
        let client = target.connect().await;
        let sql = "select 1 from phusa.streams where dataset = $1 and rows >= $2";
        for (dataset, rows) in &self.datasets {
            let rows = i64::try_from(*rows)?;
            wait_until("the full read", WITHIN, async || {
                client.query_opt(sql, &[dataset, &rows]).await.ok().flatten()
            })
            .await;
        }
        Ok(())
    }
}

impl Mover for Ours {
    fn title(&self) -> &'static str {
        "Phù Sa"
    }

    fn names(&self) -> Names {
        Names::Agreed
    }

    fn reads(&self) -> Engine {
        self.from
    }

    fn probe(&self) -> &'static str {
        PROBE
    }

    async fn prepare(&mut self, lab: &Lab, target: &Target, tables: &[Table]) -> Outcome<()> {
        let datasets: Outcome<Vec<Dataset>> =
            tables.iter().map(|table| self.dataset(lab, *table)).collect();
        self.set_up(lab, target, &datasets?, self.settings)?;
        self.datasets = tables.iter().map(|table| (table.dataset(), lab.rows)).collect();
        Ok(())
    }

    async fn read_all(&mut self, _lab: &Lab, target: &Target) -> Outcome<()> {
        self.start_agent();
        self.wait_until_read(target).await
    }

    async fn pause(&mut self, _lab: &Lab, _target: &Target) -> Outcome<()> {
        self.province().agent_process(AGENCY).stop();
        Ok(())
    }

    async fn drain(&mut self, _lab: &Lab, target: &Target, marker: u64) -> Outcome<()> {
        self.start_agent();
        wait_for_marker(target, self.names(), marker).await;
        Ok(())
    }

    async fn prepare_probe(&mut self, lab: &Lab, target: &Target) -> Outcome<()> {
        let dataset = Dataset {
            id: PROBE.to_owned(),
            contract: probe_contract(AGENCY),
            mapping: probe_mapping(&format!("../contracts/{PROBE}.toml")),
        };
        self.set_up(lab, target, &[dataset], "[batch]\nbatch_linger = \"5ms\"\n")?;
        self.datasets = vec![(PROBE, 1)];
        self.start_agent();
        self.wait_until_read(target).await
    }

    async fn finish(&mut self, _lab: &Lab, _target: &Target) -> Outcome<()> {
        self.province = None;
        Ok(())
    }
}
