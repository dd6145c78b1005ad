//! The agent as a story in reading order: configuration, source, mapping, spool, ledger, transport;
//! then what it says of itself and tells the hub, what it
//! sees of the hub's log, and the pipeline that wires it all.

pub mod failpoint;
pub mod service;
pub mod trouble;
pub mod config;
pub mod source;
pub mod mapping;
pub mod disk;
pub mod format;
pub mod ledger;
pub mod spool;
pub mod rejects;
pub mod accord;
pub mod orders;
pub mod transport;
pub mod status;
pub mod update;
pub mod link;
pub mod witness;
pub mod pipeline;
pub mod cli;
