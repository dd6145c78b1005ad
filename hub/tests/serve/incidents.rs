//! Incidents: opened once per cause from what agents report, over, back and closed; and their pages.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use phusa_hub::catalog::Contracts;
use phusa_hub::config::register::Register;
use phusa_hub::fleet::{alarms, health, reports};
use phusa_hub::incidents::closing::{Cause, Closing, close};
use phusa_hub::incidents::{Asked, Incident, find, show};
use phusa_hub::transfers::Log;
use phusa_hub::warehouse::{Settings, Url, Warehouse};
use phusa_protocol::fault::Code;
use phusa_protocol::keys::SigningKey;
use phusa_protocol::report::Report;
use phusa_protocol::time::Timestamp;

use crate::five_hundred::report;
use crate::people::{first, hire};
use crate::world::World;

/// A warehouse without a hub, and a clock that the test sets.
pub(crate) struct Lab {
    _dir: tempfile::TempDir,
    pub(crate) warehouse: Warehouse,
    log: Log,
    begun: Timestamp,
}

impl Lab {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let url = Url::Embedded { dir: dir.path().to_owned() };
        let settings = Settings { url, password: None, tls_ca_pem: None, connections_max: 4 };
        let warehouse = Warehouse::open(&settings).await.unwrap();
        warehouse.migrate().await.unwrap();
        let log = Log::new(SigningKey::generate().unwrap());
        Self { _dir: dir, warehouse, log, begun: Timestamp::now() }
    }

    fn at(&self, seconds: u64) -> Timestamp {
        self.begun.after(Duration::from_secs(seconds))
    }

    /// A report of `H57.12/may-1` arrives.
    async fn hear(&self, seconds: u64, change: impl Fn(&mut Report)) {
        let mut report = report("H57.12/may-1");
        report.at = self.at(seconds);
        change(&mut report);
        let mut client = self.warehouse.client().await.unwrap();
        reports::keep(&mut client, &report, self.at(seconds)).await.unwrap();
    }

    /// The hub looks, and writes down what it finds; what is open then.
    async fn look(&self, seconds: u64) -> Vec<Incident> {
        let mut client = self.warehouse.client().await.unwrap();
        let known = (&Register::default(), &Contracts::default());
        let now = self.at(seconds);
        let all = health::all(&client, known, now).await.unwrap();
        health::keep(&client, &all).await.unwrap();
        alarms::keep(&mut client, &all, Vec::new(), now).await.unwrap();
        let mut open =
            find(&**client, &Asked { open: Some(true), ..Asked::default() }).await.unwrap();
        open.reverse();
        open
    }

    async fn close(&self, incident: i64, note: &str) -> Result<Incident, Code> {
        let closing = Closing { by: "an.nguyen", from: None, cause: Cause::Line, note };
        let mut client = self.warehouse.client().await.unwrap();
        close(&mut client, &self.log, incident, &closing).await.map_err(|fault| fault.code)
    }
}

fn kinds(open: &[Incident]) -> Vec<&str> {
    open.iter().map(|one| one.kind.as_str()).collect()
}

fn told(one: &Incident) -> Vec<String> {
    let first = |what: &str| what.split(" · ").next().unwrap().to_owned();
    one.timeline.iter().map(|event| first(&event.what)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_opens_once_per_cause_ends_returns_and_is_closed_by_a_person_with_an_entry() {
    let lab = Lab::new().await;
    let arrived = |report: &mut Report| report.datasets[0].released_seq = 0;
    lab.hear(0, arrived).await;
    assert!(lab.look(10).await.is_empty(), "it begins");
    // Silent: one incident, however often is looked, and after any restart.
    for seconds in [100, 105, 400] {
        let open = lab.look(seconds).await;
        assert_eq!(kinds(&open), ["heartbeat"], "{seconds}");
        assert_eq!((open[0].count, open[0].holds), (1, true));
    }
    lab.hear(500, arrived).await;
    let open = lab.look(505).await;
    assert_eq!((open[0].count, open[0].holds, open[0].timeline.len()), (1, false, 2));
    let open = lab.look(700).await;
    assert_eq!((open.len(), open[0].count, open[0].holds), (1, 2, true), "back: the same one");
    assert!(told(&open[0])[1..].concat().starts_with("đã qualại xảy ra"), "{:?}", told(&open[0]));
    let number = open[0].incident;
    assert_eq!(lab.close(number, "").await.unwrap_err(), Code::ReasonMissing);
    assert_eq!(lab.close(number + 1, "không có").await.unwrap_err(), Code::IncidentUnknown);
    let closed = lab.close(number, "cáp đứt, đã nối").await.unwrap();
    assert_eq!(
        (closed.closed_by.as_deref(), closed.close_cause.as_deref()),
        (Some("an.nguyen"), Some("line"))
    );
    assert!(lab.look(800).await.is_empty(), "closed while it lasts, it stays closed");
    lab.hear(900, arrived).await;
    assert!(lab.look(905).await.is_empty());
    let open = lab.look(1_100).await;
    assert_eq!((open[0].incident, open[0].count), (number, 3), "back within a day: the same one");
    let client = lab.warehouse.client().await.unwrap();
    let sql = "select entry::json->'deed'->>'on' from phusa.transfers where kind = 'operator' \
               and entry::json->'deed'->>'action' = 'incident_close'";
    let entries = client.query(sql, &[]).await.unwrap();
    let on: Vec<String> = entries.iter().map(|row| row.get(0)).collect();
    assert_eq!(on, [format!("{number} heartbeat H57.12/may-1 line")], "one entry, nothing typed");
    lab.warehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lateness_faults_disk_and_certificate_open_their_own_incidents_and_silence_ends_none() {
    let lab = Lab::new().await;
    lab.hear(0, |report| {
        report.datasets[0].lag_seconds = 4_000;
        report.spool.bytes = report.spool.bytes_max;
        report.certificate = report.certificate.map(|mut certificate| {
            certificate.from = certificate.until.before(Duration::from_secs(90 * 86_400));
            certificate
        });
    })
    .await;
    let open = lab.look(5).await;
    let mut found = kinds(&open);
    found.sort_unstable();
    assert_eq!(found, ["certificate", "disk", "lateness"]);
    let late = open.iter().find(|one| one.kind == "lateness").unwrap();
    assert_eq!(late.dataset.as_deref(), Some("cong_dan.citizens"));
    // Nothing is known of them while the agent is away.
    let open = lab.look(200).await;
    assert_eq!(open.len(), 4);
    assert!(open.iter().all(|one| one.holds), "{open:?}");
    lab.hear(300, |report| report.datasets[0].released_seq = 0).await;
    let open = lab.look(305).await;
    assert!(open.iter().all(|one| !one.holds), "{open:?}");
    let client = lab.warehouse.client().await.unwrap();
    let story = show(&**client, late.incident).await.unwrap();
    assert_eq!(told(&story).last().unwrap(), "đã qua");
    drop(client);
    lab.warehouse.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn incidents_are_seen_by_right_closed_in_two_steps_and_taken_out_as_files() {
    let world = World::start().await;
    let client = world.database().await;
    let sql = "
      insert into phusa.incidents (kind, cause_key, agent, cause, opened_at, last_at, timeline, holds)
      select 'heartbeat', 'k' || n, 'H57.1' || n || '/may-1', 'im lặng · silent', now(), now(),
             '[{\"at\":\"2026-11-26T08:00:00Z\",\"what\":\"im lặng · silent\"}]', true
      from generate_series(2, 3) n;
      insert into phusa.contacts (agency, name, position, duty, phone, email, set_by, set_at)
      values ('H57.12', 'Trần Thị Bình', 'CV', 'Đầu mối', '0234 3821 012', 'b@example.vn', 'an', now())";
    client.batch_execute(sql).await.unwrap();
    let (an, _) = first(&world).await;
    let (unit, _) = hire(&world, &an, ("h57-12.it", "unit_admin", "H57.12")).await;
    let all = an.get("/incidents").await.between("<tbody>", "</tbody>");
    assert_eq!(all.matches("<tr>").count(), 2);
    assert!(all.contains("tel:02343821012") && all.contains("Chưa ghi đầu mối"), "{all}");
    let own = unit.get("/incidents").await.between("<tbody>", "</tbody>");
    assert!(own.matches("<tr>").count() == 1 && own.contains("H57.12/may-1"), "{own}");
    assert_eq!(
        (unit.get("/incidents/2").await.status, an.get("/incidents/2").await.status),
        (404, 200)
    );
    let fields = [("cause", "line"), ("note", "đã nối lại")];
    let refused = unit.submit("/own", "/incidents/1", &fields).await;
    assert_eq!(refused.status, 403, "a unit's administrator closes none");
    let asked = an.submit("/incidents/1", "/incidents/1", &fields).await;
    assert!(asked.status == 200 && asked.text.contains("Đóng sự cố 1?"), "{}", asked.text);
    assert!(world.ask("select count(*) = 2 from phusa.incidents where closed_at is null").await);
    let meant = [fields.as_slice(), &[("meant", "1")]].concat();
    assert_eq!(an.submit("/incidents/1", "/incidents/1", &meant).await.to, "/incidents/1");
    let shown = an.get("/incidents/1").await.text;
    assert!(shown.contains("đường truyền") && shown.contains("an.nguyen"), "{shown}");
    let csv = an.get("/incidents/file/csv?state=all").await.text;
    assert_eq!(csv.trim().lines().count(), 3, "{csv}");
    let word = world.path("su-co.docx").display().to_string();
    world.run(&["incident", "export", "--format", "docx", "--out", &word]);
    let checked =
        std::process::Command::new("python3").args(["-c", CHECK_WORD, &word]).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let (code, said) = world.say(&["incident", "ls"]);
    assert!(code == 1 && said.contains("H57.13/may-1") && !said.contains("H57.12"), "{said}");
    let entries = "select count(*) = 4 from phusa.transfers where kind = 'operator' \
                   and entry::json->'deed'->>'action' like 'incident%'";
    assert!(world.ask(entries).await, "a refused try, a closing and two files");
    world.log_verify();
    world.stop().await;
}

/// Another program opens the Word file and finds its rows.
const CHECK_WORD: &str = "
import sys, zipfile, xml.etree.ElementTree as E
z = zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None
t = E.fromstring(z.read('word/document.xml'))
w = '{http://schemas.openxmlformats.org/wordprocessingml/2006/main}'
rows = list(t.iter(w + 'tr')); assert len(rows) == 3, len(rows)
assert 'đã nối lại' in ''.join(t.itertext())
";
