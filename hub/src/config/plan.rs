//! `Plan`: the checked form the rest of the hub uses; every fault of the files at once, each with
//! its line.

mod escalation;
pub mod link;
mod outward;
pub mod portal;
mod siem;
mod timestamp;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::keys::SigningKey;
use phusa_protocol::network::{BadNetwork, Network};
use phusa_protocol::policy::Policy;
use phusa_protocol::units::ByteSize;
use toml::Spanned;

use super::profile::Profile;
use super::register::Register;
use super::{BackupFile, HubFile, IdentityFile};
use crate::escalation as escalated;
use crate::identity::issue::Issuing;
use crate::keeping::seal::BackupKey;
use crate::keeping::{self};
use crate::siem as collector;
use crate::stamping;
use crate::warehouse::{Password, Settings, Url};

/// Shorter than this and an agent does nothing but renew; longer and a stolen one serves too long.
const VALIDITY_MIN: Duration = Duration::from_secs(30);
const VALIDITY_MAX: Duration = Duration::from_secs(90 * 86_400);

/// Everything `hub.toml` and what it points at say, checked.
#[derive(Debug)]
pub struct Plan {
    /// The hub's own folder.
    pub state_dir: PathBuf,
    /// Where agents connect.
    pub listen: SocketAddr,
    /// Where agents may connect from.
    pub allowed_networks: Vec<Network>,
    /// Connections from one address at once, on each port for agents.
    pub connections_per_address_max: usize,
    /// CA certificates agents' certificates must chain to, PEM.
    pub ca_pem: Vec<u8>,
    /// The hub's certificate chain, PEM.
    pub certificate_pem: Vec<u8>,
    /// The private key of that certificate, PEM; never printed.
    pub key_pem: SecretPem,
    /// Signs receipts and entries.
    pub signing_key: SigningKey,
    /// Signs the transfer log's checkpoints.
    pub log_key: LogKeyFile,
    /// Which witnesses must sign them, where the file says it.
    pub log_policy: Option<Policy>,
    /// The folder the register is read from.
    pub agents_dir: PathBuf,
    /// The agents known when the plan was made.
    pub register: Register,
    /// Where metrics and health are served.
    pub metrics_listen: SocketAddr,
    /// The warehouse.
    pub warehouse: Settings,
    /// Free disk below which batches must wait.
    pub disk_reserve: ByteSize,
    /// The regulation the province works by.
    pub profile: Profile,
    /// What issues agents' certificates, where the hub has an intermediate.
    pub issuing: Option<Arc<Issuing>>,
    /// Copies at an independent place; `None` where there is none.
    pub backup: Option<keeping::Terms>,
    /// The file this was read from.
    pub file: PathBuf,
    /// The pages for people, where there are any.
    pub portal: Option<portal::PortalPlan>,
    /// Where agents report, if they may.
    pub link: Option<link::LinkPlan>,
    /// The key that second factors are sealed with; made at the first use.
    pub accounts_key: PathBuf,
    /// Who is told of every entry and event of security, where somebody is.
    pub siem: Option<collector::Terms>,
    /// Who stamps the log, where somebody does.
    pub timestamp: Option<stamping::Terms>,
    /// Who is told of incidents, where somebody is.
    pub escalation: Option<escalated::Terms>,
}

/// Where the log's key is; the default file is made at the first start.
#[derive(Debug)]
pub struct LogKeyFile {
    /// The file.
    pub path: PathBuf,
    /// The key; none before the first start.
    pub key: Option<SigningKey>,
}

/// A private key in PEM that `Debug` does not show.
pub struct SecretPem(pub Vec<u8>);

impl std::fmt::Debug for SecretPem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretPem(secret)")
    }
}

impl Plan {
    /// Reads and checks `hub.toml`, its keys, certificates and agents.
    ///
    /// # Errors
    /// Every fault found, not only the first.
    pub fn read(path: &Path) -> Result<Self, Vec<Fault>> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let what = format!("cannot read {}", path.display());
            vec![Fault::because(Code::ConfigInvalid, what, error)]
        })?;
        let file: HubFile = toml::from_str(&text).map_err(|error| {
            let what = format!("{} is not a hub configuration", path.display());
            vec![Fault::because(Code::ConfigInvalid, what, error)]
        })?;
        // Absolute, so that joining it twice does no harm.
        let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let base = whole.parent().unwrap_or(Path::new("")).to_path_buf();
        let mut check = Check { path, text: &text, base: &base, faults: Vec::new() };
        let plan = check.plan(&file);
        match plan {
            Some(plan) if check.faults.is_empty() => Ok(plan),
            Some(_) | None => Err(check.faults),
        }
    }
}

/// A part that is left out is none; one that is there must be whole.
fn whole<T>(part: Option<Option<T>>) -> Option<Option<T>> {
    match part {
        Some(part) => part.map(Some),
        None => Some(None),
    }
}

/// Walks a file and collects what is wrong with it.
struct Check<'a> {
    path: &'a Path,
    text: &'a str,
    base: &'a Path,
    faults: Vec<Fault>,
}

impl Check<'_> {
    /// The plan; when something is missing from it, at least one fault was collected.
    fn plan(&mut self, file: &HubFile) -> Option<Plan> {
        let listen = self.address("listen", &file.listen);
        let metrics_listen = self.address("metrics_listen", &file.metrics_listen);
        let allowed_networks = self.networks(&file.allowed_networks);
        let connections_per_address_max = *file.connections_per_address_max.get_ref();
        if !(16..=4_096).contains(&connections_per_address_max) {
            let at = file.connections_per_address_max.span().start;
            self.wrong(at, "`connections_per_address_max` must be 16 to 4096");
        }
        let ca_pem = self.secret("ca_file", &file.ca_file);
        let certificate_pem = self.secret("certificate_file", &file.certificate_file);
        let key_pem = self.private("key_file", &file.key_file);
        let signing_key = self.signing_key("signing_key_file", &file.signing_key_file);
        let state_dir = self.base.join(&file.state_dir);
        let log_key = self.log_key(file, &state_dir);
        let accounts_key = state_dir.join("accounts.key");
        let log_policy = file.log_policy_file.as_ref().map(|path| self.policy(path));
        let agents_dir = self.base.join(&file.agents_dir);
        let register = match Register::read(&agents_dir) {
            Ok(register) => Some(register),
            Err(faults) => {
                self.faults.extend(faults);
                None
            }
        };
        let warehouse = self.warehouse(file, &state_dir);
        let profile = self.profile(file);
        let issuing = file.identity.as_ref().map(|part| self.issuing(part));
        let backup = file.backup.to.as_ref().map(|to| self.backup(&file.backup, to));
        let link = file.link.as_ref().map(|part| self.link(part));
        let portal = file.portal.as_ref().map(|part| self.portal(part, file));
        let siem = file.siem.as_ref().map(|part| self.siem(part));
        let timestamp = file.timestamp.as_ref().map(|part| self.timestamp(part));
        let escalation = file.escalation.as_ref().map(|part| self.escalation(part));
        Some(Plan {
            backup: whole(backup)?,
            file: self.path.to_path_buf(),
            state_dir,
            listen: listen?,
            allowed_networks,
            connections_per_address_max,
            ca_pem: ca_pem?,
            certificate_pem: certificate_pem?,
            key_pem: SecretPem(key_pem?),
            signing_key: signing_key?,
            log_key: log_key?,
            log_policy: whole(log_policy)?,
            agents_dir,
            register: register?,
            metrics_listen: metrics_listen?,
            warehouse: warehouse?,
            disk_reserve: file.warehouse.disk_reserve,
            profile: profile?,
            issuing: whole(issuing)?,
            link: whole(link)?,
            portal: whole(portal)?,
            accounts_key,
            timestamp: whole(timestamp)?,
            escalation: whole(escalation)?,
            siem: whole(siem)?,
        })
    }

    fn issuing(&mut self, part: &IdentityFile) -> Option<Arc<Issuing>> {
        let certificate = self.secret("issuing_certificate_file", &part.issuing_certificate_file);
        let key = self.private("issuing_key_file", &part.issuing_key_file)?;
        let validity = part.certificate_validity.get_ref().0;
        if !(VALIDITY_MIN..=VALIDITY_MAX).contains(&validity) {
            let at = part.certificate_validity.span().start;
            self.wrong(at, "`certificate_validity` must be 30s to 90d");
        }
        let texts = [certificate?, key].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let [certificate, key] = texts;
        let issuing = Issuing::read(&certificate, &key, validity);
        issuing.map(Arc::new).map_err(|fault| self.faults.push(fault)).ok()
    }

    fn address(&mut self, key: &str, text: &Spanned<String>) -> Option<SocketAddr> {
        let address = text.get_ref().parse().ok();
        if address.is_none() {
            let why = format!("`{key}` is not an address and port such as 127.0.0.1:7443");
            self.wrong(text.span().start, &why);
        }
        address
    }

    fn networks(&mut self, texts: &[Spanned<String>]) -> Vec<Network> {
        if texts.is_empty() {
            let at = self.text.find("allowed_networks").unwrap_or(0);
            self.wrong(at, "`allowed_networks` needs at least one network (CT-22)");
        }
        let mut networks = Vec::new();
        for text in texts {
            match text.get_ref().parse() {
                Ok(network) => networks.push(network),
                Err(BadNetwork) => {
                    self.wrong(text.span().start, "not a network such as 10.0.0.0/8");
                }
            }
        }
        networks
    }

    fn profile(&mut self, file: &HubFile) -> Option<Profile> {
        let (name, path) = (&file.profile.name, &file.profile.file);
        let (read, at) = match (name, path) {
            (Some(name), Some(_)) => {
                let why = "`name` and `file` are two ways to say it: keep one";
                (Err(why.to_owned()), name.span().start)
            }
            (Some(name), None) => (Profile::shipped(name.get_ref()), name.span().start),
            (None, None) => (Profile::shipped(Profile::DEFAULT), 0),
            (None, Some(path)) => {
                let full = self.base.join(path);
                let text = std::fs::read_to_string(&full).map_err(|error| error.to_string());
                let read = text.and_then(|text| Profile::from_toml(&text));
                let at = self.text.find("[profile]").unwrap_or(0);
                (read.map_err(|why| format!("{}: {why}", full.display())), at)
            }
        };
        read.map_err(|why| self.wrong(at, &why)).ok()
    }

    fn warehouse(&mut self, file: &HubFile, state_dir: &Path) -> Option<Settings> {
        let part = &file.warehouse;
        let url = match part.url.get_ref().as_str() {
            "embedded" => Some(Url::Embedded { dir: state_dir.to_path_buf() }),
            url if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                Some(Url::External(url.to_owned()))
            }
            _ => None,
        };
        if url.is_none() {
            let why = "`url` is neither \"embedded\" nor \"postgres://user@host:port/database\"";
            self.wrong(part.url.span().start, why);
        }
        let connections_max = *part.connections_max.get_ref();
        if !(4..=500).contains(&connections_max) {
            self.wrong(part.connections_max.span().start, "`connections_max` must be 4 to 500");
        }
        let password = match &part.password_file {
            Some(path) => {
                let bytes = self.private("password_file", path)?;
                Some(Password::new(String::from_utf8_lossy(&bytes).trim_end()))
            }
            None => None,
        };
        let tls_ca_pem = match &part.tls_ca_file {
            Some(path) => Some(self.secret("tls_ca_file", path)?),
            None => None,
        };
        Some(Settings { url: url?, password, tls_ca_pem, connections_max })
    }

    fn backup(&mut self, part: &BackupFile, to: &Spanned<PathBuf>) -> Option<keeping::Terms> {
        let (every, keep) = (part.every.get_ref().0, *part.keep.get_ref());
        if every < Duration::from_secs(1) {
            self.wrong(part.every.span().start, "`every` must be at least 1s");
        }
        if !(1..=1_000).contains(&keep) {
            self.wrong(part.keep.span().start, "`keep` must be 1 to 1000");
        }
        let Some(path) = &part.key_file else {
            self.wrong(to.span().start, "`to` needs `key_file`: `phusa-hub backup key` makes one");
            return None;
        };
        let bytes = self.private("key_file of [backup]", path)?;
        let key_file = self.base.join(path);
        let Some(key) = BackupKey::from_text(&String::from_utf8_lossy(&bytes)) else {
            let what = format!("key_file of [backup] {} is not 32 bytes", key_file.display());
            self.faults.push(Fault::new(Code::SecretUnreadable, what));
            return None;
        };
        let drill_every = part.drill_every.get_ref().0;
        if drill_every < Duration::from_secs(1) {
            self.wrong(part.drill_every.span().start, "`drill_every` must be at least 1s");
        }
        let (max_age, reserve) = (part.max_age.0, part.reserve);
        let to = self.base.join(to.get_ref());
        Some(keeping::Terms { to, key, key_file, every, keep, max_age, drill_every, reserve })
    }

    /// The default file need not be there yet; one that is named must.
    fn log_key(&mut self, file: &HubFile, state_dir: &Path) -> Option<LogKeyFile> {
        let path = match &file.log_key_file {
            Some(path) => self.base.join(path),
            None => state_dir.join("log.key"),
        };
        let key = match file.log_key_file.is_some() || path.exists() {
            true => Some(self.signing_key("log_key_file", &path)?),
            false => None,
        };
        Some(LogKeyFile { path, key })
    }

    fn policy(&mut self, path: &Path) -> Option<Policy> {
        let bytes = self.secret("log_policy_file", path)?;
        let policy = Policy::parse(&String::from_utf8_lossy(&bytes));
        policy
            .map_err(|error| {
                let what = format!("log_policy_file {}", self.base.join(path).display());
                self.faults.push(Fault::because(Code::ConfigInvalid, what, error));
            })
            .ok()
    }

    fn signing_key(&mut self, name: &str, path: &Path) -> Option<SigningKey> {
        let bytes = self.private(name, path)?;
        let key = SigningKey::from_text(&String::from_utf8_lossy(&bytes));
        key.map_err(|error| {
            let what = format!("{name} {}", self.base.join(path).display());
            self.faults.push(Fault::because(Code::SecretUnreadable, what, error));
        })
        .ok()
    }

    /// A file that nobody but its owner may read.
    fn private(&mut self, key: &str, path: &Path) -> Option<Vec<u8>> {
        use std::os::unix::fs::PermissionsExt as _;
        let full = self.base.join(path);
        let open = std::fs::metadata(&full).is_ok_and(|m| m.permissions().mode() & 0o077 != 0);
        if open {
            let what = format!("{key} {} may be read by others: chmod 600", full.display());
            self.faults.push(Fault::new(Code::SecretUnreadable, what));
            return None;
        }
        self.secret(key, path)
    }

    fn secret(&mut self, key: &str, path: &Path) -> Option<Vec<u8>> {
        let full = self.base.join(path);
        match std::fs::read(&full) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                let what = format!("cannot read {key} {}", full.display());
                self.faults.push(Fault::because(Code::SecretUnreadable, what, error));
                None
            }
        }
    }

    fn wrong(&mut self, offset: usize, why: &str) {
        let before = self.text.get(..offset).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let what = format!("{} line {line}, column {column}", self.path.display());
        self.faults.push(Fault::because(Code::ConfigInvalid, what, why.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const GOOD: &str = r#"
state_dir = "state"
allowed_networks = ["127.0.0.0/8"]
ca_file = "ca.pem"
certificate_file = "hub.pem"
key_file = "hub.key"
signing_key_file = "signing.key"
agents_dir = "agents"
"#;

    fn read(text: &str) -> Result<Plan, String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("agents")).unwrap();
        let key = SigningKey::generate().unwrap().to_secret_text();
        for (name, content) in
            [("ca.pem", ""), ("hub.pem", ""), ("hub.key", ""), ("signing.key", key.as_str())]
        {
            let path = dir.path().join(name);
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let path = dir.path().join("hub.toml");
        std::fs::write(&path, text).unwrap();
        Plan::read(&path)
            .map_err(|faults| faults.iter().map(Fault::chain).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn the_least_a_hub_needs_is_enough() {
        let plan = read(GOOD).unwrap();
        assert_eq!(plan.listen.port(), 7443);
        assert_eq!(plan.metrics_listen.to_string(), "127.0.0.1:7480");
        assert_eq!(plan.disk_reserve.to_string(), "1GiB");
        assert_eq!(plan.profile.name, "hue-2026");
        assert!(matches!(plan.warehouse.url, Url::Embedded { ref dir } if dir.ends_with("state")));
    }

    #[test]
    fn everything_wrong_is_said_at_once_with_its_place() {
        let text = GOOD.replace("127.0.0.0/8", "127/8").replace("ca.pem", "no.pem")
            + "listen = \"7443\"\n[warehouse]\nurl = \"mysql://x\"\nconnections_max = 1\n";
        let error = read(&text).unwrap_err();
        for expected in [
            "line 3, column 21: not a network",
            "cannot read ca_file",
            "line 9, column 10: `listen`",
            "line 11, column 7: `url`",
            "line 12, column 19: `connections_max` must be 4 to 500",
        ] {
            assert!(error.contains(expected), "{expected} not in {error}");
        }
    }

    #[test]
    fn a_profile_is_one_that_ships_or_a_file() {
        let chosen = |text: &str| read(&format!("{GOOD}[profile]\n{text}\n"));
        assert_eq!(chosen("name = \"caobang-2024\"").unwrap().profile.name, "caobang-2024");
        let error = chosen("name = \"hanoi-2030\"").unwrap_err();
        assert!(error.contains("line 10, column 8") && error.contains("nghean-draft"), "{error}");
        let error = chosen("name = \"hue-2026\"\nfile = \"x.toml\"").unwrap_err();
        assert!(error.contains("keep one"), "{error}");
        let error = chosen("file = \"none.toml\"").unwrap_err();
        assert!(error.contains("none.toml"), "{error}");
    }

    #[test]
    fn backups_need_a_place_and_a_key() {
        let chosen = |text: &str| read(&format!("{GOOD}[backup]\n{text}\n"));
        assert!(chosen("keep = 3").unwrap().backup.is_none());
        let error = chosen("to = \"/mnt\"").unwrap_err();
        assert!(error.contains("line 10, column 6: `to` needs `key_file`"), "{error}");
        // Any 32 bytes serve as a key here.
        let terms = chosen("to = \"/mnt\"\nkey_file = \"signing.key\"").unwrap().backup.unwrap();
        assert_eq!(
            (terms.keep, terms.every.as_secs(), terms.max_age.as_secs()),
            (14, 86_400, 93_600)
        );
        let error = chosen("to = \"/mnt\"\nkey_file = \"signing.key\"\nkeep = 0").unwrap_err();
        assert!(error.contains("line 12, column 8: `keep` must be 1 to 1000"), "{error}");
    }

    #[test]
    fn an_unknown_key_is_an_error_with_the_allowed_ones() {
        let error = read(&format!("{GOOD}verzion = 1\n")).unwrap_err();
        for expected in ["line 9, column 1", "unknown field `verzion`", "`metrics_listen`"] {
            assert!(error.contains(expected), "{expected} not in {error}");
        }
    }
}
