//! A province in one folder: throwaway databases, agents and a hub as real processes, the data
//! they carry, and the questions a test asks of them.
//!
//! What fails here is a failed test, so these modules panic with a sentence where a test would.
//! `docs/ARCHITECTURE.md` shows where each part of the system stands.

pub mod folder;
pub mod database;
pub mod tds;
pub mod terminal;
pub mod process;
pub mod province;
pub mod mysql;
pub mod wide;
pub mod world;
pub mod office;
pub mod log_tools;
pub mod canary;
pub mod forger;
pub mod relay;
pub mod broker;
pub mod random;
pub mod registry;
pub mod workload;
pub mod latency;
pub mod sums;
pub mod tsa;
pub mod syslog;
pub mod collector;
pub mod releases;
pub mod power;
