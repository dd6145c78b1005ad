//! Receives batches, keeps the shared warehouse, logs every transfer.

pub mod warehouse;
