//! From the plan to what each room wants to know, secrets read on the way.

use std::sync::Arc;

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::keys::{PublicKey, SigningKey};
use phusa_protocol::policy::Policy;
use tokio::sync::watch;

use crate::accord::Accord;
use crate::config::Engine;
use crate::config::plan::{DatasetPlan, Plan};
use crate::config::secret::SecretFile;
use crate::orders::Book;
use crate::source::any::AnySource;
use crate::source::guard::Guard;
use crate::source::mysql::{self, MySqlSource};
use crate::source::postgres::{self, PostgresSource};
use crate::source::settings::{Keep, Limits, Password, Tls};
use crate::source::sqlserver::{self, SqlServerSource};
use crate::source::throttle::Turns;
use crate::spool::record::SealKey;
use crate::transport::https::Hub;
use crate::transport::identity::{Files, Identity};
use crate::transport::kept::Kept;
use crate::transport::renew::{IdentityStatus, Renewer};
use crate::{spool, transport};

/// What the spool wants to know.
///
/// # Errors
/// `secret_unreadable` for its key.
pub fn spool_settings(plan: &Plan) -> Result<spool::Settings, Fault> {
    Ok(spool::Settings {
        state_dir: plan.state_dir.clone(),
        key: SealKey::new(&plan.spool.key_file.load_key()?),
        spool_bytes_max: plan.spool.spool_bytes_max,
        disk_reserve: plan.spool.disk_reserve,
    })
}

/// What the transport wants to know.
///
/// # Errors
/// `secret_unreadable` for a certificate or key, `config_invalid` for the URL.
pub fn hub_settings(plan: &Plan) -> Result<transport::https::Settings, Fault> {
    let hub = &plan.hub;
    let (host, port) = (hub.address.host(), hub.address.port());
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let url = reqwest::Url::parse(&format!("https://{host}:{port}")).map_err(|error| {
        Fault::because(Code::ConfigInvalid, format!("cannot use the hub's address {host}"), error)
    })?;
    let tls = identity(plan)?.client_config()?;
    let hub_key = hub_key(plan)?;
    Ok(transport::https::Settings {
        url,
        allowed_networks: plan.allowed_networks.clone(),
        tls,
        hub_key,
        request_timeout: hub.request_timeout,
    })
}

/// Where the agent's identity is.
#[must_use]
pub fn identity_files(plan: &Plan) -> Files {
    let hub = &plan.hub;
    let (ca, certificate) = (hub.ca_file.clone(), hub.certificate_file.clone());
    Files { ca, certificate, key: hub.key_file.clone() }
}

/// The agent's certificate with its key: as renewed last, or as the files have it.
///
/// # Errors
/// `secret_unreadable`.
pub fn identity(plan: &Plan) -> Result<Identity, Fault> {
    Kept::new(&plan.state_dir).newest(&identity_files(plan))
}

/// What renews the agent's certificate.
#[must_use]
pub fn renewer(
    plan: &Plan,
    hub: Arc<Hub>,
    orders: Arc<Book>,
) -> (Renewer, watch::Receiver<Option<IdentityStatus>>) {
    let (show, seen) = watch::channel(None);
    let renewer = Renewer {
        agent: plan.agent.clone(),
        hub,
        files: identity_files(plan),
        kept: Kept::new(&plan.state_dir),
        recovery_key: plan.hub.recovery_key_file.clone(),
        orders,
        show,
    };
    (renewer, seen)
}

/// What the hub must show of a dataset's contract.
///
/// # Errors
/// `secret_unreadable` for the hub's key or the agent's own.
pub fn accord(plan: &Plan, dataset: &DatasetPlan) -> Result<Accord, Fault> {
    Ok(Accord {
        contract: dataset.contract.clone(),
        hub: hub_key(plan)?,
        agent: plan.agent.clone(),
        own: signing_key(plan)?.public(),
        state_dir: plan.state_dir.clone(),
        lists: dataset.lists().cloned().collect(),
    })
}

/// What the hub wants of this agent, as it was kept.
///
/// # Errors
/// `secret_unreadable` for the hub's key.
pub fn orders(plan: &Plan) -> Result<Book, Fault> {
    let datasets = plan.datasets.iter().map(|dataset| dataset.dataset().clone()).collect();
    Ok(Book::open(plan.state_dir.clone(), plan.agent.clone(), hub_key(plan)?, datasets))
}

/// The hub's pinned key.
fn hub_key(plan: &Plan) -> Result<PublicKey, Fault> {
    let file = &plan.hub.hub_key_file;
    let unreadable = |error: Box<dyn std::error::Error + Send + Sync>| {
        Fault::because(Code::SecretUnreadable, format!("cannot use {}", file.display()), error)
    };
    let text = std::fs::read_to_string(file).map_err(|error| unreadable(error.into()))?;
    PublicKey::try_from(text).map_err(|error| unreadable(error.into()))
}

/// Which log and which witnesses are believed, where a file says it.
///
/// # Errors
/// `config_invalid` for a file that is no policy.
pub fn log_policy(plan: &Plan) -> Result<Option<Policy>, Fault> {
    let Some(file) = &plan.hub.log_policy_file else { return Ok(None) };
    let what = || format!("cannot use log_policy_file {}", file.display());
    let text = std::fs::read_to_string(file)
        .map_err(|error| Fault::because(Code::ConfigInvalid, what(), error))?;
    let policy = Policy::parse(&text);
    policy.map(Some).map_err(|error| Fault::because(Code::ConfigInvalid, what(), error))
}

/// The key that signs headers.
///
/// # Errors
/// `secret_unreadable`.
pub fn signing_key(plan: &Plan) -> Result<SigningKey, Fault> {
    let file = &plan.hub.signing_key_file;
    let text = file.load()?;
    let key = text.text().map(SigningKey::from_text);
    let key = key.and_then(Result::ok);
    key.ok_or_else(|| unusable(file))
}

fn unusable(file: &SecretFile) -> Fault {
    Fault::new(Code::SecretUnreadable, format!("{file:?} holds no signing key in base64"))
}

/// The source that the plan names, ready to connect.
///
/// # Errors
/// `secret_unreadable` for its password.
pub fn source(plan: &Plan) -> Result<AnySource, Fault> {
    match plan.source.engine {
        Engine::Postgresql => {
            Ok(AnySource::Postgres(PostgresSource::new(postgres_settings(plan)?)))
        }
        Engine::Sqlserver => {
            Ok(AnySource::SqlServer(SqlServerSource::new(sqlserver_settings(plan)?)))
        }
        Engine::Mysql => Ok(AnySource::MySql(MySqlSource::new(mysql_settings(plan)?))),
    }
}

fn mysql_settings(plan: &Plan) -> Result<mysql::Settings, Fault> {
    let source = &plan.source;
    let mut settings =
        mysql::Settings::new(&source.host, &source.database, &source.user, plan.agent.clone());
    settings.port = source.port;
    settings.password = password(plan)?;
    settings.tls = tls(plan);
    settings.login_may_write_because.clone_from(&source.login_may_write_because);
    settings.batch = limits(plan);
    settings.guard = guard(plan);
    settings.keep = keep(plan);
    Ok(settings)
}

fn postgres_settings(plan: &Plan) -> Result<postgres::Settings, Fault> {
    let source = &plan.source;
    let mut settings =
        postgres::Settings::new(&source.host, &source.database, &source.user, plan.agent.clone());
    settings.port = source.port;
    settings.password = password(plan)?;
    settings.tls = tls(plan);
    settings.login_may_write_because.clone_from(&source.login_may_write_because);
    settings.slot_wal_max = source.slot_wal_max;
    settings.slot_wait = source.slot_wait;
    settings.catch_up_bytes = source.catch_up_bytes;
    settings.batch = limits(plan);
    settings.guard = guard(plan);
    settings.keep = keep(plan);
    Ok(settings)
}

fn sqlserver_settings(plan: &Plan) -> Result<sqlserver::Settings, Fault> {
    let source = &plan.source;
    let mut settings = sqlserver::Settings::new(&source.host, &source.database, &source.user);
    settings.port = source.port;
    settings.password = password(plan)?;
    settings.tls = tls(plan);
    settings.login_may_write_because.clone_from(&source.login_may_write_because);
    settings.batch = limits(plan);
    settings.guard = guard(plan);
    settings.keep = keep(plan);
    Ok(settings)
}

/// Where rows are remembered. Only captures need it, and they cannot begin without the spool, which
/// says what is wrong with its key.
fn keep(plan: &Plan) -> Option<Keep> {
    let secret = plan.spool.key_file.load_key().ok()?;
    Some(Keep::new(plan.state_dir.join("index"), secret))
}

fn tls(plan: &Plan) -> Tls {
    let ca_file = plan.source.tls_ca_file.clone();
    ca_file.map_or(Tls::Off, |ca_file| Tls::Verify { ca_file })
}

fn limits(plan: &Plan) -> Limits {
    Limits {
        bytes_max: plan.batch.batch_bytes_max,
        rows_max: plan.batch.batch_rows_max,
        linger: plan.batch.batch_linger,
        row_bytes_max: plan.batch.row_bytes_max,
    }
}

fn guard(plan: &Plan) -> Guard {
    Guard {
        rows_per_second_max: plan.guard.rows_per_second_max.unwrap_or(0),
        snapshot_workers: plan.guard.snapshot_workers,
        chunk_rows: plan.guard.chunk_rows,
        statement_timeout: plan.guard.statement_timeout,
        lock_timeout: plan.guard.lock_timeout,
        allowed_hours: plan.guard.allowed_hours.clone(),
        latency_max: plan.guard.latency_max,
        turns: Turns::new(plan.guard.work_loss_max_percent),
        reconcile_interval: plan.guard.reconcile_interval,
        watermark_interval: plan.guard.watermark_interval,
        watermark_overlap: plan.guard.watermark_overlap,
    }
}

fn password(plan: &Plan) -> Result<Option<Password>, Fault> {
    let Some(file) = &plan.source.password_file else { return Ok(None) };
    let secret = file.load()?;
    let text = secret.text().map(|text| Password::new(text.trim_end_matches('\n')));
    text.map(Some).ok_or_else(|| {
        Fault::new(Code::SecretUnreadable, format!("{file:?} holds no text in UTF-8"))
    })
}
