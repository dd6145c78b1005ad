//! What people do with the fleet at the portal: orders for several agents, contacts, maintenance; and pages
//! that change by themselves while somebody looks.

use std::time::{Duration, Instant};

use phusa_protocol::batch::Phase;
use phusa_protocol::change::Op;
use phusa_protocol::time::Timestamp;
use serde_json::Value;

use crate::five_hundred::report;
use crate::people::{first, hire};
use crate::world::World;

const OWN: &str = "H57.12/may-1";

/// A report of an agent as the link would have left it, so long ago.
async fn heard(world: &World, agent: &str, ago: &str) {
    let text = serde_json::to_string(&report(agent)).unwrap();
    let sql = "insert into phusa.fleet_agents (agent, report, reported_at, birth) \
               values ($1, $2, now() - $3::text::interval, '') \
               on conflict (agent) do update set reported_at = excluded.reported_at";
    world.database().await.execute(sql, &[&agent, &text, &ago]).await.unwrap();
}

fn listed(world: &World, arguments: &[&str]) -> Value {
    let text = world.say(arguments).1;
    serde_json::Deserializer::from_str(&text).into_iter().next().unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn chosen_agents_are_paused_and_resumed_by_right_after_being_asked_back_with_a_reason() {
    let world = World::start().await;
    let mut agent = world.sender(OWN);
    agent.send(&agent.clone().seal(Phase::Read, false, &[(Op::Snapshot, 1, "An")])).await.unwrap();
    agent.skip(1);
    let (an, _) = first(&world).await;
    let (own, _) = hire(&world, &an, ("h57-12.it", "unit_admin", "H57.12")).await;
    let (other, _) = hire(&world, &an, ("h57-13.it", "unit_admin", "H57.13")).await;
    let (inspector, _) = hire(&world, &an, ("thanh.tra", "inspector", "")).await;
    let pause = [("do", "pause"), ("agent", OWN)];
    let meant = |because| [pause.as_slice(), &[("meant", "1"), ("because", because)]].concat();
    let order = "/fleet/orders";
    assert_eq!(inspector.submit("/own", order, &pause).await.status, 403, "reads, changes nothing");
    assert_eq!(other.submit("/own", order, &pause).await.status, 422, "sees no such agent");
    let asked = own.submit("/fleet", order, &pause).await;
    for word in ["Tạm dừng gửi?", "không mất gì", OWN, "cong_dan.citizens", "Chưa ghi đầu mối"]
    {
        assert!(asked.text.contains(word), "{word} not in {}", asked.text);
    }
    assert_eq!(own.submit("/fleet", order, &meant("")).await.status, 422, "a reason is asked for");
    assert_eq!(listed(&world, &["fleet", "orders", "--json"]), Value::Array(vec![]));
    let done = own.submit("/fleet", order, &meant("bảo trì đường truyền")).await;
    assert!(done.status == 200 && done.text.contains("1 / 1"), "{}", done.text);
    let open = listed(&world, &["fleet", "orders", "--json"]);
    assert_eq!(
        (&open[0]["kind"], &open[0]["by"]),
        (&"pause".into(), &"h57-12.it".into()),
        "{open}"
    );
    let twice = an.submit("/fleet", order, &meant("lần nữa")).await;
    assert!(twice.text.contains("0 / 1") && twice.text.contains("order_refused"), "{}", twice.text);
    let resume =
        [("do", "resume"), ("agent", OWN), ("meant", "1"), ("because", "xong việc"), ("form", "x")];
    assert_eq!(an.submit("/fleet", order, &resume[..4]).await.status, 200);
    assert_eq!(an.post(order, &resume).await.status, 403, "of no form of this session");
    let all = listed(&world, &["fleet", "orders", "--all", "--json"]);
    assert_eq!(all[0]["state"], "cancelled", "{all}");
    let entries = "select count(*) = 3 from phusa.transfers where kind = 'operator' \
                   and entry::json->'deed'->>'action' like 'fleet%' \
                   and (entry::json->'deed'->>'from') is not null";
    assert!(world.ask(entries).await, "a refused try, a pause, its end");
    world.log_verify();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_asked_on_the_page_what_is_wrong_unless_its_program_does_not_know_that() {
    let world = World::start().await;
    let (an, _) = first(&world).await;
    let (inspector, _) = hire(&world, &an, ("thanh.tra", "inspector", "")).await;
    heard(&world, OWN, "5 s").await;
    let order = "/fleet/orders";
    let meant = |kind| [("do", kind), ("agent", OWN), ("meant", "1"), ("because", "kiểm tra")];
    let asked = an.submit("/fleet", order, &meant("diagnose")[..2]).await;
    for word in ["Lấy thông tin chẩn đoán?", "Không có bản ghi, tên, địa chỉ", OWN]
    {
        assert!(asked.text.contains(word), "{word} not in {}", asked.text);
    }
    let older = an.submit("/fleet", order, &meant("diagnose")).await;
    assert!(older.text.contains("does not know `diagnose`"), "{}", older.text);
    let database = world.database().await;
    let newer = phusa_protocol::report::Report {
        orders: Some(phusa_protocol::orders::OrdersReport::default()),
        ..report(OWN)
    };
    let text = serde_json::to_string(&newer).unwrap();
    let sql = "update phusa.fleet_agents set report = $2 where agent = $1";
    database.execute(sql, &[&OWN, &text]).await.unwrap();
    for kind in ["diagnose", "rotate", "check_update"] {
        let done = an.submit("/fleet", order, &meant(kind)).await;
        assert!(done.text.contains("1 / 1"), "{kind}: {}", done.text);
    }
    let all = listed(&world, &["fleet", "orders", "--json"]);
    let numbers = [0, 2].map(|n: usize| all[n]["order"].to_string());
    let [newest, asking] = &numbers;
    let back = [("order", newest.as_str())];
    assert_eq!(inspector.submit("/own", "/fleet/orders/cancel", &back).await.status, 403);
    an.submit("/fleet/H57.12", "/fleet/orders/cancel", &back).await;
    let said = phusa_protocol::report::Report {
        diagnosis: Some(Box::new(phusa_protocol::diagnosis::Diagnosis {
            order: asking.parse().unwrap(),
            platform: "linux x86_64 6.12".to_owned(),
            memory_kib: Some(20_480),
            processors: 4,
            settings: vec![phusa_protocol::diagnosis::Setting {
                key: "guard.snapshot_workers".to_owned(),
                value: "2".to_owned(),
            }],
            faults: vec![phusa_protocol::diagnosis::Lately {
                code: "hub_unreachable".to_owned(),
                count: 3,
                last: Timestamp::now(),
            }],
        })),
        ..newer
    };
    let sql = "insert into phusa.fleet_diagnoses (agent, fleet_order, told_at, report) \
               values ($1, $2, now(), $3)";
    let (number, text): (i64, _) = (asking.parse().unwrap(), serde_json::to_string(&said).unwrap());
    database.execute(sql, &[&OWN, &number, &text]).await.unwrap();
    let page = inspector.get("/fleet/H57.12").await;
    let words =
        ["Chẩn đoán của", "hub_unreachable", "guard.snapshot_workers", "Đã rút", "Đang chờ"];
    for word in words {
        assert!(page.text.contains(word), "{word} not in {}", page.text);
    }
    assert!(!page.text.contains("Rút lại"), "an inspector changes nothing");
    let shown = world.say(&["fleet", "show", "H57.12"]).1;
    assert!(shown.contains("hub_unreachable × 3"), "{shown}");
    world.log_verify();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn contacts_are_changed_by_right_each_change_an_entry_without_names() {
    let world = World::start().await;
    let (an, _) = first(&world).await;
    let (own, _) = hire(&world, &an, ("h57-12.it", "unit_admin", "H57.12")).await;
    let (inspector, _) = hire(&world, &an, ("thanh.tra", "inspector", "")).await;
    let fields = |name, phone| {
        let who = [("level", "head"), ("name", name), ("phone", phone), ("position", "Giám đốc")];
        [who.as_slice(), &[("duty", "Thủ trưởng"), ("email", "c@example.vn")]].concat()
    };
    let good = fields("Lê Văn Cường", "0234 3821 013");
    assert_eq!(own.submit("/own", "/contacts/H57.13", &good).await.status, 404);
    assert_eq!(inspector.submit("/own", "/contacts/H57.12", &good).await.status, 403);
    let wrong = own.submit("/own", "/contacts/H57.12", &fields("Lê Văn Cường", "trực ban")).await;
    assert!(wrong.status == 422 && wrong.text.contains("Lê Văn Cường"), "{}", wrong.text);
    assert_eq!(own.submit("/own", "/contacts/H57.12", &good).await.to, "/contacts/H57.12");
    let page = own.get("/contacts").await;
    assert!(page.text.contains("Lê Văn Cường") && page.text.contains("Chưa ghi đầu mối"));
    assert!(!page.text.contains("H57.13"), "of the own unit alone");
    let entry = "select count(*) = 1 from phusa.transfers where kind = 'operator' \
                 and entry::json->'deed'->>'on' = 'H57.12 head' and entry not like '%Cường%'";
    assert!(world.ask(entry).await);
    world.log_verify();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn maintenance_is_announced_a_day_ahead_or_in_an_emergency_and_excuses_whom_it_names() {
    let world = World::start().await;
    heard(&world, OWN, "400 s").await;
    let hours = |hours: u64| Timestamp::now().after(Duration::from_secs(hours * 3_600)).to_string();
    let create = |from: u64, more: &[&str]| {
        let (from, until) = (hours(from), hours(from + 2));
        let what = ["notice", "create", "--title", "Nâng cấp", "--from", &from, "--until", &until];
        world.say(&[what.as_slice(), &["--agency", "H57.12", "--by", "an"], more].concat())
    };
    let (code, said) = create(23, &[]);
    assert!(code == 1 && said.contains("notice_refused"), "{said}");
    assert_eq!(create(25, &[]).0, 0);
    assert_eq!(create(0, &["--emergency"]).0, 2, "an emergency has a reason");
    let state = || listed(&world, &["fleet", "ls", "--json"])[0]["verdict"]["state"].clone();
    assert_eq!(state(), "offline");
    let (code, said) = create(0, &["--emergency", "--because", "hỏng đĩa"]);
    assert!(code == 0 && said.contains("(notice) 2"), "{said}");
    assert_eq!(state(), "maintenance");
    let (an, _) = first(&world).await;
    let (unit, _) = hire(&world, &an, ("h57-12.it", "unit_admin", "H57.12")).await;
    let page = an.get("/fleet").await.text;
    for word in ["Đang bảo trì", "Sắp bảo trì", "Nâng cấp"] {
        assert!(page.contains(word), "{word} not in {page}");
    }
    let fields =
        [("title", "Thay máy chủ"), ("from", "2026-01-01T08:00"), ("until", "2026-01-01T09:00")];
    assert_eq!(unit.submit("/own", "/notices", &fields).await.status, 403);
    let late = an.submit("/notices", "/notices", &fields).await;
    assert!(late.status == 422 && late.text.contains("24 giờ (CB-16)"), "{}", late.text);
    assert_eq!(an.submit("/notices", "/notices/2", &[]).await.to, "/notices");
    assert_eq!(state(), "offline", "taken back");
    let (code, said) = world.say(&["notice", "withdraw", "2", "--by", "an.nguyen"]);
    assert!(code == 1 && said.contains("notice_unknown"), "{said}");
    let entries = "select count(*) = 4 from phusa.transfers where kind = 'operator' \
                   and entry::json->'deed'->>'action' like 'notice%'";
    assert!(world.ask(entries).await, "two announced, one refused by right, one taken back");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_seen_within_two_seconds_and_a_session_that_ended_sees_nothing_more() {
    let world = World::start().await;
    heard(&world, OWN, "1 s").await;
    let (an, _) = first(&world).await;
    let page = an.get("/fleet").await.text;
    assert!(page.contains("data-from=\"/live/fleet?\"") && page.contains("src=\"/live.js\""));
    assert!(an.get("/live.js").await.text.contains("EventSource"));
    let database = world.database().await;
    let away = "update phusa.sessions set seen_at = now() - interval '10 min'";
    database.batch_execute(away).await.unwrap();
    let mut stream = an.stream("/live/fleet").await;
    let used = "select bool_and(seen_at < now() - interval '9 min') from phusa.sessions";
    assert!(world.ask(used).await, "to look is no use of a session");
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let begun = next_with(&mut stream, "H57.12/may-1").await;
    assert!(!begun.contains("Không nghe được gì"), "{begun}");
    heard(&world, OWN, "400 s").await;
    let changed = Instant::now();
    next_with(&mut stream, "Không nghe được gì").await;
    let took = changed.elapsed();
    println!("a change was seen after {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(world.run(&["account", "kill", "an.nguyen"]).contains("1 phiên"));
    let killed = Instant::now();
    while stream.chunk().await.unwrap().is_some() {}
    let took = killed.elapsed();
    println!("the stream ended {took:?} after its session");
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(an.get("/live/fleet").await.to, "/login");
    world.stop().await;
}

/// Reads events until one has this text.
async fn next_with(stream: &mut reqwest::Response, text: &str) -> String {
    let mut read = String::new();
    let looked = async {
        while !read.contains(text) {
            let chunk = stream.chunk().await.unwrap().unwrap();
            read.push_str(&String::from_utf8_lossy(&chunk));
        }
    };
    tokio::time::timeout(Duration::from_secs(20), looked)
        .await
        .unwrap_or_else(|_| panic!("no {text}"));
    read
}
