//! Bad input: each kind is shown with its code and remedy, and loses nothing.

use std::fs;
use std::path::Path;
use std::time::Duration;

use phusa_protocol::fault::Code;
use phusa_protocol::frame;
use phusa_protocol::keys::SigningKey;
use phusa_protocol::time::Timestamp;
use phusa_protocol::value::Field;
use phusa_tests::database::{Database, Server};
use phusa_tests::process::wait_until;
use phusa_tests::relay::Relay;
use rcgen::{CertificateParams, Issuer, KeyPair, SanType};

use crate::house::{AGENCY, House, SmallDisk, assert_fault, edit, text};

/// How long the hub may take to read its register again.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_wrong_key_is_named_with_line_and_column_and_the_keys_allowed() {
    let house = House::new("", "");
    let agent = house.agent();
    let files = [
        (agent.join("agent.toml"), Code::ConfigInvalid, ":2:1", "datasets_dir"),
        (agent.join("datasets/cong_dan.people.toml"), Code::ConfigInvalid, ":2:1", "capture"),
        (
            agent.join("contracts/cong_dan.people.toml"),
            Code::ContractInvalid,
            "line 2, column 1",
            "retention",
        ),
    ];
    for (file, code, place, allowed) in files {
        let before = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("\nma_la = 1\n{before}")).unwrap();
        let said = house.check_says(code);
        let name = file.file_name().unwrap().to_str().unwrap();
        for part in [name, place, "ma_la", allowed] {
            assert!(said.contains(part), "{part} is not among:\n{said}");
        }
        fs::write(&file, before).unwrap();
    }
    let hub = house.province.hub_config();
    edit(&hub, "state_dir", "ma_la = 1\nstate_dir");
    let said = text(&house.province.hub(&["check"]));
    assert_fault(&said, Code::ConfigInvalid);
    assert!(said.contains("line 1, column 1") && said.contains("agents_dir"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told_from_a_server_that_is_away() {
    let mut house = House::at_work().await;
    let file = house.agent().join("source.password");
    let right = fs::read_to_string(&file).unwrap();
    fs::write(&file, "sai").unwrap();
    house.check_says(Code::SourceLogin);
    house.restart_agent();
    house.database.psql("update people set name = name || '!'");
    house.agent_shows(Code::SourceLogin).await;
    fs::write(&file, right).unwrap();
    house.restart_agent();
    house.nothing_is_lost(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_table_is_named_and_its_return_noticed() {
    let mut house = House::at_work().await;
    house.province.agent_process(AGENCY).stop();
    house.database.psql("alter table people rename to nobody");
    let said = house.check_says(Code::SourceTableMissing);
    assert!(said.contains("people"), "{said}");
    house.province.start_agent(AGENCY);
    house.agent_shows(Code::SourceTableMissing).await;
    house.database.psql("alter table nobody rename to people; delete from people where id > 150");
    house.restart_agent();
    house.nothing_is_lost(150).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_or_a_source_under_another_ca_is_not_talked_to() {
    let mut house = House::at_work().await;
    let (own, other) = (house.agent().join("ca.pem"), House::new("", ""));
    let right = fs::read(&own).unwrap();
    fs::copy(other.agent().join("ca.pem"), &own).unwrap();
    house.check_says(Code::HubCertificate);
    house.restart_agent();
    house.database.psql("update people set name = 'khác' where id = 1");
    house.agent_shows(Code::HubCertificate).await;
    fs::write(&own, right).unwrap();
    house.restart_agent();
    house.nothing_is_lost(200).await;

    let safe = Server::start_with_tls();
    let config = house.province.agent_config(AGENCY);
    edit(&config, &format!("port = {}", house.database.server().port()), &port_line(&safe));
    edit(&config, "tls = \"off\"", "tls = \"verify\"\ntls_ca_file = \"ca.pem\"");
    house.check_says(Code::SourceTls);
    fs::copy(safe.ca_file(), house.agent().join("source-ca.pem")).unwrap();
    edit(&config, "tls_ca_file = \"ca.pem\"", "tls_ca_file = \"source-ca.pem\"");
    let said = text(&house.province.agent(AGENCY, &["check"]));
    assert!(!said.contains(Code::SourceTls.words().name), "{said}");
}

fn port_line(server: &Server) -> String {
    format!("port = {}", server.port())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_told_apart_on_either_side() {
    let mut house = House::at_work().await;
    let (certs, agent) = (house.province.path().join("certs"), house.agent());
    let own = format!("spiffe://phusa/agency/{AGENCY}/agent/may-1");
    let own = SanType::URI(own.try_into().unwrap());
    let right = fs::read(agent.join("agent.pem")).unwrap();
    expire(&certs, &agent.join("agent"), own);
    house.check_says(Code::OwnCertificate);
    house.restart_agent();
    house.database.psql("update people set name = 'hết hạn' where id = 1");
    house.agent_shows(Code::OwnCertificate).await;
    fs::write(agent.join("agent.pem"), right).unwrap();
    house.restart_agent();
    house.nothing_is_lost(200).await;

    let hub = house.province.hub_folder();
    let right = fs::read(hub.join("hub.pem")).unwrap();
    expire(&certs, &hub.join("hub"), SanType::IpAddress([127, 0, 0, 1].into()));
    house.province.hub_process().stop();
    house.province.start_hub_with(&[]);
    house.check_says(Code::HubCertificate);
    fs::write(hub.join("hub.pem"), right).unwrap();
    house.province.hub_process().stop();
    house.province.start_hub_with(&[]);
    house.restart_agent();
    house.nothing_is_lost(200).await;
}

/// Replaces `<stem>.pem` by a certificate for the same key that ended long ago.
fn expire(certs: &Path, stem: &Path, name: SanType) {
    let read = |file: &Path| fs::read_to_string(file).unwrap();
    let ca_key = KeyPair::from_pem(&read(&certs.join("ca.key"))).unwrap();
    let ca = read(&certs.join("hub/ca.pem"));
    let issuer = Issuer::from_ca_cert_pem(&ca, ca_key).unwrap();
    let key = KeyPair::from_pem(&read(&stem.with_extension("key"))).unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.subject_alt_names.push(name);
    params.not_before = rcgen::date_time_ymd(2019, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let certificate = params.signed_by(&key, &issuer).unwrap();
    fs::write(stem.with_extension("pem"), certificate.pem()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_wrong_is_shown_and_not_trusted() {
    let mut house = House::new("", "");
    house.province.start_hub();
    let relay = relay_to_hub(&house).await;
    relay.lie_about_time();
    house.check_says(Code::ClockSkew);
    house.province.start_agent(AGENCY);
    house.settle().await;
    house.agent_shows(Code::ClockSkew).await;
    house.nothing_is_lost(200).await;
    house.province.agent_process(AGENCY).stop();
    let late = Timestamp::from_micros(Timestamp::now().micros() - 3_600_000_000);
    house.forger().hello(late).await.unwrap();
    let seen = text(&house.province.hub(&["fleet", "ls", "--json"]));
    let skew = seen.split("\"skew_ms\":").nth(1).unwrap_or_default().trim_start();
    assert!(skew.starts_with("-3600") || skew.starts_with("-3599"), "{seen}");
}

/// Puts a relay that reads along between agent and hub.
async fn relay_to_hub(house: &House) -> Relay {
    let port = house.province.hub_port();
    let relay = Relay::inside_tls(port, &house.province.hub_folder(), &house.agent()).await;
    let config = house.province.agent_config(AGENCY);
    edit(&config, &format!("127.0.0.1:{port}"), &format!("127.0.0.1:{}", relay.port()));
    relay
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_and_a_full_disk_stop_reading_until_there_is_room() {
    let mut house = House::new("", "");
    let config = house.province.agent_config(AGENCY);
    let Some(_disk) = SmallDisk::mount(&house.agent().join("state"), 40) else { return };
    edit(&config, "[spool]", "[spool]\ndisk_reserve = \"4MiB\"");
    house.province.start_hub();
    house.province.start_agent(AGENCY);
    house.settle().await;
    house.province.hub_process().stop();
    // Digits of digests shrink to half, so 120 MB of them do not fit.
    grow(&house.database, 120);
    house.agent_shows(Code::DiskFull).await;
    house.province.start_hub_with(&[]);
    house.nothing_is_lost(320).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_at_its_limit_stops_reading_until_there_is_room() {
    let mut house = House::new("", "");
    let config = house.province.agent_config(AGENCY);
    edit(&config, "[spool]", "[spool]\nspool_bytes_max = \"64MiB\"");
    edit(&config, "hub_key_file", "compression_level = 0\nhub_key_file");
    house.province.start_hub();
    house.province.start_agent(AGENCY);
    house.settle().await;
    house.province.hub_process().stop();
    grow(&house.database, 90);
    house.agent_shows(Code::SpoolFull).await;
    house.province.start_hub_with(&[]);
    house.nothing_is_lost(290).await;
}

/// Adds that many rows of 1 MB each that cannot be packed to less than half.
fn grow(database: &Database, rows: u32) {
    database.psql(&format!(
        "insert into people select 1000 + i,
             (select string_agg(md5(i || '-' || j), '') from generate_series(1, 31250) j)
         from generate_series(1, {rows}) i"
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_whose_disk_is_really_full_loses_nothing_and_goes_on_once_there_is_room() {
    let mut house = House::new("", "disk_reserve = \"1KiB\"");
    let state = house.province.hub_folder().join("state");
    let Some(disk) = SmallDisk::mount(&state, 1_200) else { return };
    house.province.start_hub();
    house.province.start_agent(AGENCY);
    assert_eq!(house.settle().await, 200);
    let filler = disk.fill_but(24);
    // Digits of digests shrink to half, so 120 MB of them do not fit.
    grow(&house.database, 120);
    house.agent_shows_one_of(&[Code::WarehouseUnavailable, Code::HubStorageFull]).await;
    assert!(disk.free_mib() < 16, "not even a segment of its log fits");
    fs::remove_file(filler).unwrap();
    house.nothing_is_lost(320).await;
    let fleet = text(&house.province.agent(AGENCY, &["status", "--json"]));
    assert!(fleet.contains("\"epoch\": 1,"), "what was acknowledged was there: {fleet}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_without_room_makes_agents_wait() {
    let mut house = House::new("", "disk_reserve = \"900000GiB\"");
    house.province.start_hub();
    house.province.start_agent(AGENCY);
    house.agent_shows(Code::HubStorageFull).await;
    house.province.hub_process().stop();
    edit(&house.province.hub_config(), "900000GiB", "1MiB");
    house.province.start_hub_with(&[]);
    house.nothing_is_lost(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_away_is_waited_for() {
    let mut house = House::at_work().await;
    house.province.hub_process().stop();
    house.database.psql("update people set name = 'vắng' where id <= 50");
    house.agent_shows(Code::HubUnreachable).await;
    house.database.psql("delete from people where id <= 20");
    house.province.start_hub_with(&[]);
    house.nothing_is_lost(180).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_changed_on_the_way_is_refused_and_sent_again() {
    let mut house = House::new("", "");
    house.province.start_hub();
    let relay = relay_to_hub(&house).await;
    relay.tamper_once();
    house.province.start_agent(AGENCY);
    house.nothing_is_lost(200).await;
    assert!(house.log_has_refusal(Code::FrameDamaged));
    assert!(house.province.agent_process(AGENCY).log().contains("frame_damaged"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_sent_twice_counts_once_and_one_out_of_turn_not_at_all() {
    let mut house = House::new("", "");
    house.province.start_hub();
    let mut forger = house.forger();
    let fields = [Field::Value(&[0, 0, 0, 0, 0, 0, 0, 1]), Field::Value(b"a"), Field::Null];
    let first = forger.seal(&fields);
    let receipt = forger.send(frame::encode(&first)).await.unwrap();
    assert_eq!(forger.send(frame::encode(&first)).await.unwrap(), receipt);
    let _left_out = (0..20).map(|_| forger.seal(&fields)).collect::<Vec<_>>();
    let far = forger.seal(&fields);
    let refused = forger.send(frame::encode(&far)).await.unwrap_err();
    assert_eq!(refused.code, Code::BatchOutOfTurn);
    assert_eq!(refused.expected.map(|(_, seq)| seq.0), Some(2));
    // Then the real agent takes over: its stream is another, and the forged row is swept.
    house.province.start_agent(AGENCY);
    house.nothing_is_lost(200).await;
    assert!(house.log_has_refusal(Code::BatchOutOfTurn));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_beyond_the_contract_or_under_another_key_is_refused_whole() {
    let mut house = House::new("", "");
    house.province.start_hub();
    let mut forger = house.forger();
    let id = 5_i64.to_be_bytes();
    let wide = [Field::Value(&id), Field::Null, Field::Null, Field::Value(b"them")];
    let wide = forger.seal(&wide);
    let refused = forger.send(frame::encode(&wide)).await.unwrap_err();
    assert_eq!(refused.code, Code::ContractViolation);
    forger.take_back(&wide);
    forger.signing_key = SigningKey::generate().unwrap();
    let strange = forger.seal(&[Field::Value(&id), Field::Null, Field::Null]);
    let refused = forger.send(frame::encode(&strange)).await.unwrap_err();
    assert_eq!(refused.code, Code::SignatureWrong);
    house.province.start_agent(AGENCY);
    house.nothing_is_lost(200).await;
    for code in [Code::ContractViolation, Code::SignatureWrong] {
        assert!(house.log_has_refusal(code), "{code}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_suspended_unknown_or_elsewhere_is_refused_until_it_is_let_in() {
    let mut house = House::at_work().await;
    let file = house.province.hub_folder().join("agents/H57.12__may-1.toml");
    let right = fs::read_to_string(&file).unwrap();
    let elsewhere = "allowed_networks = [\"10.0.0.0/8\"]\n";
    let changes = [
        (Code::AgentSuspended, Some(format!("{right}suspended = true\n"))),
        (Code::NetworkNotAllowed, Some(format!("{right}{elsewhere}"))),
        (Code::AgentUnknown, None),
    ];
    for (round, (code, changed)) in changes.into_iter().enumerate() {
        house.change_register(|file| match changed {
            Some(text) => fs::write(file, text).unwrap(),
            None => fs::remove_file(file).unwrap(),
        });
        let forger = house.forger();
        wait_until("the hub to refuse", SOON, async || {
            let refused = forger.hello(Timestamp::now()).await.err()?;
            (refused.code == code).then_some(())
        })
        .await;
        house.check_says(code);
        house.database.psql(&format!("update people set name = 'lần {round}' where id <= 30"));
        house.agent_shows(code).await;
        house.change_register(|file| fs::write(file, &right).unwrap());
        house.restart_agent();
        house.nothing_is_lost(200).await;
        assert!(house.log_has_refusal(code), "{code}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_outside_the_allowed_networks_is_neither_dialled_nor_answered() {
    let mut house = House::new("", "");
    let config = house.province.agent_config(AGENCY);
    edit(&config, "127.0.0.0/8", "10.0.0.0/8");
    house.check_says(Code::NetworkNotAllowed);
    edit(&config, "10.0.0.0/8", "127.0.0.0/8");
    edit(&house.province.hub_config(), "127.0.0.0/8", "10.0.0.0/8");
    house.province.start_hub();
    assert_fault(&text(&house.province.agent(AGENCY, &["check"])), Code::HubUnreachable);
    assert!(house.province.hub_process().log().contains("network_not_allowed"));
    house.province.hub_process().stop();
    edit(&house.province.hub_config(), "10.0.0.0/8", "127.0.0.0/8");
    house.province.start_hub_with(&[]);
    house.province.start_agent(AGENCY);
    house.nothing_is_lost(200).await;
}

/// What the agent may take in memory when a row of 300 MB goes by. In the full read the server cuts
/// it; from the log it comes in one piece, of which no copy is made.
const MEMORY_KIB_MAX: [u64; 2] = [200_000, 500_000];

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_300_mb_stays_behind_alone() {
    let mut house = House::new("", "");
    house.database.psql("insert into people values (7777, repeat('x', 300000000))");
    house.province.start_hub();
    house.province.start_agent(AGENCY);
    house.nothing_is_lost(200).await;
    house.agent_took_at_most(MEMORY_KIB_MAX[0]);
    house.database.psql(
        "insert into people values (8887, 'trước'), (8888, repeat('y', 300000000)), (8889, 'sau')",
    );
    house.nothing_is_lost(202).await;
    let rejects = house.agent().join("state/rejects/cong_dan.people.jsonl");
    let rejects = fs::read_to_string(rejects).unwrap();
    for key in ["7777", "8888"] {
        let line = rejects.lines().find(|line| line.contains(key)).unwrap();
        assert!(line.contains("row_bytes_max"), "{line}");
    }
    assert!(rejects.len() < 10_000);
    let said = text(&house.province.agent(AGENCY, &["status"]));
    assert!(said.contains("row_bytes_max: 2"), "{said}");
    house.agent_took_at_most(MEMORY_KIB_MAX[1]);
}
