//! The agent as a story in reading order: configuration, source, mapping, spool, transport; then
//! what it says of itself.

pub mod config;
pub mod source;
pub mod mapping;
