//! Turns arguments into a command and a command's end into an exit code; nothing else.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    // Two crypto providers are linked; the choice must be made before anything speaks TLS.
    let installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    drop(installed);
    phusa_hub::cli::run(phusa_hub::cli::Cli::parse())
}
