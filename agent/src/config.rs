//! The TOML files exactly as written by a person; unknown keys are errors.
//!
//! `agent.toml` says who the agent is, where it sends and how hard it may work; each file of
//! `datasets/` says what it shares of one table. Nothing is checked here but form: the rules that
//! span keys are in [`plan`]. Paths are relative to the file they stand in.

pub mod secret;
pub mod rules;
pub mod plan;

use phusa_protocol::contract::Class;
use phusa_protocol::ids::{AgencyId, DatasetId};
use phusa_protocol::units::{ByteSize, Span};
use serde::{Deserialize, Serialize};
use toml::Spanned;

use self::rules::{
    CheckFile, ComputeFile, ConvertFile, CrosswalkFile, EncodingFile, NormaliseFile, OnBad,
};

/// `agent.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentFile {
    /// The agency's electronic identifier (QCVN 102:2016). Required. Example `"H57.12"`.
    pub agency: AgencyId,
    /// This installation's name within its agency, 1 to 40 of `a-z 0-9 -`. Required. Example
    /// `"may-1"`.
    pub agent: Spanned<String>,
    /// Folder of spool, ledger, status socket and rejects; belongs to the agent alone. Required.
    /// Example `"/var/lib/phusa-agent"`.
    pub state_dir: String,
    /// Folder of the dataset files, every `*.toml` in it. Default `"datasets"`.
    #[serde(default = "AgentFile::datasets_dir")]
    pub datasets_dir: Spanned<String>,
    /// Networks in CIDR form that the agent may connect to the hub in (CT-22). Required, at least
    /// one. Example `["10.0.0.0/8"]`.
    pub allowed_networks: Spanned<Vec<Spanned<String>>>,
    /// Where the hub is and who both sides are.
    pub hub: HubFile,
    /// Where batches wait until the hub has them.
    pub spool: SpoolFile,
    /// When a batch is closed. Default: every key's own.
    #[serde(default)]
    pub batch: BatchFile,
    /// The database that is read.
    pub source: SourceFile,
    /// How hard the database may be worked. Default: every key's own.
    #[serde(default)]
    pub guard: GuardFile,
    /// When source and warehouse are compared by themselves. Default: every key's own.
    #[serde(default)]
    pub verify: VerifyFile,
    /// Whether and how the program is exchanged for what the hub assigns. Default: it is not.
    pub update: Option<UpdateFile>,
}

impl AgentFile {
    fn datasets_dir() -> Spanned<String> {
        Spanned::new(0..0, "datasets".to_owned())
    }
}

/// Section `[hub]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubFile {
    /// Address of the hub, https only, without a path. An IP address must lie inside
    /// `allowed_networks`; a name's address is checked on connecting. Required. Example
    /// `"https://10.1.2.3:7443"`.
    pub url: Spanned<String>,
    /// Certificates (PEM) that the hub's certificate must descend from. Required. Example
    /// `"ca.pem"`.
    pub ca_file: String,
    /// The agent's own certificate chain (PEM). Required. Example `"agent.pem"`.
    pub certificate_file: String,
    /// The private key of that certificate (PEM), mode 0600, or `credential:<name>`. Required.
    /// Example `"agent.key"`.
    pub key_file: String,
    /// The Ed25519 key that signs batches, mode 0600, or `credential:<name>`. Required. Example
    /// `"signing.key"`.
    pub signing_key_file: String,
    /// The hub's public key that signs receipts. Required. Example `"hub.pub"`.
    pub hub_key_file: String,
    /// The key bound to this agent's identity, mode 0600, or `credential:<name>`: with it the agent
    /// comes back after its certificate has ended. `phusa-agent enrol` makes it. Default
    /// `"recovery.key"`.
    #[serde(default = "HubFile::recovery_key_file")]
    pub recovery_key_file: String,
    /// Which log and which witnesses are believed, in Sigsum's form of a policy (the hub prints its
    /// own with `phusa-hub log policy`). Default: the log whose key the hub states, and this
    /// agent's own cosignature. Example `"log.policy"`.
    pub log_policy_file: Option<String>,
    /// Where the agent tells the hub how it is, by MQTT over mutual TLS: `listen` of `[link]` in
    /// hub.toml. Data never travels there. An IP address must lie inside `allowed_networks`, and is
    /// one of IPv4; a name's addresses are checked on connecting. Default: it does not report.
    /// Example `"mqtts://10.1.2.3:7445"`.
    pub link_url: Option<Spanned<String>>,
    /// Whether a broker listens there rather than the hub itself; MQTT 5 is spoken then. Default false.
    #[serde(default)]
    pub link_is_broker: bool,
    /// How hard bodies are packed with zstd, 1 to 19; 0 sends them as they are. Default `1`.
    #[serde(default = "HubFile::compression_level")]
    pub compression_level: Spanned<u32>,
    /// How long one request may take, at least `1s`, at most `1h`. Default `"60s"`.
    #[serde(default = "HubFile::request_timeout")]
    pub request_timeout: Spanned<Span>,
}

impl HubFile {
    fn recovery_key_file() -> String {
        "recovery.key".to_owned()
    }

    fn compression_level() -> Spanned<u32> {
        Spanned::new(0..0, 1)
    }

    fn request_timeout() -> Spanned<Span> {
        seconds(60)
    }
}

/// Section `[spool]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpoolFile {
    /// The key that seals spool files at rest (CB-09): 32 bytes in base64, mode 0600, or
    /// `credential:<name>`. Required. Example `"spool.key"`.
    pub key_file: String,
    /// How much the spool may hold before reading stops, at least `64MiB`. Default `"2GiB"`.
    #[serde(default = "SpoolFile::spool_bytes_max")]
    pub spool_bytes_max: Spanned<ByteSize>,
    /// How much of the disk is left free for others. Default `"256MiB"`.
    #[serde(default = "SpoolFile::disk_reserve")]
    pub disk_reserve: ByteSize,
}

impl SpoolFile {
    fn spool_bytes_max() -> Spanned<ByteSize> {
        Spanned::new(0..0, ByteSize::mib(2_048))
    }

    fn disk_reserve() -> ByteSize {
        ByteSize::mib(256)
    }
}

/// Section `[batch]`: a batch is closed by whichever comes first.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchFile {
    /// Bytes of rows in a batch, `64KiB` to `64MiB`. Default `"4MiB"`.
    pub batch_bytes_max: Spanned<ByteSize>,
    /// Rows in a batch, 1 to 1,000,000. Default `50000`.
    pub batch_rows_max: Spanned<u64>,
    /// How long a change may wait for others to join it, at most `60s`. Default `"50ms"`.
    pub batch_linger: Spanned<Span>,
    /// The largest row that is carried, `1KiB` to `64MiB`; larger ones stay at the agency, counted.
    /// Default `"32MiB"`.
    pub row_bytes_max: Spanned<ByteSize>,
}

impl Default for BatchFile {
    fn default() -> Self {
        Self {
            batch_bytes_max: Spanned::new(0..0, ByteSize::mib(4)),
            batch_rows_max: Spanned::new(0..0, 50_000),
            batch_linger: Spanned::new(0..0, Span(std::time::Duration::from_millis(50))),
            row_bytes_max: Spanned::new(0..0, ByteSize::mib(32)),
        }
    }
}

/// Section `[source]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceFile {
    /// Which kind of database: `"postgresql"`, `"mysql"` for MySQL and MariaDB, or `"sqlserver"`.
    /// Required.
    pub engine: Engine,
    /// Host name or address, or the folder of a Unix socket (MySQL: its file). Required. Example
    /// `"127.0.0.1"`.
    pub host: Spanned<String>,
    /// TCP port, or the socket's number; for a named instance of SQL Server, the port it listens
    /// on. Default `5432`, with MySQL `3306`, with SQL Server `1433`.
    pub port: Option<u16>,
    /// The database to read; with MySQL the one that is current, and tables may be in others. Required. Example `"hotich"`.
    pub database: String,
    /// The login, which must not be able to write (CT-16a). Required. Example `"phusa"`.
    pub user: String,
    /// File with the login's password, mode 0600, or `credential:<name>`. Default
    /// `"source.password"` where that file exists; otherwise no password is offered.
    pub password_file: Option<String>,
    /// `"verify"`: TLS, and the server's certificate must be trusted; `"off"`: none, only to
    /// loopback or a Unix socket. Default `"verify"`.
    #[serde(default = "SourceFile::tls")]
    pub tls: Spanned<TlsMode>,
    /// Certificates (PEM) that the server's certificate must descend from; read for
    /// `tls = "verify"`. Default `"source-ca.pem"`.
    #[serde(default = "SourceFile::tls_ca_file")]
    pub tls_ca_file: String,
    /// Why this login is used although it could write; empty means that such a login is refused.
    /// Default `""`. Example `"the vendor allows one login only, contract 12/2026"`.
    #[serde(default)]
    pub login_may_write_because: String,
    /// PostgreSQL only: how much of the database's log may be kept for the agent before it gives
    /// its slot up, at least `64MiB`. Default `"8GiB"`.
    pub slot_wal_max: Option<Spanned<ByteSize>>,
    /// PostgreSQL only: how long the creation of a replication slot may take. Default `"60s"`.
    pub slot_wait: Option<Spanned<Span>>,
    /// PostgreSQL only: lag above which catching up goes through the slot functions instead of
    /// streaming. Default `"1GiB"`.
    pub catch_up_bytes: Option<Spanned<ByteSize>>,
}

impl SourceFile {
    fn tls() -> Spanned<TlsMode> {
        Spanned::new(0..0, TlsMode::Verify)
    }

    fn tls_ca_file() -> String {
        "source-ca.pem".to_owned()
    }
}

/// Kinds of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// PostgreSQL 12 and later.
    Postgresql,
    /// SQL Server 2012 and later.
    Sqlserver,
    /// MySQL 5.7 and later, and MariaDB 10.4 and later.
    Mysql,
}

impl Engine {
    /// Its name in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgresql => "postgresql",
            Self::Mysql => "mysql",
            Self::Sqlserver => "sqlserver",
        }
    }

    /// Where it listens when nobody says otherwise.
    #[must_use]
    pub fn port(self) -> u16 {
        match self {
            Self::Postgresql => 5_432,
            Self::Sqlserver => 1_433,
            Self::Mysql => 3_306,
        }
    }
}

/// Whether the connection to the database is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// Encrypted, and the server is known by its certificate.
    Verify,
    /// In the clear, on this machine only.
    Off,
}

/// Section `[guard]`: how hard the agency's database may be worked.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuardFile {
    /// Rows a second in a full read; 0 sets no cap. Default `0`.
    pub rows_per_second_max: u64,
    /// Connections that read chunks at once, 1 to 16. Default `2`.
    pub snapshot_workers: Spanned<usize>,
    /// Datasets that are read in full at once, 1 to 64; the others wait for their turn. Default `4`.
    pub reads_at_once: Spanned<usize>,
    /// Rows in a chunk of a full read, 100 to 10,000,000. Default `50000`.
    pub chunk_rows: Spanned<u64>,
    /// How long one statement may run at the source. Default `"5m"`.
    pub statement_timeout: Spanned<Span>,
    /// How long a statement may wait for a lock at the source. Default `"5s"`.
    pub lock_timeout: Spanned<Span>,
    /// Stretches of the day, by Vietnam's clock, in which a full read may run; changes are followed
    /// at any hour. Default `[]`, always. Example `["22:00-05:00"]`.
    pub allowed_hours: Vec<Spanned<String>>,
    /// How long the source may take for a trivial answer before a full read slows down, at most:
    /// eight times what it took before, and 50 ms, are enough; `"0s"` never slows it. Default
    /// `"250ms"`.
    pub latency_max: Span,
    /// How many percent of its own work the source may lose to whoever reads many rows, 1 to 100;
    /// 100 never rests. Default `5`.
    pub work_loss_max_percent: Spanned<u32>,
    /// How long to wait between two comparisons of all rows, for `capture` `"reconcile"` and
    /// `"watermark"`; `100ms` to `30d`. Default `"15m"`.
    pub reconcile_interval: Spanned<Span>,
    /// How long to wait between two looks for what was written, for `capture = "watermark"`;
    /// `100ms` to `1d`. Default `"10s"`.
    pub watermark_interval: Spanned<Span>,
    /// How far before the last look each goes back, where it goes by `watermark_column` and the
    /// login may not see open transactions; `1s` to `7d`. Default `"10m"`.
    pub watermark_overlap: Spanned<Span>,
}

impl Default for GuardFile {
    fn default() -> Self {
        Self {
            rows_per_second_max: 0,
            snapshot_workers: Spanned::new(0..0, 2),
            reads_at_once: Spanned::new(0..0, 4),
            chunk_rows: Spanned::new(0..0, 50_000),
            statement_timeout: seconds(300),
            lock_timeout: seconds(5),
            allowed_hours: Vec::new(),
            latency_max: Span(std::time::Duration::from_millis(250)),
            work_loss_max_percent: Spanned::new(0..0, 5),
            reconcile_interval: seconds(900),
            watermark_interval: seconds(10),
            watermark_overlap: seconds(600),
        }
    }
}

fn seconds(count: u64) -> Spanned<Span> {
    Spanned::new(0..0, Span(std::time::Duration::from_secs(count)))
}

/// Section `[verify]`: the proof that source and warehouse are the same (HU-03).
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VerifyFile {
    /// How often each dataset is compared with the warehouse, within `allowed_hours`; `1s` to
    /// `365d`, and `"0s"` never. Default `"7d"`: a comparison reads the whole table at both ends,
    /// and what differs goes unnoticed for no longer than a week.
    pub every: Spanned<Span>,
    /// Whether records that such a comparison finds different are read again. Default `true`.
    pub repair: bool,
}

impl Default for VerifyFile {
    fn default() -> Self {
        Self { every: seconds(7 * 86_400), repair: true }
    }
}

/// Section `[update]`: the program exchanges itself for a release that people signed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateFile {
    /// The root of trust of releases, as the hub's people handed it over: TUF's `root.json`. Required.
    /// Example `"release-root.json"`.
    pub root_file: String,
    /// Folder of the slots, which belongs to the updater and not to the agent. Default
    /// `"/var/lib/phusa-update"`.
    #[serde(default = "UpdateFile::slots_dir")]
    pub slots_dir: String,
    /// Folder in which a download and the agent's signs of life lie for the updater. Default
    /// `"/var/lib/phusa-incoming"`.
    #[serde(default = "UpdateFile::incoming_dir")]
    pub incoming_dir: String,
    /// `"auto"` installs what is assigned, within `allowed_hours`; `"ask"` waits for
    /// `phusa-agent update accept`. Default `"auto"`.
    #[serde(default)]
    pub mode: UpdateMode,
    /// Stretches of the day, by Vietnam's clock, in which a release is fetched and installed. Default
    /// `[]`, always. Example `["22:00-05:00"]`.
    #[serde(default)]
    pub allowed_hours: Vec<Spanned<String>>,
    /// How often the hub is asked what is assigned, `1s` to `1d`. Default `"15m"`.
    #[serde(default = "UpdateFile::check_every")]
    pub check_every: Spanned<Span>,
    /// Bytes a second that a download takes at most, at least `16KiB`. Default `"1MiB"`.
    #[serde(default = "UpdateFile::rate_max")]
    pub rate_max: Spanned<ByteSize>,
}

impl UpdateFile {
    fn slots_dir() -> String {
        "/var/lib/phusa-update".to_owned()
    }

    fn incoming_dir() -> String {
        "/var/lib/phusa-incoming".to_owned()
    }

    fn check_every() -> Spanned<Span> {
        seconds(900)
    }

    fn rate_max() -> Spanned<ByteSize> {
        Spanned::new(0..0, ByteSize::mib(1))
    }
}

/// Who decides when a release is installed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpdateMode {
    /// The hub's assignment, within the hours that the agency allows.
    #[default]
    Auto,
    /// A person at the agency.
    Ask,
}

/// One file of `datasets/`: what is shared of one table. A column that it does not name is not
/// read.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetFile {
    /// The dataset it feeds, the same as in the contract. Required. Example
    /// `"cong_dan.citizens"`.
    pub dataset: Spanned<DatasetId>,
    /// The contract file. Required. Example `"../contracts/cong_dan.citizens.toml"`.
    pub contract: Spanned<String>,
    /// Schema (MySQL: database) and table at the source, as the catalogue writes them. Required.
    /// Example `"public.citizens"`.
    pub table: Spanned<String>,
    /// How changes are found: `"auto"` lets the agent choose and `check` say why; `"log"` insists on
    /// the database's log, `"functions"` on its log through functions that show the mapped columns
    /// alone, `"watermark"` on what was written since the last look, `"reconcile"` on comparing all
    /// rows now and then. PostgreSQL offers all of them; MySQL, MariaDB and SQL Server `"auto"`,
    /// `"log"` and `"reconcile"`, and MySQL and MariaDB `"watermark"` where `watermark_column` is
    /// named. Default `"auto"`.
    #[serde(default)]
    pub capture: Capture,
    /// MySQL and MariaDB only: the indexed column that every program sets to the time at which it
    /// writes a row, such as one `on update current_timestamp`. It is not shared unless it stands
    /// under a `from`. Default: none. Example `"updated_at"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark_column: Option<Spanned<String>>,
    /// Which rows are shared; a condition over columns that stand under a `from` below. Default:
    /// all. Example `"ward_code = '31000' and gender_code in (1, 2)"`.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<Spanned<String>>,
    /// What is shared, one `[[field]]` each. Required, at least one.
    #[serde(rename = "field")]
    pub fields: Vec<FieldFile>,
}

/// One `[[field]]` of a dataset file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldFile {
    /// The column at the source. This or `compute`. Example `"national_id"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Spanned<String>>,
    /// How it is made of columns. This or `from`. Example `{ coalesce = ["so_moi", "so_cu"] }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute: Option<Spanned<ComputeFile>>,
    /// The contract's field. Required. Example `"so_dinh_danh"`.
    pub to: Spanned<String>,
    /// How sensitive it is: `P` public, `I` internal, `B` basic personal, `X` sensitive, `N`
    /// identifier; must equal the contract's class. Required. Example `"N"`.
    pub class: Spanned<Class>,
    /// In which encoding its columns are. Default: Unicode. Example `"tcvn3"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Spanned<EncodingFile>>,
    /// Repairs of its text. Default: none. Example `["trim", "inner_spaces"]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalise: Option<Spanned<Vec<NormaliseFile>>>,
    /// Up to how many digits lost zeros are put back, 1 to 64. Default: none are. Example `12`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pad_left: Option<Spanned<usize>>,
    /// How the source writes it. Default: as its type prints. Example `{ date = ["dd/MM/yyyy"] }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub convert: Option<Spanned<ConvertFile>>,
    /// What its codes have become. Default: they stay. Example
    /// `{ list = "../lists/province.toml", as_of = "2025-07-01" }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crosswalk: Option<Spanned<CrosswalkFile>>,
    /// What is checked of it, before it is masked. Default: nothing. Example
    /// `[{ rule = "citizen_id" }]`.
    #[serde(default, rename = "check", skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Spanned<CheckFile>>,
    /// What is done with a value that cannot be decoded, converted or masked: `"reject_row"` or
    /// `"null_field"`. Default `"reject_row"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_bad: Option<Spanned<OnBad>>,
    /// What is hidden of it. Default: nothing. Example `{ keep_last = 4 }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<Spanned<MaskFile>>,
}

/// A mask as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskFile {
    /// `"drop"`: null is sent and the column is not even read.
    Drop,
    /// `"year"`: of a date or timestamp only the year.
    Year,
    /// `{ keep_last = 4 }`: that many characters at the end, at most half of all; the rest become
    /// `*`.
    KeepLast(usize),
    /// `{ keep_first = 3 }`: that many at the beginning, at most half of all.
    KeepFirst(usize),
    /// `"initials"`: of each word of a name the first letter.
    Initials,
    /// `{ band = 10 }`: of a number only the band of this width, `20-29`; in a field of a number
    /// type its lower end.
    Band(u32),
    /// `"commune"`: of an address only what stands from the commune on.
    Commune,
    /// `{ constant = "đã ẩn" }`: this text stands for every value.
    Constant(String),
    /// `{ hmac = "hmac.key" }`: a pseudonym by HMAC-SHA-256 under the key in this file (32 bytes in
    /// base64, mode 0600), or `credential:<name>`.
    Hmac(String),
}

/// How changes are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Capture {
    /// The best the source allows.
    #[default]
    Auto,
    /// The database's log, or a fault.
    Log,
    /// The database's log through functions, or a fault.
    Functions,
    /// What was written since the last look, or a fault.
    Watermark,
    /// All rows, compared now and then, or a fault.
    Reconcile,
}
