//! What every engine is told alike: a password, how the connection is protected, when a block is
//! closed.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use phusa_protocol::units::ByteSize;

/// A password; it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Keeps `password` from being shown.
    #[must_use]
    pub fn new(password: impl Into<String>) -> Self {
        Self(password.into())
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// How the connection to the server is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// Not at all: for loopback and Unix sockets only, which the configuration checks.
    Off,
    /// TLS 1.2 or 1.3; the server's certificate must be signed by a CA of this PEM file and carry
    /// the host's name.
    Verify {
        /// The file with the CA certificates.
        ca_file: PathBuf,
    },
}

/// Where a capture keeps what it must remember of the rows themselves, and what seals that.
#[derive(Clone, PartialEq, Eq)]
pub struct Keep {
    folder: PathBuf,
    secret: [u8; 32],
}

impl Keep {
    /// Files in `folder`, sealed with keys made from `secret`.
    #[must_use]
    pub fn new(folder: PathBuf, secret: [u8; 32]) -> Self {
        Self { folder, secret }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn secret(&self) -> &[u8; 32] {
        &self.secret
    }
}

impl fmt::Debug for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keep({})", self.folder.display())
    }
}

/// When a block is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a body at which it is closed; it is longer by at most its last row. Default 4 MiB.
    pub bytes_max: ByteSize,
    /// Rows of a body at which it is closed, at least 1. Default 50,000.
    pub rows_max: u64,
    /// How long the first change of a block may wait for others. Default 50 ms.
    pub linger: Duration,
    /// From this length on a row of the full read has a block of its own. Default 32 MiB.
    pub row_bytes_max: ByteSize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes_max: ByteSize::mib(4),
            rows_max: 50_000,
            linger: Duration::from_millis(50),
            row_bytes_max: ByteSize::mib(32),
        }
    }
}
