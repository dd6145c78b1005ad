//! Who may speak: enrolment by a one-time code, renewal, recovery, suspension, another root; and
//! everybody else, who is refused with the exact reason while others go on.

mod attack;
pub(crate) mod caller;
mod life;
mod rotation;
mod standing;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use phusa_protocol::fault::Code;
use phusa_tests::process::wait_until;
use serde_json::Value;

use crate::house::{AGENCY, AGENT, House, assert_fault, edit, text};

/// How long a renewal, or a decision of another process, may take to show on a busy machine.
const SHOWS_WITHIN: Duration = Duration::from_secs(150);

/// The agent's files of an enrolment.
const FILES: [&str; 6] =
    ["ca.pem", "agent.pem", "agent.key", "signing.key", "hub.pub", "recovery.key"];

/// A house whose hub has a CA of its own and enrols; its agent is not known yet, and has no key.
fn enrolling(validity: &str) -> House {
    let house = House::new("", "");
    enrols(&house, validity);
    house
}

/// Gives a house's hub a CA of its own, and takes the keys of its agent.
pub(crate) fn enrols(house: &House, validity: &str) {
    let hub = house.province.hub_folder();
    let root = root_dir(house, "root");
    let passphrase = passphrase(house);
    fs::write(&passphrase, "bến Ngự chiều mưa\n").unwrap();
    let sealed = ["--passphrase-file", &passphrase];
    hub_says(house, &[["ca", "init", "--root-dir", &root].as_slice(), &sealed].concat());
    let key = fs::read_to_string(house.province.path().join("root/root.key")).unwrap();
    assert!(key.contains("BEGIN ENCRYPTED PRIVATE KEY"), "the root's key lies open");
    issue(house, &root);
    let config = house.province.hub_config();
    let part = format!(
        "[identity]\nissuing_certificate_file = \"issuing.pem\"\n\
         issuing_key_file = \"issuing.key\"\ncertificate_validity = \"{validity}\"\n\n[warehouse]"
    );
    edit(&config, "[warehouse]", &part);
    fs::remove_file(hub.join("agents/H57.12__may-1.toml")).unwrap();
    for file in FILES.into_iter().filter(|file| *file != "recovery.key") {
        fs::remove_file(house.agent().join(file)).unwrap();
    }
}

/// The same with hub and agent running, enrolled, and the full read delivered.
async fn enrolled(validity: &str) -> House {
    enrolled_in(House::new("", ""), validity).await
}

/// This house likewise.
pub(crate) async fn enrolled_in(mut house: House, validity: &str) -> House {
    enrols(&house, validity);
    if house.broker.is_some() {
        certify_broker(&mut house);
    }
    house.province.start_hub_with(&[]);
    let code = code_for(&house, AGENT, &[]);
    enrol(&house, &code);
    house.province.apply_contracts();
    house.province.start_agent(AGENCY);
    assert_eq!(house.settle().await, 200);
    house
}

/// Gives the house's broker a certificate of the hub's own CA, which it then trusts.
fn certify_broker(house: &mut House) {
    let (hub, out) = (house.province.hub_folder(), house.province.path().join("certs/broker"));
    let [hub, out] = [hub, out].map(|folder| folder.display().to_string());
    let names = ["--dir", &hub, "--out", &out, "--broker-name", "127.0.0.1"];
    hub_says(house, &[["ca", "broker"].as_slice(), &names].concat());
    house.broker.as_mut().unwrap().restart();
}

fn root_dir(house: &House, name: &str) -> String {
    house.province.path().join(name).display().to_string()
}

fn passphrase(house: &House) -> String {
    house.province.path().join("passphrase").display().to_string()
}

fn issue(house: &House, root: &str) {
    let dir = house.province.hub_folder().display().to_string();
    let passphrase = passphrase(house);
    let names = ["--dir", &dir, "--hub-name", "127.0.0.1", "--passphrase-file", &passphrase];
    hub_says(house, &[["ca", "issue", "--root-dir", root].as_slice(), &names].concat());
}

/// What a command of the hub that must succeed prints.
fn hub_says(house: &House, arguments: &[&str]) -> String {
    let output = house.province.hub(arguments);
    let said = text(&output);
    assert!(output.status.success(), "{arguments:?}: {said}");
    said
}

/// A command of the hub must fail with this fault.
fn hub_refuses(house: &House, arguments: &[&str], code: Code) -> String {
    let output = house.province.hub(arguments);
    let said = text(&output);
    assert!(!output.status.success(), "{arguments:?}: {said}");
    assert_fault(&said, code);
    said
}

/// A one-time code, as the hub's operator hands it over.
pub(crate) fn code_for(house: &House, agent: &str, more: &[&str]) -> String {
    let create = ["enrol", "create", agent, "--by", "An"];
    let said = hub_says(house, &[create.as_slice(), more].concat());
    let line = said.lines().find(|line| line.starts_with("phusa-agent enrol ")).unwrap();
    line.rsplit(' ').next().unwrap().to_owned()
}

fn hub_url(house: &House) -> String {
    format!("https://127.0.0.1:{}", house.province.hub_port())
}

/// Runs `phusa-agent enrol`, which must succeed; what it printed.
fn enrol(house: &House, code: &str) -> String {
    let output = house.province.agent(AGENCY, &["enrol", &hub_url(house), code]);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    said
}

/// Runs `phusa-agent enrol`, which must fail with this fault.
fn enrol_fails(house: &House, code: &str, fault: Code) -> String {
    let output = house.province.agent(AGENCY, &["enrol", &hub_url(house), code]);
    let said = text(&output);
    assert!(!output.status.success(), "{said}");
    assert_fault(&said, fault);
    said
}

/// What `agent show --json` says of the agent.
fn shown(house: &House) -> Value {
    let output = house.province.hub(&["agent", "show", AGENT, "--json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

fn generation(house: &House) -> u64 {
    shown(house)["generation"].as_u64().unwrap_or(0)
}

/// Waits until the agent has its certificate of this number.
async fn has_generation(house: &House, least: u64) {
    wait_until(&format!("certificate {least}"), SHOWS_WITHIN, async || {
        (generation(house) >= least).then_some(())
    })
    .await;
}

/// The steps of identities that stand in the transfer log, in its order.
fn steps(house: &House) -> Vec<String> {
    let exported = text(&house.province.hub(&["log", "export"]));
    let lines = exported.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let entries =
        lines.filter_map(|line| serde_json::from_str::<Value>(line["entry"].as_str()?).ok());
    entries.filter_map(|entry| Some(entry["identity"]["act"].as_str()?.to_owned())).collect()
}

/// A copy of the agent's folder: its disk in other hands.
fn copy_of(house: &House, name: &str) -> PathBuf {
    let to = house.province.path().join(name);
    fs::create_dir_all(to.join("state")).unwrap();
    for part in ["", "datasets", "contracts", "state/identity"] {
        fs::create_dir_all(to.join(part)).unwrap();
        let files = fs::read_dir(house.agent().join(part)).into_iter().flatten().flatten();
        for file in files.filter(|file| file.path().is_file()) {
            fs::copy(file.path(), to.join(part).join(file.file_name())).unwrap();
        }
    }
    to
}
