//! A collector of security events is told of everything, in order, whatever happens to it on the way.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use phusa_protocol::fault::Code;
use phusa_protocol::time::Timestamp;
use phusa_tests::collector::Collector;
use phusa_tests::database::free_port;
use phusa_tests::folder::Folder;
use phusa_tests::process::{Process, output, wait_until};
use phusa_tests::province::ARRIVES_WITHIN;
use phusa_tests::syslog::Message;
use serde_json::Value;

use crate::house::{AGENCY, House, assert_fault, text};

/// The longest from a commit to the collector (HU-31).
const TOLD_WITHIN: Duration = Duration::from_secs(5);

/// Numbers of all entries the hub has, once that many are published.
fn numbers(house: &House) -> Vec<u64> {
    let exported = text(&house.province.hub(&["log", "export"]));
    let number = |line: &str| serde_json::from_str::<Value>(line).ok()?["number"].as_u64();
    exported.lines().filter_map(number).collect()
}

/// Changes so many rows one by one, so that each is a batch of its own.
async fn change(house: &House, ids: std::ops::Range<u32>) {
    for id in ids {
        house.database.psql(&format!("update people set name = 'Đổi {id}' where id = {id}"));
        house.settle().await;
    }
}

/// Waits until both collectors together have every entry; each told them in order, from where it
/// began.
async fn all_told(house: &House, before: &[u64], collector: &Collector) {
    wait_until("every entry to be told", ARRIVES_WITHIN, async || {
        let all = numbers(house);
        let told = collector.numbers();
        all.iter().all(|number| before.contains(number) || told.contains(number)).then_some(())
    })
    .await;
    let told = collector.numbers();
    let in_order = told.windows(2).all(|pair| pair[1] == pair[0] + 1);
    assert!(in_order, "told {told:?}");
}

/// Knocks at the hub without a certificate, which is an event of security and no entry.
fn knock(house: &House) {
    let at = format!("127.0.0.1:{}", house.province.hub_port());
    let mut knock = Command::new("openssl");
    let knocked = output(knock.args(["s_client", "-connect", &at]).stdin(Stdio::null()));
    println!("knocked: {}", knocked.status);
}

async fn knocks_are_told(house: &House, collector: &Collector) {
    knock(house);
    let began = Timestamp::now();
    wait_until("the knock to be told", ARRIVES_WITHIN, async || {
        let told = collector.received();
        told.iter().any(|(_, message)| message.id == "security.own_certificate").then_some(())
    })
    .await;
    println!("a knock was told after {:?}", Timestamp::now().since(began));
    assert!(Timestamp::now().since(began) < TOLD_WITHIN);
}

/// How long the slowest of these took from its commit to the collector.
fn slowest<'a>(told: impl Iterator<Item = &'a (Timestamp, Message)>) -> Duration {
    let committed = |message: &Message| Timestamp::try_from(message.time.clone()).unwrap();
    told.map(|(at, message)| at.since(committed(message))).max().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_was_away_gets_every_entry_in_order_and_each_new_one_within_5_seconds() {
    let port = free_port();
    let siem = format!(
        "\n[siem]\nto = \"tcp://127.0.0.1:{port}\"\nalarm_after = \"2s\"\nhost = \"hub.tinh\"\n"
    );
    let mut house = House::new("", &siem);
    house.province.start_hub();
    house.province.start_agent(AGENCY);
    assert_eq!(house.settle().await, 200);
    wait_until("the alarm", ARRIVES_WITHIN, async || {
        let said = text(&house.province.hub(&["incident", "ls"]));
        said.contains("has not been reached").then_some(())
    })
    .await;
    let page = house.province.page("/metrics");
    assert!(
        page.contains("phusa_siem_connected 0") && !page.contains("phusa_siem_behind 0"),
        "{page}"
    );

    let collector = Collector::start(port).await;
    all_told(&house, &[], &collector).await;
    knocks_are_told(&house, &collector).await;
    let before = collector.numbers().len();
    change(&house, 1..6).await;
    all_told(&house, &[], &collector).await;
    let told = collector.received();
    let entries = told.iter().filter(|(_, message)| message.data.contains_key("number"));
    let slowest = slowest(entries.skip(before));
    println!("entries after the first {before}, the slowest after {slowest:?}");
    assert!(slowest < TOLD_WITHIN, "{slowest:?}");
    let incident = told.iter().find(|(_, message)| message.id == "incident.opened").unwrap();
    assert_eq!(incident.1.data["kind"], "siem");

    // It goes with whatever it has not read, and is away while more comes.
    let first = collector.numbers();
    drop(collector);
    change(&house, 6..11).await;
    let collector = Collector::start(port).await;
    all_told(&house, &first, &collector).await;
    let second = collector.numbers();
    println!("told before {first:?} and after {second:?}");
    // What may not have arrived is told again; nothing is left out.
    assert!(second[0] <= first.last().unwrap() + 1);
    let words: Vec<String> = told
        .iter()
        .chain(&collector.received())
        .map(|(_, message)| format!("{message:?}"))
        .collect();
    assert!(words.iter().all(|word| !word.contains("Nguyễn") && !word.contains("Đổi")));
    assert!(words.iter().all(|word| word.contains("hub.tinh")));
    let push = collector.received().into_iter().find(|(_, message)| message.id == "entry.push");
    println!("{:?}", push.unwrap().1);

    // Told once more after a start: only what was not known to have arrived.
    assert!(house.province.hub_process().stop().success());
    house.province.start_hub_with(&[]);
    change(&house, 11..12).await;
    wait_until("the cursor to go on", ARRIVES_WITHIN, async || {
        let all = numbers(&house);
        (collector.numbers().last() == all.last()).then_some(())
    })
    .await;
    let third = collector.numbers();
    println!("after a restart {:?}", &third[second.len()..]);
    assert!(third[second.len()] == second.last().unwrap() + 1, "an orderly end is believed");
    house.nothing_is_lost(200).await;
}

/// A real rsyslog that takes RFC 5424 by TLS and writes what it understood.
fn rsyslog(folder: &Arc<Folder>, hub: &Path, port: u16) -> Process {
    let out = folder.path().join("told.log");
    let text = format!(
        "global(workDirectory=\"{folder}\" defaultNetstreamDriver=\"gtls\" \
         defaultNetstreamDriverCAFile=\"{hub}/ca.pem\" \
         defaultNetstreamDriverCertFile=\"{hub}/hub.pem\" \
         defaultNetstreamDriverKeyFile=\"{hub}/hub.key\")\n\
         module(load=\"imtcp\" streamdriver.name=\"gtls\" streamdriver.mode=\"1\" \
         streamdriver.authmode=\"anon\")\n\
         template(name=\"told\" type=\"string\" \
         string=\"%app-name%|%hostname%|%syslogfacility%|%msgid%|%structured-data%|%msg%\\n\")\n\
         input(type=\"imtcp\" port=\"{port}\" address=\"127.0.0.1\" ruleset=\"all\")\n\
         ruleset(name=\"all\") {{ action(type=\"omfile\" file=\"{out}\" template=\"told\") }}\n",
        folder = folder.path().display(),
        hub = hub.display(),
        out = out.display(),
    );
    let config = folder.path().join("rsyslog.conf");
    fs::write(&config, text).unwrap();
    let mut command = Command::new("/usr/sbin/rsyslogd");
    command.arg("-n").arg("-f").arg(&config).arg("-i").arg(folder.path().join("rsyslog.pid"));
    Process::start(folder, "rsyslog", &mut command)
}

#[tokio::test(flavor = "multi_thread")]
async fn rsyslog_understands_every_entry_by_tls_and_misses_none_when_it_was_away() {
    if !Path::new("/usr/sbin/rsyslogd").exists() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "no rsyslog in CI");
        println!("skipped: rsyslog is not installed; packaging/setup --tests installs it");
        return;
    }
    let port = free_port();
    let siem = format!("\n[siem]\nto = \"tls://127.0.0.1:{port}\"\nca_file = \"ca.pem\"\n");
    let mut house = House::new("", &siem);
    let checked = text(&house.province.hub(&["check"]));
    println!("{checked}");
    assert!(checked.contains("chưa tới được (not reached)"), "{checked}");
    let (folder, hub) = (Arc::new(Folder::new()), house.province.hub_folder());
    let mut collector = rsyslog(&folder, &hub, port);
    house.province.start_hub();
    house.province.start_agent(AGENCY);
    assert_eq!(house.settle().await, 200);
    let told = async |house: &House| {
        wait_until("rsyslog to have every entry", ARRIVES_WITHIN, async || {
            let written = fs::read_to_string(folder.path().join("told.log")).unwrap_or_default();
            let number = |line: &str| {
                let (_, rest) = line.split_once("[phusa@32473 number=\"")?;
                rest.split('"').next()?.parse::<u64>().ok()
            };
            let told: Vec<u64> = written.lines().filter_map(number).collect();
            let all = numbers(house);
            all.iter().all(|number| told.contains(number)).then_some((written, told))
        })
        .await
    };
    let (written, first) = told(&house).await;
    let line = written.lines().find(|line| line.contains("entry.push")).unwrap();
    println!("{line}");
    assert!(line.starts_with("phusa-hub|") && line.contains("|entry.push|[phusa@32473 number="));
    assert!(text(&house.province.hub(&["check"])).contains("tới được (reached)"));

    collector.kill();
    change(&house, 1..4).await;
    let _collector = rsyslog(&folder, &hub, port);
    let (written, all) = told(&house).await;
    let mut seen = BTreeMap::new();
    for number in &all {
        *seen.entry(*number).or_insert(0) += 1;
    }
    println!("before {} and in all {} lines of {} entries", first.len(), all.len(), seen.len());
    assert!(!written.contains("Nguyễn") && !written.contains("Đổi"));
    let firsts: Vec<u64> = {
        let mut known = Vec::new();
        all.iter()
            .filter(|number| {
                !known.contains(*number) && {
                    known.push(**number);
                    true
                }
            })
            .copied()
            .collect()
    };
    assert!(firsts.is_sorted(), "{firsts:?}");
    house.nothing_is_lost(200).await;
}

#[test]
fn a_collector_that_cannot_be_is_refused_with_its_place() {
    let house = House::new("", "");
    let config = house.province.hub_config();
    let sound = fs::read_to_string(&config).unwrap();
    let cases = [
        ("to = \"siem:6514\"", "`to` is none of"),
        ("to = \"tls://siem:6514\"", "`tls://` needs `ca_file`"),
        ("to = \"udp://siem:514\"\nform = \"json\"", "`udp://` carries syslog alone"),
        ("to = \"file:siem.jsonl\"", "set `form = \"json\"`"),
        ("to = \"tcp://siem:514\"\nca_file = \"ca.pem\"", "are for `tls://` alone"),
        ("to = \"tls://siem:6514\"\nca_file = \"hub.key\"", "holds no certificates"),
        ("to = \"tcp://siem:514\"\nalarm_after = \"0s\"", "`alarm_after` must be 1s to 7d"),
        ("to = \"tcp://siem:0\"", "`to` is none of"),
    ];
    for (part, expected) in cases {
        fs::write(&config, format!("{sound}\n[siem]\n{part}\n")).unwrap();
        let said = house.province.hub(&["check"]);
        assert_eq!(said.status.code(), Some(78), "{}", text(&said));
        assert_fault(&text(&said), Code::ConfigInvalid);
        assert!(text(&said).contains(expected), "{part}: {}", text(&said));
    }
}
