//! Lays the packaged program out so that what an agent runs lies together (decision 0028).

use std::env;
use std::path::{Path, PathBuf};

/// The functions that a packaged agent was seen to run; `packaging/order` writes it.
const ORDER: &str = "../packaging/agent-order.txt";

/// Names a file in which the linker is to tell where it put each function.
const MAP: &str = "PHUSA_LINK_MAP";

fn main() {
    println!("cargo::rerun-if-changed={ORDER}");
    println!("cargo::rerun-if-env-changed={MAP}");
    if !(is_packaged() && linked_by_lld()) {
        return;
    }
    let folder = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    let order = folder.join(ORDER);
    if order.exists() {
        // A name that is not there any more costs a little memory and nothing else.
        argument(&format!("--symbol-ordering-file={}", order.display()));
        argument("--no-warn-symbol-ordering");
    }
    if let Ok(map) = env::var(MAP) {
        argument(&format!("-Map={map}"));
        argument("--no-demangle");
    }
}

fn argument(text: &str) {
    println!("cargo::rustc-link-arg-bins=-Wl,{text}");
}

/// Whether this is the profile `dist`, whose name stands in the path of what is built alone.
fn is_packaged() -> bool {
    let out = env::var_os("OUT_DIR").map(PathBuf::from).unwrap_or_default();
    out.ancestors().nth(3).and_then(Path::file_name).is_some_and(|profile| profile == "dist")
}

/// Whether Rust's own linker, which knows these arguments, is the one that links by default.
fn linked_by_lld() -> bool {
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    is("CARGO_CFG_TARGET_ARCH", "x86_64")
        && is("CARGO_CFG_TARGET_OS", "linux")
        && is("CARGO_CFG_TARGET_ENV", "gnu")
}
