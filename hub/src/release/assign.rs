//! What each agent is to run, signed anew whenever it asks.

use phusa_protocol::fault::Fault;
use phusa_protocol::ids::AgentId;
use phusa_protocol::keys::SigningKey;
use phusa_protocol::release::{SignedAssignment, Version};
use phusa_protocol::time::Timestamp;

use super::rollout::not_read;
use crate::warehouse::Warehouse;

/// Answers agents.
#[derive(Debug, Clone)]
pub struct Assigner {
    warehouse: Warehouse,
    key: SigningKey,
}

impl Assigner {
    /// One that signs with the hub's key.
    #[must_use]
    pub fn new(warehouse: Warehouse, key: SigningKey) -> Self {
        Self { warehouse, key }
    }

    /// What `agent` is to run. While a rollout is paused or halted, whoever has not committed is to stay
    /// with what it has.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn of(&self, agent: &AgentId) -> Result<SignedAssignment, Fault> {
        let client = self.warehouse.client().await?;
        let sql = "select a.version, a.stage, r.state, \
                   (extract(epoch from greatest(a.changed_at, r.changed_at)) * 1000000)::bigint \
                   from phusa.release_assignments a join phusa.rollouts r using (rollout) \
                   where a.agent = $1";
        let row = client.query_opt(sql, &[&agent.to_string()]).await.map_err(not_read)?;
        let mut said = (0, None);
        if let Some(row) = row {
            let text = |index: usize| row.try_get::<_, String>(index).map_err(not_read);
            let number: i64 = row.try_get(3).map_err(not_read)?;
            let goes = ["running", "done", "reverted"].contains(&text(2)?.as_str());
            let version = Version::try_from(text(0)?).ok();
            let version =
                version.filter(|_| goes || text(1).is_ok_and(|stage| stage == "committed"));
            said = (number.unsigned_abs(), version);
        }
        Ok(SignedAssignment::sign(agent, said, Timestamp::now(), &self.key))
    }
}
