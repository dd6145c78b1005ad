//! `Register`: the agents this hub knows: those written in `agents/<agency>__<name>.toml`, and
//! over them what the database holds of enrolled ones and of decisions about any.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgentId;
use phusa_protocol::keys::PublicKey;
use phusa_protocol::network::Network;
use serde::Deserialize;

/// One agent's file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentFile {
    agent: AgentId,
    signing_key: PublicKey,
    #[serde(default)]
    suspended: bool,
    #[serde(default)]
    allowed_networks: Vec<String>,
}

/// What the hub holds against an agent's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// The key its headers are signed with.
    pub signing_key: PublicKey,
    /// Why everything it sends is refused (CT-40), where that is so.
    pub stopped: Option<Stopped>,
    /// Where it may connect from, beyond the hub's own `allowed_networks`; empty = anywhere there.
    pub allowed_networks: Vec<Network>,
    /// The oldest generation of its certificates that is believed; 0 for any at all.
    pub least_generation: u64,
}

/// Why an agent is let in no longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// `agent_suspended`, `agent_revoked` or `identity_cloned`.
    pub code: Code,
    /// The reason somebody gave.
    pub because: String,
}

/// What the database says of one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// Which.
    pub agent: AgentId,
    /// Its key, where it was enrolled; a file's gives way to it.
    pub signing_key: Option<PublicKey>,
    /// Why it is let in no longer.
    pub stopped: Option<Stopped>,
    /// Where it may connect from; empty says nothing.
    pub allowed_networks: Vec<Network>,
    /// See [`Enrolled`].
    pub least_generation: u64,
}

impl Enrolled {
    /// Whether it may connect from `address`.
    #[must_use]
    pub fn may_come_from(&self, address: IpAddr) -> bool {
        self.allowed_networks.is_empty()
            || self.allowed_networks.iter().any(|network| network.contains(address))
    }
}

/// Every agent the hub knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Register {
    agents: BTreeMap<AgentId, Enrolled>,
}

impl Register {
    /// Reads every `*.toml` of the folder.
    ///
    /// # Errors
    /// One fault per file that cannot be read or is wrong, all of them.
    pub fn read(dir: &Path) -> Result<Self, Vec<Fault>> {
        let cannot = |error| {
            let what = format!("cannot list agents_dir {}", dir.display());
            vec![Fault::because(Code::ConfigInvalid, what, error)]
        };
        let mut paths = Vec::new();
        for item in std::fs::read_dir(dir).map_err(cannot)? {
            let path = item.map_err(cannot)?.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                paths.push(path);
            }
        }
        paths.sort();
        let (mut register, mut faults) = (Self::default(), Vec::new());
        for path in paths {
            match read_agent(&path) {
                Ok((agent, enrolled)) => drop(register.agents.insert(agent, enrolled)),
                Err(fault) => faults.push(fault),
            }
        }
        if faults.is_empty() { Ok(register) } else { Err(faults) }
    }

    /// This register with what the database says laid over it. What stops an agent in either does.
    #[must_use]
    pub fn with(&self, overlays: Vec<Overlay>) -> Self {
        let mut both = self.clone();
        for over in overlays {
            let known = both.agents.get(&over.agent);
            let Some(signing_key) = over.signing_key.or(known.map(|known| known.signing_key))
            else {
                continue;
            };
            let stopped = over.stopped.or_else(|| known?.stopped.clone());
            let mut allowed_networks = over.allowed_networks;
            if allowed_networks.is_empty() {
                allowed_networks = known.map(|k| k.allowed_networks.clone()).unwrap_or_default();
            }
            let least_generation = over.least_generation;
            let enrolled = Enrolled { signing_key, stopped, allowed_networks, least_generation };
            both.agents.insert(over.agent, enrolled);
        }
        both
    }

    /// What is held against this name; `None` = unknown.
    #[must_use]
    pub fn get(&self, agent: &AgentId) -> Option<&Enrolled> {
        self.agents.get(agent)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.agents.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.agents.is_empty()
    }

    /// Every agent with its public key: what `log verify` needs.
    #[must_use]
    pub fn keys(&self) -> BTreeMap<AgentId, PublicKey> {
        self.agents.iter().map(|(agent, e)| (agent.clone(), e.signing_key)).collect()
    }
}

/// The file name under which an agent is registered, without folder.
#[must_use]
pub fn file_name(agent: &AgentId) -> String {
    format!("{}__{}.toml", agent.agency(), agent.name())
}

fn read_agent(path: &Path) -> Result<(AgentId, Enrolled), Fault> {
    let wrong = |why: String| {
        Fault::because(Code::ConfigInvalid, format!("agent file {}", path.display()), why)
    };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let file: AgentFile = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let expected = file_name(&file.agent);
    // The name decides which file an operator edits to suspend an agent, so it must be the one.
    if path.file_name().is_none_or(|name| name != expected.as_str()) {
        return Err(wrong(format!("the file of agent {} must be named {expected}", file.agent)));
    }
    let network = |text: &String| {
        text.parse::<Network>().map_err(|_| wrong(format!("{text:?} is no network; 10.0.0.0/8 is")))
    };
    let allowed_networks = file.allowed_networks.iter().map(network).collect::<Result<_, _>>()?;
    let stopped = file
        .suspended
        .then(|| Stopped { code: Code::AgentSuspended, because: format!("{expected} says so") });
    let signing_key = file.signing_key;
    let enrolled = Enrolled { signing_key, stopped, allowed_networks, least_generation: 0 };
    Ok((file.agent, enrolled))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=";

    fn read(name: &str, text: &str) -> Result<Register, String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(name), text).unwrap();
        Register::read(dir.path())
            .map_err(|faults| faults.iter().map(Fault::chain).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn an_agent_is_read_with_its_key_and_networks() {
        let text = format!(
            "agent = \"H57.12/may-1\"\nsigning_key = \"{KEY}\"\nallowed_networks = [\"10.1.0.0/16\"]"
        );
        let register = read("H57.12__may-1.toml", &text).unwrap();
        let agent = AgentId::try_from("H57.12/may-1".to_owned()).unwrap();
        let enrolled = register.get(&agent).unwrap();
        assert_eq!(enrolled.stopped, None);
        assert!(enrolled.may_come_from("10.1.2.3".parse().unwrap()));
        assert!(!enrolled.may_come_from("10.2.2.3".parse().unwrap()));
    }

    #[test]
    fn what_the_database_says_is_laid_over_the_files() {
        let text = format!("agent = \"H57.12/may-1\"\nsigning_key = \"{KEY}\"\nsuspended = true");
        let files = read("H57.12__may-1.toml", &text).unwrap();
        let agent = |name: &str| AgentId::try_from(name.to_owned()).unwrap();
        let key = phusa_protocol::keys::SigningKey::generate().unwrap().public();
        let over = |name: &str, signing_key| Overlay {
            agent: agent(name),
            signing_key,
            stopped: None,
            allowed_networks: Vec::new(),
            least_generation: 3,
        };
        let overlays = vec![over("H57.12/may-1", None), over("A/x", Some(key)), over("A/y", None)];
        let both = files.with(overlays);
        assert_eq!(both.len(), 2);
        let first = both.get(&agent("H57.12/may-1")).unwrap();
        assert_eq!(first.signing_key.to_string(), KEY);
        assert_eq!(first.stopped.as_ref().unwrap().code, Code::AgentSuspended);
        let enrolled = both.get(&agent("A/x")).unwrap();
        assert_eq!((enrolled.signing_key, enrolled.least_generation), (key, 3));
    }

    #[test]
    fn a_wrong_agent_file_is_named_with_its_reason() {
        let good = format!("agent = \"H57.12/may-1\"\nsigning_key = \"{KEY}\"\n");
        let check = |name: &str, text: &str, expected: &str| {
            let error = read(name, text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check("other.toml", &good, "must be named H57.12__may-1.toml");
        check("H57.12__may-1.toml", &good.replace("agent =", "agents ="), "unknown field `agents`");
        check("H57.12__may-1.toml", "agent = \"H57.12/may-1\"\nsigning_key = \"x\"", "public key");
        let network = format!("{good}allowed_networks = [\"10/8\"]");
        check("H57.12__may-1.toml", &network, "is no network");
    }
}
