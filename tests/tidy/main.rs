//! House habits as tests: what prose would forget. Layout and order of rooms, documents that match
//! the code, example files that load, and debts that may only fall.

mod files;
mod rooms;
mod documents;
mod alerts;
mod examples;
mod schema;
mod ratchet;
