//! `phusa-agent enrol`: from a one-time code to keys and a certificate, in the files that
//! `agent.toml` names, or in a folder for the wizard where there is no `agent.toml` yet.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::identity::{Enrol as Asked, Issued, OneTimeCode};
use phusa_protocol::ids::AgentId;
use phusa_protocol::keys::SigningKey;
use phusa_protocol::network::Network;

use super::{report, say};
use crate::config::plan::Plan;
use crate::config::plan::address::HubAddress;
use crate::config::secret::SecretFile;
use crate::disk::{Disk as _, RealDisk, disk_code};
use crate::transport::enrol;
use crate::transport::kept::{Current, Kept};

/// Where a hub may be when nobody says it: networks that are nobody's on the Internet (CT-22).
const PRIVATE: [&str; 5] =
    ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "fc00::/7"];

#[derive(Debug, clap::Args)]
pub(super) struct Enrol {
    /// Địa chỉ trung tâm · the hub's address, `https://host:port`.
    hub: String,
    /// Mã một lần · the one-time code.
    code: String,
    /// Thư mục cho khóa khi chưa có agent.toml (rồi đưa cho `wizard`) · a folder for the keys where
    /// there is no agent.toml yet (then give it to `wizard`).
    #[arg(long)]
    keys: Option<PathBuf>,
    /// Với --keys: mạng mà trung tâm phải nằm trong · with --keys: a network the hub must lie in.
    #[arg(long, requires = "keys")]
    network: Vec<Network>,
    /// Thay cả khóa ký và khóa khôi phục đã có · replace signing and recovery key too.
    #[arg(long)]
    new_keys: bool,
}

/// Where everything goes.
struct Places {
    agent: Option<AgentId>,
    networks: Vec<Network>,
    ca: PathBuf,
    certificate: PathBuf,
    hub_key: PathBuf,
    key: PathBuf,
    signing_key: PathBuf,
    recovery_key: PathBuf,
    spool_key: PathBuf,
    kept: Kept,
}

/// Enrols this installation.
pub(super) async fn run(config: &Path, wanted: Enrol) -> Result<ExitCode, Vec<Fault>> {
    let one = |fault| vec![fault];
    let places = match &wanted.keys {
        Some(folder) => in_folder(folder, &wanted.network),
        None => {
            let plan = Plan::load_without_datasets(config)?;
            named(&plan, &wanted.hub).map_err(one)?
        }
    };
    enrol(&places, &wanted).await.map_err(one)
}

fn in_folder(folder: &Path, networks: &[Network]) -> Places {
    let file = |name: &str| folder.join(name);
    let private = || PRIVATE.iter().filter_map(|text| text.parse().ok()).collect();
    Places {
        agent: None,
        networks: if networks.is_empty() { private() } else { networks.to_vec() },
        ca: file("ca.pem"),
        certificate: file("agent.pem"),
        hub_key: file("hub.pub"),
        key: file("agent.key"),
        signing_key: file("signing.key"),
        recovery_key: file("recovery.key"),
        spool_key: file("spool.key"),
        kept: Kept::new(folder),
    }
}

fn named(plan: &Plan, hub: &str) -> Result<Places, Fault> {
    let given = address(hub)?;
    if given != plan.hub.address {
        let what = format!("agent.toml names the hub {}, not {given}", plan.hub.address);
        return Err(Fault::new(Code::ConfigInvalid, what));
    }
    let file = |secret: &SecretFile| match secret {
        SecretFile::File(path) => Ok(path.clone()),
        SecretFile::Credential(_) => {
            let what = format!("{secret} cannot be written: enrol with --keys, then hand it over");
            Err(Fault::new(Code::ConfigInvalid, what))
        }
    };
    let hub = &plan.hub;
    Ok(Places {
        agent: Some(plan.agent.clone()),
        networks: plan.allowed_networks.clone(),
        ca: hub.ca_file.clone(),
        certificate: hub.certificate_file.clone(),
        hub_key: hub.hub_key_file.clone(),
        key: file(&hub.key_file)?,
        signing_key: file(&hub.signing_key_file)?,
        recovery_key: file(&hub.recovery_key_file)?,
        spool_key: file(&plan.spool.key_file)?,
        kept: Kept::new(&plan.state_dir),
    })
}

async fn enrol(places: &Places, wanted: &Enrol) -> Result<ExitCode, Fault> {
    let code: OneTimeCode = wanted.code.parse().map_err(|error| {
        Fault::because(Code::EnrolRefused, "the one-time code was not read whole", error)
    })?;
    let url = reqwest::Url::parse(&address(&wanted.hub)?.to_string()).map_err(|error| {
        Fault::because(Code::ConfigInvalid, "cannot use the hub's address", error)
    })?;
    // Whoever asks again with the same code must ask the same: new keys are made once.
    let fresh = wanted.new_keys && !places.kept.has_begun(&code.invitation)?;
    let signing = key(&places.signing_key, fresh)?;
    let recovery = key(&places.recovery_key, fresh)?;
    let pending = places.kept.begin(&code.invitation, None)?;
    let keys = (&signing, &recovery);
    let version = env!("CARGO_PKG_VERSION");
    let asked = Asked::new(&code, places.agent.clone(), pending.csr.clone(), keys, version);
    let told = |fault: &Fault| {
        report::eprint_fault(fault);
        say(&format!("Dấu vân tay của yêu cầu · the request's digest: {}", asked.digest()));
    };
    let issued = enrol::enrol(url, places.networks.clone(), &code, &asked, told).await?;
    let current = Current { key: pending.key, issued };
    let identity = places.kept.identity(&current);
    // The certificate is for our key, or this fails.
    identity.client_config()?;
    write_all(places, &current)?;
    places.kept.clear()?;
    say(&done(places, &current.issued));
    Ok(ExitCode::SUCCESS)
}

/// The certificate last: with it everything is there.
fn write_all(places: &Places, current: &Current) -> Result<(), Fault> {
    if !places.spool_key.exists() {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(no_randomness)?;
        write(&places.spool_key, &BASE64.encode(bytes))?;
    }
    write(&places.key, &current.key)?;
    write(&places.hub_key, &current.issued.hub_key.to_string())?;
    write(&places.ca, &current.issued.ca)?;
    write(&places.certificate, &current.issued.certificate)
}

fn done(places: &Places, issued: &Issued) -> String {
    format!(
        "{}: đã ghi danh, chứng thư thứ {} đến {} · enrolled, certificate {} until {}\n\
         Tệp khóa quyền 0600 ở · key files, mode 0600, in: {}",
        issued.agent,
        issued.generation,
        issued.not_after,
        issued.generation,
        issued.not_after,
        places.key.parent().unwrap_or(Path::new(".")).display()
    )
}

/// The key in this file, made where there is none or a new one is wanted.
fn key(file: &Path, fresh: bool) -> Result<SigningKey, Fault> {
    if !fresh && file.exists() {
        let text = SecretFile::File(file.to_owned()).load()?;
        let key = text.text().and_then(|text| SigningKey::from_text(text).ok());
        return key.ok_or_else(|| {
            let what = format!("{} holds no key in base64", file.display());
            Fault::new(Code::SecretUnreadable, what)
        });
    }
    let key = SigningKey::generate().map_err(no_randomness)?;
    write(file, &key.to_secret_text())?;
    Ok(key)
}

fn address(hub: &str) -> Result<HubAddress, Fault> {
    hub.parse().map_err(|error| {
        Fault::because(Code::ConfigInvalid, format!("{hub:?} is no address of a hub"), error)
    })
}

/// Writes a file of mode 0600: the old one stands until the new one is whole.
fn write(file: &Path, text: &str) -> Result<(), Fault> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let mut temporary = file.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let text = format!("{}\n", text.trim_end());
    let private = std::fs::Permissions::from_mode(0o600);
    let written = std::fs::create_dir_all(folder)
        .and_then(|()| RealDisk.write_synced(&temporary, text.as_bytes()))
        .and_then(|()| std::fs::set_permissions(&temporary, private))
        .and_then(|()| RealDisk.rename(&temporary, file))
        .and_then(|()| RealDisk.sync_folder(folder));
    written.map_err(|error| {
        let code = disk_code(&error);
        Fault::because(code, format!("cannot write {}", file.display()), error)
    })
}

fn no_randomness(error: getrandom::Error) -> Fault {
    Fault::because(Code::Bug, "the system gives no randomness", error.to_string())
}
