//! Fetches, verifies and keeps the proof of every batch that has a receipt.

use phusa_protocol::batch::SignedHeader;
use phusa_protocol::checkpoint::Checkpoint;
use phusa_protocol::digest::Digest;
use phusa_protocol::entry::Entry;
use phusa_protocol::evidence::Evidence;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::Seq;
use phusa_protocol::keys::PublicKey;
use phusa_protocol::leaf::Placed;
use phusa_protocol::policy::Policy;
use phusa_protocol::receipt::SignedReceipt;
use phusa_protocol::tile::Loaded;
use phusa_protocol::tree::inclusion_plan;
use std::time::Duration;
use tokio::time::Instant;

use super::{Waiting, Witness};
use crate::ledger::log::{Proven, StreamName};

/// Pages of entries that are proven of one stream before the next has its turn.
const PAGES_MAX: usize = 8;

/// A receipt whose entry is not published after this long is no matter of seconds any more.
const OVERDUE: Duration = Duration::from_secs(600);

/// What a proof is made under.
struct Under {
    checkpoint: Checkpoint,
    policy: Policy,
    witnesses: Vec<PublicKey>,
    loaded: Loaded,
}

/// An entry of this agent, read and compared with its receipt.
struct Own {
    placed: Placed,
    seq: Seq,
    header: Digest,
    transfer: u64,
}

impl Waiting {
    /// The oldest receipt, when it has been that for longer than [`OVERDUE`]. It is not its time that says
    /// so: that is of the hub's clock, and this machine's may be hours ahead.
    fn overdue(&mut self, now: Instant) -> Option<&SignedReceipt> {
        let first = self.receipts.front()?;
        let seq = first.receipt.seq;
        match self.first.filter(|(known, _)| *known == seq) {
            Some((_, since)) => (now.duration_since(since) > OVERDUE).then_some(first),
            None => {
                self.first = Some((seq, now));
                None
            }
        }
    }
}

impl Witness {
    /// Proves what is pending under the newest head that the policy accepts. `own` is the newest
    /// one with this agent's cosignature, `proven` the newest with enough of them at the hub.
    pub(super) async fn prove_all(
        &mut self,
        own: Checkpoint,
        proven: Option<Checkpoint>,
        mut loaded: Loaded,
    ) -> Result<(), Fault> {
        let me = (self.parts.agent.to_string(), self.parts.key.public());
        let policy = match &self.parts.policy {
            Some(policy) => policy.clone(),
            None => Policy::of_agents(*own.log(), &[me], 1),
        };
        if let Some(proven) = &proven {
            // Both are the hub's word: they must not contradict each other.
            let (older, newer) =
                if proven.head.size <= own.head.size { (proven, &own) } else { (&own, proven) };
            self.check_extends(older, newer, &mut loaded).await?;
        }
        let accepted = [proven, Some(own)].into_iter().flatten().filter(|c| policy.accepts(c));
        let Some(checkpoint) = accepted.max_by_key(|c| c.head.size) else {
            // Too few witnesses so far: pending, and traffic goes on.
            return Ok(());
        };
        let witnesses = policy.witnesses().copied().collect();
        // Tiles of another size are cut otherwise.
        let mut under = Under { checkpoint, policy, witnesses, loaded: Loaded::default() };
        let names: Vec<StreamName> = self.streams.keys().cloned().collect();
        let mut overdue = None;
        for name in names {
            let Some(mut waiting) = self.streams.remove(&name) else { continue };
            let mut later = self
                .streams
                .iter()
                .filter(|(other, _)| other.dataset == name.dataset && other.epoch > name.epoch);
            let is_passed = later.any(|(_, waiting)| waiting.after > Seq::NONE);
            let done = self.prove_stream(&name, &mut waiting, is_passed, &mut under).await;
            let late = waiting.overdue(Instant::now()).map(|late| late.receipt.clone());
            self.streams.insert(name, waiting);
            done?;
            overdue = overdue.or(late);
        }
        let pending: usize = self.streams.values().map(|waiting| waiting.receipts.len()).sum();
        self.parts.show.send_modify(|status| status.pending = pending as u64);
        let Some(receipt) = overdue else { return Ok(()) };
        let what = format!(
            "batch {} of {} epoch {} has a receipt and no entry yet",
            receipt.seq, receipt.dataset, receipt.epoch
        );
        Err(Fault::new(Code::LogEntryMissing, what))
    }

    /// `is_passed` says that an entry of a later epoch is proven: the log is in the order of commits,
    /// so a batch of this epoch that has no entry will never have one (a hub that was restored).
    async fn prove_stream(
        &self,
        name: &StreamName,
        waiting: &mut Waiting,
        is_passed: bool,
        under: &mut Under,
    ) -> Result<(), Fault> {
        for _ in 0..PAGES_MAX {
            let Some(first) = waiting.receipts.front().map(|r| r.receipt.seq) else { break };
            let placed = self.parts.hub.log_entries(&name.dataset, name.epoch, first).await?;
            let is_over = is_passed && placed.is_empty();
            let size = under.checkpoint.head.size;
            let owns: Vec<Own> = placed
                .into_iter()
                .map(read)
                .collect::<Result<Vec<_>, _>>()?
                .into_iter()
                .take_while(|own| own.placed.number <= size)
                .collect();
            let last_waiting = waiting.receipts.back().map(|r| r.receipt.seq);
            let last = owns.last().map(|own| own.seq).or(last_waiting.filter(|_| is_over));
            let Some(last) = last else { break };
            let (mut proofs, mut missing) = (Vec::new(), 0);
            let mut taken = 0;
            for receipt in waiting.receipts.iter().take_while(|r| r.receipt.seq <= last) {
                taken += 1;
                match owns.iter().find(|own| matches(own, receipt)) {
                    Some(own) => proofs.push(self.prove(own, under).await?),
                    None => {
                        missing += 1;
                        proofs.push(without_entry(receipt));
                    }
                }
            }
            let kept = (name.clone(), proofs);
            self.file(move |book| book.keep_proofs(&kept.0, &kept.1)).await?;
            waiting.receipts.drain(..taken);
            waiting.after = last;
            self.parts.show.send_modify(|status| {
                status.proven += taken as u64 - missing;
                status.missing += missing;
            });
            if missing > 0 {
                let what = format!(
                    "{missing} receipts of {} epoch {} up to batch {last} name entries that the \
                     log does not hold",
                    name.dataset, name.epoch
                );
                return Err(Fault::new(Code::LogEntryMissing, what));
            }
        }
        Ok(())
    }

    async fn prove(&self, own: &Own, under: &mut Under) -> Result<Proven, Fault> {
        let number = own.placed.number;
        let what = || format!("entry {number} is not where the hub says it is");
        let head = under.checkpoint.head;
        let index = number.saturating_sub(1);
        let plan = inclusion_plan(index, head.size);
        let plan = plan.ok_or_else(|| Fault::new(Code::LogBroken, what()))?;
        self.load(&mut under.loaded, plan.iter().flatten(), head.size).await?;
        let hashes = under.loaded.proof(&plan);
        let hashes = hashes.ok_or_else(|| Fault::new(Code::LogBroken, what()))?;
        let path = (index, hashes);
        let evidence = Evidence::new(&own.placed.leaf, path, &under.checkpoint, &under.witnesses);
        let entry = own.placed.entry.clone();
        evidence
            .verify(entry.as_bytes(), &[*self.parts.hub.key()], &under.policy)
            .map_err(|error| Fault::because(Code::LogBroken, what(), error))?;
        Ok(Proven { seq: own.seq, number, entry, evidence: evidence.to_text() })
    }
}

/// What the entry says of the batch it tells of.
fn read(placed: Placed) -> Result<Own, Fault> {
    let what = || format!("entry {} is no entry of a batch", placed.number);
    let broken = || Fault::new(Code::LogBroken, what());
    let entry: Entry = serde_json::from_str(&placed.entry).map_err(|_| broken())?;
    let (Some(header), Some(signature)) = (entry.header, entry.agent_signature) else {
        return Err(broken());
    };
    let signed = SignedHeader::read(header.into_bytes(), signature).map_err(|_| broken())?;
    let (seq, header) = (signed.header.seq, signed.digest());
    Ok(Own { placed, seq, header, transfer: entry.transfer })
}

fn matches(own: &Own, receipt: &SignedReceipt) -> bool {
    let receipt = &receipt.receipt;
    own.seq == receipt.seq && own.header == receipt.header && own.transfer == receipt.transfer
}

/// The hub gave a receipt and its log knows nothing of it, or something else.
fn without_entry(receipt: &SignedReceipt) -> Proven {
    let seq = receipt.receipt.seq;
    Proven { seq, number: 0, entry: String::new(), evidence: String::new() }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, VecDeque};

    use phusa_protocol::ids::{AgentId, DatasetId, Epoch};
    use phusa_protocol::keys::SigningKey;
    use phusa_protocol::receipt::Receipt;
    use phusa_protocol::time::Timestamp;

    use super::*;
    use crate::ledger::log::Reading;

    fn receipt(seq: u64, key: &SigningKey) -> SignedReceipt {
        let receipt = Receipt {
            v: 1,
            agent: AgentId::try_from("H57.12/may-1".to_owned()).unwrap(),
            dataset: DatasetId::try_from("cong_dan.nguoi".to_owned()).unwrap(),
            epoch: Epoch(1),
            seq: Seq(seq),
            header: Digest::ZERO,
            transfer: seq,
            // By this machine's clock the hub lives in the past.
            committed_at: Timestamp::UNIX_EPOCH,
        };
        SignedReceipt::sign(receipt, key)
    }

    #[test]
    fn an_entry_is_missed_when_it_was_waited_for_and_not_when_clocks_differ() {
        let key = SigningKey::generate().unwrap();
        let mut waiting = Waiting {
            reading: Reading::default(),
            after: Seq::NONE,
            missing: BTreeSet::new(),
            receipts: VecDeque::from([receipt(1, &key), receipt(2, &key)]),
            first: None,
            is_closed: false,
        };
        let begun = Instant::now();
        let late = |waiting: &mut Waiting, after: Duration| {
            waiting.overdue(begun + after).map(|late| late.receipt.seq)
        };
        assert_eq!(late(&mut waiting, Duration::ZERO), None, "just come");
        assert_eq!(late(&mut waiting, OVERDUE), None);
        waiting.receipts.pop_front();
        assert_eq!(late(&mut waiting, OVERDUE * 2), None, "the first was proven: it goes on");
        assert_eq!(late(&mut waiting, OVERDUE * 3), None);
        assert_eq!(late(&mut waiting, OVERDUE * 3 + Duration::from_secs(1)), Some(Seq(2)));
    }
}
