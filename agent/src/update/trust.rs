//! Which programs people signed: TUF by `tough`, with a memory that knows every newer word it ever saw.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::release::{Facts, Version};
use tough::error::Error;
use tough::{
    Limits, Repository, RepositoryLoader, TargetName, Transport, TransportError,
    TransportErrorKind, TransportStream,
};
use url::Url;

use super::{disk, form};

/// The program this is.
pub const PRODUCT: &str = "phusa-agent";

/// What it runs on.
pub const SYSTEM: &str = "x86_64-linux";

/// The largest program that is taken, in bytes.
pub const PROGRAM_BYTES_MAX: u64 = 256 << 20;

/// The newest root that was trusted, beside what `tough` remembers.
const ROOT: &str = "root.json";

/// Bounds of what is read before it is verified.
const LIMITS: Limits = Limits {
    max_root_size: 256 << 10,
    max_targets_size: 4 << 20,
    max_timestamp_size: 64 << 10,
    max_snapshot_size: 256 << 10,
    max_root_updates: 256,
};

/// A program that people signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// What they say of it.
    pub facts: Facts,
    /// Its length in bytes.
    pub length: u64,
    /// Its SHA-256.
    pub sha256: Vec<u8>,
    /// Its name at the hub.
    pub file: String,
}

/// What holds between two looks.
#[derive(Debug, Clone)]
pub struct Trust {
    /// The root that was handed over.
    pub root_file: PathBuf,
    /// The memory; it belongs to this process alone.
    pub memory: PathBuf,
}

impl Trust {
    /// Every program for this system that people signed, and the oldest version they still allow.
    ///
    /// # Errors
    /// A fault of `release_…` that names what is wrong with what was shown; `secret_unreadable` without a
    /// root.
    pub async fn look<T>(&self, transport: T, base: &Url) -> Result<Vec<Signed>, Fault>
    where
        T: Transport + Send + Sync + 'static,
    {
        fs::create_dir_all(&self.memory).map_err(disk("cannot make the memory of releases"))?;
        let root = self.root()?;
        let at = |folder: &str| {
            let joined = base.join(folder);
            joined.map_err(|error| Fault::because(Code::Bug, "cannot name the releases", error))
        };
        let loader = RepositoryLoader::new(&root, at("metadata/")?, at("targets/")?)
            .transport(transport)
            .limits(LIMITS)
            .datastore(&self.memory);
        let loaded = loader.load().await;
        let repository = loaded.map_err(|error| {
            let code = code_of(&error);
            Fault::because(code, "cannot trust what is said of releases", error)
        })?;
        self.keep(&repository)?;
        let floor = signed(&repository).map(|one| one.facts.min_version).max();
        let programs = signed(&repository).filter(|one| {
            let own = one.facts.product == PRODUCT && one.facts.system == SYSTEM;
            own && floor.is_none_or(|floor| one.facts.version >= floor)
        });
        Ok(programs.collect())
    }

    /// The newest root that was ever trusted; at first the one that was handed over.
    fn root(&self) -> Result<Vec<u8>, Fault> {
        let kept = self.memory.join(ROOT);
        let file = if kept.exists() { &kept } else { &self.root_file };
        fs::read(file).map_err(|error| {
            let what = format!("cannot read the root of releases {}", file.display());
            Fault::because(Code::SecretUnreadable, what, error)
        })
    }

    /// Whoever hides a newer root next time must not bring revoked keys back.
    fn keep(&self, repository: &Repository) -> Result<(), Fault> {
        form::write(&self.memory.join(ROOT), repository.root(), true)
    }
}

/// The release of this version among those that people signed.
///
/// # Errors
/// `release_unfit` when there is none, `release_older` when they no longer allow it.
pub fn wanted(programs: &[Signed], version: Version) -> Result<Signed, Fault> {
    let found = programs.iter().find(|one| one.facts.version == version);
    let found = found.ok_or_else(|| {
        let oldest = programs.iter().map(|one| one.facts.min_version).max();
        match oldest.filter(|oldest| version < *oldest) {
            Some(oldest) => {
                let what = format!("{version} is older than {oldest}, the oldest that may run");
                Fault::new(Code::ReleaseOlder, what)
            }
            None => {
                let what = format!("nobody signed {PRODUCT} {version} for {SYSTEM}");
                Fault::new(Code::ReleaseUnfit, what)
            }
        }
    })?;
    if found.length > PROGRAM_BYTES_MAX {
        return Err(Fault::new(Code::ReleaseDamaged, "the program is larger than any of ours"));
    }
    Ok(found.clone())
}

fn signed(repository: &Repository) -> impl Iterator<Item = Signed> {
    repository.targets().signed.targets.iter().filter_map(|(name, target)| of(name, target))
}

/// A target whose name and facts agree; others are none of ours.
fn of(name: &TargetName, target: &tough::schema::Target) -> Option<Signed> {
    let custom = target.custom.iter().map(|(key, value)| (key.clone(), value.clone()));
    let facts: Facts = serde_json::from_value(serde_json::Value::Object(custom.collect())).ok()?;
    if facts.target_name() != name.raw() {
        return None;
    }
    let sha256 = target.hashes.sha256.clone().into_vec();
    let hex: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    let file = format!("{hex}.{}", name.raw());
    Some(Signed { facts, length: target.length, sha256, file })
}

/// Which of our faults an error of TUF is.
fn code_of(error: &Error) -> Code {
    use Error as E;
    if let E::Transport { source, .. } = error {
        return of_transport(source);
    }
    let is_older = matches!(
        error,
        E::OlderMetadata { .. }
            | E::OlderSnapshotInTimestamp { .. }
            | E::SnapshotRoleRollback { .. }
    );
    let is_untrusted = matches!(
        error,
        E::VerifyMetadata { .. } | E::VerifyTrustedMetadata { .. } | E::NoRoleKeysinRoot { .. }
    );
    let is_disk = matches!(
        error,
        E::DatastoreInit { .. } | E::DatastoreCreate { .. } | E::DatastoreOpen { .. }
    );
    let is_endless = matches!(error, E::MaxSizeExceeded { .. } | E::MaxUpdatesExceeded { .. });
    if matches!(error, E::ExpiredMetadata { .. }) {
        Code::ReleaseExpired
    } else if is_older {
        Code::ReleaseOlder
    } else if is_untrusted {
        Code::ReleaseUntrusted
    } else if is_endless {
        Code::ReleaseDamaged
    } else if matches!(error, E::SystemTimeSteppedBackward { .. }) {
        Code::ClockSkew
    } else if is_disk {
        Code::DiskFailed
    } else {
        Code::ReleaseMixed
    }
}

/// The library hands its own refusals of a stream on as errors of the transport.
fn of_transport(error: &TransportError) -> Code {
    let mut below: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = below {
        if let Some(own) = error.downcast_ref::<Error>() {
            return code_of(own);
        }
        if let Some(fault) = error.downcast_ref::<Fault>() {
            return fault.code;
        }
        below = error.source();
    }
    if error.kind() == TransportErrorKind::FileNotFound {
        return Code::ReleaseMixed;
    }
    Code::HubUnreachable
}

/// Where bytes of releases come from.
pub trait Source: std::fmt::Debug + Send + Sync + 'static {
    /// A file of metadata; `None` when there is none.
    fn metadata(&self, name: &str) -> impl Future<Output = Result<Option<Vec<u8>>, Fault>> + Send;
}

/// A [`Source`] as `tough` wants it, which keeps what it fetched for whoever verifies it again.
#[derive(Debug)]
pub struct Fetching<S> {
    source: Arc<S>,
    fetched: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
}

impl<S> Clone for Fetching<S> {
    fn clone(&self) -> Self {
        Self { source: Arc::clone(&self.source), fetched: Arc::clone(&self.fetched) }
    }
}

impl<S: Source> Fetching<S> {
    /// One that has fetched nothing yet.
    #[must_use]
    pub fn new(source: Arc<S>) -> Self {
        Self { source, fetched: Arc::default() }
    }

    /// Lays down what was fetched.
    ///
    /// # Errors
    /// `disk_failed`.
    pub fn lay_down(&self, folder: &Path) -> Result<(), Fault> {
        fs::create_dir_all(folder).map_err(disk("cannot make the folder of metadata"))?;
        let fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, bytes) in fetched.iter() {
            let file = folder.join(name);
            fs::write(&file, bytes).map_err(disk(format!("cannot write {}", file.display())))?;
        }
        Ok(())
    }
}

#[tough::async_trait]
impl<S: Source> Transport for Fetching<S> {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        let name = url.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default();
        let bytes = match self.source.metadata(name).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Err(TransportError::new(TransportErrorKind::FileNotFound, &url)),
            Err(fault) => {
                let other = TransportErrorKind::Other;
                return Err(TransportError::new_with_cause(other, &url, fault));
            }
        };
        let mut fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        fetched.insert(name.to_owned(), bytes.clone());
        let whole = futures_util::stream::once(std::future::ready(Ok(bytes.into())));
        Ok(Box::pin(whole))
    }
}
