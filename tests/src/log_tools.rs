//! Programs that others wrote to verify transparency logs: where `packaging/setup --tests` put them.

use std::fs;
use std::path::PathBuf;

/// The program of this name, or why there is none.
///
/// # Errors
/// What `packaging/setup --tests` said when it could not fetch it.
pub fn program(name: &str) -> Result<PathBuf, String> {
    let home = PathBuf::from("/var/cache/phusa");
    let program = home.join("log-tools/usr/bin").join(name);
    if program.exists() {
        return Ok(program);
    }
    let why = fs::read_to_string(home.join("log-tools.not-fetched"));
    Err(why.unwrap_or_else(|_| "packaging/setup --tests did not fetch it".to_owned()))
}
