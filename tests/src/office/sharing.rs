//! An agent that shares an office's tables, each in its own way, as far as its server goes them.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Office, Way};
use crate::province::{Province, Reader, admitted, login, section};
use crate::world::AGENCY;

/// What a server says of a way that does not tell of deletes.
const BLIND: &str = "DELETES ARE NOT SEEN";

/// A way that the server goes.
#[derive(Debug, Clone, Copy)]
pub struct Followed {
    /// The way.
    pub way: Way,
    /// Whether deletes are seen in it, as `check` says.
    pub sees_deletes: bool,
}

/// The ways that a server goes, and those that the agent refuses, with its reason.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Each has its dataset.
    pub followed: Vec<Followed>,
    /// These have none.
    pub refused: Vec<(Way, String)>,
}

/// Writes the files of the agent that follows the tables of all ways, which must be there, and
/// gives its login what each way needs by itself.
///
/// # Panics
/// When the files cannot be written.
pub fn share<O: Office>(province: &mut Province, office: &O, settings: &str) -> Shared {
    let reader = Reader { agency: AGENCY, database: office, settings };
    province.place_agent(AGENCY, &section(reader), &[]);
    office.make_login(&login(office), "bi-mat");
    let folder = province.agent_folder(AGENCY);
    let mut shared = Shared { followed: Vec::new(), refused: Vec::new() };
    for &way in office.ways() {
        match admit(folder, office, way) {
            Ok(said) => {
                let of = format!(".{}:", way.table());
                let is_blind = |line: &str| line.contains(&of) && line.contains(BLIND);
                let sees_deletes = !said.lines().any(is_blind);
                shared.followed.push(Followed { way, sees_deletes });
            }
            Err(said) => {
                shared.refused.push((way, reason(&said)));
            }
        }
    }
    shared
}

/// The first fault without its code and the place of a file.
fn reason(said: &str) -> String {
    let fault = said.lines().find_map(|line| line.strip_prefix("✗ ")).unwrap_or(said);
    let what = fault.split_once(": ").map_or(fault, |(_, what)| what);
    let place = what.split_once(": ").filter(|(place, _)| place.contains(".toml:"));
    place.map_or(what, |(_, what)| what).to_owned()
}

fn file(folder: &Path, way: Way) -> PathBuf {
    folder.join(format!("thu.{}.toml", way.table()))
}

/// Writes the dataset of this way, and runs what `check` prints where that is all that the agent
/// has to do; where it never is satisfied, the dataset goes again.
fn admit<O: Office>(folder: &Path, office: &O, way: Way) -> Result<String, String> {
    let alone = folder.join(way.table());
    fs::create_dir(&alone).expect("a folder");
    let text = fs::read_to_string(folder.join("agent.toml")).expect("agent.toml");
    let config = folder.join(format!("{}.toml", way.table()));
    let text = text.replace("\"datasets\"", &format!("\"{}\"", way.table()));
    fs::write(&config, text).expect("another agent.toml");
    let contract = file(&folder.join("contracts"), way);
    let mut said = Err(String::new());
    for rules in office.rules(way) {
        let dataset = way.share(&rules).dataset_of(office.schema());
        fs::write(&contract, &dataset.contract).expect("a contract");
        fs::write(file(&alone, way), &dataset.mapping).expect("a mapping");
        said = admitted(&config, office);
        if said.is_ok() {
            fs::copy(file(&alone, way), file(&folder.join("datasets"), way)).expect("a copy");
            return said;
        }
    }
    fs::remove_file(contract).expect("a contract");
    said
}
