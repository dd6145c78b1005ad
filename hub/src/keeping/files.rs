//! The hub's own files: what lies beside `hub.toml`, what it names elsewhere, and its state folder
//! without cluster and log. Keys are among them, so they travel sealed.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use base64::Engine as _;
use phusa_protocol::fault::{Code, Fault};
use serde::{Deserialize, Serialize};

/// Keys, certificates, contracts and registers are small; more than this is something else.
const BYTES_MAX: u64 = 64 << 20;

/// What of the state folder is kept otherwise, or is made anew.
const STATE_LEFT_OUT: [&str; 3] = ["postgresql", "log", "drill"];

const BASE64: base64::engine::GeneralPurpose = base64::engine::general_purpose::STANDARD;

/// The hub's files, as they are sealed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubFiles {
    /// The name of the configuration file.
    config: String,
    files: Vec<Kept>,
    /// Absolute paths of the configuration, and where they lie below the restored folder.
    moved: Vec<(String, PathBuf)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// Where it goes below the folder that is restored to.
    path: PathBuf,
    mode: u32,
    content: String,
}

/// Which files these are.
#[derive(Debug, Clone)]
pub struct Sources {
    /// `hub.toml`.
    pub config: PathBuf,
    /// The state folder.
    pub state_dir: PathBuf,
    /// What is never taken along: the place of the backups, and the key that seals them.
    pub left_out: Vec<PathBuf>,
}

impl HubFiles {
    /// Reads them.
    ///
    /// # Errors
    /// When one cannot be read, or they are far more than keys and settings are.
    pub fn read(from: &Sources) -> Result<Self, Fault> {
        let base = from.config.parent().unwrap_or(Path::new("")).to_path_buf();
        let config = from.config.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut taken = Taking { files: Vec::new(), bytes: 0, left_out: from.left_out.clone() };
        taken.left_out.push(from.state_dir.clone());
        taken.folder(&base, Path::new(""))?;
        taken.left_out.pop();
        for name in STATE_LEFT_OUT {
            taken.left_out.push(from.state_dir.join(name));
        }
        taken.folder(&from.state_dir, Path::new("state"))?;
        let text = fs::read_to_string(&from.config).map_err(|error| failed(&from.config, error))?;
        let mut moved = Vec::new();
        for named in absolute_paths(&text) {
            let to = taken.named(&named, [(&base, ""), (&from.state_dir, "state")], moved.len())?;
            moved.extend(to.map(|to| (named, to)));
        }
        Ok(Self { config, files: taken.files, moved })
    }

    /// Writes them below a folder, and what the configuration names elsewhere too; returns the
    /// configuration file, which then names them where they are.
    ///
    /// # Errors
    /// When one cannot be written, or would leave the folder.
    pub fn write(&self, folder: &Path) -> Result<PathBuf, Fault> {
        let config = folder.join(&self.config);
        for kept in &self.files {
            let is_below = kept.path.components().all(|part| matches!(part, Component::Normal(_)));
            let content = BASE64.decode(&kept.content).ok().filter(|_| is_below);
            let broken = || Fault::new(Code::BackupBroken, "a file of the hub cannot be unpacked");
            write_private(&folder.join(&kept.path), &content.ok_or_else(broken)?, kept.mode)?;
        }
        let text = fs::read_to_string(&config).map_err(|error| failed(&config, error))?;
        let mut text: String = text.split_inclusive('\n').map(with_own_state).collect();
        for (named, path) in &self.moved {
            text = text.replace(&format!("\"{named}\""), &format!("\"{}\"", path.display()));
        }
        fs::write(&config, text).map_err(|error| failed(&config, error))?;
        Ok(config)
    }
}

/// The line that names the state folder names the restored one.
fn with_own_state(line: &str) -> String {
    match line.trim_start().split('=').next().map(str::trim) {
        Some("state_dir") => "state_dir = \"state\"\n".to_owned(),
        _ => line.to_owned(),
    }
}

/// Strings of a TOML file that are absolute paths.
fn absolute_paths(text: &str) -> Vec<String> {
    fn walk(value: &toml::Value, found: &mut Vec<String>) {
        match value {
            toml::Value::String(text) if text.starts_with('/') => found.push(text.clone()),
            toml::Value::Array(all) => all.iter().for_each(|value| walk(value, found)),
            toml::Value::Table(all) => all.values().for_each(|value| walk(value, found)),
            toml::Value::String(_)
            | toml::Value::Integer(_)
            | toml::Value::Float(_)
            | toml::Value::Boolean(_)
            | toml::Value::Datetime(_) => {}
        }
    }
    let mut found = Vec::new();
    if let Ok(table) = text.parse::<toml::Table>() {
        table.values().for_each(|value| walk(value, &mut found));
    }
    found
}

struct Taking {
    files: Vec<Kept>,
    bytes: u64,
    left_out: Vec<PathBuf>,
}

impl Taking {
    fn is_left_out(&self, path: &Path) -> bool {
        let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let path = real(path);
        self.left_out.iter().any(|out| real(out) == path)
    }

    /// Every regular file below a folder; a link is taken for what it leads to.
    fn folder(&mut self, from: &Path, to: &Path) -> Result<(), Fault> {
        let here = if from.as_os_str().is_empty() { Path::new(".") } else { from };
        let mut names = Vec::new();
        for found in fs::read_dir(here).map_err(|error| failed(here, error))? {
            names.push(found.map_err(|error| failed(here, error))?.file_name());
        }
        names.sort();
        for name in names {
            let (path, to) = (here.join(&name), to.join(&name));
            if self.is_left_out(&path) {
                continue;
            }
            let Ok(found) = fs::metadata(&path) else { continue };
            if found.is_dir() {
                self.folder(&path, &to)?;
            } else if found.is_file() {
                self.file(&path, to)?;
            }
        }
        Ok(())
    }

    /// A file or folder that the configuration names by an absolute path; says where it went.
    fn named(
        &mut self,
        named: &str,
        taken: [(&PathBuf, &str); 2],
        count: usize,
    ) -> Result<Option<PathBuf>, Fault> {
        let path = Path::new(named);
        if self.is_left_out(path) {
            return Ok(None);
        }
        for (folder, to) in taken {
            let whole = fs::canonicalize(folder).unwrap_or_else(|_| folder.clone());
            if let Ok(below) = path.strip_prefix(whole) {
                return Ok(Some(Path::new(to).join(below)));
            }
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let to = PathBuf::from(format!("named-{count}-{name}"));
        match fs::metadata(path) {
            Ok(found) if found.is_file() => self.file(path, to.clone())?,
            Ok(found) if found.is_dir() => self.folder(path, &to)?,
            Ok(_) | Err(_) => return Ok(None),
        }
        Ok(Some(to))
    }

    fn file(&mut self, path: &Path, to: PathBuf) -> Result<(), Fault> {
        let found = fs::metadata(path).map_err(|error| failed(path, error))?;
        self.bytes = self.bytes.saturating_add(found.len());
        if self.bytes > BYTES_MAX {
            let what = format!(
                "the hub's own files are more than 64 MiB with {}: keep other things elsewhere",
                path.display()
            );
            return Err(Fault::new(Code::ConfigInvalid, what));
        }
        let content = BASE64.encode(fs::read(path).map_err(|error| failed(path, error))?);
        self.files.push(Kept { path: to, mode: found.mode() & 0o777, content });
        Ok(())
    }
}

/// Writes a file with this mode from its first moment on; it must not be there yet.
///
/// # Errors
/// When it cannot be written.
pub fn write_private(path: &Path, content: &[u8], mode: u32) -> Result<(), Fault> {
    use std::io::Write as _;
    let write = || -> std::io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut open = fs::OpenOptions::new();
        let mut file = open.write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(|error| failed(path, error))
}

fn failed(path: &Path, error: std::io::Error) -> Fault {
    Fault::because(Code::DiskFailed, format!("a file of the hub, {}", path.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hubs_files_come_back_elsewhere_and_the_configuration_names_them_there() {
        let (old, other, new) = (
            tempfile::tempdir().unwrap(),
            tempfile::tempdir().unwrap(),
            tempfile::tempdir().unwrap(),
        );
        let (base, state) = (old.path().join("etc"), other.path().join("state"));
        let key = other.path().join("hub.key");
        for (file, text) in [
            (base.join("hub.pem"), "certificate"),
            (base.join("agents/a.toml"), "agent"),
            (base.join("backup.key"), "left out"),
            (key.clone(), "secret"),
            (state.join("log.key"), "log"),
            (state.join("log/checkpoint"), "left out"),
            (state.join("postgresql/data/PG_VERSION"), "left out"),
        ] {
            write_private(&file, text.as_bytes(), 0o600).unwrap();
        }
        let toml = format!(
            "state_dir = \"{}\" # hers\nkey_file = \"{}\"\nagents_dir = \"{}/agents\"\n",
            state.display(),
            key.display(),
            base.display()
        );
        write_private(&base.join("hub.toml"), toml.as_bytes(), 0o640).unwrap();
        let from = Sources {
            config: base.join("hub.toml"),
            state_dir: state,
            left_out: vec![base.join("backup.key")],
        };
        let read = HubFiles::read(&from).unwrap();
        let config = read.write(new.path()).unwrap();
        let text = fs::read_to_string(&config).unwrap();
        let expected =
            "state_dir = \"state\"\nkey_file = \"named-1-hub.key\"\nagents_dir = \"agents\"\n";
        assert_eq!(text, expected);
        let read = |path: &str| fs::read_to_string(new.path().join(path)).ok();
        assert_eq!(read("named-1-hub.key").as_deref(), Some("secret"));
        assert_eq!(read("state/log.key").as_deref(), Some("log"));
        assert_eq!(read("agents/a.toml").as_deref(), Some("agent"));
        for gone in ["backup.key", "state/log/checkpoint", "state/postgresql/data/PG_VERSION"] {
            assert_eq!(read(gone), None, "{gone}");
        }
        let mode = fs::metadata(new.path().join("state/log.key")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
