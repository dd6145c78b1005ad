//! From a one-time code to the hundredth certificate.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use phusa_protocol::fault::Code;
use phusa_tests::process::wait_until;

use super::{
    FILES, SHOWS_WITHIN, code_for, copy_of, enrol, enrol_fails, enrolled, enrolling, generation,
    has_generation, hub_refuses, hub_says, shown, steps,
};
use crate::house::{AGENCY, AGENT, text};

#[tokio::test(flavor = "multi_thread")]
async fn a_one_time_code_enrols_one_agent_once_and_its_lost_answer_is_given_again() {
    let mut house = enrolling("7d");
    house.province.start_hub_with(&[]);
    let code = code_for(&house, AGENT, &[]);
    // The hub is known by the fingerprint, before anything is told to it.
    let (rest, fingerprint) = code.rsplit_once('-').unwrap();
    let other = format!("{rest}-{}", "0".repeat(fingerprint.len()));
    enrol_fails(&house, &other, Code::HubCertificate);
    assert!(!steps(&house).contains(&"enrolled".to_owned()));
    // The first answer is lost with everything that came after it.
    let before = copy_of(&house, "before");
    enrol(&house, &code);
    let first = fs::read(house.agent().join("agent.pem")).unwrap();
    for file in FILES {
        let mode = fs::metadata(house.agent().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    fs::create_dir_all(house.agent().join("state/identity")).unwrap();
    let pending = "state/identity/pending.json";
    fs::copy(before.join(pending), house.agent().join(pending)).unwrap();
    enrol(&house, &code);
    assert_eq!(fs::read(house.agent().join("agent.pem")).unwrap(), first);
    assert_eq!(generation(&house), 1);

    // Other keys with the same code: refused, reported, and the first enrolment stands.
    let said = enrol_fails(&house, &code, Code::EnrolReplayed);
    assert!(said.contains("was used with other keys"), "{said}");
    let incidents = text(&house.province.hub(&["incident", "ls"]));
    assert!(incidents.contains("danh tính · identity"), "{incidents}");
    assert!(house.log_has_refusal(Code::EnrolReplayed));
    let wrong = code_for(&house, "H57.13/khac", &[]);
    let said = enrol_fails(&house, &wrong, Code::EnrolRefused);
    assert!(said.contains("is for H57.13/khac"), "{said}");
    let garbled = code.replacen('-', "-0", 1);
    enrol_fails(&house, &garbled, Code::EnrolRefused);

    house.province.apply_contracts();
    house.province.start_agent(AGENCY);
    house.nothing_is_lost(200).await;
    let seen = steps(&house);
    assert_eq!(seen.iter().filter(|act| *act == "enrolled").count(), 1, "{seen:?}");
    let log = house.province.hub_process().log();
    let secret = code.split('-').nth(1).unwrap();
    assert!(!log.contains(secret), "the code stands in the hub's log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_person_approves_an_enrolment_or_it_does_not_come_about() {
    let mut house = enrolling("7d");
    house.province.start_hub_with(&[]);
    let code = code_for(&house, AGENT, &["--approve"]);
    let number = code.split('-').next().unwrap().to_owned();
    let config = house.province.agent_config(AGENCY);
    let url = super::hub_url(&house);
    let waiting = tokio::task::spawn_blocking(move || {
        let mut agent = std::process::Command::new(phusa_tests::process::program("phusa-agent"));
        agent.arg("--config").arg(config).args(["enrol", &url, &code]);
        phusa_tests::process::output(&mut agent)
    });
    let listed = wait_until("the enrolment to wait", SHOWS_WITHIN, async || {
        let listed = text(&house.province.hub(&["enrol", "ls"]));
        listed.contains("waits for approval").then_some(listed)
    })
    .await;
    let asked = listed.split("(request) ").nth(1).unwrap().trim().to_owned();
    let same = ["enrol", "approve", &number, "--by", "an"];
    hub_refuses(&house, &same, Code::SecondPerson);
    hub_says(&house, &["enrol", "approve", &number, "--by", "Bình"]);
    let said = text(&waiting.await.unwrap());
    assert!(said.contains("enrol_pending") && said.contains(&asked), "{said}");
    assert!(said.contains("đã ghi danh"), "{said}");

    let refused = code_for(&house, AGENT, &[]);
    let number = refused.split('-').next().unwrap();
    hub_says(&house, &["enrol", "refuse", number, "--by", "Bình"]);
    enrol_fails(&house, &refused, Code::EnrolRefused);
    let seen = steps(&house);
    for act in ["invited", "asked", "approved", "enrolled", "declined"] {
        assert!(seen.contains(&act.to_owned()), "{act}: {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_agent_renews_by_itself_and_comes_back_after_its_certificate_has_ended() {
    let mut house = enrolled("60s").await;
    has_generation(&house, 3).await;
    house.database.psql("update people set name = 'gia hạn' where id <= 20");
    house.nothing_is_lost(200).await;
    // Off for longer than the certificate lives.
    house.province.agent_process(AGENCY).stop();
    let before = generation(&house);
    wait_until("the certificate to end", SHOWS_WITHIN, async || {
        let said = text(&house.province.agent(AGENCY, &["check"]));
        said.contains(Code::OwnCertificate.words().name).then_some(())
    })
    .await;
    house.database.psql("update people set name = 'trở lại' where id <= 20");
    house.province.start_agent(AGENCY);
    has_generation(&house, before + 1).await;
    house.nothing_is_lost(200).await;
    let seen = steps(&house);
    assert!(seen.contains(&"renewed".to_owned()), "{seen:?}");
    assert!(seen.contains(&"recovered".to_owned()), "{seen:?}");
    let status = text(&house.province.agent(AGENCY, &["status"]));
    assert!(status.contains("Chứng thư · certificate: thứ · number"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_disks_with_one_identity_are_both_locked() {
    let mut house = enrolled("90s").await;
    let copy = copy_of(&house, "copy");
    has_generation(&house, generation(&house) + 1).await;
    house.province.agent_process(AGENCY).stop();
    // The copy is started elsewhere, with the certificate it was copied with.
    let right = house.agent();
    let aside = house.province.path().join("right");
    fs::rename(&right, &aside).unwrap();
    fs::rename(&copy, &right).unwrap();
    house.province.start_agent(AGENCY);
    wait_until("both to be locked", SHOWS_WITHIN, async || {
        (shown(&house)["state"] == "locked").then_some(())
    })
    .await;
    house.agent_shows(Code::IdentityCloned).await;
    house.province.agent_process(AGENCY).stop();
    fs::rename(&right, &copy).unwrap();
    fs::rename(&aside, &right).unwrap();
    house.province.start_agent(AGENCY);
    let said = house.agent_shows(Code::IdentityCloned).await;
    assert!(said.contains("two installations use one identity"), "{said}");
    house.province.agent_process(AGENCY).stop();
    assert!(steps(&house).contains(&"locked".to_owned()));
    let incidents = text(&house.province.hub(&["incident", "ls"]));
    assert!(incidents.contains("two installations use one identity"), "{incidents}");
    // The right one is known by a person, and enrolled anew; the copy's certificate is void.
    let code = code_for(&house, AGENT, &[]);
    enrol(&house, &code);
    house.province.start_agent(AGENCY);
    house.database.psql("update people set name = 'đúng máy' where id <= 20");
    house.nothing_is_lost(200).await;
    assert_eq!(shown(&house)["state"], "active");
}
