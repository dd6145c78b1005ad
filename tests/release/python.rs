//! A repository that python-tuf made, the reference of TUF, is believed as ours is.

use std::fs;
use std::process::Command;

use phusa_protocol::fault::Code;
use phusa_tests::process::output;
use phusa_tests::releases::{Client, Releases};

/// Where `packaging/setup --tests` puts python-tuf.
const HOME: &str = "/var/cache/phusa/python-tuf";

#[tokio::test]
async fn a_repository_made_by_python_tuf_is_believed_and_its_forgery_is_not() {
    if !std::path::Path::new(HOME).join("tuf").exists() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "no python-tuf in CI");
        println!("skipped: python-tuf is not at {HOME}; packaging/setup --tests fetches it");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("hub/release");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/release/make_repository.py");
    let mut make = Command::new("python3");
    let made = output(make.arg(script).arg(&folder).env("PYTHONPATH", HOME));
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let releases = Releases { dir: dir.path().join("hub"), keys: Vec::new() };
    let client = Client::new(&dir.path().join("agent"), &releases);
    let brought = client.bring(&releases, "0.2.0").await;
    assert_eq!(brought.unwrap_or_else(|fault| panic!("{}", fault.chain())), b"made by python\n");
    println!("python-tuf's release 0.2.0 was believed and fetched");
    let targets = releases.store().metadata().join("1.targets.json");
    let text = fs::read_to_string(&targets).unwrap();
    fs::write(&targets, text.replace("x86_64-linux\"", "x86_64-linuy\"")).unwrap();
    let refused = client.look(&releases).await.unwrap_err();
    assert!(
        [Code::ReleaseUntrusted, Code::ReleaseMixed].contains(&refused.code),
        "{}",
        refused.chain()
    );
}
