//! Releases: what an agent believes and what it refuses, and that a program can always be started.

mod attacks;
mod flip;
mod python;
mod shell;
