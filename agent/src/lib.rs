//! The agent as a story in reading order: configuration, source, mapping, spool, transport; then
//! what it says of itself.

pub mod source;
