//! Reports over the link by stock clients of MQTT, and the pages that tell how five hundred agents are.

use std::process::{Command, Output};

use phusa_protocol::ids::AgentId;
use phusa_protocol::orders::{OrdersReport, SignedOrders, Told, Want};
use phusa_protocol::report::{Alive, Birth, Channel, Life, Report};
use phusa_protocol::time::Timestamp;
use serde_json::Value;

use crate::five_hundred::{populate, report};
use crate::people::{Browser, first};
use crate::world::World;

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

/// What a client of Eclipse Paho with the certificate of agent `H57.12/may-1` says came of it.
fn paho(world: &World, more: &[&str]) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/serve/paho_client.py");
    let mut command = Command::new("/usr/bin/python3");
    command.arg(script).arg(world.path("agents/H57.12__may-1"));
    let done = command.arg(world.link_port().to_string()).args(more).output().unwrap();
    assert!(done.status.success(), "python3-paho-mqtt is needed: {}", said(&done));
    said(&done).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paho_client_reports_hears_its_orders_answers_them_and_is_cut_off_elsewhere() {
    let world = World::start().await;
    let own = AgentId::try_from("H57.12/may-1".to_owned()).unwrap();
    let own_text = own.to_string();
    let topic = Channel::Report.topic(&own);
    let mut report = Report { orders: Some(OrdersReport::default()), ..report(&own_text) };
    let text = |report: &Report| String::from_utf8(report.to_bytes()).unwrap();
    let publish = |topic: &str, report: &Report, quality: &str| {
        paho(&world, &[&own_text, "publish", topic, &text(report), quality])
    };
    assert_eq!(publish(&topic, &report, "1"), "acknowledged");
    assert_eq!(shown(&world, "H57.12")[0]["report"]["datasets"][0]["rows"], 120_345);

    world.run(&["fleet", "check-update", &own_text, "--because", "thử"]);
    let heard = paho(&world, &[&own_text, "listen", &Channel::Command.topic(&own)]);
    let orders = heard.strip_prefix("granted 1\n").unwrap_or_else(|| panic!("{heard}"));
    let orders = SignedOrders::read(orders.as_bytes()).unwrap();
    let orders = orders.open(&world.hub_key(), &own).unwrap();
    assert_eq!(orders.orders[0].want, Want::CheckUpdate);
    let told = vec![Told::done(orders.orders[0].order)];
    report.orders = Some(OrdersReport { number: orders.number, told, ..OrdersReport::default() });
    assert_eq!(publish(&topic, &report, "1"), "acknowledged");
    let all: Value =
        serde_json::from_str(&world.run(&["fleet", "orders", "--all", "--json"])).unwrap();
    assert_eq!((&all[0]["kind"], &all[0]["state"]), (&"check_update".into(), &"done".into()));

    for (topic, quality) in [
        ("phusa/H57.13/may-2/report", "1"),
        ("phusa/H57.12/may-1/command", "1"),
        (topic.as_str(), "2"),
    ] {
        assert_eq!(publish(topic, &report, quality), "cut", "{topic} {quality}");
    }
    for topic in ["phusa/H57.13/may-2/command", "phusa/+/+/command", "#"] {
        assert_eq!(paho(&world, &[&own_text, "listen", topic]), "granted 128\ndenied", "{topic}");
    }
    assert!(world.ask("select count(*) = 1 from phusa.fleet_agents").await, "of no other agent");
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

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_agents_stand_on_one_page_the_worst_first_with_whom_to_call() {
    let world = World::start().await;
    populate(&world.database().await, "cong_dan.citizens").await;
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
