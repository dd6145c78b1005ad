//! The province moves to another root while an agent delivers: trusted beside the old one, then in
//! its place, then alone.

use std::fs;
use std::path::Path;
use std::process::Command;

use phusa_tests::process::wait_until;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use serde_json::Value;

use super::{SHOWS_WITHIN, enrolled, generation, has_generation, hub_says, issue, root_dir};
use crate::house::{AGENCY, House, text};

#[tokio::test(flavor = "multi_thread")]
async fn the_province_moves_to_another_root_while_its_agent_delivers() {
    let mut house = enrolled("60s").await;
    let dir = house.province.hub_folder().display().to_string();
    let (old, new) = (root_dir(&house, "root"), root_dir(&house, "next"));
    hub_says(&house, &["ca", "init", "--no-passphrase", "--root-dir", &new]);
    let opened = Command::new("openssl")
        .args(["pkey", "-noout", "-in", &format!("{old}/root.key")])
        .args(["-passin", &format!("file:{}", super::passphrase(&house))])
        .output()
        .unwrap();
    assert!(opened.status.success(), "{}", text(&opened));
    let [old_print, new_print] = [&old, &new].map(|root| fingerprint(&house, root));

    hub_says(&house, &["ca", "trust", "--root-dir", &new, "--dir", &dir]);
    restart_hub(&mut house);
    has_generation(&house, generation(&house) + 1).await;
    wait_until("the agent to learn the new root", SHOWS_WITHIN, async || {
        (trusted(&house) >= 2).then_some(())
    })
    .await;
    house.database.psql("update people set name = 'cả hai' where id <= 20");
    house.nothing_is_lost(200).await;

    issue(&house, &new);
    restart_hub(&mut house);
    has_generation(&house, generation(&house) + 1).await;
    house.database.psql("update people set name = 'gốc mới' where id <= 20");
    house.nothing_is_lost(200).await;

    let found = house.province.hub(&["ca", "show", "--dir", &dir, "--json"]);
    let found: Value = serde_json::from_slice(&found.stdout).unwrap();
    let chain: Vec<_> =
        found.as_array().unwrap().iter().filter(|c| c["file"] == "hub.pem").collect();
    assert_eq!(chain.last().unwrap()["fingerprint"], new_print.as_str());
    hub_says(&house, &["ca", "distrust", &old_print, "--dir", &dir]);
    // The hub's own certificate is renewed without the root.
    fs::rename(&new, format!("{new}-away")).unwrap();
    hub_says(&house, &["ca", "renew", "--dir", &dir]);
    restart_hub(&mut house);
    has_generation(&house, generation(&house) + 1).await;
    house.database.psql("update people set name = 'chỉ gốc mới' where id <= 20");
    house.nothing_is_lost(200).await;
    let log = house.province.agent_process(AGENCY).log();
    assert!(!log.contains("hub_certificate"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_whose_own_certificate_has_ended_makes_itself_the_next_one() {
    let mut house = enrolled("60s").await;
    let folder = house.province.hub_folder();
    let (key, chain) = (folder.join("hub.key"), folder.join("hub.pem"));
    let ended = ended_certificate(&folder, &key);
    fs::write(&chain, ended).unwrap();
    restart_hub(&mut house);
    house.database.psql("update people set name = 'sau khi gia hạn' where id <= 20");
    house.nothing_is_lost(200).await;
    let log = house.province.hub_process().log();
    assert!(log.contains("Renewed the hub's own certificate"), "{log}");
    let metrics = house.province.page("/metrics");
    assert!(
        metrics.contains("phusa_certificate_not_after_seconds{certificate=\"hub\"}"),
        "{metrics}"
    );
}

/// What was the hub's own certificate in 2019 and 2020.
fn ended_certificate(folder: &Path, key: &Path) -> String {
    let read = |file: &Path| fs::read_to_string(file).unwrap();
    let between = read(&folder.join("issuing.pem"));
    let issuing = KeyPair::from_pem(&read(&folder.join("issuing.key"))).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&between, issuing).unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.not_before = rcgen::date_time_ymd(2019, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let key = KeyPair::from_pem(&read(key)).unwrap();
    let own = params.signed_by(&key, &issuer).unwrap().pem();
    let old = read(&folder.join("hub.pem"));
    let above = old.find(between.trim()).unwrap();
    own + &old[above..]
}

fn restart_hub(house: &mut House) {
    house.province.hub_process().stop();
    house.province.start_hub_with(&[]);
}

/// How many roots the agent trusts, by its newest certificate.
fn trusted(house: &House) -> usize {
    let file = house.agent().join("state/identity/current.json");
    let kept: Value =
        serde_json::from_slice(&fs::read(file).unwrap_or_default()).unwrap_or_default();
    // The development CA that the house was made with is one of them.
    kept["issued"]["ca"].as_str().unwrap_or_default().matches("BEGIN CERTIFICATE").count() - 1
}

fn fingerprint(house: &House, root: &str) -> String {
    let shown = house.province.hub(&["ca", "show", "--dir", root, "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", text(&shown)));
    shown[0]["fingerprint"].as_str().unwrap().to_owned()
}
