//! Agent, hub and source are killed between any two durable steps and at random moments; each time
//! the warehouse ends up identical to the source, the log has no gap and no repeat, and no source
//! transaction was ever half visible.
//!
//! `PHUSA_CRASH=<n>` makes the long form of at least `n` kills at named points;
//! `PHUSA_CRASH_MINUTES=30 PHUSA_CRASH_ENGINE=postgres|mariadb|mysql|sqlserver` that of a random
//! workload, `-- --nocapture long`; `PHUSA_SOAK_MINUTES=60`, `-- --nocapture long_day`, three engines
//! at once at the end of bad lines, and beside them one at whose agent and hub nobody is killed.
//! `PHUSA_CRASH_SEED=<seed>` repeats one; `PHUSA_LOG_SHOWN=<characters>` is how much of its processes'
//! logs a test that fails shows, 8,000 by default.

mod clerk;
mod day;
mod points;
mod power_cut;
mod scene;
mod witness;
