//! The log's checkpoint is stamped by an authority that others wrote, and what it says is verified by the
//! very commands that `docs/EVIDENCE.md` gives to inspectors.

use std::fs;
use std::path::Path;
use std::process::Command;

use phusa_hub::stamping::token::{Request, Trust};
use phusa_tests::log_tools;
use phusa_tests::process::{output, wait_until};
use phusa_tests::province::ARRIVES_WITHIN;
use phusa_tests::tsa::{self, Tsa};
use serde_json::Value;

use crate::house::{AGENCY, House, text};

/// The commands of the chapter on timestamps, as they stand there.
fn commands() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/EVIDENCE.md");
    let document = fs::read_to_string(path).unwrap();
    let (_, chapter) = document.split_once("Timestamp of a third party").unwrap();
    let chapter = chapter.split("\n## ").next().unwrap();
    let indented = chapter.lines().filter_map(|line| line.strip_prefix("    "));
    indented.map(ToOwned::to_owned).collect()
}

fn shell(folder: &Path, command: &str) -> (bool, String) {
    let done = output(Command::new("sh").args(["-c", command]).current_dir(folder));
    (done.status.success(), text(&done))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inspector_verifies_the_timestamp_of_an_entry_with_openssl_as_the_document_says() {
    let tsa = Tsa::start().await;
    let (url, ca) = (tsa.url(), tsa.ca_file());
    let part =
        format!("\n[timestamp]\nurl = \"{url}\"\nca_file = \"{}\"\nevery = \"1s\"\n", ca.display());
    let mut house = House::new("", &part);
    assert!(text(&house.province.hub(&["check"])).contains("RFC 3161"));
    house.province.start_hub();
    house.province.start_agent(AGENCY);
    assert_eq!(house.settle().await, 200);
    let shown = wait_until("a timestamp over the first entry", ARRIVES_WITHIN, async || {
        let shown = house.province.hub(&["log", "show", "1", "--json"]);
        let shown: Value = serde_json::from_slice(&shown.stdout).ok()?;
        shown["timestamped"]["entries"].as_u64().map(|_| shown)
    })
    .await;
    println!("{}", shown["timestamped"]);
    let said = text(&house.province.hub(&["log", "ls"]));
    assert!(said.contains("Dấu thời gian (timestamped)"), "{said}");
    let folder = house.province.path().join("evidence");
    let proven = house.province.hub(&["log", "prove", "1", "--dir", folder.to_str().unwrap()]);
    println!("{}", text(&proven));
    assert!(proven.status.success() && text(&proven).contains("openssl ts -verify"));

    let commands = commands();
    assert!(commands.iter().any(|command| command.starts_with("openssl ts -verify")));
    let sigsum = log_tools::program("sigsum-verify");
    for command in &commands {
        let command = match (&sigsum, command.starts_with("sigsum-verify")) {
            (Ok(program), true) => command.replacen("sigsum-verify", program.to_str().unwrap(), 1),
            (Err(why), true) => {
                println!("skipped: {why}");
                continue;
            }
            (_, false) => command.clone(),
        };
        let (done, said) = shell(&folder, &command);
        println!("$ {command}\n{said}");
        assert!(done, "{command}: {said}");
        assert!(!command.contains("-verify -data") || said.contains("Verification: OK"), "{said}");
    }
    // The root in the checkpoint is that of the proof.
    let (_, root) = shell(&folder, commands.last().unwrap());
    let proof = fs::read_to_string(folder.join("timestamp.proof")).unwrap();
    assert!(!root.is_empty() && proof.contains(root.trim()), "{root} is not in {proof}");

    // One letter changed, and it is no longer what was stamped.
    let file = folder.join("timestamp.checkpoint");
    let note = fs::read_to_string(&file).unwrap();
    fs::write(&file, note.replacen('1', "2", 1)).unwrap();
    let verify = commands.iter().find(|command| command.starts_with("openssl ts -verify")).unwrap();
    let (done, said) = shell(&folder, verify);
    println!("{said}");
    assert!(!done && said.contains("FAILED"), "{said}");
    let page = house.province.page("/metrics");
    assert!(page.contains("phusa_timestamp_age_seconds "), "{page}");
}

#[test]
fn a_reply_that_is_not_the_authoritys_to_this_request_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let [tsa, other, web] = ["tsa", "other", "web"].map(|name| {
        let path = folder.path().join(name);
        fs::create_dir(&path).unwrap();
        let usage = if name == "web" { "serverAuth" } else { "timeStamping" };
        tsa::keys(&path, usage);
        path
    });
    let trust =
        |at: &Path| Trust::from_pem(&fs::read_to_string(at.join("ca.pem")).unwrap()).unwrap();
    let request = Request::new(b"checkpoint", [7; 8]).unwrap();
    let reply = tsa::reply(&tsa, &request.der);
    let at = request.verify(&reply, &trust(&tsa)).unwrap();
    assert!(phusa_protocol::time::Timestamp::now().since(at).as_secs() < 60);

    let nonce = Request::new(b"checkpoint", [8; 8]).unwrap();
    let content = Request::new(b"Checkpoint", [7; 8]).unwrap();
    let mut bent = reply.clone();
    let last = bent.len() - 9;
    bent[last] ^= 1;
    let cases = [
        (nonce.verify(&reply, &trust(&tsa)), "nonce"),
        (content.verify(&reply, &trust(&tsa)), "another digest"),
        (request.verify(&reply, &trust(&other)), "does not descend"),
        (request.verify(&bent, &trust(&tsa)), "made its signature"),
        (request.verify(b"<html>", &trust(&tsa)), "no reply"),
        (request.verify(&[], &trust(&tsa)), "no reply"),
    ];
    for (verified, expected) in cases {
        let why = verified.unwrap_err().to_string();
        assert!(why.contains(expected), "{why:?} does not say {expected}");
    }
    // OpenSSL itself refuses to stamp with a certificate for something else.
    let config = web.join("tsa.cnf");
    let query = web.join("request.tsq");
    fs::write(&query, &request.der).unwrap();
    let mut stamped = Command::new("openssl");
    stamped.args(["ts", "-reply", "-config"]).arg(&config).arg("-queryfile").arg(&query);
    assert!(!output(&mut stamped).status.success());
    // Every place of it altered is noticed, or says the same.
    for place in (0..reply.len()).step_by(7) {
        let mut bent = reply.clone();
        bent[place] ^= 0x20;
        if let Ok(said) = request.verify(&bent, &trust(&tsa)) {
            assert_eq!(said, at, "byte {place}");
        }
    }
}
