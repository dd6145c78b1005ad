//! Releases: what people sign offline, what the hub signs itself, and the folder agents are served from.
//!
//! The Update Framework (TUF) says which program is trusted. Root and targets are signed by people with
//! key files of their own, two of three at least; snapshot and timestamp by the hub, every day, valid for
//! a week, so that nobody can hold a new release back for longer. Nothing is ever changed in place:
//! every metadata file but `timestamp.json` carries its version in its name.

pub mod assign;
pub mod ceremony;
pub mod metadata;
pub mod online;
pub mod countdown;
pub mod person;
pub mod published;
pub mod rings;
pub mod rollout;
pub mod store;

use phusa_protocol::fault::{Code, Fault};

/// A step that cannot be taken as asked.
pub(crate) fn refused(what: impl Into<String>) -> Fault {
    Fault::new(Code::ReleaseRefused, what)
}

/// Something of TUF's own that went wrong while metadata was made or read.
pub(crate) fn wrong<E>(what: &str) -> impl Fn(E) -> Fault
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    move |error| Fault::because(Code::ReleaseRefused, what, error)
}
