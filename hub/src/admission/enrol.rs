//! The first certificate, for whoever has a one-time code. The same request is answered again until
//! the code is over; another one with the same code is refused and reported.

use std::time::SystemTime;

use deadpool_postgres::Transaction;
use phusa_protocol::digest::Digest;
use phusa_protocol::entry::{IdentityAct, IdentityStep};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::identity::{CodeKey, Enrol, Issued};
use phusa_protocol::ids::AgentId;
use phusa_protocol::time::Timestamp;
use tracing::info;

use super::invite::Stands;
use super::store::{self, Certificate, Identity, State};
use super::{Admission, Ended, failed, step, write_down};
use crate::error::Refused;
use crate::transfers::{from_system_time, to_i64};

/// An invitation as the database has it.
struct Invitation {
    agent: AgentId,
    networks: String,
    key: CodeKey,
    needs_approval: bool,
    stands: Stands,
    asked: Option<Digest>,
    generation: Option<u64>,
}

impl Admission {
    /// Answers one who has a code.
    ///
    /// # Errors
    /// [`Ended`]; `enrol_pending` asks to come again.
    pub async fn enrol(&self, enrol: &Enrol) -> Result<Issued, Ended> {
        let nobody = |refused| Ended::Refused(None, refused);
        self.issuing().map_err(nobody)?;
        let mut client = self.warehouse.client().await?;
        let tx = client.transaction().await.map_err(failed)?;
        let now = Timestamp::now();
        let invitation = invited(&tx, enrol, now).await?;
        let agent = invitation.agent.clone();
        let refused = |refused| Ended::Refused(Some(agent.clone()), refused);
        belongs(&invitation, enrol).map_err(refused)?;
        match invitation.stands {
            Stands::Used => {
                let generation = invitation.generation.unwrap_or(0);
                let found = store::certificate(&tx, &agent, generation).await?;
                let found = found.ok_or_else(|| {
                    let what = "the certificate of this code has been renewed since";
                    refused(Refused::new(Code::EnrolRefused, what))
                })?;
                Ok(self.answer(&agent, found))
            }
            Stands::Refused => {
                let what = format!("code {} was refused or replaced", enrol.asked.invitation);
                Err(refused(Refused::new(Code::EnrolRefused, what)))
            }
            Stands::Waiting => Err(refused(pending(enrol))),
            Stands::Open if invitation.needs_approval => {
                self.hold(&tx, &agent, enrol).await?;
                tx.commit().await.map_err(failed)?;
                self.log.wake();
                Err(refused(pending(enrol)))
            }
            Stands::Open | Stands::Approved => {
                let issued = self.admit(&tx, invitation, enrol, now).await?;
                tx.commit().await.map_err(failed)?;
                self.log.wake();
                // Its first batch may come at once.
                self.registrar.refresh().await?;
                info!(%agent, generation = issued.generation, "{agent} is enrolled");
                Ok(self.answer(&agent, issued))
            }
        }
    }

    async fn hold(
        &self,
        tx: &Transaction<'_>,
        agent: &AgentId,
        enrol: &Enrol,
    ) -> Result<(), Fault> {
        let sql = "update phusa.invitations set state = 'waiting', asked = $2 \
                   where invitation = $1";
        let digest = enrol.digest().to_string();
        tx.execute(sql, &[&enrol.asked.invitation, &digest]).await.map_err(failed)?;
        let because = Some(format!("code {}, request {digest}", enrol.asked.invitation));
        let asked = IdentityStep { because, ..step(IdentityAct::Asked) };
        write_down(tx, &self.log, agent, asked).await.map(drop)
    }

    async fn admit(
        &self,
        tx: &Transaction<'_>,
        invitation: Invitation,
        enrol: &Enrol,
        now: Timestamp,
    ) -> Result<Certificate, Ended> {
        let (agent, hub) = (invitation.agent, self.log.key());
        let refused = |refused| Ended::Refused(Some(agent.clone()), refused);
        let known = store::for_update(tx, &agent, &hub.public()).await?;
        let known = known.unwrap_or_else(|| Identity::new(agent.clone(), now));
        let generation = known.generation + 1;
        let issuing = self.issuing().map_err(refused)?;
        let issued = issuing.issue(&agent, &enrol.asked.csr, (generation, now));
        let issued = issued.map_err(|fault| refused(Refused::new(fault.code, fault.chain())))?;
        // A suspension is lifted by those who may; a lock and a revocation end with new keys.
        let stays = known.state == State::Suspended;
        let identity = Identity {
            signing_key: Some(enrol.asked.signing_key),
            recovery_key: Some(enrol.asked.recovery_key),
            generation,
            least_generation: generation,
            networks: invitation.networks,
            state: if stays { known.state } else { State::Active },
            because: if stays { known.because } else { "enrolled".to_owned() },
            since: if stays { known.since } else { now },
            ..known
        };
        let row = Some(store::save(tx, &identity, hub).await?);
        let (asked, not_after) = (enrol.digest(), issued.facts.not_after);
        let certificate = Certificate { generation, asked, chain: issued.chain, not_after };
        store::keep(tx, &agent, &certificate).await?;
        let sql = "update phusa.invitations set state = 'used', asked = $2, generation = $3 \
                   where invitation = $1";
        let (digest, number) = (asked.to_string(), to_i64(generation));
        let marked = tx.execute(sql, &[&enrol.asked.invitation, &digest, &number]).await;
        marked.map_err(failed)?;
        let enrolled = IdentityStep {
            because: Some(format!("code {}", enrol.asked.invitation)),
            generation: Some(generation),
            certificate: Some(issued.facts.fingerprint),
            signing_key: Some(enrol.asked.signing_key),
            row,
            ..step(IdentityAct::Enrolled)
        };
        write_down(tx, &self.log, &agent, enrolled).await?;
        Ok(certificate)
    }
}

/// The invitation that this request names, once its sender is known to have the code.
async fn invited(tx: &Transaction<'_>, enrol: &Enrol, now: Timestamp) -> Result<Invitation, Ended> {
    let number = &enrol.asked.invitation;
    let refuse =
        |agent, why: String| Err(Ended::Refused(agent, Refused::new(Code::EnrolRefused, why)));
    let sql = "select agent, networks, code_key, needs_approval, state, asked, generation, \
               expires_at from phusa.invitations where invitation = $1 for update";
    let Some(row) = tx.query_opt(sql, &[number]).await.map_err(failed)? else {
        return refuse(None, "there is no such code".to_owned());
    };
    let text = |index: usize| row.try_get::<_, String>(index).map_err(failed);
    let expires: SystemTime = row.try_get(7).map_err(failed)?;
    let key: Option<Vec<u8>> = row.try_get(2).map_err(failed)?;
    let asked: Option<String> = row.try_get(5).map_err(failed)?;
    let generation: Option<i64> = row.try_get(6).map_err(failed)?;
    let key = key.and_then(|bytes| bytes.try_into().ok()).map(CodeKey::from_bytes);
    let Some(key) = key.filter(|key| enrol.has_code(key)) else {
        return refuse(None, format!("code {number} is not the right one, or was replaced"));
    };
    let Ok(agent) = AgentId::try_from(text(0)?) else {
        return refuse(None, format!("code {number} is for no agent"));
    };
    if now >= from_system_time(expires) {
        let why = format!("code {number} was good until {}", from_system_time(expires));
        return refuse(Some(agent), why);
    }
    Ok(Invitation {
        agent,
        networks: text(1)?,
        key,
        needs_approval: row.try_get(3).map_err(failed)?,
        stands: Stands::of(&text(4)?),
        asked: asked.and_then(|asked| Digest::try_from(asked).ok()),
        generation: generation.map(i64::unsigned_abs),
    })
}

/// Whether this request may use the code.
fn belongs(invitation: &Invitation, enrol: &Enrol) -> Result<(), Refused> {
    let (agent, asked) = (&invitation.agent, &enrol.asked);
    if !enrol.has_keys() {
        let what = "the request is not signed with both keys that it names";
        return Err(Refused::new(Code::EnrolRefused, what));
    }
    if asked.agent.as_ref().is_some_and(|asked| asked != agent) {
        let what = format!("code {} is for {agent}", asked.invitation);
        return Err(Refused::new(Code::EnrolRefused, what));
    }
    if invitation.asked.is_some_and(|before| before != enrol.digest()) {
        let what = format!("code {} of {agent} was used with other keys", asked.invitation);
        return Err(Refused::breach(Code::EnrolReplayed, what, "code used twice"));
    }
    debug_assert!(enrol.has_code(&invitation.key), "looked at before");
    Ok(())
}

fn pending(enrol: &Enrol) -> Refused {
    let (number, digest) = (&enrol.asked.invitation, enrol.digest());
    let what = format!("code {number}, request {digest}, waits for a second person");
    Refused::new(Code::EnrolPending, what)
}
