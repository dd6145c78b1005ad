//! The hub as a story in reading order: config, listen, ingest, transfers and warehouse, fleet,
//! views.
//!
//! [`service`] wires them. A batch's way is [`listen`] (whose connection is this) → [`ingest`]
//! (may it, is it whole, is it next) → one transaction of [`warehouse`] rows, [`transfers`] entry
//! and stream cursor → receipt.

pub mod failpoint;
pub mod error;
pub mod config;
pub mod identity;
pub mod warehouse;
pub mod transfers;
pub mod incidents;
pub mod notices;
pub mod admission;
pub mod category;
pub mod catalog;
pub mod fleet;
pub mod release;
pub mod accounts;
pub mod escalation;
pub mod views;
pub mod siem;
pub mod stamping;
pub mod keeping;
pub mod reading;
pub mod retention;
pub mod ingest;
pub mod listen;
pub mod link;
pub mod portal;
pub mod service;
pub mod simulate;
pub mod cli;

/// What events of security are logged under; a collector is told of them ([`siem`]).
pub const SECURITY: &str = "phusa::security";

/// The version of this program, as entries, answers and `version` name it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
