//! Releases as people make them: five people with keys, a folder of the hub, drafts, signatures; and the
//! agent's view of a folder, honest or not.

use std::fs;
use std::path::{Path, PathBuf};

use phusa_agent::update::fetch::Pieces;
use phusa_agent::update::trust::{Fetching, Signed, Source, Trust};
use phusa_hub::release::ceremony::{self, People};
use phusa_hub::release::store::{Folder as Part, Store};
use phusa_protocol::fault::Fault;
use phusa_protocol::keys::SigningKey;
use phusa_protocol::release::{Facts, Version};
use phusa_protocol::time::Timestamp;
use std::sync::Arc;

/// A version.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn version(text: &str) -> Version {
    Version::try_from(text.to_owned()).expect("a version")
}

/// What is said of a program of ours.
#[must_use]
pub fn facts(release: &str, min_version: &str) -> Facts {
    Facts {
        product: "phusa-agent".to_owned(),
        version: version(release),
        system: "x86_64-linux".to_owned(),
        min_version: version(min_version),
        program_version: Some(version("0.1.0")),
    }
}

/// A hub's folder of releases and the people who sign.
#[derive(Debug)]
pub struct Releases {
    /// Everything lies here.
    pub dir: PathBuf,
    /// Keys of people: the first three sign, the others wait.
    pub keys: Vec<SigningKey>,
}

impl Releases {
    /// Begins with three people, of whom two must sign.
    ///
    /// # Panics
    /// When that does not work.
    #[must_use]
    pub fn begin(dir: &Path) -> Self {
        let keys = (0..5).map(|_| SigningKey::generate().expect("a key")).collect();
        let releases = Self { dir: dir.to_owned(), keys };
        ceremony::init(&releases.store(), releases.people(&[0, 1, 2]), Timestamp::now())
            .expect("releases begin");
        releases.sign_drafts(&[0, 1]);
        releases.publish();
        releases
    }

    /// The hub's folder.
    #[must_use]
    pub fn store(&self) -> Store {
        Store::new(&self.dir)
    }

    /// Two of these must sign.
    #[must_use]
    pub fn people(&self, who: &[usize]) -> People {
        let keys: Vec<_> = who.iter().map(|one| self.keys[*one].public()).collect();
        People { root: keys.clone(), targets: keys, threshold: 2 }
    }

    /// Has these people sign whatever waits.
    ///
    /// # Panics
    /// When they cannot.
    pub fn sign_drafts(&self, who: &[usize]) {
        for name in ["root.json", "targets.json"] {
            let draft = self.store().draft().join(name);
            for one in who.iter().filter(|_| draft.exists()) {
                ceremony::sign(&draft, &self.keys[*one]).expect("a signature");
            }
        }
    }

    /// Puts the drafts into force.
    ///
    /// # Panics
    /// When too few signed.
    pub fn publish(&self) {
        ceremony::publish(&self.store(), Timestamp::now()).expect("published");
    }

    /// Adds a program, has two people sign and publishes.
    ///
    /// # Panics
    /// When one of that does not work.
    pub fn release(&self, program: &[u8], facts: &Facts) {
        self.draft(program, facts);
        self.sign_drafts(&[0, 1]);
        self.publish();
    }

    /// Adds a program that nobody has signed yet.
    ///
    /// # Panics
    /// When that does not work.
    pub fn draft(&self, program: &[u8], facts: &Facts) {
        let file = self.dir.join("program");
        fs::write(&file, program).expect("a program");
        ceremony::add(&self.store(), &file, facts, Timestamp::now()).expect("a draft");
    }

    /// A copy of all of it at `dir`: what was stolen, or kept back.
    ///
    /// # Panics
    /// When it cannot be copied.
    #[must_use]
    pub fn copied(&self, dir: &Path) -> Self {
        copy(&self.dir, dir);
        Self { dir: dir.to_owned(), keys: self.keys.clone() }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

/// A folder of releases as an agent is served from it.
#[derive(Debug)]
pub struct Served(Store);

impl Source for Served {
    async fn metadata(&self, name: &str) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.0.piece((Part::Metadata, name), 0, 64 << 20).expect("a file"))
    }
}

impl Pieces for Served {
    async fn piece(&self, file: &str, from: u64) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.0.piece((Part::Targets, file), from, 1_000).expect("a file"))
    }
}

/// An agent that knows a root.
#[derive(Debug)]
pub struct Client {
    trust: Trust,
    folder: PathBuf,
}

impl Client {
    /// One that was handed `1.root.json` of these releases.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn new(folder: &Path, releases: &Releases) -> Self {
        fs::create_dir_all(folder).expect("a folder");
        let root_file = folder.join("release-root.json");
        let root = releases.store().metadata().join("1.root.json");
        fs::copy(root, &root_file).expect("a root");
        let trust = Trust { root_file, memory: folder.join("trust") };
        Self { trust, folder: folder.to_owned() }
    }

    /// What is believed of what lies there.
    ///
    /// # Errors
    /// As the agent names it.
    ///
    /// # Panics
    /// Never: the address is one.
    pub async fn look(&self, at: &Releases) -> Result<Vec<Signed>, Fault> {
        let base = "https://hub/release/".parse().expect("a URL");
        self.trust.look(Fetching::new(Arc::new(Served(at.store()))), &base).await
    }

    /// Brings a release over as an agent does: trust, choose, fetch; its bytes.
    ///
    /// # Errors
    /// As the agent names it.
    ///
    /// # Panics
    /// When what was fetched cannot be read.
    pub async fn bring(&self, at: &Releases, release: &str) -> Result<Vec<u8>, Fault> {
        let programs = self.look(at).await?;
        let signed = phusa_agent::update::trust::wanted(&programs, version(release))?;
        let to = self.folder.join("program");
        let rate = phusa_protocol::units::ByteSize(u64::MAX);
        phusa_agent::update::fetch::fetch(&Served(at.store()), &signed, &to, rate).await?;
        Ok(fs::read(to).expect("what was fetched"))
    }
}
