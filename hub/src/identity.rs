//! Keys and certificates: the CA and what it issues ([`ca`], [`issue`]), and, below, a whole set for
//! development and demonstration: one CA, one hub, some agents.
//!
//! Layout: `ca.key`, `hub/{ca.pem,hub.pem,hub.key,signing.key,signing.pub,agents/*.toml}` and
//! `agents/<agency>__<name>/{ca.pem,agent.pem,agent.key,signing.key,spool.key,hub.pub}`. Private
//! files have mode 0600. A second run keeps the CA, the hub's keys and every agent it finds, and
//! adds what is new; only certificates are issued anew, so that they begin today.

pub mod ca;
pub mod facts;
pub mod files;
pub mod issue;
pub mod passphrase;

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use phusa_protocol::fault::Fault;
use phusa_protocol::identity::agent_uri;
use phusa_protocol::ids::AgentId;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use crate::config::register::file_name;
use files::{
    key_pair, make_dir, not_made, not_made_for, set_days, signing_key, write_public, write_secret,
};

/// What `dev-certs` is asked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Folder for everything.
    pub dir: PathBuf,
    /// Names or addresses agents reach the hub by; at least one.
    pub hub_names: Vec<String>,
    /// Names or addresses a broker is reached by; none makes no certificate for one.
    pub broker_names: Vec<String>,
    /// Agents to make or renew.
    pub agents: Vec<AgentId>,
    /// How long certificates are valid.
    pub days: u32,
}

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
    let params = issue::hub_params(&wanted.hub_names)?;
    issue(params, &issuer, wanted.days, &hub.join("hub"))?;
    if !wanted.broker_names.is_empty() {
        let dir = wanted.dir.join("broker");
        make_dir(&dir)?;
        write_public(&dir.join("ca.pem"), &ca_pem)?;
        let params = issue::broker_params(&wanted.broker_names)?;
        issue(params, &issuer, wanted.days, &dir.join("broker"))?;
    }
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
    let uri = agent_uri(agent).try_into().map_err(not_made)?;
    params.subject_alt_names.push(SanType::URI(uri));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.distinguished_name.push(DnType::CommonName, agent.to_string());
    issue(params, issuer, days, &dir.join("agent"))?;
    let spool_key = dir.join("spool.key");
    if spool_key.exists() {
        return Ok(());
    }
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(not_made_for)?;
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
            set_days(&mut params, CA_DAYS);
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
    set_days(&mut params, days);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    let key = key_pair(&stem.with_extension("key"))?;
    let certificate = params.signed_by(&key, issuer).map_err(not_made)?;
    write_public(&stem.with_extension("pem"), &certificate.pem())
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
            broker_names: vec!["127.0.0.1".to_owned()],
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
