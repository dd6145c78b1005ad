//! Whole ways through the system against real databases: what is written at an agency stands in
//! the warehouse, exactly once, and in the log.

mod alone;
mod arrival;
mod booted;
mod broker;
mod canary;
mod capture;
mod contracts;
mod fleet;
mod guard;
mod hostile;
mod house;
mod hub;
mod identity;
mod keeping;
mod log;
mod login;
mod mapping;
mod mysql;
mod reading;
mod retention;
mod rules;
mod samples;
mod outage;
mod proof;
mod refusals;
mod schema;
mod siem;
mod simulate;
mod stamping;
mod named;
mod snapshot;
mod sqlserver;
mod standby;
mod transparency;
mod troubles;
mod two_hubs;
mod types;
mod update;

use phusa_tests::world;
