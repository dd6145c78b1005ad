//! `Plan`: the checked form the rest of the agent uses; every cross-field rule, each error
//! pointing at its line.
//!
//! `check` and `run` load the same plan by the same code. Every fault found is reported, so that
//! one wrong dataset file does not hide the next. Loading reads configuration, contracts and kept category lists only;
//! secrets are read when they are used.

pub mod address;
mod place;
mod lists;
mod recipe;
mod dataset;
mod update;

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use phusa_protocol::contract::Contract;
use phusa_protocol::digest::Digest;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::{AgentId, DatasetId};
use phusa_protocol::network::{BadNetwork, Network};
use phusa_protocol::units::{ByteSize, Span};
use toml::Spanned;

use self::address::HubAddress;
use self::dataset::Common;
use self::place::Place;
pub use self::update::UpdatePlan;
use super::secret::SecretFile;
use super::{
    AgentFile, BatchFile, Engine, GuardFile, HubFile, SourceFile, SpoolFile, TlsMode, VerifyFile,
};
use crate::accord;
use crate::mapping::field::Rules;
use crate::mapping::filter::Dialect;
use crate::mapping::terms::AgreedList;
use crate::source::Selection;
use crate::source::guard::Hours;

/// Everything a run needs, checked; all paths absolute or relative to the working folder.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The file it was read from.
    pub file: PathBuf,
    /// Who this agent is.
    pub agent: AgentId,
    /// Folder of spool, ledger, status socket and rejects.
    pub state_dir: PathBuf,
    /// Networks in which the hub may be.
    pub allowed_networks: Vec<Network>,
    /// Where the hub is and who both sides are.
    pub hub: HubPlan,
    /// Where batches wait.
    pub spool: SpoolPlan,
    /// When a batch is closed.
    pub batch: BatchPlan,
    /// The database that is read.
    pub source: SourcePlan,
    /// How hard it may be worked.
    pub guard: GuardPlan,
    /// When source and warehouse are compared by themselves.
    pub verify: VerifyPlan,
    /// How the program is exchanged, where it is.
    pub update: Option<UpdatePlan>,
    /// What is shared, in the order of the files' names.
    pub datasets: Vec<DatasetPlan>,
}

/// The checked `[hub]`.
#[derive(Debug, Clone)]
pub struct HubPlan {
    /// Where it is.
    pub address: HubAddress,
    /// Certificates that the hub's must descend from.
    pub ca_file: PathBuf,
    /// The agent's certificate chain.
    pub certificate_file: PathBuf,
    /// The private key of that certificate.
    pub key_file: SecretFile,
    /// The key that signs batches.
    pub signing_key_file: SecretFile,
    /// The hub's public key that signs receipts.
    pub hub_key_file: PathBuf,
    /// The key bound to the agent's identity; it need not be there.
    pub recovery_key_file: SecretFile,
    /// Which log and which witnesses are believed, where a file says it.
    pub log_policy_file: Option<PathBuf>,
    /// Where the agent reports, if it does.
    pub link: Option<HubAddress>,
    /// Whether a broker listens there, and not the hub itself.
    pub link_is_broker: bool,
    /// Level of zstd; 0 sends bodies as they are.
    pub compression_level: i32,
    /// How long one request may take.
    pub request_timeout: Duration,
}

/// The checked `[spool]`.
#[derive(Debug, Clone)]
pub struct SpoolPlan {
    /// The key that seals files.
    pub key_file: SecretFile,
    /// How much it may hold.
    pub spool_bytes_max: ByteSize,
    /// How much of the disk is left free.
    pub disk_reserve: ByteSize,
}

/// The checked `[batch]`.
#[derive(Debug, Clone, Copy)]
pub struct BatchPlan {
    /// Bytes of rows in a batch.
    pub batch_bytes_max: ByteSize,
    /// Rows in a batch.
    pub batch_rows_max: u64,
    /// How long a change may wait for others.
    pub batch_linger: Duration,
    /// The largest row that is carried.
    pub row_bytes_max: ByteSize,
}

/// The checked `[source]`.
#[derive(Debug, Clone)]
pub struct SourcePlan {
    /// Which kind of database.
    pub engine: Engine,
    /// Host name, address, or the folder of a Unix socket (it begins with `/`).
    pub host: String,
    /// TCP port, or the socket's number.
    pub port: u16,
    /// The database.
    pub database: String,
    /// The login.
    pub user: String,
    /// Its password, where one is to be offered.
    pub password_file: Option<SecretFile>,
    /// Certificates that the server's must descend from; `None` connects without TLS.
    pub tls_ca_file: Option<PathBuf>,
    /// Why a login that could write is used all the same.
    pub login_may_write_because: Option<String>,
    /// How much log may be kept for the agent.
    pub slot_wal_max: ByteSize,
    /// How long the creation of a slot may take.
    pub slot_wait: Duration,
    /// Lag above which catching up goes through the slot functions.
    pub catch_up_bytes: ByteSize,
}

/// The checked `[guard]`.
#[derive(Debug, Clone)]
pub struct GuardPlan {
    /// Rows a second in a full read; `None` sets no cap.
    pub rows_per_second_max: Option<u64>,
    /// Connections that read chunks at once.
    pub snapshot_workers: usize,
    /// Datasets that are read in full at once.
    pub reads_at_once: usize,
    /// Rows in a chunk.
    pub chunk_rows: u64,
    /// How long a statement may run at the source.
    pub statement_timeout: Duration,
    /// How long a statement may wait for a lock at the source.
    pub lock_timeout: Duration,
    /// When a full read may run.
    pub allowed_hours: Hours,
    /// How long a trivial answer may take before a full read slows down; zero is any time.
    pub latency_max: Duration,
    /// How many percent of its own work the source may lose to whoever reads many rows.
    pub work_loss_max_percent: u32,
    /// How long to wait between two comparisons of all rows.
    pub reconcile_interval: Duration,
    /// How long to wait between two looks for what was written.
    pub watermark_interval: Duration,
    /// How far before the last look each goes back where open transactions cannot be seen.
    pub watermark_overlap: Duration,
}

/// The checked `[verify]`.
#[derive(Debug, Clone)]
pub struct VerifyPlan {
    /// How often each dataset is compared with the warehouse by itself; `None` is never.
    pub every: Option<Duration>,
    /// Whether records that differ are read again.
    pub repair: bool,
}

/// One checked dataset file with its contract.
#[derive(Debug, Clone)]
pub struct DatasetPlan {
    /// The file it came from.
    pub file: PathBuf,
    /// The agreed shape.
    pub contract: Contract,
    /// What is read of the table.
    pub selection: Selection,
    /// What becomes of the columns read.
    pub rules: Rules,
    /// SHA-256 of the canonical JSON of the file as written.
    pub mapping: Digest,
}

impl DatasetPlan {
    /// Its name.
    #[must_use]
    pub fn dataset(&self) -> &DatasetId {
        &self.contract.dataset
    }

    /// The category lists that its contract names.
    pub fn lists(&self) -> impl Iterator<Item = &AgreedList> {
        self.rules.fields.iter().filter_map(|field| field.terms.codes.as_ref())
    }
}

impl Plan {
    /// Reads `agent.toml` at `path`, every dataset file and every contract, and checks them
    /// against each other.
    ///
    /// # Errors
    /// Every fault found, in the order of files and lines; never empty.
    pub fn load(path: &Path) -> Result<Self, Vec<Fault>> {
        Self::read(path, true)
    }

    /// As [`Plan::load`], without looking for dataset files: before there are any.
    ///
    /// # Errors
    /// As [`Plan::load`].
    pub fn load_without_datasets(path: &Path) -> Result<Self, Vec<Fault>> {
        Self::read(path, false)
    }

    fn read(path: &Path, with_datasets: bool) -> Result<Self, Vec<Fault>> {
        let text = place::read(path, Code::ConfigInvalid).map_err(|fault| vec![fault])?;
        let file: AgentFile =
            place::parse(path, &text, Code::ConfigInvalid).map_err(|fault| vec![fault])?;
        let place = Place::new(path, &text);
        let mut check = Check { file: path, place, with_datasets, faults: Vec::new() };
        let plan = check.agent(file);
        match plan {
            Some(plan) if check.faults.is_empty() => {
                let folder = accord::lists(&plan.state_dir);
                let lists = plan.datasets.iter().flat_map(DatasetPlan::lists);
                lists.for_each(|list| list.recall(&folder));
                Ok(plan)
            }
            _ => Err(check.faults),
        }
    }
}

/// A walk through `agent.toml` that gathers what is wrong.
struct Check<'a> {
    file: &'a Path,
    place: Place<'a>,
    with_datasets: bool,
    faults: Vec<Fault>,
}

impl Check<'_> {
    /// `None` leaves at least one fault behind.
    fn agent(&mut self, file: AgentFile) -> Option<Plan> {
        let folder = self.place.folder();
        let allowed_networks = self.networks(&file.allowed_networks);
        let hub = self.hub(file.hub, &folder, &allowed_networks);
        let spool = self.spool(&file.spool, &folder);
        let batch = self.batch(&file.batch);
        let source = self.source(file.source, &folder);
        let guard = self.guard(&file.guard);
        let verify = self.verify(&file.verify);
        let update = file.update.map(|part| self.update(part, &folder));
        let common = Common { row_bytes_max: batch.row_bytes_max, dialect: dialect(source.engine) };
        let datasets = self.datasets(&file.datasets_dir, &folder, common);
        let agent = AgentId::new(file.agency, file.agent.get_ref().as_str());
        let agent = agent.map_err(|bad| self.wrong(&file.agent, bad.to_string())).ok()?;
        let state_dir = folder.join(file.state_dir);
        let hub = hub?;
        Some(Plan {
            file: self.file.to_owned(),
            agent,
            state_dir,
            allowed_networks,
            hub,
            spool,
            batch,
            source,
            guard,
            verify,
            update,
            datasets,
        })
    }

    fn wrong<T>(&mut self, key: &Spanned<T>, rule: impl AsRef<str>) {
        self.faults.push(self.place.fault(key.span(), Code::ConfigInvalid, rule));
    }

    /// Notes a fault unless `value` lies within `least..=most`.
    fn within<T: PartialOrd + Copy>(&mut self, key: &Spanned<T>, bounds: (T, T), rule: &str) -> T {
        let value = *key.get_ref();
        if value < bounds.0 || value > bounds.1 {
            self.wrong(key, rule);
        }
        value
    }

    fn networks(&mut self, written: &Spanned<Vec<Spanned<String>>>) -> Vec<Network> {
        if written.get_ref().is_empty() {
            self.wrong(
                written,
                "`allowed_networks` needs at least one network, such as \"10.0.0.0/8\"",
            );
        }
        let mut networks = Vec::new();
        for text in written.get_ref() {
            match text.get_ref().parse() {
                Ok(network) => networks.push(network),
                Err(BadNetwork) => {
                    let rule = format!("{:?}: {}", text.get_ref(), BadNetwork);
                    self.wrong(text, rule);
                }
            }
        }
        networks
    }

    fn hub(&mut self, file: HubFile, folder: &Path, allowed: &[Network]) -> Option<HubPlan> {
        let level_rule = "`compression_level` is 0 to 19";
        let level = self.within(&file.compression_level, (0, 19), level_rule);
        let timeout_rule = "`request_timeout` is 1s to 1h";
        let timeout =
            self.within(&file.request_timeout, (seconds(1), seconds(3_600)), timeout_rule);
        let address = match file.url.get_ref().parse::<HubAddress>() {
            Ok(address) => address,
            Err(rule) => {
                self.wrong(&file.url, rule.to_string());
                return None;
            }
        };
        self.hub_is_allowed(&file.url, &address, allowed);
        let link = match &file.link_url {
            Some(url) => Some(self.link(url, allowed)?),
            None => None,
        };
        Some(HubPlan {
            link,
            link_is_broker: file.link_is_broker,
            address,
            ca_file: folder.join(file.ca_file),
            certificate_file: folder.join(file.certificate_file),
            key_file: SecretFile::new(folder, &file.key_file),
            signing_key_file: SecretFile::new(folder, &file.signing_key_file),
            hub_key_file: folder.join(file.hub_key_file),
            recovery_key_file: SecretFile::new(folder, &file.recovery_key_file),
            log_policy_file: file.log_policy_file.map(|file| folder.join(file)),
            compression_level: i32::try_from(level).unwrap_or(1),
            request_timeout: timeout.0,
        })
    }

    fn link(&mut self, url: &Spanned<String>, allowed: &[Network]) -> Option<HubAddress> {
        let Some(address) = HubAddress::of_link(url.get_ref()) else {
            let rule = "`link_url` is mqtts://host:port without a path, with a name or an IPv4 \
                        address; the hub is reached by TLS only";
            self.wrong(url, rule);
            return None;
        };
        self.hub_is_allowed(url, &address, allowed);
        Some(address)
    }

    /// A name is looked up on connecting, and its address checked there; an address is known now.
    fn hub_is_allowed(&mut self, url: &Spanned<String>, hub: &HubAddress, allowed: &[Network]) {
        let Some(address) = hub.address().filter(|_| !allowed.is_empty()) else { return };
        if !allowed.iter().any(|network| network.contains(address)) {
            let rule =
                format!("the hub's address {address} lies outside `allowed_networks` (CT-22)");
            self.faults.push(self.place.fault(url.span(), Code::NetworkNotAllowed, rule));
        }
    }

    fn spool(&mut self, file: &SpoolFile, folder: &Path) -> SpoolPlan {
        let bounds = (ByteSize::mib(64), ByteSize(u64::MAX));
        let rule = "`spool_bytes_max` is at least 64MiB";
        SpoolPlan {
            key_file: SecretFile::new(folder, &file.key_file),
            spool_bytes_max: self.within(&file.spool_bytes_max, bounds, rule),
            disk_reserve: file.disk_reserve,
        }
    }

    fn batch(&mut self, file: &BatchFile) -> BatchPlan {
        let bytes = (ByteSize(64 << 10), ByteSize::mib(64));
        let row_bytes = (ByteSize(1 << 10), ByteSize::mib(64));
        let linger = (seconds(0), seconds(60));
        let rows_rule = "`batch_rows_max` is 1 to 1000000";
        BatchPlan {
            batch_bytes_max: self.within(
                &file.batch_bytes_max,
                bytes,
                "`batch_bytes_max` is 64KiB to 64MiB",
            ),
            batch_rows_max: self.within(&file.batch_rows_max, (1, 1_000_000), rows_rule),
            batch_linger: self
                .within(&file.batch_linger, linger, "`batch_linger` is at most 60s")
                .0,
            row_bytes_max: self.within(
                &file.row_bytes_max,
                row_bytes,
                "`row_bytes_max` is 1KiB to 64MiB",
            ),
        }
    }

    fn source(&mut self, file: SourceFile, folder: &Path) -> SourcePlan {
        let engine = file.engine;
        self.is_reached_by_name(&file);
        let slot_wal_max = file.slot_wal_max.unwrap_or(Spanned::new(0..0, ByteSize::mib(8_192)));
        let slot_wait = file.slot_wait.unwrap_or(Spanned::new(0..0, seconds(60)));
        let catch_up_bytes =
            file.catch_up_bytes.unwrap_or(Spanned::new(0..0, ByteSize::mib(1_024)));
        self.is_for(&slot_wal_max, "slot_wal_max", engine, Engine::Postgresql);
        self.is_for(&slot_wait, "slot_wait", engine, Engine::Postgresql);
        self.is_for(&catch_up_bytes, "catch_up_bytes", engine, Engine::Postgresql);
        let wal = (ByteSize::mib(64), ByteSize(u64::MAX));
        let wal_rule = "`slot_wal_max` is at least 64MiB";
        let slot_wal_max = self.within(&slot_wal_max, wal, wal_rule);
        if *file.tls.get_ref() == TlsMode::Off && !stays_on_this_machine(file.host.get_ref()) {
            self.wrong(&file.tls, "`tls = \"off\"` is for loopback or a socket folder only");
        }
        let tls = *file.tls.get_ref() == TlsMode::Verify && !file.host.get_ref().starts_with('/');
        let reason = file.login_may_write_because.trim();
        SourcePlan {
            engine,
            port: file.port.unwrap_or(engine.port()),
            database: file.database,
            user: file.user,
            password_file: password_file(file.password_file.as_deref(), folder),
            tls_ca_file: tls.then(|| folder.join(file.tls_ca_file)),
            login_may_write_because: (!reason.is_empty()).then(|| reason.to_owned()),
            slot_wal_max,
            slot_wait: slot_wait.get_ref().0,
            catch_up_bytes: *catch_up_bytes.get_ref(),
            host: file.host.into_inner(),
        }
    }

    /// SQL Server is reached over TCP alone, and an instance by its own port.
    fn is_reached_by_name(&mut self, file: &SourceFile) {
        let host = file.host.get_ref();
        if file.engine == Engine::Sqlserver && (host.starts_with('/') || host.contains('\\')) {
            let rule = "`host` is the machine alone; a named instance is reached by its own `port` \
                        (SQL Server Configuration Manager shows it), written without the name";
            self.wrong(&file.host, rule);
        }
    }

    /// Notes a fault where a key was written that means something to another engine alone; a key
    /// that was not written stands nowhere in the file.
    fn is_for<T>(&mut self, key: &Spanned<T>, name: &str, engine: Engine, only: Engine) {
        if engine != only && !key.span().is_empty() {
            let (engine, only) = (engine.name(), only.name());
            self.wrong(
                key,
                format!("`{name}` is for engine \"{only}\" and means nothing to \"{engine}\""),
            );
        }
    }

    fn guard(&mut self, file: &GuardFile) -> GuardPlan {
        let workers_rule = "`snapshot_workers` is 1 to 16";
        let reads_rule = "`reads_at_once` is 1 to 64";
        let loss_rule = "`work_loss_max_percent` is 1 to 100";
        let chunk_rule = "`chunk_rows` is 100 to 10000000";
        let timeouts = (Span(Duration::from_millis(100)), seconds(86_400));
        let statement_rule = "`statement_timeout` is 100ms to 1d";
        let lock_rule = "`lock_timeout` is 100ms to 1d";
        let months = (Span(Duration::from_millis(100)), seconds(30 * 86_400));
        let reconcile_rule = "`reconcile_interval` is 100ms to 30d";
        let watermark_rule = "`watermark_interval` is 100ms to 1d";
        let weeks = (seconds(1), seconds(7 * 86_400));
        let overlap_rule = "`watermark_overlap` is 1s to 7d";
        GuardPlan {
            rows_per_second_max: Some(file.rows_per_second_max).filter(|&rows| rows > 0),
            snapshot_workers: self.within(&file.snapshot_workers, (1, 16), workers_rule),
            reads_at_once: self.within(&file.reads_at_once, (1, 64), reads_rule),
            chunk_rows: self.within(&file.chunk_rows, (100, 10_000_000), chunk_rule),
            statement_timeout: self.within(&file.statement_timeout, timeouts, statement_rule).0,
            lock_timeout: self.within(&file.lock_timeout, timeouts, lock_rule).0,
            allowed_hours: self.hours(&file.allowed_hours),
            latency_max: file.latency_max.0,
            work_loss_max_percent: self.within(&file.work_loss_max_percent, (1, 100), loss_rule),
            reconcile_interval: self.within(&file.reconcile_interval, months, reconcile_rule).0,
            watermark_interval: self.within(&file.watermark_interval, timeouts, watermark_rule).0,
            watermark_overlap: self.within(&file.watermark_overlap, weeks, overlap_rule).0,
        }
    }

    fn verify(&mut self, file: &VerifyFile) -> VerifyPlan {
        let never = file.every.get_ref().0.is_zero();
        let rule = "`every` is 1s to 365d, or \"0s\" for never";
        let year = (seconds(1), seconds(365 * 86_400));
        let every = (!never).then(|| self.within(&file.every, year, rule).0);
        VerifyPlan { every, repair: file.repair }
    }

    fn hours(&mut self, texts: &[Spanned<String>]) -> Hours {
        for text in texts {
            if let Err(bad) = Hours::read([text.get_ref().as_str()]) {
                self.wrong(text, format!("{:?}: {bad}", text.get_ref()));
            }
        }
        Hours::read(texts.iter().map(|text| text.get_ref().as_str())).unwrap_or_default()
    }

    fn datasets(
        &mut self,
        written: &Spanned<String>,
        folder: &Path,
        common: Common,
    ) -> Vec<DatasetPlan> {
        if !self.with_datasets {
            return Vec::new();
        }
        let folder = folder.join(written.get_ref());
        let files = match toml_files(&folder) {
            Ok(files) => files,
            Err(cause) => {
                let what = self.place.say(written.span(), "cannot read the folder of datasets");
                self.faults.push(Fault::because(Code::ConfigInvalid, what, cause));
                return Vec::new();
            }
        };
        if files.is_empty() {
            self.wrong(written, format!("no dataset file (*.toml) in {}", folder.display()));
        }
        let mut seen = BTreeMap::new();
        let mut datasets = Vec::new();
        for file in files {
            match dataset::load(&file, common, &mut seen) {
                Ok(dataset) => datasets.push(dataset),
                Err(faults) => self.faults.extend(faults),
            }
        }
        datasets
    }
}

fn seconds(count: u64) -> Span {
    Span(Duration::from_secs(count))
}

fn dialect(engine: Engine) -> Dialect {
    match engine {
        Engine::Postgresql => Dialect::PostgreSql,
        Engine::Mysql => Dialect::MySql,
        Engine::Sqlserver => Dialect::SqlServer,
    }
}

fn stays_on_this_machine(host: &str) -> bool {
    let loopback = host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    loopback || host == "localhost" || host.starts_with('/')
}

/// The file that is named, or the usual one where it exists.
fn password_file(named: Option<&str>, folder: &Path) -> Option<SecretFile> {
    let usual = "source.password";
    let named = named.or_else(|| folder.join(usual).exists().then_some(usual));
    named.map(|text| SecretFile::new(folder, text))
}

/// The `*.toml` files of `folder` in the order of their names.
fn toml_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests;
