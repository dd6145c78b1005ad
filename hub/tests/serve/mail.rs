//! Mail by STARTTLS with a login, the figures of week and month in it, and a webhook under TLS: against
//! servers that are real, and refuse what they should.

use std::os::unix::fs::PermissionsExt as _;

use hmac::{Hmac, Mac as _};
use serde_json::Value;

use crate::escalation::{Servers, open, until};
use crate::world::{World, free_port};

/// A mail server (aiosmtpd) that takes mail after STARTTLS and a login alone, where the first port is
/// not 0, beside one that knows no TLS; and a web server under TLS. It prints what it takes, and ends
/// with its input.
const SERVER: &str = "
import http.server, json, ssl, sys, threading
from email import message_from_bytes, policy
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
tls, bare, web, certificate, key = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:6]
secured = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
secured.load_cert_chain(certificate, key)
class Taker:
    async def handle_DATA(self, server, session, envelope):
        mail = message_from_bytes(envelope.content, policy=policy.default)
        print(json.dumps({'to': envelope.rcpt_tos, 'subject': mail['subject'], 'tls': session.ssl is not None,
            'login': session.authenticated, 'body': mail.get_content()}), flush=True)
        return '250 OK'
def known(server, session, envelope, mechanism, data):
    return AuthResult(success=(data.login, data.password) == (b'phusa', 'mật khẩu'.encode()), handled=False)
Controller(Taker(), hostname='127.0.0.1', port=tls, tls_context=secured, require_starttls=True,
    authenticator=known, auth_required=True).start()
Controller(Taker(), hostname='127.0.0.1', port=bare).start()
class Called(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers['content-length'])).decode()
        print(json.dumps({'called': body, 'time': self.headers['x-phusa-time'],
            'signature': self.headers['x-phusa-signature']}), flush=True)
        self.send_response(204)
        self.end_headers()
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', web), Called)
server.socket = secured.wrap_socket(server.socket, server_side=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(json.dumps({'ready': True}), flush=True)
sys.stdin.read()
import os
os._exit(0)
";

fn secret(world: &World, name: &str, text: &str) {
    let path = world.path(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_goes_by_starttls_with_a_login_and_a_call_under_tls_or_not_at_all() {
    let world = World::start().await;
    let ports = [free_port(), free_port(), free_port()];
    let servers = Servers::start(&world, SERVER, &ports);
    until(&servers.taken, 1, "the servers to be ready").await;
    secret(&world, "hub/smtp.password", "mật khẩu\n");
    secret(&world, "hub/hook.key", "khoa-bi-mat\n");
    let config = world.path("hub/hub.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let write = |mail: u16| {
        let part = format!(
            "[escalation]\nprovince = [\"tinh@example.vn\"]\nfrom = \"phusa@example.vn\"\n\
             smtp = \"smtp+starttls://127.0.0.1:{mail}\"\nsmtp_user = \"phusa\"\n\
             smtp_password_file = \"smtp.password\"\ntls_ca_file = \"ca.pem\"\n\
             webhook = \"https://127.0.0.1:{}/goi\"\nwebhook_key_file = \"hook.key\"\n",
            ports[2]
        );
        std::fs::write(&config, format!("{text}{part}")).unwrap();
    };
    write(ports[0]);
    let late = "insert into phusa.incidents (kind, cause_key, agent, dataset, cause, opened_at, last_at, \
                count, timeline) values ('lateness', 'k', 'H57.12/may-1', 'cong_dan.citizens', \
                'trễ · late', now() - interval '2 d', now(), 7, '[]')";
    world.database().await.batch_execute(late).await.unwrap();
    world.run(&["fleet", "digest", "--mail"]);
    world.run(&["fleet", "availability", "--mail"]);
    let taken = until(&servers.taken, 3, "two mails").await;
    for (mail, subject, said) in [
        (&taken[1], "[Phù Sa] Dữ liệu trễ hạn trong tuần · Lateness of the week", "H57.12"),
        (&taken[2], "[Phù Sa] Mức sẵn sàng tháng · Availability of", "phút (minutes)"),
    ] {
        assert!(mail["subject"].as_str().unwrap().starts_with(subject), "{mail}");
        assert!(mail["body"].as_str().unwrap().contains(said), "{mail}");
        let how = (&mail["tls"], &mail["login"], &mail["to"][0]);
        assert_eq!(how, (&true.into(), &true.into(), &"tinh@example.vn".into()));
    }
    // A wrong password, and a server that knows no TLS: nothing is sent, and no password is said.
    secret(&world, "hub/smtp.password", "đoán mò\n");
    let (code, said) = world.say(&["fleet", "digest", "--mail"]);
    assert!(code != 0 && said.contains("escalation_unreachable"), "{said}");
    secret(&world, "hub/smtp.password", "mật khẩu\n");
    write(ports[1]);
    let (code, bare) = world.say(&["fleet", "digest", "--mail"]);
    assert!(code != 0 && bare.contains("escalation_unreachable"), "{bare}");
    assert!(!said.contains("đoán") && !bare.contains("mật khẩu"), "{said}\n{bare}");
    assert_eq!(servers.taken.lock().unwrap().len(), 3, "nothing else was taken");
    // The hub that runs calls under TLS, and signs the call.
    write(ports[0]);
    world.database().await.batch_execute(&open("backup", "")).await.unwrap();
    world.kill_and_start_again().await;
    let all = until(&servers.taken, 5, "a mail and a call").await;
    let call = all.iter().find(|one| one["called"].is_string()).unwrap_or(&Value::Null);
    let [body, time, signature] =
        ["called", "time", "signature"].map(|name| call[name].as_str().unwrap_or_default());
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"khoa-bi-mat").unwrap();
    mac.update(format!("{time}.{body}").as_bytes());
    let bytes = mac.finalize().into_bytes();
    let expected: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(signature, format!("sha256={expected}"), "{all:?}");
    world.stop().await;
}
