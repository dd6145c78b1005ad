//! The next certificate, and the one after a long absence. Each has the next generation: whoever
//! asks with an older one than the newest holds a copy of a disk, and both are locked.

use deadpool_postgres::Transaction;
use phusa_protocol::digest::Digest;
use phusa_protocol::entry::{IdentityAct, IdentityStep};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::identity::{Issued, RECOVERY_DAYS_MAX, Recover, Renew};
use phusa_protocol::ids::AgentId;
use phusa_protocol::time::Timestamp;
use tracing::{info, warn};

use super::store::{self, Certificate, Identity, State};
use super::{Admission, Ended, failed, incident, step, write_down};
use crate::error::Refused;

/// A request for the next certificate, whoever it came from.
#[derive(Debug, Clone, Copy)]
struct Next<'a> {
    agent: &'a AgentId,
    /// The generation its sender holds.
    held: u64,
    csr: &'a str,
    act: IdentityAct,
}

/// What a generation that is held says of its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// It is the newest.
    Newest,
    /// The newest was issued on this request; its answer was lost.
    Repeats,
    /// Somebody else got the newest.
    Copy,
}

fn judge(identity: &Identity, held: u64, asked: Digest, newest: Option<&Certificate>) -> Holds {
    if held == identity.generation {
        return Holds::Newest;
    }
    let repeats = newest.is_some_and(|newest| newest.asked == asked);
    if held + 1 == identity.generation && repeats { Holds::Repeats } else { Holds::Copy }
}

impl Admission {
    /// Renews for the holder of a certificate of generation `held`.
    ///
    /// # Errors
    /// [`Ended`].
    pub async fn renew(&self, renew: &Renew, held: Option<u64>) -> Result<Issued, Ended> {
        let agent = &renew.agent;
        let held = held.filter(|_| renew.is_known()).ok_or_else(|| {
            let what = "the certificate was not issued by enrolment: whoever made it renews it";
            Ended::Refused(Some(agent.clone()), Refused::new(Code::EnrolRefused, what))
        })?;
        self.next(Next { agent, held, csr: &renew.csr, act: IdentityAct::Renewed }, |_| Ok(()))
            .await
    }

    /// Brings back whoever has the bound key, up to 180 days after its certificate's end.
    ///
    /// # Errors
    /// [`Ended`].
    pub async fn recover(&self, recover: &Recover) -> Result<Issued, Ended> {
        let asked = &recover.asked;
        let next = Next {
            agent: &asked.agent,
            held: asked.generation,
            csr: &asked.csr,
            act: IdentityAct::Recovered,
        };
        let has_key = |identity: &Identity| {
            let signed = identity.recovery_key.is_some_and(|key| recover.is_signed(&key));
            let what = "the request is not signed with the key that was bound at enrolment";
            signed.then_some(()).ok_or_else(|| Refused::new(Code::RecoveryRefused, what))
        };
        self.next(next, has_key).await
    }

    async fn next(
        &self,
        next: Next<'_>,
        may: impl FnOnce(&Identity) -> Result<(), Refused>,
    ) -> Result<Issued, Ended> {
        let agent = next.agent;
        let refused = |refused| Ended::Refused(Some(agent.clone()), refused);
        self.issuing().map_err(refused)?;
        let mut client = self.warehouse.client().await?;
        let tx = client.transaction().await.map_err(failed)?;
        let known = store::for_update(&tx, agent, &self.log.public_key()).await?;
        let Some(identity) = known.filter(|known| known.signing_key.is_some()) else {
            let what = format!("agent {agent} is not enrolled");
            return Err(refused(Refused::new(Code::AgentUnknown, what)));
        };
        may(&identity).map_err(refused)?;
        if let Some(stopped) = identity.stopped() {
            let what = format!("agent {agent} is {}: {}", identity.state.name(), stopped.because);
            return Err(refused(Refused::new(stopped.code, what)));
        }
        let newest = store::certificate(&tx, agent, identity.generation).await?;
        let asked = Digest::of(next.csr.as_bytes());
        let now = Timestamp::now();
        match judge(&identity, next.held, asked, newest.as_ref()) {
            Holds::Repeats => match newest {
                Some(newest) => Ok(self.answer(agent, newest)),
                None => Err(refused(Refused::new(Code::EnrolRefused, "its answer is gone"))),
            },
            Holds::Copy => {
                let what = self.lock(&tx, identity, next.held, now).await?;
                tx.commit().await.map_err(failed)?;
                self.log.wake();
                self.registrar.refresh().await?;
                Err(refused(Refused::new(Code::IdentityCloned, what)))
            }
            Holds::Newest => {
                in_time(newest.as_ref(), now).map_err(refused)?;
                let issued = self.issue_next(&tx, identity, next, now).await?;
                tx.commit().await.map_err(failed)?;
                self.log.wake();
                let (act, generation) = (next.act, issued.generation);
                info!(%agent, generation, "{agent} has its certificate {generation} ({act:?})");
                Ok(self.answer(agent, issued))
            }
        }
    }

    async fn issue_next(
        &self,
        tx: &Transaction<'_>,
        identity: Identity,
        next: Next<'_>,
        now: Timestamp,
    ) -> Result<Certificate, Ended> {
        let refused = |refused| Ended::Refused(Some(next.agent.clone()), refused);
        let generation = identity.generation + 1;
        let issued =
            self.issuing().map_err(refused)?.issue(next.agent, next.csr, (generation, now));
        let issued = issued.map_err(|fault| refused(Refused::new(fault.code, fault.chain())))?;
        let renewed = Identity { generation, ..identity };
        let row = Some(store::save(tx, &renewed, self.log.key()).await?);
        let (asked, not_after) = (Digest::of(next.csr.as_bytes()), issued.facts.not_after);
        let certificate = Certificate { generation, asked, chain: issued.chain, not_after };
        store::keep(tx, next.agent, &certificate).await?;
        let renewed = IdentityStep {
            generation: Some(generation),
            certificate: Some(issued.facts.fingerprint),
            row,
            ..step(next.act)
        };
        write_down(tx, &self.log, next.agent, renewed).await?;
        Ok(certificate)
    }

    /// Locks an identity that two use; says what was found.
    async fn lock(
        &self,
        tx: &Transaction<'_>,
        identity: Identity,
        held: u64,
        now: Timestamp,
    ) -> Result<String, Fault> {
        let agent = identity.agent.clone();
        let newest = identity.generation;
        let what = format!(
            "{agent}: a certificate of generation {held} asks for the next one, and generation \
             {newest} was issued to other keys: two installations use one identity"
        );
        let locked = Identity {
            state: State::Locked,
            because: what.clone(),
            decided_by: "phusa-hub".to_owned(),
            since: now,
            resume_asked_by: None,
            ..identity
        };
        let row = Some(store::save(tx, &locked, self.log.key()).await?);
        let because = Some(what.clone());
        let generation = Some(held);
        let step = IdentityStep { because, generation, row, ..step(IdentityAct::Locked) };
        let transfer = write_down(tx, &self.log, &agent, step).await?;
        incident(tx, &agent, ("identity used by two", &what), transfer).await?;
        warn!(target: crate::SECURITY, code = %Code::IdentityCloned, %agent, "{what}");
        Ok(what)
    }
}

/// Whether the newest certificate ended so long ago that nothing but a new code helps.
fn in_time(newest: Option<&Certificate>, now: Timestamp) -> Result<(), Refused> {
    let Some(newest) = newest else { return Ok(()) };
    let days = now.since(newest.not_after).as_secs() / 86_400;
    if days < u64::from(RECOVERY_DAYS_MAX) {
        return Ok(());
    }
    let what = format!(
        "its certificate ended {days} days ago; after {RECOVERY_DAYS_MAX} a new code is needed"
    );
    Err(Refused::new(Code::RecoveryRefused, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn newest(asked: &[u8], not_after: Timestamp) -> Certificate {
        Certificate { generation: 5, asked: Digest::of(asked), chain: String::new(), not_after }
    }

    #[test]
    fn a_copy_of_a_disk_is_told_from_an_answer_that_was_lost() {
        let agent = AgentId::try_from("H57/a".to_owned()).unwrap();
        let now = Timestamp::UNIX_EPOCH;
        let identity = Identity { generation: 5, ..Identity::new(agent, now) };
        let check = |held: u64, asked: &[u8], expected: Holds| {
            let found = judge(&identity, held, Digest::of(asked), Some(&newest(b"csr", now)));
            assert_eq!(found, expected, "{held} {asked:?}");
        };
        check(5, b"next", Holds::Newest);
        check(4, b"csr", Holds::Repeats);
        check(4, b"other", Holds::Copy);
        check(3, b"csr", Holds::Copy);
        check(6, b"csr", Holds::Copy);
    }

    #[test]
    fn a_bound_key_brings_back_for_180_days() {
        let (now, day) = (Timestamp::now(), 86_400_000_000);
        let ended = |days: i64| newest(b"", Timestamp::from_micros(now.micros() - days * day));
        assert_eq!(in_time(Some(&ended(179)), now), Ok(()));
        assert_eq!(in_time(Some(&ended(-3)), now), Ok(()));
        let refused = in_time(Some(&ended(180)), now).unwrap_err();
        assert_eq!(refused.code, Code::RecoveryRefused);
    }
}
