//! Reports over the link by stock clients of MQTT, and the pages that tell how five hundred agents are.

use std::process::{Command, Output};
use std::time::Duration;

use phusa_protocol::digest::Digest;
use phusa_protocol::ids::{AgentId, DatasetId};
use phusa_protocol::report::{
    Alive, Birth, CertificateReport, DatasetReport, Life, Obstacle, Phase, Report, SpoolReport,
};
use phusa_protocol::time::Timestamp;
use serde_json::Value;

use crate::people::{Browser, first};
use crate::world::World;

const GIB: u64 = 1 << 30;

/// A report of an agent that follows one dataset; nothing has arrived of it.
pub(crate) fn report(agent: &str) -> Report {
    let now = Timestamp::now();
    let day = Duration::from_secs(86_400);
    let dataset = DatasetReport {
        dataset: DatasetId::new("cong_dan.citizens").unwrap(),
        phase: Phase::Following,
        epoch: 1,
        position: "0/16B3748".to_owned(),
        spooled_seq: 42,
        released_seq: 42,
        lag_seconds: 0,
        rows: 120_345,
        rejects: 3,
        obstacle: None,
        contract: Digest::of(b"contract"),
        mapping: Digest::of(b"mapping"),
    };
    Report {
        v: Report::FORM,
        agent: AgentId::try_from(agent.to_owned()).unwrap(),
        version: "0.1.0".to_owned(),
        birth: Birth(now),
        started_at: now,
        at: now,
        spool: SpoolReport { bytes: 5 << 20, bytes_max: 10 * GIB, oldest: None },
        disk_free_bytes: Some(80 * GIB),
        disk_reserve_bytes: GIB,
        certificate: Some(CertificateReport { from: now, until: now.after(day * 7) }),
        skew_ms: Some(12),
        datasets: vec![dataset],
        update: None,
        orders: None,
        diagnosis: None,
    }
}

/// One of mosquitto's programs with the certificate of agent `H57.12/may-1`.
fn mosquitto(world: &World, program: &str, more: &[&str]) -> Output {
    let own = world.path("agents/H57.12__may-1");
    let file = |name: &str| own.join(name).display().to_string();
    let mut command = Command::new(program);
    command.args(["-h", "127.0.0.1", "-p", &world.link_port().to_string(), "-V", "mqttv311"]);
    command.args(["--cafile", &file("ca.pem"), "--cert", &file("agent.pem")]);
    command.args(["--key", &file("agent.key")]).args(more);
    command.output().unwrap_or_else(|error| panic!("mosquitto-clients are needed: {error}"))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

fn shown(world: &World, agency: &str) -> Value {
    let text = world.say(&["fleet", "show", agency, "--json"]).1;
    serde_json::Deserializer::from_str(&text).into_iter().next().unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_client_reports_for_its_own_agent_alone_and_hears_its_own_commands_alone() {
    let world = World::start().await;
    let own = "H57.12/may-1";
    let text = String::from_utf8(report(own).to_bytes()).unwrap();
    let publish = |id: &str, topic: &str, message: &str, qos: &str| {
        mosquitto(&world, "mosquitto_pub", &["-i", id, "-t", topic, "-m", message, "-q", qos])
    };
    for qos in ["0", "1"] {
        let done = publish(own, "phusa/H57.12/may-1/report", &text, qos);
        assert!(done.status.success(), "{}", said(&done));
    }
    let found = shown(&world, "H57.12");
    assert_eq!(found[0]["report"]["datasets"][0]["rows"], 120_345, "{found}");
    assert_eq!(found[0]["verdict"]["state"], "late", "it delivered nothing yet: {found}");
    assert_eq!(found[0]["verdict"]["reason"], "nothing_arrived", "{found}");
    let other = String::from_utf8(report("H57.13/may-2").to_bytes()).unwrap();
    // Another's topic, another's name, another's report, quality 2, and what is no report.
    for (id, topic, message, qos) in [
        (own, "phusa/H57.13/may-2/report", text.as_str(), "1"),
        ("H57.13/may-2", "phusa/H57.12/may-1/report", &text, "1"),
        (own, "phusa/H57.12/may-1/report", &other, "1"),
        (own, "phusa/H57.12/may-1/report", &text, "2"),
        (own, "phusa/H57.12/may-1/report", "{}", "1"),
        (own, "phusa/H57.12/may-1/data", &text, "1"),
    ] {
        let refused = publish(id, topic, message, qos);
        assert!(!refused.status.success(), "{id} {topic} {qos}: {}", said(&refused));
    }
    assert!(world.ask("select count(*) = 1 from phusa.fleet_agents").await, "of no other agent");
    let listen = |topic: &str| {
        let wanted = ["-i", own, "-t", topic, "-q", "1", "-W", "1", "-d"];
        said(&mosquitto(&world, "mosquitto_sub", &wanted))
    };
    let granted = listen("phusa/H57.12/may-1/command");
    assert!(granted.contains("Subscribed (mid: 1): 1"), "{granted}");
    for topic in ["#", "phusa/H57.13/may-2/command", "phusa/+/+/command"] {
        let denied = listen(topic);
        assert!(denied.contains("All subscription requests were denied"), "{topic}: {denied}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_will_counts_for_its_own_session_and_a_suspended_agent_has_none() {
    let world = World::start().await;
    let own = "H57.12/may-1";
    let (topic, life) = ("phusa/H57.12/may-1/life", Birth(Timestamp::now()));
    let say = |birth, state| String::from_utf8(Life { birth, state }.to_bytes()).unwrap();
    let told = |message: &str| {
        let done = ["-i", own, "-t", topic, "-m", message, "-q", "1"];
        assert!(mosquitto(&world, "mosquitto_pub", &done).status.success());
    };
    let ended = "select ended = 'lost' from phusa.fleet_agents";
    told(&say(life, Alive::Born));
    told(&say(Birth(Timestamp::UNIX_EPOCH), Alive::Lost));
    assert!(world.ask("select ended is null from phusa.fleet_agents").await, "another's end");
    told(&say(life, Alive::Lost));
    assert!(world.ask(ended).await);
    told(&say(life, Alive::Born));
    assert!(world.ask("select ended is null from phusa.fleet_agents").await, "born anew");
    world.suspend(&world.sender(own)).await;
    let refused = ["-i", own, "-t", topic, "-m", &say(life, Alive::Born), "-q", "1"];
    let refused = mosquitto(&world, "mosquitto_pub", &refused);
    assert!(said(&refused).contains("not authorised"), "{}", said(&refused));
    let (code, found) = world.say(&["fleet", "ls"]);
    assert_eq!(code, 1, "somebody is suspended: {found}");
    assert!(found.contains("Bị đình chỉ (Suspended)"), "{found}");
    world.stop().await;
}

/// How the agents of the picture are, in turn.
fn mood(index: usize, report: &mut Report) -> u64 {
    let trouble =
        |code: &str| Some(Obstacle { code: code.to_owned(), since: Timestamp::UNIX_EPOCH });
    let dataset = report.datasets.first_mut().unwrap();
    match index {
        3 | 250 => return 400,
        7 => dataset.obstacle = trouble("source_schema"),
        8 => dataset.obstacle = trouble("source_login"),
        20..24 => dataset.lag_seconds = 4_000,
        40 => report.spool.bytes = 9 * GIB,
        41 => report.disk_free_bytes = Some(GIB + (GIB >> 1)),
        42 => report.skew_ms = Some(-95_000),
        60..64 => dataset.phase = Phase::Reading,
        _ => {}
    }
    10
}

/// Five hundred agents as they would have been left by the link: their reports, what arrived, a day
/// of figures, and whom to call.
pub(crate) async fn populate(world: &World) {
    let client = world.database().await;
    let columns = "insert into phusa.fleet_agents (agent, report, reported_at, birth) values \
                   ($1, $2, now() - $3::text::interval, '')";
    for index in 0..500 {
        let agent = format!("H57.{index:03}/may-1");
        let mut report = report(&agent);
        let ago = format!("{} s", mood(index, &mut report));
        let text = serde_json::to_string(&report).unwrap();
        client.execute(columns, &[&agent, &text, &ago]).await.unwrap();
    }
    let sql = "
      insert into phusa.streams (agent, dataset, epoch, seq, rows, consistent_at, last_committed_at)
      select agent, 'cong_dan.citizens', 1, 42, 120345, now(), reported_at from phusa.fleet_agents;
      insert into phusa.fleet_history
      select 'H57.007/may-1', date_bin('5 minutes', now(), 'epoch') - n * interval '5 minutes',
             case when n < 12 then (12 - n) * 60 else n * 7 % 13 end,
             1000000 - n * 700 - (n * 7919 % 600), 0, 1000 from generate_series(0, 287) n;
      insert into phusa.contacts (agency, name, position, duty, phone, email, set_by, set_at)
      select split_part(agent, '/', 1), 'Trần Thị Bình', 'Chuyên viên CNTT',
             'Đầu mối kết nối dữ liệu', '0234 3821 ' || right(split_part(agent, '/', 1), 3),
             'binh.tran@example.vn', 'an', now()
      from phusa.fleet_agents where agent <> 'H57.008/may-1';";
    client.batch_execute(sql).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_agents_stand_on_one_page_the_worst_first_with_whom_to_call() {
    let world = World::start().await;
    populate(&world).await;
    let (an, _) = first(&world).await;
    assert_eq!(an.get("/").await.to, "/fleet");
    let page = an.get("/fleet").await;
    let order = ["Mất liên lạc", "Có lỗi", "Chậm", "Cần chú ý", "Chưa báo cáo", "Đang đọc lần đầu"];
    let body = page.between("<tbody>", "</tbody>");
    let places: Vec<_> = order.iter().map(|state| body.find(state)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}");
    let offline = body.split("<tr>").find(|line| line.contains("H57.003/may-1")).unwrap();
    for word in ["Trần Thị Bình", "tel:02343821003", "Không nghe được gì", "Gọi đầu mối", "hạn "]
    {
        assert!(offline.contains(word), "{word} not in {offline}");
    }
    let late = an.get("/fleet?state=late").await.between("<tbody>", "</tbody>");
    assert_eq!(late.matches("<tr>").count(), 4);
    let one = an.get("/fleet/H57.007").await;
    for word in ["source_schema", "binh.tran@example.vn", "polyline", "120.345", "Phiên bản"] {
        assert!(one.text.contains(word), "{word} not in {}", one.text);
    }
    assert_eq!(an.get("/fleet/H99").await.status, 404);
    let (code, watched) = world.say(&["fleet", "watch", "--within", "1s", "--json"]);
    assert_eq!(code, 1, "somebody is needed");
    let line = watched.lines().find(|line| line.contains("H57.003/may-1")).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!((&line["before"], &line["verdict"]["state"]), (&Value::Null, &"offline".into()));
    let (_, watched) = world.say(&["fleet", "watch", "--within", "1s", "--agency", "H57.007"]);
    let line = watched.lines().find(|line| line.contains("H57.007/may-1")).unwrap();
    assert!(line.contains("Có lỗi (Faulted)"), "{line}");
    assert!(!watched.contains("H57.003/may-1"), "of the agency asked for alone: {watched}");
    let counted = world.metrics().await;
    let expected = "phusa_fleet_agents{state=\"offline\"} 2";
    let counted = match counted.contains(expected) {
        true => counted,
        false => world.metrics_when(expected).await,
    };
    assert!(counted.contains("phusa_fleet_agents{state=\"faulted\"} 2"), "{counted}");
    keep_for_looking(&an).await;
    world.stop().await;
}

/// Where `KEEP` names a folder, the pages in both languages, to be looked at.
async fn keep_for_looking(an: &Browser) {
    let pages =
        [("fleet", "/fleet"), ("agency", "/fleet/H57.007"), ("offline", "/fleet?state=offline")];
    an.keep(&pages).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_focal_point_needs_all_five_items_and_a_change_keeps_what_was_before() {
    let world = World::start().await;
    let set = |name: &str, phone: &str| {
        let who = ["--name", name, "--phone", phone, "--position", "Chuyên viên CNTT"];
        let rest = ["--duty", "Đầu mối", "--email", "binh.tran@example.vn", "--by", "an"];
        world.say(&[["fleet", "contact", "set", "H57.12"].as_slice(), &who, &rest].concat())
    };
    assert_eq!(set("Trần Thị Bình", "0234 3821 012").0, 0);
    for (name, phone) in
        [("", "0234 3821 012"), ("Lê Văn Cường", "hỏi trực ban"), ("Lê Văn Cường", "+")]
    {
        let (code, said) = set(name, phone);
        assert!(code == 1 && said.contains("contact_invalid"), "{name} {phone}: {said}");
    }
    assert_eq!(set("Lê Văn Cường", "+84 234 3821 013").0, 0);
    let shown = world.run(&["fleet", "contact", "show", "H57.12"]);
    let names: Vec<_> = shown.lines().map(|line| line.contains("Lê Văn Cường")).collect();
    assert_eq!(names, [true, false], "the newest first: {shown}");
    assert!(world.run(&["fleet", "ls"]).contains("Lê Văn Cường +84 234 3821 013"));
    world.stop().await;
}
