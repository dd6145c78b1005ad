//! An agent that shares an office's tables, each in its own way, as far as its server goes them.

use std::fs;
use std::path::Path;

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
    let (schema, ways) = (office.schema(), office.ways());
    let datasets: Vec<_> =
        ways.iter().map(|way| way.share(&way.rules()).dataset_of(schema)).collect();
    let reader = Reader { agency: AGENCY, database: office, settings };
    province.place_agent(AGENCY, &section(reader), &datasets);
    office.make_login(&login(office), "bi-mat");
    let folder = province.agent_folder(AGENCY);
    let mut shared = Shared { followed: Vec::new(), refused: Vec::new() };
    for &way in ways {
        match admit(folder, office, way) {
            Ok(said) => {
                let of = format!(".{}:", way.table());
                let is_blind = |line: &str| line.contains(&of) && line.contains(BLIND);
                let sees_deletes = !said.lines().any(is_blind);
                shared.followed.push(Followed { way, sees_deletes });
            }
            Err(said) => {
                let why = said.lines().find_map(|line| line.strip_prefix("✗ ")).unwrap_or(&said);
                shared.refused.push((way, why.to_owned()));
                for part in ["datasets", "contracts"] {
                    fs::remove_file(file(&folder.join(part), way)).expect("a dataset's file");
                }
            }
        }
    }
    shared
}

fn file(folder: &Path, way: Way) -> std::path::PathBuf {
    folder.join(format!("thu.{}.toml", way.table()))
}

/// Runs what `check` prints where this way is all that the agent has to do.
fn admit<O: Office>(folder: &Path, office: &O, way: Way) -> Result<String, String> {
    let alone = folder.join(way.table());
    fs::create_dir(&alone).expect("a folder");
    fs::copy(file(&folder.join("datasets"), way), file(&alone, way)).expect("a copy");
    let text = fs::read_to_string(folder.join("agent.toml")).expect("agent.toml");
    let config = folder.join(format!("{}.toml", way.table()));
    let text = text.replace("\"datasets\"", &format!("\"{}\"", way.table()));
    fs::write(&config, text).expect("another agent.toml");
    admitted(&config, office)
}
