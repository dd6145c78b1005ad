//! A bad release for tests: the real agent with one fault, named by what stands behind the last byte of its own
//! file (`#fault=leak`), so that one program is each of them. It proves itself as the real one does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use phusa_agent::cli::Cli;

/// Behind this stands the fault.
const MARK: &str = "#fault=";

/// A leak's size and pace: beyond what any judge lets pass, within half a minute.
const LEAK: (usize, usize, Duration) = (64 << 20, 12, Duration::from_millis(500));

fn main() -> ExitCode {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut arguments: Vec<String> = std::env::args().collect();
    if arguments.last().is_none_or(|last| last != "run") {
        return Cli::parse_from(arguments).run();
    }
    match fault().as_str() {
        // It lives long enough to show signs of life, and ends again and again.
        "crash" => {
            std::thread::spawn(|| {
                std::thread::sleep(Duration::from_secs(4));
                std::process::abort();
            });
        }
        "hang" => std::thread::sleep(Duration::from_secs(3_600)),
        "leak" => {
            std::thread::spawn(leak);
        }
        // It trusts another root than the hub's.
        "tls" => change(&mut arguments, |folder| {
            let own = rcgen::generate_simple_self_signed(["another".to_owned()]).expect("a root");
            fs::write(folder.join("ca.pem"), own.cert.pem()).expect("another root");
        }),
        // It forgets one of its datasets.
        "pipeline" => change(&mut arguments, |folder| {
            let all = fs::read_dir(folder.join("datasets")).expect("datasets");
            let mut all: Vec<PathBuf> = all.flatten().map(|entry| entry.path()).collect();
            all.sort();
            fs::remove_file(all.last().expect("a dataset")).expect("one dataset less");
        }),
        other => panic!("no fault of this name: {other}"),
    }
    Cli::parse_from(arguments).run()
}

fn fault() -> String {
    let own = std::env::current_exe().and_then(fs::read).expect("its own file");
    let end = String::from_utf8_lossy(own.get(own.len().saturating_sub(64)..).unwrap_or_default())
        .into_owned();
    end.rsplit_once(MARK).expect("a named fault").1.to_owned()
}

fn leak() {
    let (bytes, times, pace) = LEAK;
    let mut kept = Vec::new();
    for _ in 0..times {
        kept.push(vec![1_u8; bytes]);
        std::thread::sleep(pace);
    }
    std::thread::sleep(Duration::from_secs(3_600));
    drop(kept);
}

/// Runs with a copy of the configuration's folder that is wrong in one thing.
fn change(arguments: &mut [String], wrong: impl Fn(&Path)) {
    let at = arguments.iter().position(|one| one == "--config").expect("--config") + 1;
    let config = PathBuf::from(&arguments[at]);
    let copy = std::env::temp_dir().join(format!("phusa-rogue-{}", std::process::id()));
    let _old = fs::remove_dir_all(&copy);
    copied(config.parent().expect("the folder of the configuration"), &copy);
    wrong(&copy);
    arguments[at] = copy.join("agent.toml").display().to_string();
}

fn copied(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a copy");
    for entry in fs::read_dir(from).expect("the configuration").flatten() {
        let (source, name) = (entry.path(), entry.file_name());
        // What grows belongs to the folders of state, which a copy leaves where they are.
        if source.is_dir() && ["datasets", "contracts", "lists"].iter().any(|one| name == **one) {
            copied(&source, &to.join(&name));
        } else if source.is_file() {
            fs::copy(&source, to.join(&name)).expect("a copied file");
        }
    }
}
