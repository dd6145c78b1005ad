//! `phusa-hub release`: who signs programs, what is signed, when it ends.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use phusa_protocol::deed::{Action, Deed};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::keys::PublicKey;
use phusa_protocol::release::{Facts, Version};
use phusa_protocol::time::Timestamp;

use super::{json, one, print, with_warehouse};
use crate::config::plan::Plan;
use crate::release::ceremony::{self, People};
use crate::release::online::{self, End};
use crate::release::person;
use crate::release::store::Store;
use crate::transfers::Log;
use crate::transfers::deed::{self, console};

#[derive(Debug, Subcommand)]
pub(super) enum ReleaseCommand {
    /// Make the key file of a person who signs releases, sealed with a passphrase; needs no configuration.
    Key {
        /// The file; the public key is written beside it as .pub.
        #[arg(long)]
        out: PathBuf,
        #[command(flatten)]
        passphrase: Passphrase,
    },
    /// Begin: draft the first root and targets, for people to sign.
    Init(Signers),
    /// Draft targets with one program more.
    Add(Added),
    /// Sign a draft with a person's key; needs no configuration, so that it works on a machine without a network.
    Sign {
        /// The draft, such as draft/targets.json.
        draft: PathBuf,
        /// The person's key file.
        #[arg(long)]
        key: PathBuf,
        #[command(flatten)]
        passphrase: Passphrase,
    },
    /// Count the signatures, put the drafts into force, sign snapshot and timestamp.
    Publish {
        /// Who does it, as the log names them.
        #[arg(long)]
        by: Option<String>,
    },
    /// Draft a root that names others, or the same for another year.
    RotateRoot {
        #[command(flatten)]
        signers: Signers,
        /// The hub's own key is exchanged, too: what an attacker signed with the old one is void.
        #[arg(long)]
        new_online_key: bool,
    },
    /// When each role ends; the exit code is 1 when one is within its last 30 days.
    ExpireReport {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Signers {
    /// Public key files of those who may say who signs.
    #[arg(long, required = true)]
    root: Vec<PathBuf>,
    /// Public key files of those who may say which programs run.
    #[arg(long, required = true)]
    targets: Vec<PathBuf>,
    /// How many of each must sign.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=10))]
    threshold: u64,
}

#[derive(Debug, clap::Args)]
pub(super) struct Added {
    /// The program.
    program: PathBuf,
    /// Its version, such as 1.4.2.
    #[arg(long, value_parser = super::parse::<Version>)]
    release: Version,
    /// What it runs on.
    #[arg(long, default_value = "x86_64-linux")]
    system: String,
    /// The oldest version that may still run once this one is published.
    #[arg(long, value_parser = super::parse::<Version>)]
    min_version: Version,
    /// What the program itself prints as its version, where that is another.
    #[arg(long, value_parser = super::parse::<Version>)]
    program_version: Option<Version>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Passphrase {
    /// A file with the passphrase; without it you are asked.
    #[arg(long)]
    passphrase_file: Option<PathBuf>,
}

impl Passphrase {
    fn get(&self) -> Result<String, Fault> {
        let unreadable = |what: String| {
            move |error: std::io::Error| Fault::because(Code::SecretUnreadable, what, error)
        };
        if let Some(file) = &self.passphrase_file {
            let what = format!("cannot read {}", file.display());
            let text = std::fs::read_to_string(file).map_err(unreadable(what))?;
            return Ok(text.trim_end_matches(['\r', '\n']).to_owned());
        }
        // Where nobody sees the question, the reading below fails and says so.
        let _unseen = write!(std::io::stderr(), "Cụm mật khẩu (passphrase): ");
        rpassword::read_password().map_err(unreadable("cannot read a passphrase".to_owned()))
    }
}

impl Signers {
    fn people(&self) -> Result<People, Fault> {
        let read = |files: &[PathBuf]| -> Result<Vec<PublicKey>, Fault> {
            files.iter().map(|file| person::public(file)).collect()
        };
        let threshold = self.threshold;
        Ok(People { root: read(&self.root)?, targets: read(&self.targets)?, threshold })
    }
}

/// Runs one of the commands.
pub(super) async fn run(config: &Path, command: ReleaseCommand) -> Result<(), Vec<Fault>> {
    let now = Timestamp::now();
    if let ReleaseCommand::Key { out, passphrase } = &command {
        return one(key(out, passphrase));
    }
    if let ReleaseCommand::Sign { draft, key, passphrase } = &command {
        return one(sign(draft, key, passphrase));
    }
    let plan = Plan::read(config)?;
    let store = Store::new(&plan.state_dir);
    match command {
        ReleaseCommand::Init(signers) => {
            one(signers.people().and_then(|people| ceremony::init(&store, people, now)))
                .and_then(|drafts| one(waiting(&drafts)))
        }
        ReleaseCommand::Add(added) => one(add(&store, added, now)),
        ReleaseCommand::RotateRoot { signers, new_online_key } => {
            let people = one(signers.people())?;
            let drafts = one(ceremony::rotate(&store, people, new_online_key, now))?;
            one(waiting(&drafts))
        }
        ReleaseCommand::Publish { by } => publish(&plan, &store, by, now).await,
        ReleaseCommand::ExpireReport { json: as_json } => one(report(&store, as_json, now)),
        ReleaseCommand::Key { .. } | ReleaseCommand::Sign { .. } => Ok(()),
    }
}

fn key(out: &Path, passphrase: &Passphrase) -> Result<(), Fault> {
    let public = person::make(out, &passphrase.get()?)?;
    let beside = out.with_extension("pub");
    print(&format!("khóa công khai (public key) {public}: {}", beside.display()))
}

fn sign(draft: &Path, key: &Path, passphrase: &Passphrase) -> Result<(), Fault> {
    let key = person::open(key, &passphrase.get()?)?;
    ceremony::sign(draft, &key)?;
    print(&format!("đã ký (signed): {} – {}", draft.display(), key.public()))
}

fn add(store: &Store, added: Added, now: Timestamp) -> Result<(), Fault> {
    let Added { program, release, system, min_version, program_version } = added;
    let product = "phusa-agent".to_owned();
    let facts = Facts { product, version: release, system, min_version, program_version };
    waiting(&[ceremony::add(store, &program, &facts, now)?])
}

fn waiting(drafts: &[PathBuf]) -> Result<(), Fault> {
    for draft in drafts {
        let name = draft.display();
        print(&format!("chờ ký (to be signed): phusa-hub release sign {name} --key …"))?;
    }
    Ok(())
}

async fn publish(
    plan: &Plan,
    store: &Store,
    by: Option<String>,
    now: Timestamp,
) -> Result<(), Vec<Fault>> {
    // Counted first, so that what is refused needs no database.
    let by = by.unwrap_or_else(console);
    with_warehouse(plan, async |warehouse| {
        let published = ceremony::publish(store, now)?;
        let on = format!("root {} targets {}", published.root, published.targets);
        let log = Log::new(plan.signing_key.clone());
        let told = Deed::new(by, Action::ReleasePublish).on(on.clone());
        deed::write_alone(warehouse, &log, told).await?;
        print(&format!("đã phát hành (published): {on}"))
    })
    .await
}

fn report(store: &Store, as_json: bool, now: Timestamp) -> Result<(), Fault> {
    let Some(ends) = online::ends(store)? else {
        return print("chưa phát hành gì (nothing was published yet)");
    };
    if as_json {
        print(&json(&ends))?;
    } else {
        for end in &ends {
            print(&line(end, now))?;
        }
    }
    let near: Vec<_> = ends.iter().filter(|end| end.step(now).is_some()).collect();
    match near.first() {
        None => Ok(()),
        Some(end) => {
            let what = format!("{} {} ends in {} days", end.role, end.version, end.days(now));
            Err(Fault::new(Code::ReleaseExpired, what))
        }
    }
}

fn line(end: &End, now: Timestamp) -> String {
    let mark = end.step(now).map_or(String::new(), |step| format!("  ← dưới (below) {step}"));
    format!(
        "{:<10} {:>5}  {}  còn (left) {} ngày (days){mark}",
        end.role,
        end.version,
        end.until.vietnamese(),
        end.days(now)
    )
}
