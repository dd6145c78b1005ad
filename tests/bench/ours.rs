//! Phù Sa as a mover: hub with the target server as its warehouse, and one agent.

use phusa_tests::process::wait_until;
use phusa_tests::province::{Dataset, Province, Reader};
use phusa_tests::registry::{Share, Table};
use phusa_tests::workload::{probe_contract, probe_mapping};

use crate::lab::{Lab, Outcome};
use crate::meter::Processes;
use crate::movers::{Mover, Names, Target, WITHIN, wait_for_marker};

/// Whose rows they are.
pub(crate) const AGENCY: &str = "H57.12";

/// The small table for measuring latency, as a dataset.
const PROBE: &str = "danh_muc.probe";

/// Agent and hub.
pub(crate) struct Ours {
    province: Option<Province>,
    datasets: Vec<(&'static str, u64)>,
    ids: Vec<u32>,
}

impl Ours {
    pub(crate) fn new() -> Self {
        Self { province: None, datasets: Vec::new(), ids: Vec::new() }
    }

    /// The agent's process.
    pub(crate) fn agent_id(&mut self) -> u32 {
        self.province().agent_process(AGENCY).id()
    }

    fn province(&mut self) -> &mut Province {
        self.province.get_or_insert_with(Province::new)
    }

    fn set_up(&mut self, lab: &Lab, target: &Target, datasets: &[Dataset], settings: &str) {
        let mut province = Province::with_external(target);
        let reader = Reader { agency: AGENCY, database: &lab.source, settings };
        province.add_agent(reader, datasets);
        province.start_hub();
        self.ids = vec![province.hub_process().id()];
        self.province = Some(province);
    }

    fn start_agent(&mut self) {
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

    fn probe(&self) -> &'static str {
        PROBE
    }

    fn processes(&self, _lab: &Lab, _target: &Target) -> Processes {
        let own = std::process::id();
        Box::new(move || {
            let mut ids = crate::meter::family(own);
            ids.retain(|id| *id != own);
            ids
        })
    }

    async fn prepare(&mut self, lab: &Lab, target: &Target, tables: &[Table]) -> Outcome<()> {
        let of = |table: &Table| Dataset::of_registry(*table, AGENCY, Share::Everything);
        let datasets: Vec<Dataset> = tables.iter().map(of).collect();
        self.set_up(lab, target, &datasets, "");
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
        self.set_up(lab, target, &[dataset], "[batch]\nbatch_linger = \"5ms\"\n");
        self.datasets = vec![(PROBE, 1)];
        self.start_agent();
        self.wait_until_read(target).await
    }

    async fn finish(&mut self, _lab: &Lab, _target: &Target) -> Outcome<()> {
        self.province = None;
        Ok(())
    }
}
