//! What agents ask to prove that source and warehouse are the same, and what they report (HU-03).

use phusa_protocol::PROTOCOL_VERSION;
use phusa_protocol::digest::Digest;
use phusa_protocol::fault::Code;
use phusa_protocol::hello::Refusal;
use phusa_protocol::ids::{AgentId, DatasetId};
use phusa_protocol::proof::{Answer, BITS_MAX, Proof, Question};
use phusa_protocol::time::Timestamp;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{Arrival, Caller, Ingest, Stop};
use crate::catalog::Agreed;
use crate::error::Refused;
use crate::fleet::proofs;
use crate::warehouse::apply;

/// Parts whose rows one question may ask for.
const NAMED_PARTS_MAX: usize = 4_096;

impl Ingest {
    /// Answers with digests of the caller's own rows.
    ///
    /// # Errors
    /// The refusal to answer with.
    pub async fn compare(&self, caller: &Caller, question: &Question) -> Result<Answer, Refusal> {
        let arrival = Arrival { bytes: 0, at: Timestamp::now(), began: Instant::now() };
        match self.answer(caller, question).await {
            Ok(answer) => Ok(answer),
            Err(stop) => Err(self.refuse(Some(&caller.agent), None, &arrival, stop).await),
        }
    }

    /// Takes down what a comparison came to.
    ///
    /// # Errors
    /// The refusal to answer with.
    pub async fn proven(&self, caller: &Caller, proof: &Proof) -> Result<(), Refusal> {
        let arrival = Arrival { bytes: 0, at: Timestamp::now(), began: Instant::now() };
        match self.take_down(caller, proof).await {
            Ok(()) => Ok(()),
            Err(stop) => Err(self.refuse(Some(&caller.agent), None, &arrival, stop).await),
        }
    }

    async fn answer(&self, caller: &Caller, question: &Question) -> Result<Answer, Stop> {
        let Question { protocol, agent, dataset, contract, bits, named } = question;
        let agreed = self.owned(caller, *protocol, agent, (dataset, *contract)).await?;
        if *bits > BITS_MAX || named.len() > NAMED_PARTS_MAX {
            let what = format!("{bits} bits and {} parts are too many", named.len());
            return Err(Refused::new(Code::ProtocolVersion, what).into());
        }
        // Each comparison reads a whole table: one at a time, so that batches are not held up.
        let Ok(_alone) = self.comparing.try_acquire() else {
            return Err(Refused::new(Code::HubBusy, "another comparison is under way").into());
        };
        let client = self.warehouse.client().await?;
        let agency = caller.agent.agency();
        Ok(apply::answer(&client, &agreed.shape, agency, question).await?)
    }

    async fn take_down(&self, caller: &Caller, proof: &Proof) -> Result<(), Stop> {
        let Proof { protocol, agent, dataset, contract, .. } = proof;
        self.owned(caller, *protocol, agent, (dataset, *contract)).await?;
        let mut client = self.warehouse.client().await?;
        proofs::store(&mut client, &self.log, proof).await?;
        let (rows, differing) = (proof.source.rows, proof.differing);
        if differing == 0 && proof.source == proof.warehouse {
            info!(%dataset, rows, "{dataset} was proven identical to its source");
        } else {
            warn!(%dataset, rows, differing, "{dataset} differs from its source in {differing} records");
        }
        Ok(())
    }

    /// The contract of a dataset that is the caller's own.
    async fn owned(
        &self,
        caller: &Caller,
        protocol: u32,
        agent: &AgentId,
        (dataset, contract): (&DatasetId, Digest),
    ) -> Result<std::sync::Arc<Agreed>, Stop> {
        self.admitted(caller)?;
        if *agent != caller.agent {
            let what = format!("{agent} asks with the certificate of {}", caller.agent);
            return Err(Refused::new(Code::OwnCertificate, what).into());
        }
        if protocol != PROTOCOL_VERSION {
            let what = format!("agent speaks {protocol}, hub speaks {PROTOCOL_VERSION}");
            return Err(Refused::new(Code::ProtocolVersion, what).into());
        }
        self.catalog.refresh().await?;
        Ok(self.catalog.current().agreed(dataset, contract, caller.agent.agency())?)
    }
}
