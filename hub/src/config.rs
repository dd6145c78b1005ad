//! The TOML file exactly as written by a person; unknown keys are errors with line and column.

pub mod profile;
pub mod register;
pub mod plan;

use std::path::PathBuf;
use std::time::Duration;

use phusa_protocol::units::{ByteSize, Span};
use serde::Deserialize;
use toml::Spanned;

/// `hub.toml`. Paths are relative to the file's own folder.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubFile {
    /// Where the hub keeps what is its own: `postgresql/` (the embedded cluster). Example:
    /// `/var/lib/phusa-hub`. Required.
    pub state_dir: PathBuf,
    /// Address and port for agents. Default `0.0.0.0:7443`.
    #[serde(default = "default_listen")]
    pub listen: Spanned<String>,
    /// Networks agents may connect from (CT-22), such as `10.0.0.0/8`. Required, at least one.
    pub allowed_networks: Vec<Spanned<String>>,
    /// Connections from one address at once, on each of the ports agents connect to; more are closed
    /// unheard. Several agents may be behind one address. Default 1024.
    #[serde(default = "default_connections_per_address_max")]
    pub connections_per_address_max: Spanned<usize>,
    /// CA certificates (PEM) that agents' certificates must chain to. Required.
    pub ca_file: PathBuf,
    /// The hub's own certificate chain (PEM). Required.
    pub certificate_file: PathBuf,
    /// The private key (PEM) of that certificate; mode 0600. Required.
    pub key_file: PathBuf,
    /// The Ed25519 key that signs receipts and log entries; mode 0600. Required.
    pub signing_key_file: PathBuf,
    /// The Ed25519 key that signs the transfer log's checkpoints; mode 0600. A log has one key for
    /// ever: keep a copy of it elsewhere. Default: `log.key` in `state_dir`, made at the first
    /// start.
    pub log_key_file: Option<PathBuf>,
    /// Which witnesses must sign a checkpoint before what it holds counts as proven, in Sigsum's
    /// form of a policy. Default: any one of the registered agents.
    pub log_policy_file: Option<PathBuf>,
    /// Folder of registered agents, one `<agency>__<name>.toml` each; read again on SIGHUP.
    /// Required.
    pub agents_dir: PathBuf,
    /// Address and port of `/metrics`, `/healthz` and `/readyz`, plain HTTP. Default
    /// `127.0.0.1:7480`.
    #[serde(default = "default_metrics_listen")]
    pub metrics_listen: Spanned<String>,
    /// Where the rows go.
    #[serde(default)]
    pub warehouse: WarehouseFile,
    /// The regulation the province works by.
    #[serde(default)]
    pub profile: ProfileChoiceFile,
    /// The pages for people; without it there are none.
    pub portal: Option<PortalFile>,
    /// The port agents report to; without it they deliver, and nothing is known beyond that.
    pub link: Option<LinkFile>,
    /// The hub's own CA. Default none: agents are then registered by files, and nobody connects
    /// without a certificate.
    pub identity: Option<IdentityFile>,
    /// Copies at an independent place.
    #[serde(default)]
    pub backup: BackupFile,
    /// A collector of security events; without it nobody is told.
    pub siem: Option<SiemFile>,
    /// Who says when the log was there; without it nobody does.
    pub timestamp: Option<TimestampFile>,
    /// Who is told of incidents; without it they stand on the pages alone.
    pub escalation: Option<EscalationFile>,
}

/// The `[escalation]` part of `hub.toml` (HU-10): who is told of an incident that nobody closes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EscalationFile {
    /// Addresses at the province, 1 to 20: told last, and where nobody is written down at an agency.
    /// Required. Example `["cntt@hue.gov.vn"]`.
    pub province: Spanned<Vec<String>>,
    /// The mail server: `smtps://host:465`, `smtp+starttls://host:587`, or `smtp://host:25` with `plain`.
    /// Default none: no mail.
    pub smtp: Option<Spanned<String>>,
    /// The address that writes. Required with `smtp`.
    pub from: Option<String>,
    /// The name to log in at the mail server. Default none.
    pub smtp_user: Option<String>,
    /// File with its password; mode 0600. Required with `smtp_user`.
    pub smtp_password_file: Option<PathBuf>,
    /// An address that is called: `https://`, or `http://` with `plain`. Default none.
    pub webhook: Option<Spanned<String>>,
    /// File with the key that calls are signed with; mode 0600. Required with `webhook`.
    pub webhook_key_file: Option<PathBuf>,
    /// Certificates (PEM) that those servers' must descend from. Required for TLS.
    pub tls_ca_file: Option<PathBuf>,
    /// Servers on an internal network may be reached without TLS. Default `false`.
    #[serde(default)]
    pub plain: bool,
    /// How long an incident is open before the focal point is told. Default `0s`.
    #[serde(default = "default_focal_after")]
    pub focal_after: Spanned<Span>,
    /// The same for the head of the unit. Default `4h`.
    #[serde(default = "default_head_after")]
    pub head_after: Spanned<Span>,
    /// The same for the province. Default `24h`.
    #[serde(default = "default_province_after")]
    pub province_after: Spanned<Span>,
    /// Where people find the portal, for links. Default none.
    pub portal_url: Option<String>,
}

/// The `[timestamp]` part of `hub.toml`: an authority of RFC 3161 that stamps the log's checkpoint.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimestampFile {
    /// Where it answers. Required. Example `"http://tsa.ca.gov.vn"`.
    pub url: Spanned<String>,
    /// Certificates (PEM) that its certificate for timestamps must descend from. Required.
    pub ca_file: PathBuf,
    /// Certificates (PEM) that its web server's must descend from. Required for `https://`.
    pub tls_ca_file: Option<PathBuf>,
    /// How often a log that has grown is stamped, `1s` to `31d`. Default `1d`.
    #[serde(default = "default_stamp_every")]
    pub every: Spanned<Span>,
}

/// The `[siem]` part of `hub.toml` (HU-31): who is told of every entry, incident and event of security.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiemFile {
    /// `tls://host:port`, `tcp://host:port`, `udp://host:port` or `file:path`. Required. Example
    /// `"tls://siem.hue.gov.vn:6514"`.
    pub to: Spanned<String>,
    /// `syslog` (RFC 5424) or `json` (one object a line). Default `syslog`.
    #[serde(default)]
    pub form: SiemForm,
    /// CA certificates (PEM) that the collector's must descend from. Required for `tls://`.
    pub ca_file: Option<PathBuf>,
    /// The certificate chain (PEM) the hub shows to a collector that asks for one. Default none.
    pub certificate_file: Option<PathBuf>,
    /// The private key (PEM) of that certificate; mode 0600. Default none.
    pub key_file: Option<PathBuf>,
    /// The name of this machine in each message. Default: the machine's own.
    pub host: Option<String>,
    /// Entries before this number are not sent to a collector that is new. Default 1: all are.
    #[serde(default = "first_entry")]
    pub first_entry: u64,
    /// How long the collector may be out of reach before an incident is opened, `1s` to `7d`. Default
    /// `10m`.
    #[serde(default = "default_alarm_after")]
    pub alarm_after: Spanned<Span>,
    /// Size at which a file is no longer written to until somebody has taken it away; the entries wait.
    /// Default `1GiB`.
    #[serde(default = "default_file_bytes_max")]
    pub file_bytes_max: ByteSize,
}

/// How a collector is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SiemForm {
    /// RFC 5424.
    #[default]
    Syslog,
    /// One JSON object a line.
    Json,
}

/// The `[portal]` part of `hub.toml`: pages for people.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortalFile {
    /// Address and port for people's browsers. Example: `0.0.0.0:7444`. Required.
    pub listen: Spanned<String>,
    /// Networks people may come from. Default: the hub's `allowed_networks`.
    pub allowed_networks: Option<Vec<Spanned<String>>>,
    /// The certificate chain (PEM) that browsers see. Default: the hub's own.
    pub certificate_file: Option<PathBuf>,
    /// The private key (PEM) of that certificate; mode 0600. Default: the hub's own.
    pub key_file: Option<PathBuf>,
    /// A session ends after so long without a request, `1m` to `12h`. Default `30m`.
    #[serde(default = "default_session_idle")]
    pub session_idle: Spanned<Span>,
    /// A session ends after so long in all, `5m` to `24h`. Default `12h`.
    #[serde(default = "default_session_max")]
    pub session_max: Spanned<Span>,
}

/// The `[link]` part of `hub.toml`: reports of agents, by MQTT over mutual TLS.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkFile {
    /// Address and port for agents, where the hub ends MQTT itself. Example: `0.0.0.0:7445`. Either
    /// this or `broker_url`.
    pub listen: Option<Spanned<String>>,
    /// Where a broker listens for the hub; agents report to that broker. Example:
    /// `mqtts://10.1.2.9:8884`.
    pub broker_url: Option<Spanned<String>>,
}

/// The `[backup]` part of `hub.toml` (CT-36, CB-19). Without `to` no backup is made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BackupFile {
    /// Folder on another machine or medium, mounted here; it must be there. Default none.
    pub to: Option<Spanned<PathBuf>>,
    /// The key that seals backups: 32 bytes, base64; mode 0600. `phusa-hub backup key` makes one. It is
    /// in no backup: keep a copy where neither the hub nor its backups are. Required with `to`.
    pub key_file: Option<PathBuf>,
    /// How often the running hub makes one, at least `1s`. Default `1d`.
    pub every: Spanned<Span>,
    /// Complete backups that are kept, 1 to 1,000. Default 14.
    pub keep: Spanned<usize>,
    /// Age of the newest complete one at which an alarm is raised. Default `26h`.
    pub max_age: Span,
    /// How often the running hub restores the newest for trial, at least `1s`. Default `30d`.
    pub drill_every: Spanned<Span>,
    /// Free space that is left at the place. Default `1GiB`.
    pub reserve: ByteSize,
}

impl Default for BackupFile {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(3600);
        Self {
            to: None,
            key_file: None,
            every: Spanned::new(0..0, Span(24 * HOUR)),
            keep: Spanned::new(0..0, 14),
            max_age: Span(26 * HOUR),
            drill_every: Spanned::new(0..0, Span(30 * 24 * HOUR)),
            reserve: ByteSize::mib(1024),
        }
    }
}

/// The `[identity]` part of `hub.toml`: with it the hub enrols agents and renews their certificates.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityFile {
    /// The intermediate's certificate (PEM), which `phusa-hub ca issue` makes. Required. Example
    /// `"issuing.pem"`.
    pub issuing_certificate_file: PathBuf,
    /// Its private key (PEM), mode 0600. Required. Example `"issuing.key"`.
    pub issuing_key_file: PathBuf,
    /// How long an agent's certificate is valid, `30s` to `90d`; agents renew after a third of it.
    /// Default `7d`.
    #[serde(default = "default_validity")]
    pub certificate_validity: Spanned<Span>,
}

/// The `[profile]` part of `hub.toml`: deadlines, report dates, purposes, roles and themes come from
/// there.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProfileChoiceFile {
    /// One that ships with the hub: `hue-2026`, `cantho-2023`, `caobang-2024`, `camau-2021`,
    /// `nghean-draft`. Default `hue-2026`.
    pub name: Option<Spanned<String>>,
    /// A file of the province's own, instead of `name`. Default none.
    pub file: Option<PathBuf>,
}

/// The `[warehouse]` part of `hub.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WarehouseFile {
    /// `embedded` (a private PostgreSQL in `state_dir`) or `postgres://user@host:port/database`.
    /// Default `embedded`.
    pub url: Spanned<String>,
    /// File with the password for an external database; never in the URL. Default none.
    pub password_file: Option<PathBuf>,
    /// Certificates (PEM) that an external database's must descend from; TLS is then always used.
    /// Default none, which is for a database on this machine alone.
    pub tls_ca_file: Option<PathBuf>,
    /// Most connections the hub opens to the database, 4 to 500. Default 16.
    pub connections_max: Spanned<usize>,
    /// Batches are refused, to be sent again later, while less than this is free on the disk of the
    /// embedded database. Default `1GiB`.
    pub disk_reserve: ByteSize,
}

impl Default for WarehouseFile {
    fn default() -> Self {
        Self {
            url: Spanned::new(0..0, "embedded".to_owned()),
            password_file: None,
            tls_ca_file: None,
            connections_max: Spanned::new(0..0, 16),
            disk_reserve: ByteSize::mib(1024),
        }
    }
}

fn default_validity() -> Spanned<Span> {
    Spanned::new(0..0, Span(Duration::from_secs(7 * 86_400)))
}

fn default_stamp_every() -> Spanned<Span> {
    Spanned::new(0..0, Span(Duration::from_secs(86_400)))
}

fn default_focal_after() -> Spanned<Span> {
    Spanned::new(0..0, Span(Duration::ZERO))
}

fn default_head_after() -> Spanned<Span> {
    Spanned::new(0..0, Span(Duration::from_secs(4 * 3_600)))
}

fn default_province_after() -> Spanned<Span> {
    Spanned::new(0..0, Span(Duration::from_secs(24 * 3_600)))
}

fn first_entry() -> u64 {
    1
}

fn default_alarm_after() -> Spanned<Span> {
    Spanned::new(0..0, Span(Duration::from_secs(10 * 60)))
}

fn default_file_bytes_max() -> ByteSize {
    ByteSize::mib(1024)
}

fn default_session_idle() -> Spanned<Span> {
    Spanned::new(0..0, Span(Duration::from_secs(30 * 60)))
}

fn default_session_max() -> Spanned<Span> {
    Spanned::new(0..0, Span(Duration::from_secs(12 * 3_600)))
}

/// A quarter of all places, so that no address alone takes them.
fn default_connections_per_address_max() -> Spanned<usize> {
    Spanned::new(0..0, 1_024)
}

fn default_listen() -> Spanned<String> {
    Spanned::new(0..0, "0.0.0.0:7443".to_owned())
}

fn default_metrics_listen() -> Spanned<String> {
    Spanned::new(0..0, "127.0.0.1:7480".to_owned())
}
