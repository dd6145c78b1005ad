//! The embedded warehouse as a hub makes it at its first start, made once for all provinces of a
//! test program: making it costs more than most tests do. The tests in `hub/tests` and the demo have
//! each hub make its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::Province;
use crate::process::run;

/// The part of a hub's state folder that is the warehouse.
const WAREHOUSE: &str = "postgresql";

/// Puts a warehouse without any row where a hub will look for its own.
pub(super) fn lay_down(state: &Path) {
    static MADE: OnceLock<(Province, PathBuf)> = OnceLock::new();
    let make = || {
        let province = Province::bare("");
        run(province.hub_command().arg("migrate"));
        let data = province.hub_folder().join("state").join(WAREHOUSE).join("data");
        (province, data)
    };
    let (_, data) = MADE.get_or_init(make);
    let base = state.join(WAREHOUSE);
    fs::create_dir_all(&base).expect("the warehouse's folder");
    run(Command::new("cp").arg("-a").arg(data).arg(&base));
}

/// Keeps the warehouse's server running from one command of the hub to the next, for as long as
/// this is held: the last user stops it.
pub(super) fn keep_running(state: &Path) -> Option<File> {
    let lock = state.join(WAREHOUSE).join("users.lock");
    let file = File::options().create(true).append(true).open(lock).ok()?;
    file.lock_shared().ok()?;
    Some(file)
}
