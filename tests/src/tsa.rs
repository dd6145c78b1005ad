//! `Tsa`: an authority for timestamps, OpenSSL's own behind a small web server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::folder::Folder;
use crate::process::run;

/// A running authority; it ends with this value.
#[derive(Debug)]
pub struct Tsa {
    port: u16,
    folder: Arc<Folder>,
    _stop: DropGuard,
}

/// Makes a CA and a certificate below it that is for `usage`; `ca.pem`, `tsa.pem` and `tsa.key` in
/// `folder`, with what `openssl ts -reply` must be told.
pub fn keys(folder: &Path, usage: &str) {
    let at = |name: &str| folder.join(name).display().to_string();
    let openssl = |arguments: &[&str]| run(Command::new("openssl").args(arguments));
    let ca =
        ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=TSA root"];
    openssl(&[&ca[..], &["-keyout", &at("ca.key"), "-out", &at("ca.pem")]].concat());
    let asked = ["req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=Tem thoi gian"];
    openssl(&[&asked[..], &["-keyout", &at("tsa.key"), "-out", &at("tsa.csr")]].concat());
    fs::write(
        folder.join("tsa.ext"),
        format!("basicConstraints=CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=critical,{usage}\n"),
    )
    .expect("a file");
    let signed = ["x509", "-req", "-days", "20", "-set_serial", "2"];
    let with = ["-in", &at("tsa.csr"), "-CA", &at("ca.pem"), "-CAkey", &at("ca.key")];
    let out = ["-extfile", &at("tsa.ext"), "-out", &at("tsa.pem")];
    openssl(&[&signed[..], &with, &out].concat());
    let text = format!(
        "[tsa]\ndefault_tsa = one\n[one]\nserial = {}\ncrypto_device = builtin\nsigner_cert = {}\n\
         certs = {}\nsigner_key = {}\nsigner_digest = sha256\ndefault_policy = 1.2.3.4.1\n\
         digests = sha256\naccuracy = secs:1\ness_cert_id_alg = sha256\n",
        at("serial"),
        at("tsa.pem"),
        at("ca.pem"),
        at("tsa.key")
    );
    fs::write(folder.join("tsa.cnf"), text).expect("a file");
    fs::write(folder.join("serial"), "01\n").expect("a file");
}

/// What `openssl ts` replies with the keys of `folder`.
///
/// # Panics
/// When it does not.
#[must_use]
pub fn reply(folder: &Path, request: &[u8]) -> Vec<u8> {
    let at = |name: &str| folder.join(name).display().to_string();
    fs::write(folder.join("request.tsq"), request).expect("a file");
    let mut command = Command::new("openssl");
    command.args(["ts", "-reply", "-config", &at("tsa.cnf"), "-queryfile", &at("request.tsq")]);
    run(command.args(["-out", &at("reply.tsr")]));
    fs::read(folder.join("reply.tsr")).expect("a reply")
}

impl Tsa {
    /// Starts one on a free loopback port.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn start() -> Self {
        let folder = Arc::new(Folder::new());
        keys(folder.path(), "timeStamping");
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("its number").port();
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (until, own) = (stop.clone(), Arc::clone(&folder));
        tasks.spawn(async move {
            while let Some(Ok((line, _))) = until.run_until_cancelled(listener.accept()).await {
                // One at a time: the serial number is a file.
                if answer(line, own.path()).await.is_none() {
                    break;
                }
            }
        });
        Self { port, folder, _stop: stop.drop_guard() }
    }

    /// Where it answers.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/tsa", self.port)
    }

    /// The certificate to believe.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }
}

/// One request of HTTP/1.1 with a stated length; `None` for something else.
async fn answer(mut line: TcpStream, folder: &Path) -> Option<()> {
    let mut bytes = Vec::new();
    let (begin, length) = loop {
        line.read_buf(&mut bytes).await.ok().filter(|read| *read > 0)?;
        let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        assert!(head.contains("content-type: application/timestamp-query"), "{head}");
        let length = head.split_once("content-length: ")?.1;
        break (end + 4, length.lines().next()?.trim().parse::<usize>().ok()?);
    };
    while bytes.len() < begin + length {
        line.read_buf(&mut bytes).await.ok().filter(|read| *read > 0)?;
    }
    let (folder, request) = (folder.to_owned(), bytes[begin..begin + length].to_vec());
    let reply = tokio::task::spawn_blocking(move || reply(&folder, &request)).await.ok()?;
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/timestamp-reply\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        reply.len()
    );
    line.write_all(&[head.as_bytes(), &reply].concat()).await.ok()
}
