//! What people and machines see; reads only.

pub mod metrics;
