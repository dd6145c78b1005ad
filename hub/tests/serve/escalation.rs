//! People are told of incidents: by a real mail server and a webhook, over outages and a killed hub, once.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hmac::{Hmac, Mac as _};
use serde_json::Value;

use crate::world::{World, free_port};

/// A mail server (aiosmtpd) under TLS that prints what it takes; it ends with its input.
const SERVER: &str = "
import json, ssl, sys
from email import message_from_bytes, policy
from aiosmtpd.controller import Controller
class Taker:
    async def handle_DATA(self, server, session, envelope):
        mail = message_from_bytes(envelope.content, policy=policy.default)
        print(json.dumps({'to': envelope.rcpt_tos, 'subject': mail['subject'],
            'id': mail['message-id'], 'body': mail.get_content()}), flush=True)
        return '250 OK'
secured = ssl.SSLContext(ssl.PROTOCOL_TLS)
secured.load_cert_chain(sys.argv[2], sys.argv[3])
Controller(Taker(), hostname='127.0.0.1', port=int(sys.argv[1]), ssl_context=secured).start()
sys.stdin.read()
";

pub(crate) type Taken = Arc<Mutex<Vec<Value>>>;

/// Servers in Python that print what they take as JSON, a line each, and end with their input.
pub(crate) struct Servers {
    child: Child,
    pub(crate) taken: Taken,
}

impl Servers {
    /// Runs `script` with these ports, and the hub's certificate and key, as its arguments.
    pub(crate) fn start(world: &World, script: &str, ports: &[u16]) -> Self {
        let file = |name: &str| world.path(name).display().to_string();
        let mut child = Command::new("/usr/bin/python3")
            .args(["-W", "ignore", "-c", script])
            .args(ports.iter().map(u16::to_string))
            .args([file("hub/hub.pem"), file("hub/hub.key")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (taken, lines) = (Taken::default(), BufReader::new(child.stdout.take().unwrap()));
        let into = Arc::clone(&taken);
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                into.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        Self { child, taken }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ended = self.child.wait();
    }
}

/// Whoever is called: refuses the first call, and keeps the others whose signature holds.
fn called(listener: TcpListener) -> Taken {
    let taken = Taken::default();
    let into = Arc::clone(&taken);
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().map_while(Result::ok).enumerate() {
            let call = read_call(stream, if number == 0 { "503 Busy" } else { "200 OK" });
            if number > 0 {
                into.lock().unwrap().push(call);
            }
        }
    });
    taken
}

fn read_call(mut stream: TcpStream, answer: &str) -> Value {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut time, mut signature, mut length) = (String::new(), String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim().split_once(": ") else {
            if line.trim().is_empty() {
                break;
            }
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "x-phusa-time" => value.clone_into(&mut time),
            "x-phusa-signature" => value.clone_into(&mut signature),
            "content-length" => length = value.parse().unwrap(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let body = String::from_utf8(body).unwrap();
    write!(stream, "HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"khoa-bi-mat").unwrap();
    mac.update(format!("{time}.{body}").as_bytes());
    let expected: String =
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(signature, format!("sha256={expected}"));
    serde_json::from_str(&body).unwrap()
}

pub(crate) fn open(kind: &str, agent: &str) -> String {
    format!(
        "insert into phusa.incidents (kind, cause_key, agent, cause, opened_at, last_at, timeline) \
         values ('{kind}', '{kind} {agent}', nullif('{agent}', ''), 'lệch · differs', now(), now(), '[]')"
    )
}

pub(crate) async fn until(taken: &Taken, count: usize, what: &str) -> Vec<Value> {
    let looked = async {
        while taken.lock().unwrap().len() < count {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let done = tokio::time::timeout(Duration::from_secs(60), looked).await;
    let found = taken.lock().unwrap().clone();
    assert!(done.is_ok(), "{what}: {found:?}");
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_told_step_by_step_by_mail_and_webhook_over_outages_and_a_kill_and_once_each() {
    let world = World::start().await;
    let hook = TcpListener::bind("127.0.0.1:0").unwrap();
    let mail_port = free_port();
    let config = world.path("hub/hub.toml");
    let part = format!(
        "[escalation]\nprovince = [\"tinh@example.vn\"]\nplain = true\nfrom = \"phusa@example.vn\"\n\
         smtp = \"smtps://127.0.0.1:{mail_port}\"\ntls_ca_file = \"ca.pem\"\nwebhook = \"http://{}/hook\"\n\
         webhook_key_file = \"hook.key\"\nhead_after = \"0s\"\nprovince_after = \"0s\"\n\
         portal_url = \"https://phusa.example.vn\"\n",
        hook.local_addr().unwrap()
    );
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text + &part).unwrap();
    let key = world.path("hub/hook.key");
    std::fs::write(&key, "khoa-bi-mat\n").unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let contacts = "insert into phusa.contacts \
        (agency, level, name, position, duty, phone, email, set_by, set_at) \
        select 'H57.12', level, 'x', 'x', 'x', '0', level || '@example.vn', 'an', now() \
        from unnest(array['focal', 'head']) level";
    let database = world.database().await;
    database.batch_execute(contacts).await.unwrap();
    database.batch_execute(&open("proof", "H57.12/may-1")).await.unwrap();
    drop(database);
    let calls = called(hook);
    // The mail server is away; the webhook refuses once, and is tried again.
    world.kill_and_start_again().await;
    let seen = until(&calls, 3, "calls").await;
    let steps: Vec<_> = seen.iter().map(|call| call["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["focal", "head", "province"]);
    assert_eq!((&seen[0]["kind"], &seen[0]["agency"]), (&"proof".into(), &"H57.12".into()));
    let server = Servers::start(&world, SERVER, &[mail_port]);
    let mails = until(&server.taken, 3, "mails").await;
    let to: Vec<_> = mails.iter().map(|mail| mail["to"][0].as_str().unwrap()).collect();
    assert_eq!(to, ["focal@example.vn", "head@example.vn", "tinh@example.vn"]);
    let first = &mails[0];
    assert_eq!(first["subject"], "[Phù Sa] Sự cố 1: kho khác nguồn, H57.12/may-1", "{first}");
    for word in ["lệch · differs", "https://phusa.example.vn/incidents/1", "Please look into it"]
    {
        assert!(first["body"].as_str().unwrap().contains(word), "{first}");
    }
    // A hub that is killed tells nothing twice; what is new, and about no agency, goes to the province.
    let written = async {
        while !world.ask("select count(*) = 6 from phusa.escalations").await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), written).await.unwrap();
    world.kill_and_start_again().await;
    world.database().await.batch_execute(&open("backup", "")).await.unwrap();
    let mails = until(&server.taken, 4, "the fourth mail").await;
    assert_eq!(mails.len(), 4, "{mails:?}");
    assert_eq!(
        (&mails[3]["to"][0], mails[3]["id"] != mails[0]["id"]),
        (&"tinh@example.vn".into(), true)
    );
    assert_eq!(until(&calls, 4, "the fourth call").await.len(), 4);
    let digest = world.run(&["fleet", "digest", "--json"]);
    assert_eq!(digest.trim(), "[]", "nothing was late");
    let told = world.run(&["fleet", "availability", "--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert!(told["minutes"].as_i64().is_some() && told["percent"].as_f64().is_some(), "{told}");
    world.stop().await;
}
