//! Whole ways through the system against real databases: what is written at an agency stands in
//! the warehouse, exactly once, and in the log.

mod world;

mod arrival;
//hub
mod log;
mod login;
//mapping
//outage
mod schema;
mod snapshot;
//standby
mod types;
