//! Turns arguments into a command and a command's end into an exit code; nothing else.

use std::process::ExitCode;

use clap::Parser as _;
use phusa_agent::cli::Cli;

fn main() -> ExitCode {
    // One crypto provider for every TLS library in the process, before anything can use another.
    // The only failure is that one is installed already, which cannot be this early.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Cli::parse().run()
}
