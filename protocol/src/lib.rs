//! What an agent and the hub agree on: plain values, plain bytes, pure decisions.
//!
//! There is no I/O here, no async, and no clock but in [`time`]. Reading order follows a row:
//! its names ([`ids`]), its fields ([`value`], [`row`]), what happened to it ([`change`]), the
//! agreement that lets it travel ([`contract`]), the batch it travels in ([`batch`], [`frame`]),
//! who may speak at all ([`identity`]), who may send what next ([`hello`], [`delivery`]) and what is written down about it
//! ([`receipt`], [`deed`], [`entry`]), how nobody can take that back ([`leaf`], [`tree`], [`tile`], [`note`],
//! [`checkpoint`], [`policy`], [`evidence`], [`minutes`]), and how both ends prove that they hold the same
//! ([`proof`]); which programs may run where ([`release`]), what an agent says of itself ([`report`]) and what that means ([`verdict`]), what the hub wants of it ([`orders`]).

pub mod ids;
pub mod time;
pub mod units;
pub mod network;
pub mod keys;
pub mod value;
pub mod row;
pub mod change;
pub mod contract;
pub mod hex;
pub mod digest;
pub mod batch;
pub mod frame;
pub mod identity;
pub mod hello;
pub mod delivery;
pub mod receipt;
pub mod deed;
pub mod entry;
pub mod leaf;
pub mod tree;
pub mod tile;
pub mod note;
pub mod checkpoint;
pub mod policy;
pub mod evidence;
pub mod minutes;
pub mod proof;
pub mod release;
pub mod orders;
pub mod plain;
pub mod diagnosis;
pub mod report;
pub mod verdict;
pub mod fault;

/// The version of the wire protocol this crate speaks; a hub and an agent must share it.
pub const PROTOCOL_VERSION: u32 = 1;
