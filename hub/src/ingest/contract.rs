//! What agents ask about contracts over their own connection: what is proposed, the owner's
//! signature, and the category lists that a contract names.

use phusa_protocol::PROTOCOL_VERSION;
use phusa_protocol::contract::consent::{Asked, Proposal, SignedConsent};
use phusa_protocol::fault::Code;
use phusa_protocol::hello::{ListAsked, Refusal};
use phusa_protocol::time::Timestamp;
use tokio::time::Instant;
use tracing::info;

use super::{Arrival, Caller, Ingest, Stop};
use crate::category;
use crate::error::Refused;

impl Ingest {
    /// What is proposed for a dataset of the caller's agency, and what is in force.
    ///
    /// # Errors
    /// The refusal to answer with.
    pub async fn proposal(&self, caller: &Caller, asked: &Asked) -> Result<Proposal, Refusal> {
        let found = self.find_proposal(caller, asked).await;
        self.or_refuse(caller, found).await
    }

    /// Takes the owner's signature under a proposed version.
    ///
    /// # Errors
    /// The refusal to answer with.
    pub async fn owner_signs(
        &self,
        caller: &Caller,
        signed: &SignedConsent,
    ) -> Result<(), Refusal> {
        let taken = self.take_signature(caller, signed).await;
        self.or_refuse(caller, taken).await
    }

    /// A category list in force, as canonical JSON.
    ///
    /// # Errors
    /// The refusal to answer with.
    pub async fn list(&self, caller: &Caller, asked: &ListAsked) -> Result<String, Refusal> {
        let found = self.find_list(caller, asked).await;
        self.or_refuse(caller, found).await
    }

    async fn or_refuse<T>(&self, caller: &Caller, done: Result<T, Stop>) -> Result<T, Refusal> {
        let arrival = Arrival { bytes: 0, at: Timestamp::now(), began: Instant::now() };
        match done {
            Ok(done) => Ok(done),
            Err(stop) => Err(self.refuse(Some(&caller.agent), None, &arrival, stop).await),
        }
    }

    async fn find_proposal(&self, caller: &Caller, asked: &Asked) -> Result<Proposal, Stop> {
        self.admitted(caller)?;
        speaks_this_protocol(asked.protocol)?;
        let proposal = self.catalog.proposal(&asked.dataset).await?;
        let agency = caller.agent.agency();
        let both = proposal.proposed.iter().chain(&proposal.in_force);
        let owners: Vec<_> = both.map(|contract| &contract.owner).collect();
        if owners.is_empty() {
            let what = format!("no contract for {} is proposed or in force", asked.dataset);
            return Err(Refused::new(Code::DatasetUnknown, what).into());
        }
        if !owners.contains(&agency) {
            let what = format!("{} is not owned by {agency}", asked.dataset);
            return Err(Refused::new(Code::NotOwner, what).into());
        }
        Ok(proposal)
    }

    async fn take_signature(&self, caller: &Caller, signed: &SignedConsent) -> Result<(), Stop> {
        self.admitted(caller)?;
        if signed.consent.agent.as_ref() != Some(&caller.agent) {
            let what = format!("{} sends another agent's signature", caller.agent);
            return Err(Refused::new(Code::SignatureWrong, what).into());
        }
        let register = std::sync::Arc::clone(&self.register.borrow());
        self.catalog.owner_signs(signed, &register, &self.log).await?;
        let (dataset, number) = (&signed.consent.dataset, signed.number());
        info!(%dataset, agent = %caller.agent, "{} signed {dataset} version {number}", caller.agent);
        Ok(())
    }

    async fn find_list(&self, caller: &Caller, asked: &ListAsked) -> Result<String, Stop> {
        self.admitted(caller)?;
        speaks_this_protocol(asked.protocol)?;
        let client = self.warehouse.client().await?;
        Ok(category::body(&**client, &asked.list).await?)
    }
}

fn speaks_this_protocol(protocol: u32) -> Result<(), Refused> {
    if protocol == PROTOCOL_VERSION {
        return Ok(());
    }
    let what = format!("agent speaks {protocol}, hub speaks {PROTOCOL_VERSION}");
    Err(Refused::new(Code::ProtocolVersion, what))
}
