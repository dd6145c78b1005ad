//! Everybody who is not who they should be: refused with the exact reason, written down, and others
//! go on.

use std::fs;
use std::sync::Arc;

use phusa_protocol::PROTOCOL_VERSION;
use phusa_protocol::fault::Code;
use phusa_protocol::hello::Hello;
use phusa_protocol::identity::{Recover, Renew};
use phusa_protocol::ids::AgentId;
use phusa_protocol::keys::SigningKey;
use phusa_protocol::time::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType,
};
use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::caller::{Papers, config, connect, exchange, post, refusal};
use super::{code_for, enrol_fails, enrolled};
use crate::house::{AGENT, House, text};

/// A certificate for an agent, made by hand.
fn papers(issuer: &Issuer<'_, KeyPair>, between: &str, agent: &str, years: (i32, i32)) -> Papers {
    let (agency, name) = agent.split_once('/').unwrap();
    let uri = format!("spiffe://phusa/agency/{agency}/agent/{name}");
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
    params.distinguished_name.push(DnType::OrganizationalUnitName, "generation 1");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
    params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
    let leaf = params.signed_by(&key, issuer).unwrap().pem();
    Papers { chain: leaf + between, key: key.serialize_pem() }
}

/// The hub's intermediate in the hands of somebody who should not have it.
fn stolen(house: &House) -> (Issuer<'static, KeyPair>, String) {
    let read = |name: &str| fs::read_to_string(house.province.hub_folder().join(name)).unwrap();
    let key = KeyPair::from_pem(&read("issuing.key")).unwrap();
    (Issuer::from_ca_cert_pem(&read("issuing.pem"), key).unwrap(), read("issuing.pem"))
}

/// A CA that calls itself what the hub's intermediate is called.
fn foreign(house: &House) -> (Issuer<'static, KeyPair>, String) {
    let text = fs::read_to_string(house.province.hub_folder().join("issuing.pem")).unwrap();
    let shown = phusa_hub::identity::facts::Facts::of_pem(text.as_bytes()).unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.distinguished_name.push(DnType::CommonName, shown[0].subject.clone());
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), pem)
}

fn hello(agent: &str) -> String {
    let hello = Hello {
        protocol: PROTOCOL_VERSION,
        agent: AgentId::try_from(agent.to_owned()).unwrap(),
        agent_version: "0.1.0".to_owned(),
        sent_at: Timestamp::now(),
        datasets: Vec::new(),
    };
    serde_json::to_string(&hello).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_who_they_should_be_is_refused_with_the_exact_reason_and_others_go_on() {
    let mut house = enrolled("7d").await;
    let (port, folder) = (house.province.hub_port(), house.agent());
    let right = Papers::of(&folder);
    let told = async |papers: Option<&Papers>, path: &str, body: &str| {
        let answer = exchange(port, config(&folder, papers, &TLS13), &post(path, body)).await;
        refusal(&answer.unwrap())
    };

    // No certificate: every route but the two that are for it.
    for path in
        ["/v1/hello", "/v1/batch", "/v1/digest", "/v1/renew", "/v1/list", "/log/cosignature"]
    {
        let refused = told(None, path, &hello(AGENT)).await;
        assert_eq!(refused.code, Code::OwnCertificate, "{path}");
        assert_eq!(refused.what, "no certificate was shown", "{path}");
    }
    let bound = SigningKey::generate().unwrap();
    let agent = AgentId::try_from(AGENT.to_owned()).unwrap();
    let forged = Recover::new(agent.clone(), 1, "csr".to_owned(), &bound);
    let refused = told(None, "/v1/recover", &serde_json::to_string(&forged).unwrap()).await;
    assert_eq!(refused.code, Code::RecoveryRefused);
    let unread = told(None, "/v1/enrol", &"x".repeat(1_000)).await;
    assert_eq!(unread.code, Code::ProtocolVersion);
    let large = told(None, "/v1/enrol", &"x".repeat(100_000)).await;
    assert_eq!(large.code, Code::BatchTooLarge);

    // A CA of the same name, and a certificate that has ended: refused by TLS, with its alert.
    let ((strange, strange_pem), (issuer, between)) = (foreign(&house), stolen(&house));
    for (what, papers) in [
        ("foreign CA", papers(&strange, &strange_pem, AGENT, (2020, 2090))),
        ("expired", papers(&issuer, &between, AGENT, (2019, 2020))),
        ("not yet valid", papers(&issuer, &between, AGENT, (2080, 2090))),
    ] {
        let ended =
            exchange(port, config(&folder, Some(&papers), &TLS13), &post("/v1/hello", "")).await;
        let why = ended.unwrap_err();
        assert!(why.contains("alert"), "{what}: {why}");
    }
    // Another agency's name.
    let other = papers(&issuer, &between, "H57.13/may-1", (2020, 2090));
    let refused = told(Some(&other), "/v1/batch", "").await;
    assert_eq!(refused.code, Code::AgentUnknown);
    let refused = told(Some(&right), "/v1/hello", &hello("H57.13/may-1")).await;
    assert_eq!(refused.code, Code::OwnCertificate);
    let renew = Renew::new(AgentId::try_from("H57.13/may-1".to_owned()).unwrap(), String::new());
    let refused = told(Some(&right), "/v1/renew", &serde_json::to_string(&renew).unwrap()).await;
    assert_eq!(refused.code, Code::OwnCertificate);
    // A replayed enrolment: the code of somebody who has been enrolled since.
    let code = code_for(&house, "H57.13/may-1", &[]);
    enrol_fails(&house, &code, Code::EnrolRefused);

    transport(&house, &right).await;
    smuggling(&house, &right).await;

    house.database.psql("update people set name = 'vẫn chạy' where id <= 20");
    house.nothing_is_lost(200).await;
    for code in [Code::OwnCertificate, Code::AgentUnknown, Code::RecoveryRefused] {
        assert!(house.log_has_refusal(code), "{code}");
    }
    let log = house.province.hub_process().log();
    for said in ["phusa::security", "own_certificate", "TLS with"] {
        assert!(log.contains(said), "{said} is not in the hub's log");
    }
    for secret in ["BEGIN PRIVATE", "BEGIN EC", "Nguyễn 1"] {
        assert!(!log.contains(secret), "{secret} stands in the hub's log");
    }
    let incidents = text(&house.province.hub(&["incident", "ls", "--all"]));
    assert!(!incidents.contains("Nguyễn"), "{incidents}");
}

/// TLS 1.2, and tickets with which a connection would be resumed.
async fn transport(house: &House, right: &Papers) {
    let (port, folder) = (house.province.hub_port(), house.agent());
    let old = exchange(port, config(&folder, Some(right), &TLS12), &post("/v1/hello", "")).await;
    let why = old.unwrap_err();
    assert!(why.contains("alert") || why.contains("rotocolVersion"), "{why}");
    let config = Arc::new(config(&folder, Some(right), &TLS13));
    for round in 0..2 {
        let mut stream = connect(port, &config).await.unwrap();
        stream.write_all(b"GET /log/key HTTP/1.1\r\nHost: hub\r\n\r\n").await.unwrap();
        let mut answer = vec![0; 4_096];
        assert!(stream.read(&mut answer).await.unwrap() > 0);
        let session = stream.get_ref().1;
        assert_eq!(session.tls13_tickets_received(), 0);
        assert_eq!(session.handshake_kind(), Some(HandshakeKind::Full), "round {round}");
    }
}

/// Requests whose end can be read in two ways, and heads without end.
async fn smuggling(house: &House, right: &Papers) {
    let (port, folder) = (house.province.hub_port(), house.agent());
    let hidden = "GET /log/key HTTP/1.1\r\nHost: hub\r\n\r\n";
    let head = "POST /v1/hello HTTP/1.1\r\nHost: hub\r\n";
    // Beyond the 64 KiB that a head may have, and no longer than what the hub still reads when it parts.
    let long = "x".repeat(100_000);
    let many = "A: b\r\n".repeat(2_000);
    for (what, request, status) in [
        (
            "length and chunks",
            format!(
                "{head}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"
            ),
            "400",
        ),
        ("chunks", format!("{head}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"), "400"),
        (
            "not quite chunks",
            format!("{head}Transfer-Encoding: chunked, x\r\n\r\n0\r\n\r\n{hidden}"),
            "400",
        ),
        (
            "two lengths",
            format!("{head}Content-Length: 0\r\nContent-Length: 4\r\n\r\n{hidden}"),
            "400",
        ),
        ("a signed length", format!("{head}Content-Length: +4\r\n\r\n{hidden}"), "400"),
        ("a folded head", format!("{head}X: a\r\n b\r\nContent-Length: 0\r\n\r\n{hidden}"), "400"),
        ("no version", format!("POST /v1/hello\r\n\r\n{hidden}"), "400"),
        ("a long head", format!("{head}X: {long}\r\n\r\n"), "431"),
        ("many heads", format!("{head}{many}\r\n"), "431"),
    ] {
        let config = config(&folder, Some(right), &TLS13);
        let answer = exchange(port, config, request.as_bytes()).await;
        let answer = answer.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{what}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{what}: {answer}");
    }
}
