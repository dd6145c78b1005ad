//! Certificates and keys for development and demonstration: one CA, one hub, some agents.
//!
//! Layout: `ca.key`, `hub/{ca.pem,hub.pem,hub.key,signing.key,signing.pub,agents/*.toml}` and
//! `agents/<agency>__<name>/{ca.pem,agent.pem,agent.key,signing.key,spool.key,hub.pub}`. Private
//! files have mode 0600. A second run keeps the CA, the hub's keys and every agent it finds, and
//! adds what is new; only certificates are issued anew, so that they begin today.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgentId;
use phusa_protocol::keys::SigningKey;
use phusa_protocol::time::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use crate::config::register::file_name;

/// What every agent's URI begins with.
pub const AGENT_URI_PREFIX: &str = "spiffe://phusa/agency/";

/// The URI under which an agent's certificate names it.
#[must_use]
pub fn uri_of(agent: &AgentId) -> String {
    format!("{AGENT_URI_PREFIX}{}/agent/{}", agent.agency(), agent.name())
}

/// What `dev-certs` is asked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Folder for everything.
    pub dir: PathBuf,
    /// Names or addresses agents reach the hub by; at least one.
    pub hub_names: Vec<String>,
    /// Agents to make or renew.
    pub agents: Vec<AgentId>,
    /// How long certificates are valid.
    pub days: u32,
}

/// A clock may be this wrong before a new certificate is not yet valid.
const SKEW: Duration = Duration::from_secs(24 * 3600);

const CA_DAYS: u32 = 3650;

/// Makes what is missing and renews certificates.
///
/// # Errors
/// When a file cannot be written or an existing one is not what its name says.
pub fn make(wanted: &Wanted) -> Result<(), Fault> {
    let (hub, agents) = (wanted.dir.join("hub"), wanted.dir.join("agents"));
    make_dir(&hub.join("agents"))?;
    let (ca_pem, issuer) = authority(&wanted.dir)?;
    write_public(&hub.join("ca.pem"), &ca_pem)?;
    let hub_public = signing_key(&hub.join("signing.key"))?.public().to_string();
    write_public(&hub.join("signing.pub"), &hub_public)?;
    let names = wanted.hub_names.clone();
    let mut params = CertificateParams::new(names).map_err(not_made)?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    issue(params, &issuer, wanted.days, &hub.join("hub"))?;
    for agent in &wanted.agents {
        let own = agents.join(format!("{}__{}", agent.agency(), agent.name()));
        make_dir(&own)?;
        write_public(&own.join("ca.pem"), &ca_pem)?;
        write_public(&own.join("hub.pub"), &hub_public)?;
        make_agent(agent, &own, &issuer, wanted.days)?;
        let public = signing_key(&own.join("signing.key"))?.public();
        let line = format!("agent = \"{agent}\"\nsigning_key = \"{public}\"\n");
        let registered = hub.join("agents").join(file_name(agent));
        if !registered.exists() {
            write_public(&registered, &line)?;
        }
    }
    Ok(())
}

fn make_agent(
    agent: &AgentId,
    dir: &Path,
    issuer: &Issuer<'_, KeyPair>,
    days: u32,
) -> Result<(), Fault> {
    let mut params = CertificateParams::new(Vec::new()).map_err(not_made)?;
    let uri = uri_of(agent).try_into().map_err(not_made)?;
    params.subject_alt_names.push(SanType::URI(uri));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.distinguished_name.push(DnType::CommonName, agent.to_string());
    issue(params, issuer, days, &dir.join("agent"))?;
    let spool_key = dir.join("spool.key");
    if spool_key.exists() {
        return Ok(());
    }
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(no_randomness)?;
    write_secret(&spool_key, &base64::engine::general_purpose::STANDARD.encode(key))
}

/// The CA's certificate and what issues in its name.
fn authority(dir: &Path) -> Result<(String, Issuer<'static, KeyPair>), Fault> {
    let certificate = dir.join("hub").join("ca.pem");
    let key = key_pair(&dir.join("ca.key"))?;
    let pem = match fs::read_to_string(&certificate) {
        Ok(pem) => pem,
        Err(_) => {
            let mut params = CertificateParams::new(Vec::new()).map_err(not_made)?;
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            params.distinguished_name.push(DnType::CommonName, "Phù Sa dev CA");
            set_validity(&mut params, CA_DAYS);
            params.self_signed(&key).map_err(not_made)?.pem()
        }
    };
    let issuer = Issuer::from_ca_cert_pem(&pem, key).map_err(not_made)?;
    Ok((pem, issuer))
}

/// Writes `<stem>.pem` and, if there is none yet, `<stem>.key`.
fn issue(
    mut params: CertificateParams,
    issuer: &Issuer<'_, KeyPair>,
    days: u32,
    stem: &Path,
) -> Result<(), Fault> {
    set_validity(&mut params, days);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    let key = key_pair(&stem.with_extension("key"))?;
    let certificate = params.signed_by(&key, issuer).map_err(not_made)?;
    write_public(&stem.with_extension("pem"), &certificate.pem())
}

fn set_validity(params: &mut CertificateParams, days: u32) {
    let now = Timestamp::now();
    let begin = Timestamp::from_micros(now.micros() - micros(SKEW));
    let end = now.after(SKEW.saturating_mul(days.saturating_add(1)));
    let [begin, end] = [begin, end].map(date);
    params.not_before = rcgen::date_time_ymd(begin.0, begin.1, begin.2);
    params.not_after = rcgen::date_time_ymd(end.0, end.1, end.2);
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// Year, month and day of a moment, from its text `2026-11-21T…`.
fn date(moment: Timestamp) -> (i32, u8, u8) {
    let text = moment.to_string();
    let mut parts = text.split(['-', 'T']);
    let year = parts.next().and_then(|part| part.parse().ok());
    let mut small = || parts.next().and_then(|part| part.parse().ok());
    let (month, day) = (small(), small());
    (year.unwrap_or(2100), month.unwrap_or(1), day.unwrap_or(1))
}

fn key_pair(path: &Path) -> Result<KeyPair, Fault> {
    if let Ok(pem) = fs::read_to_string(path) {
        return KeyPair::from_pem(&pem).map_err(|error| {
            let what = format!("{} is not a private key", path.display());
            Fault::because(Code::SecretUnreadable, what, error)
        });
    }
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(not_made)?;
    write_secret(path, &key.serialize_pem())?;
    Ok(key)
}

/// The key in this file, made if there is none yet; what others verify with is written beside it.
///
/// # Errors
/// When it is no key or cannot be written.
pub fn log_key(path: &Path) -> Result<SigningKey, Fault> {
    let key = signing_key(path)?;
    write_public(&path.with_extension("pub"), &key.public().to_string())?;
    // The log is nothing without its key: it must outlast a power cut before it signs.
    let folder = path.parent().unwrap_or(Path::new("."));
    let synced = fs::File::open(path).and_then(|file| file.sync_all());
    let synced = synced.and_then(|()| fs::File::open(folder)?.sync_all());
    synced.map_err(|error| {
        Fault::because(Code::DiskFailed, format!("cannot keep {}", path.display()), error)
    })?;
    Ok(key)
}

fn signing_key(path: &Path) -> Result<SigningKey, Fault> {
    if let Ok(text) = fs::read_to_string(path) {
        return SigningKey::from_text(&text).map_err(|error| {
            let what = format!("{} is not a signing key", path.display());
            Fault::because(Code::SecretUnreadable, what, error)
        });
    }
    let key = SigningKey::generate().map_err(no_randomness)?;
    write_secret(path, &key.to_secret_text())?;
    Ok(key)
}

fn not_made(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Fault {
    Fault::because(Code::ConfigInvalid, "cannot make a key or certificate", error)
}

/// The operating system's error type here is no standard error, so it goes in as text.
#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
fn no_randomness(error: impl ToString) -> Fault {
    not_made(error.to_string())
}

fn make_dir(path: &Path) -> Result<(), Fault> {
    fs::create_dir_all(path).map_err(|error| {
        Fault::because(Code::DiskFailed, format!("cannot make folder {}", path.display()), error)
    })
}

fn write_public(path: &Path, text: &str) -> Result<(), Fault> {
    write(path, text, 0o644)
}

fn write_secret(path: &Path, text: &str) -> Result<(), Fault> {
    write(path, text, 0o600)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), Fault> {
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(mode).open(path);
    let written = file.and_then(|mut file| {
        file.write_all(text.trim_end().as_bytes())?;
        file.write_all(b"\n")
    });
    written.map_err(|error| {
        Fault::because(Code::DiskFailed, format!("cannot write {}", path.display()), error)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::config::register::Register;

    #[test]
    fn a_second_run_keeps_every_key_and_adds_the_new_agent() {
        let dir = tempfile::tempdir().unwrap();
        let agent = |text: &str| AgentId::try_from(text.to_owned()).unwrap();
        let mut wanted = Wanted {
            dir: dir.path().to_path_buf(),
            hub_names: vec!["127.0.0.1".to_owned(), "localhost".to_owned()],
            agents: vec![agent("H57.12/may-1")],
            days: 30,
        };
        make(&wanted).unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        let kept = ["hub/ca.pem", "hub/hub.key", "hub/signing.key", "ca.key"];
        let before = kept.map(read);
        wanted.agents.push(agent("H57.13/may-2"));
        make(&wanted).unwrap();
        assert_eq!(before, kept.map(read));
        let register = Register::read(&dir.path().join("hub/agents")).unwrap();
        assert_eq!(register.len(), 2);
        for secret in ["hub/hub.key", "agents/H57.13__may-2/spool.key", "ca.key"] {
            let mode = fs::metadata(dir.path().join(secret)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{secret}");
        }
    }
}
