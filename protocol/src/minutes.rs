//! Minutes of what an agency delivered in a period: figures counted from the log's entries alone,
//! and the signed document that carries them.
//!
//! A document is a page for people. Its figures stand in it once more for programs, in a comment;
//! the hub's signature covers every byte before itself. Whoever has the hub's public key can check
//! it; whoever has the entries can count again ([`Tally`]).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use crate::batch::{Header, canonical_json};
use crate::change::Counts;
use crate::checkpoint::{Checkpoint, LogKey};
use crate::digest::Digest;
use crate::entry::{Entry, Kind};
use crate::ids::{AgencyId, AgentId, DatasetId};
use crate::keys::{PublicKey, Signature, SigningKey};
use crate::time::Timestamp;

/// Lines of minutes at most: an agency's agents times its datasets stay far below.
pub const LINES_MAX: usize = 2_000;

/// Bytes of a document at most.
pub const DOCUMENT_BYTES_MAX: usize = 8 << 20;

/// What is counted: one agency, one dataset of it or all, committed from `from` to before `to`, in
/// the entries 1 to `up_to`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// Whose deliveries.
    pub agency: AgencyId,
    /// Of which dataset alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<DatasetId>,
    /// Committed at or after this.
    pub from: Timestamp,
    /// Committed before this.
    pub to: Timestamp,
    /// The newest entry that is looked at.
    pub up_to: u64,
}

impl Scope {
    /// Whether an entry is counted.
    #[must_use]
    pub fn covers(&self, number: u64, entry: &Entry) -> bool {
        let own = entry.agent.as_ref().is_some_and(|agent| *agent.agency() == self.agency);
        let dataset = self.dataset.is_none() || entry.dataset == self.dataset;
        let at = entry.committed_at;
        own && dataset && number <= self.up_to && self.from <= at && at < self.to
    }
}

/// What one agent delivered of one dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivered {
    /// Which dataset.
    pub dataset: DatasetId,
    /// By which agent.
    pub agent: AgentId,
    /// Batches taken into the warehouse.
    pub batches: u64,
    /// Row changes in them.
    pub rows: Counts,
    /// Bytes as received.
    pub bytes: u64,
    /// The first entry counted.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// When the first was committed, by the hub's clock; entries stand in the log's order.
    pub first_at: Timestamp,
    /// When the last was.
    pub last_at: Timestamp,
}

/// Deliveries that were refused for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// Of which dataset; absent when it could not be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<DatasetId>,
    /// Why.
    pub code: String,
    /// How many.
    pub deliveries: u64,
}

/// Comparisons of source and warehouse that were reported of one dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proven {
    /// Which dataset.
    pub dataset: DatasetId,
    /// How many.
    pub comparisons: u64,
    /// How many of them found both ends identical.
    pub identical: u64,
    /// What the last one found: rows at the source.
    pub source_rows: u64,
    /// Rows in the warehouse.
    pub warehouse_rows: u64,
    /// Records that differed.
    pub differing: u64,
    /// When it was made, by the agent's clock.
    pub last_at: Timestamp,
}

/// Everything that is counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// What was counted.
    pub scope: Scope,
    /// Entries counted.
    pub entries: u64,
    /// SHA-256 chained over the number and text of each entry counted, in order.
    pub digest: Digest,
    /// Deliveries taken, by dataset and agent.
    pub delivered: Vec<Delivered>,
    /// Deliveries refused, by dataset and reason.
    pub refused: Vec<Refused>,
    /// Comparisons, by dataset.
    pub proven: Vec<Proven>,
    /// Other entries of the agency: steps of contracts.
    pub others: u64,
}

/// Sums over all of [`Figures::delivered`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    /// Batches.
    pub batches: u64,
    /// Row changes.
    pub rows: Counts,
    /// Bytes.
    pub bytes: u64,
}

impl Figures {
    /// The sums of all deliveries taken.
    #[must_use]
    pub fn sum(&self) -> Sum {
        let mut sum = Sum::default();
        for line in &self.delivered {
            sum.batches = sum.batches.saturating_add(line.batches);
            sum.bytes = sum.bytes.saturating_add(line.bytes);
            add(&mut sum.rows, &line.rows);
        }
        sum
    }

    /// The digest of these figures.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&canonical_json(self))
    }
}

fn add(sum: &mut Counts, more: &Counts) {
    sum.delete += more.delete;
    sum.insert += more.insert;
    sum.rekey += more.rekey;
    sum.snapshot += more.snapshot;
    sum.truncate += more.truncate;
    sum.update += more.update;
}

/// Counts entries; they are given in the log's order.
#[derive(Debug)]
pub struct Tally {
    figures: Figures,
    delivered: BTreeMap<(DatasetId, AgentId), Delivered>,
    refused: BTreeMap<(Option<DatasetId>, String), u64>,
    proven: BTreeMap<DatasetId, Proven>,
}

/// An entry that cannot be counted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {number} {what}")]
pub struct Uncountable {
    /// Its number.
    pub number: u64,
    /// What is wrong with it.
    pub what: &'static str,
}

impl Tally {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(scope: Scope) -> Self {
        let figures = Figures {
            scope,
            entries: 0,
            digest: Digest::ZERO,
            delivered: Vec::new(),
            refused: Vec::new(),
            proven: Vec::new(),
            others: 0,
        };
        Self {
            figures,
            delivered: BTreeMap::new(),
            refused: BTreeMap::new(),
            proven: BTreeMap::new(),
        }
    }

    /// Counts an entry, if it is in scope.
    ///
    /// # Errors
    /// When it is no entry, or there are more than [`LINES_MAX`] lines.
    pub fn add(&mut self, number: u64, text: &str) -> Result<(), Uncountable> {
        let wrong = |what| Uncountable { number, what };
        let entry: Entry = serde_json::from_str(text).map_err(|_| wrong("is no entry"))?;
        if !self.figures.scope.covers(number, &entry) {
            return Ok(());
        }
        self.figures.entries += 1;
        let one = Digest::of_pair(&number.to_be_bytes(), text.as_bytes());
        self.figures.digest = Digest::of_pair(self.figures.digest.as_bytes(), one.as_bytes());
        match entry.kind {
            Kind::Push => self.push(number, &entry).ok_or_else(|| wrong("has no header"))?,
            Kind::Refuse => {
                let code = entry.refused.map_or("-", crate::fault::Code::name).to_owned();
                *self.refused.entry((entry.dataset, code)).or_default() += 1;
            }
            Kind::Proof => self.prove(&entry).ok_or_else(|| wrong("compares nothing"))?,
            Kind::Contract
            | Kind::Category
            | Kind::Restore
            | Kind::Identity
            | Kind::Backup
            | Kind::Read
            | Kind::Export
            | Kind::Destroy
            | Kind::Disclose
            | Kind::Operator => {
                self.figures.others += 1;
            }
        }
        if self.delivered.len() + self.refused.len() + self.proven.len() > LINES_MAX {
            return Err(wrong("is one line too many for minutes"));
        }
        Ok(())
    }

    fn push(&mut self, number: u64, entry: &Entry) -> Option<()> {
        let header: Header = serde_json::from_str(entry.header.as_ref()?).ok()?;
        let (dataset, agent, at) = (header.dataset, header.agent, entry.committed_at);
        let line = self.delivered.entry((dataset.clone(), agent.clone()));
        let line = line.or_insert_with(|| Delivered {
            dataset,
            agent,
            batches: 0,
            rows: Counts::default(),
            bytes: 0,
            first: number,
            last: number,
            first_at: at,
            last_at: at,
        });
        line.batches += 1;
        line.bytes = line.bytes.saturating_add(entry.bytes);
        (line.last, line.last_at) = (number, at);
        add(&mut line.rows, &header.counts);
        Some(())
    }

    fn prove(&mut self, entry: &Entry) -> Option<()> {
        let (dataset, found) = (entry.dataset.clone()?, entry.compared?);
        let line = self.proven.entry(dataset.clone()).or_insert_with(|| Proven {
            dataset,
            comparisons: 0,
            identical: 0,
            source_rows: 0,
            warehouse_rows: 0,
            differing: 0,
            last_at: found.at,
        });
        line.comparisons += 1;
        line.identical += u64::from(found.identical);
        (line.source_rows, line.warehouse_rows) = (found.source_rows, found.warehouse_rows);
        (line.differing, line.last_at) = (found.differing, found.at);
        Some(())
    }

    /// What was counted.
    #[must_use]
    pub fn figures(self) -> Figures {
        let mut figures = self.figures;
        figures.delivered = self.delivered.into_values().collect();
        let refused = self.refused.into_iter();
        let line = |((dataset, code), deliveries)| Refused { dataset, code, deliveries };
        figures.refused = refused.map(line).collect();
        figures.proven = self.proven.into_values().collect();
        figures
    }
}

/// What stands in a document for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Minutes {
    /// Form of this; 1.
    pub v: u32,
    /// What was counted.
    pub figures: Figures,
    /// The hub's checkpoint of the log, with what witnesses had signed; it holds every entry counted.
    pub checkpoint: String,
    /// The hub's word for the key that signed it.
    pub log_key: LogKey,
    /// Who had them made.
    pub made_by: String,
    /// When.
    pub made_at: Timestamp,
    /// The transfer whose entry tells that they were made.
    pub transfer: u64,
    /// Version of the hub's program.
    pub hub_version: String,
}

/// Why a document is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMinutes {
    /// It has another form.
    #[error("not minutes of version 1: {0}")]
    Form(&'static str),
    /// Something in it was changed, or another hub made it.
    #[error("the document was changed after it was signed, or another key signed it")]
    Signature,
    /// The checkpoint is not of this hub's log.
    #[error("the checkpoint in it is not signed by this hub's log")]
    Log,
    /// The checkpoint does not reach as far as what was counted.
    #[error("the checkpoint in it does not hold every entry that was counted")]
    Short,
}

/// What stands before the figures in a document.
const FIGURES: &str = "<!-- phusa-minutes ";

/// What stands before the signature; all before it is signed.
const SIGNATURE: &str = "<pre class=\"signature\">";

/// What stands after the signature, to the end.
const END: &str = "</pre>\n</body>\n</html>\n";

impl Minutes {
    /// Puts a page together: `page` begins with `<!doctype html>` and ends inside its body.
    #[must_use]
    pub fn seal(&self, page: &str, key: &SigningKey) -> String {
        let figures = BASE64.encode(canonical_json(self));
        let signed = format!("{page}\n{FIGURES}{figures} -->\n");
        let signature = String::from(key.sign(statement(&signed).as_bytes()));
        let public = String::from(key.public());
        format!("{signed}{SIGNATURE}phusa-minutes/v1\nkey {public}\nsignature {signature}\n{END}")
    }

    /// Reads a document, with the keys that the hub has and had.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn open(document: &str, hub: &[PublicKey]) -> Result<(Self, Checkpoint), BadMinutes> {
        if document.len() > DOCUMENT_BYTES_MAX {
            return Err(BadMinutes::Form("it is too long"));
        }
        let body = document.strip_suffix(END).ok_or(BadMinutes::Form("its end is another"))?;
        let place = body.rfind(SIGNATURE).ok_or(BadMinutes::Form("it has no signature"))?;
        let (signed, tail) = body.split_at(place);
        let form = BadMinutes::Form("its signature cannot be read");
        let lines: Vec<&str> = tail.trim_start_matches(SIGNATURE).lines().collect();
        let ["phusa-minutes/v1", key, signature] = lines.as_slice() else { return Err(form) };
        let key = key.strip_prefix("key ").and_then(|k| PublicKey::try_from(k.to_owned()).ok());
        let signature = signature.strip_prefix("signature ");
        let signature = signature.and_then(|s| Signature::try_from(s.to_owned()).ok());
        let (Some(key), Some(signature)) = (key, signature) else { return Err(form) };
        let known = hub.contains(&key);
        if !known || !key.verifies(statement(signed).as_bytes(), &signature) {
            return Err(BadMinutes::Signature);
        }
        let minutes = Self::figures_of(signed)?;
        let log = minutes.log_key.verified(&key).ok_or(BadMinutes::Log)?;
        let checkpoint = Checkpoint::parse(&minutes.checkpoint, &log);
        let checkpoint = checkpoint.map_err(|_| BadMinutes::Log)?;
        if checkpoint.head.size < minutes.figures.scope.up_to {
            return Err(BadMinutes::Short);
        }
        Ok((minutes, checkpoint))
    }

    fn figures_of(signed: &str) -> Result<Self, BadMinutes> {
        let missing = BadMinutes::Form("its figures cannot be read");
        let (_, rest) = signed.rsplit_once(FIGURES).ok_or_else(|| missing.clone())?;
        let text = rest.strip_suffix(" -->\n").ok_or_else(|| missing.clone())?;
        let json = BASE64.decode(text).map_err(|_| missing.clone())?;
        let minutes: Self = serde_json::from_slice(&json).map_err(|_| missing.clone())?;
        if minutes.v == 1 { Ok(minutes) } else { Err(missing) }
    }
}

/// What is signed: told apart from all else the hub's key signs by its first line.
fn statement(signed: &str) -> String {
    format!("phusa-minutes/v1\n{}\n", Digest::of(signed.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::tests::{key, sample};
    use crate::checkpoint::Head;
    use crate::entry::Compared;
    use crate::fault::Code;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn entry(kind: Kind, seconds: i64) -> Entry {
        let signed = sample(1, Digest::ZERO);
        Entry {
            agent: Some(signed.header.agent.clone()),
            dataset: Some(signed.header.dataset.clone()),
            ..Entry::of_hub(kind, 1, at(seconds), "0.1.0")
        }
    }

    fn push(seconds: i64) -> Entry {
        let signed = sample(1, Digest::ZERO);
        let header = String::from_utf8(signed.bytes).unwrap();
        Entry { header: Some(header), bytes: 100, ..entry(Kind::Push, seconds) }
    }

    fn scope() -> Scope {
        let agency = AgencyId::new("H57.12").unwrap();
        Scope { agency, dataset: None, from: at(10), to: at(20), up_to: 9 }
    }

    fn counted(entries: &[(u64, Entry)]) -> Figures {
        let mut tally = Tally::new(scope());
        for (number, entry) in entries {
            tally.add(*number, &entry.seal(&key()).0).unwrap();
        }
        tally.figures()
    }

    #[test]
    fn what_is_outside_the_agency_the_period_or_the_log_is_not_counted() {
        let mut foreign = push(15);
        foreign.agent = Some(AgentId::try_from("H57.120/may-1".to_owned()).unwrap());
        let check = |entry: Entry, number: u64, expected: u64| {
            assert_eq!(counted(&[(number, entry)]).entries, expected);
        };
        check(push(10), 1, 1);
        check(push(20), 1, 0);
        check(push(9), 1, 0);
        check(push(15), 10, 0);
        check(foreign, 1, 0);
    }

    #[test]
    fn figures_are_the_sums_of_the_entries() {
        let mut refused = entry(Kind::Refuse, 12);
        refused.refused = Some(Code::BatchOutOfTurn);
        let mut proof = entry(Kind::Proof, 13);
        proof.compared = Some(Compared {
            at: at(13),
            source_rows: 7,
            warehouse_rows: 6,
            differing: 1,
            identical: false,
        });
        let found = counted(&[(1, push(11)), (2, refused), (4, push(14)), (5, proof)]);
        let one = sample(1, Digest::ZERO).header.counts.total();
        let sum = found.sum();
        assert_eq!((found.entries, sum.batches, sum.bytes), (4, 2, 200));
        assert_eq!(sum.rows.total(), 2 * one);
        let line = &found.delivered[0];
        assert_eq!((line.first, line.last, line.last_at), (1, 4, at(14)));
        assert_eq!(
            (found.refused[0].code.as_str(), found.refused[0].deliveries),
            ("batch_out_of_turn", 1)
        );
        let proven = &found.proven[0];
        assert_eq!((proven.comparisons, proven.identical, proven.differing), (1, 0, 1));
    }

    fn document(hub: &SigningKey, size: u64) -> String {
        let log = SigningKey::generate().unwrap();
        let head = Head { size, root: Digest::of(b"root") };
        let minutes = Minutes {
            v: 1,
            figures: counted(&[(1, push(11))]),
            checkpoint: Checkpoint::sign(head, &log).to_note(),
            log_key: LogKey::sign(log.public(), hub),
            made_by: "console:root".to_owned(),
            made_at: at(30),
            transfer: 40,
            hub_version: "0.1.0".to_owned(),
        };
        minutes.seal("<!doctype html>\n<html><body><p>1 batch</p>", hub)
    }

    #[test]
    fn a_document_is_believed_as_it_was_signed_and_after_no_change_of_any_byte() {
        let (hub, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let text = document(&hub, 9);
        let (minutes, checkpoint) = Minutes::open(&text, &[other.public(), hub.public()]).unwrap();
        assert_eq!((minutes.figures.entries, checkpoint.head.size), (1, 9));
        assert_eq!(Minutes::open(&text, &[other.public()]), Err(BadMinutes::Signature));
        assert_eq!(Minutes::open(&document(&hub, 8), &[hub.public()]), Err(BadMinutes::Short));
        for place in (0..text.len()).step_by(7) {
            let mut bytes = text.clone().into_bytes();
            bytes[place] ^= 1;
            let changed = String::from_utf8_lossy(&bytes);
            assert!(Minutes::open(&changed, &[hub.public()]).is_err(), "byte {place}");
        }
        let added = text.replace("</pre>\n</body>", "</pre><p>x</p>\n</body>");
        assert!(Minutes::open(&added, &[hub.public()]).is_err());
    }
}
