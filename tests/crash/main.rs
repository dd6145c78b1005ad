//! Agent, hub and source are killed between any two durable steps and at random moments; each time
//! the warehouse ends up identical to the source, the log has no gap and no repeat, and no source
//! transaction was ever half visible.
//!
//! `PHUSA_CRASH=<n>` makes the long form of at least `n` kills; `PHUSA_CRASH_SEED=<seed>` repeats one.

mod points;
mod power_cut;
mod scene;
