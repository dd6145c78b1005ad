//! Whom to believe: logs, witnesses, and how many of these must have signed, as Sigsum's policy
//! files say it.

use std::collections::{BTreeMap, BTreeSet};

use crate::checkpoint::{Checkpoint, Cosignature};
use crate::digest::Digest;
use crate::hex;
use crate::keys::PublicKey;

/// A policy, checked: every name in it is known, no group contains itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    logs: Vec<PublicKey>,
    witnesses: BTreeMap<String, PublicKey>,
    groups: BTreeMap<String, (usize, Vec<String>)>,
    quorum: Option<String>,
}

/// What is wrong with a policy, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct BadPolicy {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub what: String,
}

/// The word for needing no witness at all.
const NONE: &str = "none";

impl Policy {
    /// This log, the agents as witnesses, and so many of them needed; none when there are fewer.
    #[must_use]
    pub fn of_agents(log: PublicKey, agents: &[(String, PublicKey)], needed: usize) -> Self {
        let witnesses: BTreeMap<_, _> = agents.iter().cloned().collect();
        let names: Vec<String> = witnesses.keys().cloned().collect();
        let is_met = (1..=names.len()).contains(&needed);
        let groups = is_met.then(|| ("agents".to_owned(), (needed, names)));
        let quorum = groups.as_ref().map(|(name, _)| name.clone());
        Self { logs: vec![log], witnesses, groups: groups.into_iter().collect(), quorum }
    }

    /// Reads a policy file.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn parse(text: &str) -> Result<Self, BadPolicy> {
        let mut policy = Self {
            logs: Vec::new(),
            witnesses: BTreeMap::new(),
            groups: BTreeMap::new(),
            quorum: None,
        };
        let mut has_quorum = false;
        for (index, line) in text.lines().enumerate() {
            let words: Vec<&str> = line.split_whitespace().collect();
            policy
                .add(&words, &mut has_quorum)
                .map_err(|what| BadPolicy { line: index + 1, what })?;
        }
        let missing = |what: &str| BadPolicy { line: text.lines().count(), what: what.to_owned() };
        if policy.logs.is_empty() {
            return Err(missing("no line `log <key>`"));
        }
        if !has_quorum {
            return Err(missing("no line `quorum <name>`"));
        }
        Ok(policy)
    }

    fn add(&mut self, words: &[&str], has_quorum: &mut bool) -> Result<(), String> {
        match words {
            [] => {}
            [word, ..] if word.starts_with('#') => {}
            ["log", log] | ["log", log, _] => self.logs.push(key(log)?),
            ["witness", name, witness] | ["witness", name, witness, _] => {
                self.check_new(name)?;
                self.witnesses.insert((*name).to_owned(), key(witness)?);
            }
            ["group", name, needed, members @ ..] if !members.is_empty() => {
                self.check_new(name)?;
                // A group can only name what stands above it, so none contains itself.
                members.iter().try_for_each(|member| self.check_known(member))?;
                let needed = match *needed {
                    "any" => 1,
                    "all" => members.len(),
                    number => number.parse().map_err(|_| format!("`{number}` is no number"))?,
                };
                if !(1..=members.len()).contains(&needed) {
                    return Err(format!("{needed} of {} members", members.len()));
                }
                let members = members.iter().map(|member| (*member).to_owned()).collect();
                self.groups.insert((*name).to_owned(), (needed, members));
            }
            ["quorum", name] if !*has_quorum => {
                if *name != NONE {
                    self.check_known(name)?;
                    self.quorum = Some((*name).to_owned());
                }
                *has_quorum = true;
            }
            [word, ..] => return Err(format!("`{word}` is not understood here")),
        }
        Ok(())
    }

    fn check_new(&self, name: &str) -> Result<(), String> {
        if name == NONE || self.check_known(name).is_ok() {
            return Err(format!("`{name}` is already used"));
        }
        Ok(())
    }

    fn check_known(&self, name: &str) -> Result<(), String> {
        if self.witnesses.contains_key(name) || self.groups.contains_key(name) {
            return Ok(());
        }
        Err(format!("nothing above is called `{name}`"))
    }

    /// The file that says this.
    #[must_use]
    pub fn to_text(&self) -> String {
        let logs = self.logs.iter().map(|log| format!("log {}\n", hex::encode(log.as_bytes())));
        let witness = |(name, key): (&String, &PublicKey)| {
            format!("witness {name} {}\n", hex::encode(key.as_bytes()))
        };
        let group = |(name, (needed, members)): (&String, &(usize, Vec<String>))| {
            format!("group {name} {needed} {}\n", members.join(" "))
        };
        let quorum = format!("quorum {}\n", self.quorum.as_deref().unwrap_or(NONE));
        let parts = logs.chain(self.witnesses.iter().map(witness));
        parts.chain(self.groups.iter().map(group)).chain([quorum]).collect()
    }

    /// The logs that are believed.
    #[must_use]
    pub fn logs(&self) -> &[PublicKey] {
        &self.logs
    }

    /// The witness whose key has this hash.
    #[must_use]
    pub fn witness(&self, key_hash: Digest) -> Option<&PublicKey> {
        self.witnesses.values().find(|key| key.hash() == key_hash)
    }

    /// Whether enough witnesses have signed; each is named by its key's hash.
    #[must_use]
    pub fn is_met(&self, signed: &BTreeSet<Digest>) -> bool {
        self.quorum.as_ref().is_none_or(|name| self.has(name, signed))
    }

    /// The witnesses that are known.
    pub fn witnesses(&self) -> impl Iterator<Item = &PublicKey> {
        self.witnesses.values()
    }

    /// Whether enough witnesses have truly signed this checkpoint of a log that is believed.
    #[must_use]
    pub fn accepts(&self, checkpoint: &Checkpoint) -> bool {
        let by = |cosignature: &Cosignature| {
            // A witness mostly signs under the name it has here; so a thousand are told apart fast.
            let named = self.witnesses.get(&cosignature.name).into_iter();
            let mut known = named.chain(self.witnesses.values());
            known.find(|key| cosignature.holds(checkpoint, key)).map(PublicKey::hash)
        };
        let signed = checkpoint.cosignatures.iter().filter_map(by).collect();
        self.logs.contains(checkpoint.log()) && self.is_met(&signed)
    }

    fn has(&self, name: &str, signed: &BTreeSet<Digest>) -> bool {
        if let Some(key) = self.witnesses.get(name) {
            return signed.contains(&key.hash());
        }
        let Some((needed, members)) = self.groups.get(name) else { return false };
        members.iter().filter(|member| self.has(member, signed)).count() >= *needed
    }
}

fn key(text: &str) -> Result<PublicKey, String> {
    let bytes = hex::decode(text).ok_or_else(|| "a key is 64 hexadecimal digits".to_owned())?;
    PublicKey::from_bytes(&bytes).map_err(|_| "this is no Ed25519 key".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SigningKey;

    fn keys() -> Vec<PublicKey> {
        (0..4).map(|_| SigningKey::generate().unwrap().public()).collect()
    }

    #[test]
    fn groups_of_groups_are_counted() {
        let keys = keys();
        let hex = |index: usize| hex::encode(keys[index].as_bytes());
        let text = format!(
            "# what is believed\nlog {} https://hub\nwitness a {}\nwitness b {}\nwitness c {}\n\
             group two 2 a b c\ngroup either any two c\nquorum either\n",
            hex(0),
            hex(1),
            hex(2),
            hex(3)
        );
        let policy = Policy::parse(&text).unwrap();
        let met = |signed: &[usize]| {
            policy.is_met(&signed.iter().map(|index| keys[*index].hash()).collect())
        };
        assert!(met(&[1, 2]) && met(&[3]) && !met(&[1]) && !met(&[0]) && !met(&[]));
        assert_eq!(Policy::parse(&policy.to_text().replace("either ", "zwei ")).ok(), None);
        let agents = [("a".to_owned(), keys[1]), ("b".to_owned(), keys[2])];
        for needed in 0..3 {
            let policy = Policy::of_agents(keys[0], &agents, needed);
            assert_eq!(Policy::parse(&policy.to_text()), Ok(policy), "{needed}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let log = format!("log {}\n", hex::encode(keys()[0].as_bytes()));
        let check = |rest: &str, expected: &str| {
            let said = Policy::parse(&format!("{log}{rest}")).unwrap_err().to_string();
            assert!(said.contains(expected), "{rest}: {said}");
        };
        check("", "quorum");
        check("witness a 00\n", "line 2: a key is 64");
        check("group g any x\n", "line 2: nothing above is called `x`");
        check("quorum none\nquorum none\n", "line 3: `quorum` is not understood");
        check("log\n", "line 2: `log` is not understood");
        assert!(Policy::parse("quorum none\n").unwrap_err().what.contains("log"));
    }
}
