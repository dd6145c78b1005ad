//! `Entry` of the transfer log and its canonical bytes, and the chain that `log verify` walks.
//!
//! An entry says who delivered what when, with the agent's own signed header inside and the hub's
//! signature around it. Accepted entries are committed with the rows they tell of; refused ones in
//! a transaction of their own. A sequencer then gives committed entries gap-free numbers and links
//! them: `link n = SHA-256(link n-1 · SHA-256(entry n))`. The transparency log takes the same entry
//! bytes into its leaves ([`crate::leaf`]): number n is leaf n-1.

pub mod act;
mod form;
mod identity;
mod span;

pub use identity::{IdentityAct, IdentityStep};
pub use span::KeySpan;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::batch::{SignedHeader, canonical_json};
use crate::contract::consent::SignedConsent;
use crate::deed::Deed;
use crate::digest::Digest;
use crate::fault::Code;
use crate::ids::{AgentId, DatasetId, Epoch, Seq};
use crate::keys::{PublicKey, Signature, SigningKey};
use crate::time::Timestamp;

/// What kind of transfer an entry tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A batch that was taken into the warehouse.
    Push,
    /// A delivery that was refused.
    Refuse,
    /// A contract that was applied, or a step on its way there ([`ContractStep`]).
    Contract,
    /// A category list that was brought into force (CT-04).
    Category,
    /// A comparison of source and warehouse that an agent reported (HU-03).
    Proof,
    /// The hub's database was restored from a backup; the log goes on (decision 0016).
    Restore,
    /// A step in the life of an agent's identity ([`IdentityStep`]).
    Identity,
    /// A backup was made, tried out or restored (CT-36, CB-19).
    Backup,
    /// Rows were shown to a person.
    Read,
    /// Rows were written to a file.
    Export,
    /// Rows were destroyed at the end of their retention (HU-26b).
    Destroy,
    /// Entries or figures of the log were written out for somebody ([`Deed`]).
    Disclose,
    /// A person came, was turned away, or changed who may come ([`Deed`]).
    Operator,
}

/// What a comparison of source and warehouse came to. Digests are left out: of a small table they
/// would tell its rows to whoever tries all that could be in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compared {
    /// When both ends were compared, by the agent's clock.
    pub at: Timestamp,
    /// Rows at the source, as mapping lets them through.
    pub source_rows: u64,
    /// Rows of this agency in the warehouse.
    pub warehouse_rows: u64,
    /// Records that differed for longer than a change is on its way.
    pub differing: u64,
    /// Whether both ends had the same digests.
    pub identical: bool,
}

/// A step in the life of a contract's version, other than its coming into force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContractStep {
    /// It was proposed.
    Proposed,
    /// Its owner or the hub signed it.
    Signed(Box<SignedConsent>),
    /// Another one was proposed in its place.
    Withdrawn,
}

/// What a restored database no longer holds of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restored {
    /// The last entry the database still had; 0 for none.
    pub last: u64,
    /// Entries in the log as published; those after `last` are known by their leaves alone.
    pub entries: u64,
    /// The root of that log; the chain of links goes on from it.
    pub root: Digest,
    /// Why, in the words of whoever let the log go on.
    pub because: String,
}

/// What is written down about one transfer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Form of this entry; 1.
    pub v: u32,
    /// What kind of transfer.
    pub kind: Kind,
    /// The transfer's identifier; rows name it in `_transfer`. Unique, rising, not gap-free.
    pub transfer: u64,
    /// Who delivered; absent when it could not be told.
    pub agent: Option<AgentId>,
    /// Which dataset; absent when it could not be told.
    pub dataset: Option<DatasetId>,
    /// The header as the agent signed it, letter by letter; absent when there was none to read.
    pub header: Option<String>,
    /// The agent's signature over `header`.
    pub agent_signature: Option<Signature>,
    /// Why it was refused.
    pub refused: Option<Code>,
    /// For `proof`: what was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared: Option<Compared>,
    /// Fingerprint of the contract in force (for `contract`, of the one applied;
    /// for `category`, the list's digest).
    pub contract: Option<Digest>,
    /// Bytes as received.
    pub bytes: u64,
    /// When it arrived, by the hub's clock.
    pub received_at: Timestamp,
    /// When it was committed, by the hub's clock.
    pub committed_at: Timestamp,
    /// Version of the hub's program.
    pub hub_version: String,
    /// For `contract`: which step; absent when it came into force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<ContractStep>,
    /// For `restore`: what was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<Restored>,
    /// For `identity`: which step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Box<IdentityStep>>,
    /// For `backup`, `read`, `export` and `destroy`: what was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<act::Act>,
    /// For `disclose` and `operator`: who did what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deed: Option<Deed>,
}

/// An entry as it stands in an exported log, one JSON object a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogLine {
    /// Its place in the log, from 1, without gaps.
    pub number: u64,
    /// The chain up to and including it.
    pub link: Digest,
    /// The entry's canonical JSON, letter by letter.
    pub entry: String,
    /// The hub's signature over `entry`.
    pub hub_signature: Signature,
}

impl Entry {
    /// An entry of something the hub did at this moment, with nothing said of it yet.
    #[must_use]
    pub fn of_hub(kind: Kind, transfer: u64, now: Timestamp, hub_version: &str) -> Self {
        Self {
            v: 1,
            kind,
            transfer,
            agent: None,
            dataset: None,
            header: None,
            agent_signature: None,
            refused: None,
            compared: None,
            contract: None,
            bytes: 0,
            received_at: now,
            committed_at: now,
            hub_version: hub_version.to_owned(),
            step: None,
            restored: None,
            act: None,
            identity: None,
            deed: None,
        }
    }

    /// The person who did what it tells, where one did.
    #[must_use]
    pub fn by(&self) -> Option<&str> {
        let deed = self.deed.as_ref().map(|deed| deed.by.as_str());
        let act = || self.act.as_ref().and_then(act::Act::by);
        let step = || self.identity.as_ref().and_then(|step| step.by.as_deref());
        deed.or_else(act).or_else(step)
    }

    /// The canonical bytes and the hub's signature over them.
    #[must_use]
    pub fn seal(&self, key: &SigningKey) -> (String, Signature) {
        let bytes = canonical_json(self);
        let signature = key.sign(&bytes);
        (String::from_utf8(bytes).unwrap_or_default(), signature)
    }
}

/// The link after `previous` for an entry with these bytes.
#[must_use]
pub fn link(previous: Digest, entry: &str) -> Digest {
    Digest::of_pair(previous.as_bytes(), Digest::of(entry.as_bytes()).as_bytes())
}

/// The first thing in a log that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {number}: {what}")]
pub struct BrokenLog {
    /// The place in the log where it was found.
    pub number: u64,
    /// What is wrong there.
    pub what: String,
}

/// Walks a log from its beginning with nothing but public keys.
///
/// It finds: a number left out, repeated or moved; an entry or link altered; an entry not signed by
/// the hub; an accepted batch not signed by its agent; a stream with a gap, a repeat or a broken
/// chain of headers.
#[derive(Debug)]
pub struct LogVerifier {
    hub: Vec<PublicKey>,
    agents: BTreeMap<AgentId, Vec<KeySpan>>,
    number: u64,
    link: Digest,
    streams: BTreeMap<(AgentId, DatasetId), (Epoch, Seq, Digest)>,
    accepted: u64,
    refused: u64,
    rows: u64,
    missing: u64,
}

/// What a verified log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LogSummary {
    /// Entries in all.
    pub entries: u64,
    /// Batches taken into the warehouse.
    pub accepted: u64,
    /// Deliveries refused.
    pub refused: u64,
    /// Row changes in accepted batches.
    pub rows: u64,
    /// Entries that a restored database no longer holds; each gap is explained by an entry.
    pub missing: u64,
    /// The last link: whoever keeps it can tell whether this log was ever cut or rewritten.
    pub link: Digest,
}

impl LogVerifier {
    /// Begins before entry 1, with the keys the hub and the agents have and had.
    #[must_use]
    pub fn new(hub: Vec<PublicKey>, agents: BTreeMap<AgentId, Vec<KeySpan>>) -> Self {
        Self {
            hub,
            agents,
            number: 0,
            link: Digest::ZERO,
            streams: BTreeMap::new(),
            accepted: 0,
            refused: 0,
            rows: 0,
            missing: 0,
        }
    }

    /// Checks the next line.
    ///
    /// # Errors
    /// [`BrokenLog`] naming the entry.
    pub fn add(&mut self, line: &LogLine) -> Result<(), BrokenLog> {
        self.check(line).map_err(|what| BrokenLog { number: line.number, what })
    }

    /// What the log holds, after its last line.
    #[must_use]
    pub fn summary(&self) -> LogSummary {
        LogSummary {
            entries: self.number,
            accepted: self.accepted,
            refused: self.refused,
            rows: self.rows,
            missing: self.missing,
            link: self.link,
        }
    }

    fn check(&mut self, line: &LogLine) -> Result<(), String> {
        let entry = serde_json::from_str::<Entry>(&line.entry);
        let restored = entry.as_ref().ok().and_then(|entry| entry.restored.as_ref());
        let (before, last) = match restored {
            // A database that was restored goes on from the published log, not from its own end.
            Some(restored) if restored.last == self.number && restored.entries >= self.number => {
                (restored.root, restored.entries)
            }
            Some(_) | None => (self.link, self.number),
        };
        if line.number != last + 1 {
            return Err(format!("expected entry {} here", self.number + 1));
        }
        if link(before, &line.entry) != line.link {
            return Err("the chain does not lead here: this entry or one before it was altered \
                        or removed"
                .to_owned());
        }
        let signed = |hub: &PublicKey| hub.verifies(line.entry.as_bytes(), &line.hub_signature);
        if !self.hub.iter().any(signed) {
            return Err("not signed with the hub's key".to_owned());
        }
        let entry = entry.map_err(|_| "not an entry of version 1".to_owned())?;
        form::check(&entry)?;
        match entry.kind {
            Kind::Push => self.check_push(&entry)?,
            Kind::Refuse => self.refused += 1,
            Kind::Contract => self.check_step(&entry)?,
            Kind::Category
            | Kind::Proof
            | Kind::Identity
            | Kind::Backup
            | Kind::Read
            | Kind::Export
            | Kind::Destroy
            | Kind::Disclose
            | Kind::Operator => {}
            Kind::Restore => self.missing += last - self.number,
        }
        (self.number, self.link) = (line.number, line.link);
        Ok(())
    }

    /// A consent is its signer's: of the hub, or of the agent whose key that was.
    fn check_step(&self, entry: &Entry) -> Result<(), String> {
        let Some(ContractStep::Signed(signed)) = &entry.step else { return Ok(()) };
        let said = &signed.consent;
        let is_known = match &said.agent {
            None => self.hub.contains(&said.key),
            Some(agent) => self.agents.get(agent).is_some_and(|keys| {
                keys.iter().any(|span| span.key == said.key && span.covers(entry.transfer))
            }),
        };
        let names_same = entry.contract == Some(said.contract)
            && entry.dataset.as_ref() == Some(&said.dataset)
            && entry.agent == said.agent;
        if is_known && names_same && signed.is_signed() {
            return Ok(());
        }
        Err("a contract's signature in it is not that of owner or hub".to_owned())
    }

    fn check_push(&mut self, entry: &Entry) -> Result<(), String> {
        let (Some(header), Some(signature)) = (&entry.header, entry.agent_signature) else {
            return Err("an accepted batch without its agent's header".to_owned());
        };
        let signed = SignedHeader::read(header.clone().into_bytes(), signature)
            .map_err(|_| "the agent's header cannot be read".to_owned())?;
        let header = &signed.header;
        if entry.agent.as_ref() != Some(&header.agent)
            || entry.dataset.as_ref() != Some(&header.dataset)
        {
            return Err("names another agent or dataset than the header inside it".to_owned());
        }
        let Some(keys) = self.agents.get(&header.agent) else {
            return Err(format!("no public key is known for agent {}", header.agent));
        };
        let mut keys = keys.iter().filter(|span| span.covers(entry.transfer));
        if !keys.any(|span| signed.verify(&span.key).is_ok()) {
            return Err(format!("not signed by agent {}", header.agent));
        }
        let stream = (header.agent.clone(), header.dataset.clone());
        let (epoch, seq, previous) = match self.streams.get(&stream) {
            Some(&(epoch, seq, digest)) if epoch == header.epoch => (epoch, seq, digest),
            Some(&(epoch, _, _)) if epoch > header.epoch => {
                return Err(format!(
                    "epoch {} of {} after epoch {epoch}",
                    header.epoch, header.dataset
                ));
            }
            Some(_) | None => (header.epoch, Seq::NONE, Digest::ZERO),
        };
        if header.seq != seq.next() || header.previous != previous {
            return Err(format!(
                "batch {} of {} epoch {epoch} does not follow batch {seq}",
                header.seq, header.dataset
            ));
        }
        self.accepted += 1;
        self.rows = self.rows.saturating_add(header.counts.total());
        self.streams.insert(stream, (header.epoch, header.seq, signed.digest()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::tests::{key, sample};

    fn hub_key() -> SigningKey {
        SigningKey::from_text("CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg=").unwrap()
    }

    fn push(signed: &SignedHeader, transfer: u64) -> Entry {
        Entry {
            v: 1,
            kind: Kind::Push,
            transfer,
            agent: Some(signed.header.agent.clone()),
            dataset: Some(signed.header.dataset.clone()),
            header: Some(String::from_utf8(signed.bytes.clone()).unwrap()),
            agent_signature: Some(signed.signature),
            refused: None,
            compared: None,
            contract: Some(signed.header.contract),
            bytes: 100,
            received_at: Timestamp::UNIX_EPOCH,
            committed_at: Timestamp::UNIX_EPOCH,
            hub_version: "0.1.0".to_owned(),
            step: None,
            restored: None,
            identity: None,
            act: None,
            deed: None,
        }
    }

    fn chain(entries: &[Entry]) -> Vec<LogLine> {
        let mut last = Digest::ZERO;
        let line = |(index, entry): (usize, &Entry)| {
            let (entry, hub_signature) = entry.seal(&hub_key());
            last = link(last, &entry);
            LogLine { number: index as u64 + 1, link: last, entry, hub_signature }
        };
        entries.iter().enumerate().map(line).collect()
    }

    fn log() -> Vec<LogLine> {
        let (one, refused) = (sample(1, Digest::ZERO), sample(9, Digest::ZERO));
        let two = sample(2, one.digest());
        let mut refusal = push(&refused, 11);
        (refusal.kind, refusal.refused) = (Kind::Refuse, Some(Code::BatchOutOfTurn));
        chain(&[push(&one, 10), refusal, push(&two, 12)])
    }

    fn verify(lines: &[LogLine]) -> Result<LogSummary, BrokenLog> {
        let agent = AgentId::try_from("H57.12/may-1".to_owned()).unwrap();
        let keys = vec![KeySpan::always(key().public())];
        let mut verifier = LogVerifier::new(vec![hub_key().public()], [(agent, keys)].into());
        lines.iter().try_for_each(|line| verifier.add(line))?;
        Ok(verifier.summary())
    }

    #[test]
    fn an_untouched_log_verifies() {
        let summary = verify(&log()).unwrap();
        assert_eq!(
            (summary.entries, summary.accepted, summary.refused, summary.rows),
            (3, 2, 1, 2)
        );
    }

    #[test]
    fn a_key_verifies_what_it_may_have_signed_and_nothing_else() {
        let check = |first: u64, last: Option<u64>, broken_at: Option<u64>| {
            let agent = AgentId::try_from("H57.12/may-1".to_owned()).unwrap();
            let other = KeySpan::always(hub_key().public());
            let keys = vec![other, KeySpan { key: key().public(), first, last }];
            let hub = vec![key().public(), hub_key().public()];
            let mut verifier = LogVerifier::new(hub, [(agent, keys)].into());
            let broken = log().iter().find_map(|line| verifier.add(line).err());
            assert_eq!(broken.map(|broken| broken.number), broken_at, "{first} {last:?}");
        };
        check(10, None, None);
        check(10, Some(12), None);
        check(11, None, Some(1));
        check(10, Some(11), Some(3));
    }

    #[test]
    fn a_contracts_signature_in_the_log_is_its_signers_or_the_log_is_broken() {
        use crate::contract::{Contract, tests::SAMPLE};
        let contract = Contract::from_toml(SAMPLE).unwrap();
        let agent = AgentId::try_from("H57.12/may-1".to_owned()).unwrap();
        let check = |signed: SignedConsent, is_sound: bool| {
            let mut entry = push(&sample(1, Digest::ZERO), 10);
            (entry.kind, entry.header, entry.agent_signature) = (Kind::Contract, None, None);
            (entry.contract, entry.dataset) =
                (Some(contract.fingerprint()), Some(contract.dataset.clone()));
            entry.agent.clone_from(&signed.consent.agent);
            entry.step = Some(ContractStep::Signed(Box::new(signed)));
            assert_eq!(verify(&chain(&[entry])).is_ok(), is_sound);
        };
        let owner = SignedConsent::of_owner(&contract, &agent, &key());
        check(SignedConsent::of_hub(&contract, &owner, &hub_key()), true);
        check(SignedConsent::of_hub(&contract, &owner, &key()), false);
        check(owner, true);
        check(SignedConsent::of_owner(&contract, &agent, &hub_key()), false);
    }

    #[test]
    fn every_way_of_altering_a_log_is_named() {
        let check = |what: &str, alter: fn(&mut Vec<LogLine>), number: u64| {
            let mut lines = log();
            alter(&mut lines);
            assert_eq!(verify(&lines).map_err(|broken| broken.number), Err(number), "{what}");
        };
        check("flipped", |l| l[1].entry = l[1].entry.replace("100", "101"), 2);
        check("dropped", |l| drop(l.remove(1)), 3);
        check("reordered", |l| l.swap(0, 1), 2);
        check("inserted", |l| l.insert(1, l[0].clone()), 1);
        check("first cut off", |l| drop(l.remove(0)), 2);
        let stranger =
            |l: &mut Vec<LogLine>| l[2].hub_signature = key().sign(l[2].entry.as_bytes());
        check("signed by a stranger", stranger, 3);
    }

    #[test]
    fn a_proof_says_what_it_found_and_nothing_else_may() {
        let at = Timestamp::UNIX_EPOCH;
        let compared =
            Compared { at, source_rows: 3, warehouse_rows: 3, differing: 0, identical: true };
        let check = |kind: Kind, compared: Option<Compared>, is_sound: bool| {
            let entry = Entry {
                kind,
                compared,
                header: None,
                agent_signature: None,
                ..push(&sample(1, Digest::ZERO), 10)
            };
            assert_eq!(verify(&chain(&[entry])).is_ok(), is_sound, "{kind:?} {compared:?}");
        };
        check(Kind::Proof, Some(compared), true);
        check(Kind::Proof, None, false);
        check(Kind::Contract, Some(compared), false);
        check(Kind::Contract, None, true);
    }

    #[test]
    fn a_restored_database_explains_what_it_lost_and_nothing_else_may() {
        let (one, two) = (sample(1, Digest::ZERO), sample(2, sample(1, Digest::ZERO).digest()));
        let mut restore = push(&one, 13);
        let root = Digest::of(b"published");
        (restore.kind, restore.agent_signature, restore.header) = (Kind::Restore, None, None);
        let lost = Restored { last: 1, entries: 4, root, because: "backup".to_owned() };
        restore.restored = Some(lost);
        let first = chain(&[push(&one, 10)]);
        let after = |entry: &Entry, number: u64, before: Digest| {
            let (entry, hub_signature) = entry.seal(&hub_key());
            LogLine { number, link: link(before, &entry), entry, hub_signature }
        };
        let gap = after(&restore, 5, root);
        let next = after(&push(&two, 14), 6, gap.link);
        let check = |lines: &[&LogLine], missing: Option<u64>| {
            let lines: Vec<_> = lines.iter().map(|line| (*line).clone()).collect();
            assert_eq!(verify(&lines).ok().map(|summary| summary.missing), missing);
        };
        check(&[&first[0], &gap, &next], Some(3));
        check(&[&gap, &next], None);
        check(&[&first[0], &next], None);
        check(&[&first[0], &after(&restore, 4, root)], None);
        let unexplained = after(&push(&two, 14), 5, root);
        check(&[&first[0], &unexplained], None);
    }

    #[test]
    fn a_hub_that_rewrites_its_chain_still_cannot_invent_or_drop_a_batch() {
        let (one, two) = (sample(1, Digest::ZERO), sample(2, sample(1, Digest::ZERO).digest()));
        let dropped = chain(&[push(&two, 12)]);
        assert!(verify(&dropped).unwrap_err().what.contains("does not follow batch 0"));
        let mut altered = push(&one, 10);
        altered.header = altered.header.map(|h| h.replace("\"insert\":1", "\"insert\":2"));
        assert!(verify(&chain(&[altered])).unwrap_err().what.contains("not signed by agent"));
    }
}
