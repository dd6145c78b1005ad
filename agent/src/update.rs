//! The program exchanges itself for a release that people signed, and goes back when it does worse.
//!
//! Two processes that trust each other in nothing. The *agent* asks the hub what it is to run, verifies
//! it ([`trust`]), fetches it ([`fetch`]) and lays it down with the signed words about it ([`form`]). The
//! *updater* ([`watch`]), another user without network or keys, verifies all of it again with a memory of
//! its own, owns the slots ([`slots`]) and judges ([`judge`]). The agent cannot write its own program; the
//! updater cannot be reached from outside.
//!
//! Where there is no updater, the program is one file that exchanges itself when it is asked to ([`alone`],
//! [`beside`]; decision 0024).

pub mod fetch;
pub mod form;
pub mod judge;
pub mod slots;
pub mod trust;
pub mod watch;
pub mod worker;
pub mod beside;
pub mod alone;

use phusa_protocol::fault::{Code, Fault};

/// A file operation of an update that failed.
pub(crate) fn disk(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Fault {
    let what = what.into();
    move |error| Fault::because(Code::DiskFailed, what, error)
}
