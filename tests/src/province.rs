//! `Province`: one hub and its agencies as real processes with real files in one folder, and the
//! question whether both ends hold the same.

mod admission;
mod power;
mod template;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use phusa_protocol::contract::Contract;
use phusa_protocol::digest::RowsDigest;
use serde::Deserialize;

pub use self::admission::{admitted, login, section, statements};

use crate::database::{Database, free_port};
use crate::folder::Folder;
use crate::process::{Process, output, program, run, wait_until, wait_until_blocking};

/// How long a change may take from source to warehouse on a busy machine.
pub const ARRIVES_WITHIN: Duration = Duration::from_secs(120);

/// How long hub or agent may take to be there.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// A dataset of one agency: its two files as text.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Its id, `theme.table`.
    pub id: String,
    /// The contract.
    pub contract: String,
    /// The mapping; its `contract` is `../contracts/<id>.toml`.
    pub mapping: String,
}

impl Dataset {
    /// A table of the invented registry.
    #[must_use]
    pub fn of_registry(
        table: crate::registry::Table,
        owner: &str,
        share: crate::registry::Share,
    ) -> Self {
        let id = table.dataset().to_owned();
        let mapping = table.mapping(&format!("../contracts/{id}.toml"), share);
        Self { contract: table.contract(owner, share), mapping, id }
    }
}

/// A hub, its agents, and all their files in a folder that goes away.
#[derive(Debug)]
pub struct Province {
    folder: Arc<Folder>,
    listen: u16,
    metrics: u16,
    has_own_warehouse: bool,
    hub: Option<Process>,
    agents: BTreeMap<String, Agent>,
}

/// One agent's place in a province.
#[derive(Debug)]
struct Agent {
    folder: PathBuf,
    process: Option<Process>,
}

/// A database that an agent can be pointed at.
pub trait Readable: std::fmt::Debug {
    /// `engine` in `agent.toml`.
    fn engine(&self) -> &'static str;
    /// The loopback port of its server.
    fn port(&self) -> u16;
    /// Its name.
    fn name(&self) -> &str;
    /// What stands before the point in a dataset's `table`.
    fn schema(&self) -> &str;
    /// Makes a login that may do nothing yet, where there is none of this name.
    fn make_login(&self, user: &str, password: &str);
    /// Runs a statement as its administrator.
    fn administer(&self, sql: &str);
}

impl Readable for Database {
    fn engine(&self) -> &'static str {
        "postgresql"
    }
    fn port(&self) -> u16 {
        self.server().port()
    }

    fn name(&self) -> &str {
        self.name()
    }

    fn schema(&self) -> &'static str {
        "public"
    }

    fn make_login(&self, user: &str, password: &str) {
        self.psql(&format!(
            "do $$ begin create role {user} login replication password '{password}';
             exception when duplicate_object then null; end $$"
        ));
    }

    fn administer(&self, sql: &str) {
        self.psql(sql);
    }
}

/// Whose data an agent reads.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    /// The agency, such as `H57.12`.
    pub agency: &'a str,
    /// The database it reads.
    pub database: &'a dyn Readable,
    /// Added to `agent.toml`: `[batch]`, `[guard]` and the like.
    pub settings: &'a str,
}

/// What `verify --json` prints of each dataset, and `warehouse digest --json` of the one it is
/// asked for, which it does not name.
#[derive(Debug, Deserialize)]
struct Counted {
    #[serde(default)]
    dataset: String,
    rows: u64,
    sum: String,
}

impl Province {
    /// Writes a hub's files; its warehouse is its own embedded PostgreSQL. Nothing runs yet.
    #[must_use]
    pub fn new() -> Self {
        Self::with_warehouse("")
    }

    /// Writes a hub's files; its warehouse is `database`. Nothing runs yet.
    ///
    /// # Panics
    /// When the files cannot be written.
    #[must_use]
    pub fn with_external(database: &Database) -> Self {
        let (url, password) = database.server().url_and_password(database.name());
        Self::with_external_by(&format!("url = \"{url}\""), password)
    }

    /// The same by TLS, which the server must have been started with.
    ///
    /// # Panics
    /// When the files cannot be written.
    #[must_use]
    pub fn with_external_by_tls(database: &Database, ca_file: &Path) -> Self {
        let (url, password) = database.server().url_and_password(database.name());
        let lines =
            format!("url = \"{url}?sslmode=verify-full\"\ntls_ca_file = \"{}\"", ca_file.display());
        Self::with_external_by(&lines, password)
    }

    fn with_external_by(lines: &str, password: &str) -> Self {
        let lines = format!("{lines}\npassword_file = \"warehouse.password\"");
        let mut province = Self::with_warehouse(&lines);
        province.has_own_warehouse = false;
        let file = province.hub_folder().join("warehouse.password");
        fs::write(&file, password).expect("a password file");
        private(&file);
        province
    }

    /// As [`Province::new`], with the given lines as `[warehouse]` part of `hub.toml`.
    ///
    /// # Panics
    /// When the files cannot be written.
    #[must_use]
    pub fn with_warehouse(lines: &str) -> Self {
        let province = Self::bare(lines);
        if !lines.contains("url =") {
            template::lay_down(&province.hub_folder().join("state"));
        }
        province
    }

    /// A hub that has made no warehouse yet.
    fn bare(lines: &str) -> Self {
        let province = Self {
            folder: Arc::new(Folder::new()),
            listen: free_port(),
            metrics: free_port(),
            has_own_warehouse: true,
            hub: None,
            agents: BTreeMap::new(),
        };
        province.make_certificates(&[]);
        let Self { listen, metrics, .. } = province;
        let text = format!(
            "state_dir = \"state\"\nlisten = \"127.0.0.1:{listen}\"\n\
             allowed_networks = [\"127.0.0.0/8\"]\nca_file = \"ca.pem\"\n\
             certificate_file = \"hub.pem\"\nkey_file = \"hub.key\"\n\
             signing_key_file = \"signing.key\"\nagents_dir = \"agents\"\n\
             metrics_listen = \"127.0.0.1:{metrics}\"\n\n[warehouse]\n{lines}\n"
        );
        fs::create_dir_all(province.hub_folder().join("state")).expect("the hub's state folder");
        fs::write(province.hub_config(), text).expect("hub.toml");
        province
    }

    /// The folder of everything.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The hub's files.
    #[must_use]
    pub fn hub_folder(&self) -> PathBuf {
        self.path().join("certs/hub")
    }

    /// `hub.toml`.
    #[must_use]
    pub fn hub_config(&self) -> PathBuf {
        self.hub_folder().join("hub.toml")
    }

    /// The loopback port agents connect to.
    #[must_use]
    pub fn hub_port(&self) -> u16 {
        self.listen
    }

    /// The files of agent `may-1` of `agency`.
    ///
    /// # Panics
    /// When there is no such agent.
    #[must_use]
    pub fn agent_folder(&self, agency: &str) -> &Path {
        &self.agents.get(agency).expect("an agent of this agency").folder
    }

    /// `agent.toml` of `agency`.
    #[must_use]
    pub fn agent_config(&self, agency: &str) -> PathBuf {
        self.agent_folder(agency).join("agent.toml")
    }

    /// Writes the files of an agent that shares `datasets`, lets the hub know it, and gives its
    /// login at the source exactly the rights that `check` asks for. Nothing runs yet.
    ///
    /// # Panics
    /// When that cannot be done.
    pub fn add_agent(&mut self, reader: Reader<'_>, datasets: &[Dataset]) {
        self.place_agent(reader.agency, &section(reader), datasets);
        self.admit(reader);
    }

    /// Writes the files of an agent that shares `datasets` and lets the hub know it. `source` is its
    /// section of that name, and what comes after; the password is `bi-mat`.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn place_agent(&mut self, agency: &str, source: &str, datasets: &[Dataset]) {
        self.make_certificates(&[agency]);
        let folder = self.path().join(format!("certs/agents/{agency}__may-1"));
        for part in ["datasets", "contracts", "state"] {
            fs::create_dir_all(folder.join(part)).expect("an agent's folder");
        }
        for dataset in datasets {
            let file = |part: &str| folder.join(part).join(format!("{}.toml", dataset.id));
            fs::write(file("contracts"), &dataset.contract).expect("a contract");
            fs::write(file("datasets"), &dataset.mapping).expect("a mapping");
        }
        fs::write(folder.join("source.password"), "bi-mat").expect("a password file");
        fs::write(folder.join("agent.toml"), self.agent_text(agency, source)).expect("agent.toml");
        private(&folder.join("source.password"));
        self.agents.insert(agency.to_owned(), Agent { folder, process: None });
    }

    /// Makes the keys of an agent whose files somebody else will write; returns their folder.
    pub fn invite(&mut self, agency: &str, folder: &Path) -> PathBuf {
        self.make_certificates(&[agency]);
        self.agents.insert(agency.to_owned(), Agent { folder: folder.to_owned(), process: None });
        self.path().join(format!("certs/agents/{agency}__may-1"))
    }

    fn agent_text(&self, agency: &str, source: &str) -> String {
        format!(
            "agency = \"{agency}\"\nagent = \"may-1\"\nstate_dir = \"state\"\n\
             datasets_dir = \"datasets\"\nallowed_networks = [\"127.0.0.0/8\"]\n\n\
             [hub]\nurl = \"https://127.0.0.1:{}\"\nca_file = \"ca.pem\"\n\
             certificate_file = \"agent.pem\"\nkey_file = \"agent.key\"\n\
             signing_key_file = \"signing.key\"\nhub_key_file = \"hub.pub\"\n\n\
             [spool]\nkey_file = \"spool.key\"\n\n[source]\n{source}",
            self.listen
        )
    }

    /// Runs what `check` prints as the administrator of the source would, until nothing is missing.
    fn admit(&self, reader: Reader<'_>) {
        reader.database.make_login(&login(reader.database), "bi-mat");
        if let Err(said) = admitted(&self.agent_config(reader.agency), reader.database) {
            assert!(!statements(&said).is_empty(), "check failed:\n{said}");
        }
    }

    /// Runs a command of an agent to its end.
    #[must_use]
    pub fn agent(&self, agency: &str, arguments: &[&str]) -> Output {
        output(agent_command(&self.agent_config(agency)).args(arguments))
    }

    /// Runs a command of the hub to its end.
    #[must_use]
    pub fn hub(&self, arguments: &[&str]) -> Output {
        output(self.hub_command().args(arguments))
    }

    /// Brings the contracts of all agents into force, starts the hub and waits until it answers.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_hub(&mut self) {
        let _kept = template::keep_running(&self.hub_folder().join("state"));
        self.apply_contracts();
        self.start_hub_with(&[]);
    }

    /// Starts the hub with these environment variables and waits until it answers.
    ///
    /// # Panics
    /// With its log, when it does not come up.
    pub fn start_hub_with(&mut self, environment: &[(&str, &str)]) {
        self.launch_hub(environment);
        let listen = self.listen;
        let hub = self.hub_process();
        wait_until_blocking("the hub to listen", STARTS_WITHIN, || {
            assert!(hub.is_running(), "the hub ended:\n{}", hub.log());
            TcpStream::connect(("127.0.0.1", listen)).is_ok()
        });
    }

    /// Starts the hub with these environment variables and does not wait: it may well die before
    /// it answers.
    pub fn launch_hub(&mut self, environment: &[(&str, &str)]) {
        let mut command = self.hub_command();
        command.arg("serve").envs(environment.iter().copied());
        self.hub = Some(Process::start(&self.folder, "hub", &mut command));
    }

    /// Starts another hub process beside the first: the same files and warehouse, `hub-2.toml` with other
    /// ports; waits until it answers. Gives its ports of deliveries and, where there is one, the link.
    ///
    /// # Panics
    /// With its log, when it does not come up.
    pub fn start_second_hub(&self) -> (Process, [u16; 2]) {
        let [listen, metrics, link] = [free_port(), free_port(), free_port()];
        let text = fs::read_to_string(self.hub_config()).expect("hub.toml");
        let (text, own_link) = match text.split_once("[link]\nlisten = \"127.0.0.1:") {
            Some((before, after)) => {
                let after = after.split_once('"').expect("a port").1;
                (format!("{before}[link]\nlisten = \"127.0.0.1:{link}\"{after}"), link)
            }
            None => (text, 0),
        };
        let text = text
            .replace(&format!(":{}\"", self.listen), &format!(":{listen}\""))
            .replace(&format!(":{}\"", self.metrics), &format!(":{metrics}\""));
        let config = self.hub_folder().join("hub-2.toml");
        fs::write(&config, text).expect("hub-2.toml");
        let mut command = Command::new(program("phusa-hub"));
        command.arg("--config").arg(&config).arg("serve");
        let mut hub = Process::start(&self.folder, "hub-2", &mut command);
        wait_until_blocking("the second hub to listen", STARTS_WITHIN, || {
            assert!(hub.is_running(), "the second hub ended:\n{}", hub.log());
            TcpStream::connect(("127.0.0.1", listen)).is_ok()
        });
        (hub, [listen, own_link])
    }

    /// How the hub's embedded warehouse is reached while it runs.
    #[must_use]
    pub fn warehouse_config(&self) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.host_path(self.hub_folder().join("state/postgresql/socket")).port(5432);
        config.user("phusa").dbname("postgres");
        config
    }

    /// Has every owner's agent sign its contracts and brings them into force; an external warehouse
    /// is brought to the hub's schema first.
    ///
    /// # Panics
    /// When the hub refuses one.
    pub fn apply_contracts(&self) {
        if !self.has_own_warehouse {
            run(self.hub_command().arg("migrate"));
        }
        let mut all = Vec::new();
        for (agency, agent) in &self.agents {
            let files =
                fs::read_dir(agent.folder.join("contracts")).into_iter().flatten().flatten();
            let files = files.map(|entry| entry.path());
            let owned: Vec<_> = files.filter(|file| is_owned_by(file, agency)).collect();
            self.sign_contracts(agency, &owned);
            all.extend(owned);
        }
        run(self.hub_command().args(["contract", "apply"]).args(all));
    }

    /// Has the agent of `agency` sign these contract files, as their owner.
    pub fn sign_contracts(&self, agency: &str, files: &[PathBuf]) {
        let mut command = agent_command(&self.agent_config(agency));
        let _said = files.first().map(|_| run(command.args(["contract", "sign"]).args(files)));
    }

    /// The running hub.
    ///
    /// # Panics
    /// When it was not started.
    pub fn hub_process(&mut self) -> &mut Process {
        self.hub.as_mut().expect("a started hub")
    }

    /// Starts the agent of `agency`.
    pub fn start_agent(&mut self, agency: &str) {
        self.start_agent_with(agency, &[]);
    }

    /// Starts the agent of `agency` with these environment variables.
    ///
    /// # Panics
    /// When there is no such agent.
    pub fn start_agent_with(&mut self, agency: &str, environment: &[(&str, &str)]) {
        let mut command = agent_command(&self.agent_config(agency));
        command.arg("run").envs(environment.iter().copied());
        let process = Process::start(&self.folder, &format!("agent-{agency}"), &mut command);
        let agent = self.agents.get_mut(agency).expect("an agent of this agency");
        agent.process = Some(process);
    }

    /// Starts whatever lies at `program` as the agent of `agency`.
    ///
    /// # Panics
    /// When there is no such agent.
    pub fn start_agent_from(&mut self, agency: &str, program: &Path) {
        let mut command = Command::new(program);
        command.arg("--config").arg(self.agent_config(agency)).arg("run");
        let process = Process::start(&self.folder, &format!("agent-{agency}"), &mut command);
        let agent = self.agents.get_mut(agency).expect("an agent of this agency");
        agent.process = Some(process);
    }

    /// The folder everything lies in; it goes away with the last who holds it.
    #[must_use]
    pub fn folder(&self) -> Arc<Folder> {
        Arc::clone(&self.folder)
    }

    /// The running agent of `agency`.
    ///
    /// # Panics
    /// When it was not started.
    pub fn agent_process(&mut self, agency: &str) -> &mut Process {
        let agent = self.agents.get_mut(agency).expect("an agent of this agency");
        agent.process.as_mut().expect("a started agent")
    }

    /// Rows and digest of a dataset as mapped from the source of `agency`, and as the warehouse
    /// has it; `None` where an end cannot be asked just now.
    #[must_use]
    pub fn both_ends(&self, agency: &str, dataset: &str) -> [Option<RowsDigest>; 2] {
        [
            counted(&self.agent(agency, &["verify", dataset, "--json", "--offline"]), dataset),
            counted(&self.hub(&["warehouse", "digest", dataset, "--json"]), dataset),
        ]
    }

    /// The same of several datasets, which are asked for in one go.
    #[must_use]
    pub fn ends_of(&self, agency: &str, datasets: &[&str]) -> Vec<[Option<RowsDigest>; 2]> {
        let source = self.agent(agency, &["verify", "--json", "--offline"]);
        let warehouse = |id: &str| counted(&self.hub(&["warehouse", "digest", id, "--json"]), id);
        datasets.iter().map(|id| [counted(&source, id), warehouse(id)]).collect()
    }

    /// Waits until source and warehouse hold the same rows of `dataset`; returns how many.
    ///
    /// # Panics
    /// With both digests, when that does not happen within [`ARRIVES_WITHIN`].
    pub async fn wait_until_identical(&self, agency: &str, dataset: &str) -> u64 {
        wait_until(&format!("{dataset} to be identical"), ARRIVES_WITHIN, async || {
            match self.both_ends(agency, dataset) {
                [Some(source), Some(warehouse)] if source == warehouse => Some(source.rows),
                _ => None,
            }
        })
        .await
    }

    /// Checks the whole transfer log with public keys alone.
    ///
    /// # Panics
    /// With what is wrong, when it does not verify.
    pub fn verify_log(&self) {
        run(self.hub_command().args(["log", "verify"]));
    }

    /// Asks the hub for a page of its loopback port, such as `/metrics`; empty when it is away.
    #[must_use]
    pub fn page(&self, path: &str) -> String {
        use std::io::{Read as _, Write as _};
        let mut text = String::new();
        let asked = TcpStream::connect(("127.0.0.1", self.metrics)).and_then(|mut stream| {
            write!(stream, "GET {path} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n")?;
            stream.read_to_string(&mut text)
        });
        asked.map(|_| text).unwrap_or_default()
    }

    fn hub_command(&self) -> Command {
        let mut command = Command::new(program("phusa-hub"));
        command.arg("--config").arg(self.hub_config());
        command
    }

    fn make_certificates(&self, agencies: &[&str]) {
        let mut command = Command::new(program("phusa-hub"));
        command.args([
            "dev-certs",
            "--hub-name",
            "127.0.0.1",
            "--broker-name",
            "127.0.0.1",
            "--dir",
        ]);
        command.arg(self.path().join("certs"));
        for agency in agencies {
            command.arg("--agent").arg(format!("{agency}/may-1"));
        }
        run(&mut command);
    }
}

impl Default for Province {
    fn default() -> Self {
        Self::new()
    }
}

fn agent_command(config: &Path) -> Command {
    let mut command = Command::new(program("phusa-agent"));
    command.arg("--config").arg(config);
    command
}

/// Whether this is a contract file whose owner is `agency`; signatures lie beside such files.
fn is_owned_by(file: &Path, agency: &str) -> bool {
    let text = fs::read_to_string(file).unwrap_or_default();
    Contract::from_toml(&text).is_ok_and(|contract| contract.owner.as_str() == agency)
}

/// Keeps a file from all but its owner, as the programs ask of files with secrets.
///
/// # Panics
/// When that cannot be done.
pub fn private(file: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("a private file");
}

/// The dataset's line among those a command printed, be it one object, several, or an array.
fn counted(output: &Output, dataset: &str) -> Option<RowsDigest> {
    let mut found: Vec<Counted> = Vec::new();
    for value in serde_json::Deserializer::from_slice(&output.stdout).into_iter() {
        let value: serde_json::Value = value.ok()?;
        let several = match value {
            serde_json::Value::Array(values) => values,
            one => vec![one],
        };
        found.extend(several.into_iter().filter_map(|one| serde_json::from_value(one).ok()));
    }
    let of = found.iter().find(|one| one.dataset == dataset || one.dataset.is_empty())?;
    Some(RowsDigest { rows: of.rows, sum: u128::from_str_radix(&of.sum, 16).ok()? })
}
