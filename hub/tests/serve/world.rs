//! One hub with its embedded database in a folder that goes away, and agents that speak to it.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use phusa_hub::identity::{self, Wanted};
use phusa_protocol::batch::{
    Batch, HEADER_VERSION, Header, Phase, SALT_BYTES, SignedHeader, commitment,
};
use phusa_protocol::change::{BodyWriter, Op};
use phusa_protocol::contract::Contract;
use phusa_protocol::contract::consent::SignedConsent;
use phusa_protocol::digest::Digest;
use phusa_protocol::frame;
use phusa_protocol::hello::{Hello, Offer, Refusal, Welcome};
use phusa_protocol::ids::{AgentId, Epoch, Seq};
use phusa_protocol::keys::{PublicKey, SigningKey};
use phusa_protocol::receipt::SignedReceipt;
use phusa_protocol::row::put_tuple;
use phusa_protocol::time::Timestamp;
use phusa_protocol::value::Field;
use tempfile::TempDir;

pub(crate) const CONTRACT: &str = r#"
dataset = "cong_dan.citizens"
version = 1
title_vi = "Công dân"
owner = "H57.12"
legal_basis = "Quyết định 1046/QĐ-UBND"
sharing = "default"
frequency = "15m"
retention = "3650d"
key = ["id"]
field = [
  { name = "id", type = "int8", class = "N", name_vi = "Mã" },
  { name = "ten", type = "text", class = "B", name_vi = "Tên" },
]
"#;

/// What the hub answers to a batch.
pub(crate) type Answer = Result<SignedReceipt, Refusal>;

/// A row: what happened, its key, its name.
pub(crate) type Row<'a> = (Op, i64, &'a str);

/// One hub and all it needs.
pub(crate) struct World {
    dir: TempDir,
    port: u16,
    metrics_port: u16,
    portal_port: u16,
    link_port: u16,
    hub: Mutex<Option<Child>>,
}

/// One agent's side of one stream.
#[derive(Clone)]
pub(crate) struct Sender {
    pub(crate) signing_key: SigningKey,
    /// How far the clock of its source is ahead.
    pub(crate) source_ahead: Duration,
    agent: AgentId,
    url: String,
    client: reqwest::Client,
    contract: Contract,
    epoch: Epoch,
    seq: Seq,
    headers: Vec<Digest>,
}

impl World {
    /// A running hub with the contract in force and three agents registered.
    pub(crate) async fn start() -> Self {
        Self::start_with("64MiB").await
    }

    /// The same, asking for this much free disk.
    pub(crate) async fn start_with(disk_reserve: &str) -> Self {
        let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        // The embedded database runs as another user when the hub is root.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let agents = ["H57.12/may-1", "H57.13/may-2", "H57.99/la"];
        let agents = agents.map(|agent| AgentId::try_from(agent.to_owned()).unwrap());
        let hub_names = vec!["127.0.0.1".to_owned()];
        let wanted = Wanted {
            dir: dir.path().to_path_buf(),
            hub_names,
            broker_names: Vec::new(),
            agents: agents.to_vec(),
            days: 2,
        };
        identity::make(&wanted).unwrap();
        let (port, metrics_port) = (free_port(), free_port());
        let (portal_port, link_port) = (free_port(), free_port());
        let config = format!(
            "state_dir = \"../state\"\nlisten = \"127.0.0.1:{port}\"\n\
             allowed_networks = [\"127.0.0.0/8\"]\nca_file = \"ca.pem\"\n\
             certificate_file = \"hub.pem\"\nkey_file = \"hub.key\"\n\
             signing_key_file = \"signing.key\"\nagents_dir = \"agents\"\n\
             metrics_listen = \"127.0.0.1:{metrics_port}\"\n\
             [warehouse]\ndisk_reserve = \"{disk_reserve}\"\n\
             [portal]\nlisten = \"127.0.0.1:{portal_port}\"\n\
             [link]\nlisten = \"127.0.0.1:{link_port}\"\n"
        );
        fs::write(dir.path().join("hub/hub.toml"), config).unwrap();
        let world = Self { dir, port, metrics_port, portal_port, link_port, hub: Mutex::new(None) };
        world.serve(None).await;
        world.run(&["contract", "apply", &world.contract("citizens.toml", CONTRACT)]);
        world
    }

    /// Runs one command beside the hub and returns what it printed.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let done = self.command().args(arguments).output().unwrap();
        let stderr = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{arguments:?}: {stderr}");
        String::from_utf8(done.stdout).unwrap()
    }

    /// Runs one command beside the hub, whatever comes of it: exit code and what was said.
    pub(crate) fn say(&self, arguments: &[&str]) -> (i32, String) {
        let done = self.command().args(arguments).output().unwrap();
        let said = [done.stdout, done.stderr].concat();
        (done.status.code().unwrap(), String::from_utf8(said).unwrap())
    }

    /// The port of deliveries.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The hub's process.
    pub(crate) fn hub_id(&self) -> u32 {
        self.hub.lock().unwrap().as_ref().unwrap().id()
    }

    /// The port of the link.
    pub(crate) fn link_port(&self) -> u16 {
        self.link_port
    }

    /// The metrics once they have this line.
    pub(crate) async fn metrics_when(&self, line: &str) -> String {
        for _ in 0..200 {
            let text = self.metrics().await;
            if text.contains(line) {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("no {line} in {}", self.metrics().await);
    }

    /// The result of `log verify`, once every entry has its number.
    pub(crate) fn log_verify(&self) -> serde_json::Value {
        for _ in 0..50 {
            let found = self.run(&["log", "verify", "--json"]);
            let found: serde_json::Value = serde_json::from_str(&found).unwrap();
            if found["unsequenced"] == 0 {
                return found;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("entries wait for their numbers");
    }

    /// Applies the contract with one text replaced; exit code and what was said.
    pub(crate) fn apply_contract(&self, from: &str, to: &str) -> (i32, String) {
        let file = self.contract("other.toml", &CONTRACT.replacen(from, to, 1));
        let done = self.command().args(["contract", "apply"]).arg(&file).output().unwrap();
        let said = [done.stdout, done.stderr].concat();
        (done.status.code().unwrap(), String::from_utf8(said).unwrap())
    }

    /// Writes a contract and, beside it, the signature of its owner's agent.
    pub(crate) fn contract(&self, name: &str, text: &str) -> String {
        let file = self.write(name, text);
        let signer = self.sender("H57.12/may-1");
        let contract = Contract::from_toml(text).unwrap();
        let signed = SignedConsent::of_owner(&contract, &signer.agent, &signer.signing_key);
        fs::write(format!("{file}.signature"), serde_json::to_string(&signed).unwrap()).unwrap();
        file
    }

    /// Writes a file beside the hub's.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Runs one command that must fail; exit code and what was said.
    pub(crate) fn run_and_fail(&self, arguments: &[&str]) -> (i32, String) {
        let done = self.command().args(arguments).output().unwrap();
        assert!(!done.status.success(), "{arguments:?}");
        (done.status.code().unwrap(), String::from_utf8(done.stderr).unwrap())
    }

    /// Does `harm` in the database behind the hub's back, and returns what `log verify` says of it.
    pub(crate) async fn log_verify_after(&self, harm: &str) -> String {
        self.database().await.batch_execute(harm).await.unwrap();
        let done = self.command().args(["log", "verify"]).output().unwrap();
        assert_eq!(done.status.code(), Some(1), "{harm}");
        String::from_utf8(done.stderr).unwrap()
    }

    /// Verifies an exported log with public keys alone, and that an altered one is not believed.
    pub(crate) fn verify_export(&self, export: &str) {
        let (sound, altered) = (self.path("sound.jsonl"), self.path("altered.jsonl"));
        fs::write(&sound, export).unwrap();
        fs::write(&altered, export.replacen("\\\"bytes\\\":", "\\\"bytes\\\":1", 1)).unwrap();
        let verify = |file: &Path| {
            let keys = [self.path("hub/signing.pub"), self.path("hub/agents")];
            let mut command = self.command();
            command.args(["log", "verify", "--file"]).arg(file);
            command.arg("--hub-key").arg(&keys[0]).arg("--agents").arg(&keys[1]);
            command.output().unwrap()
        };
        assert!(verify(&sound).status.success());
        let refused = verify(&altered);
        assert_eq!(refused.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&refused.stderr).contains("log_broken"));
    }

    /// Kills the hub as a power cut would, and starts it again on what it left.
    pub(crate) async fn kill_and_start_again(&self) {
        let mut hub = self.hub.lock().unwrap().take().unwrap();
        hub.kill().unwrap();
        hub.wait().unwrap();
        self.serve(None).await;
    }

    /// Stops the hub and starts one that dies at this point.
    pub(crate) async fn start_again_to_die_at(&self, failpoint: &str) {
        self.signal(rustix::process::Signal::TERM);
        let mut hub = self.hub.lock().unwrap().take().unwrap();
        tokio::task::spawn_blocking(move || hub.wait().unwrap()).await.unwrap();
        self.serve(Some(failpoint)).await;
    }

    /// Waits until the hub has died by itself, and starts it again.
    pub(crate) async fn start_again_after_death(&self) {
        let mut hub = self.hub.lock().unwrap().take().unwrap();
        let died = tokio::task::spawn_blocking(move || hub.wait().unwrap()).await.unwrap();
        assert!(!died.success());
        self.serve(None).await;
    }

    /// Stops the hub as systemd would.
    pub(crate) async fn stop(self) {
        self.signal(rustix::process::Signal::TERM);
        let mut hub = self.hub.lock().unwrap().take().unwrap();
        let status = tokio::task::spawn_blocking(move || hub.wait().unwrap()).await.unwrap();
        assert!(status.success());
    }

    /// Takes an agent off the register; returns once the hub knows.
    pub(crate) async fn strike_out(&self, agent: &Sender) {
        fs::remove_file(self.agent_file(&agent.agent.to_string())).unwrap();
        self.reload_until_refused(agent).await;
    }

    /// Suspends an agent; returns once the hub knows.
    pub(crate) async fn suspend(&self, agent: &Sender) {
        let file = self.agent_file(&agent.agent.to_string());
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text + "suspended = true\n").unwrap();
        self.reload_until_refused(agent).await;
    }

    /// Registers the key of `agent` in place of that of `before`; returns once the hub knows.
    pub(crate) async fn give_key(&self, agent: &Sender, before: &Sender) {
        let file = self.agent_file(&agent.agent.to_string());
        let text = fs::read_to_string(&file).unwrap();
        let [old, new] = [before, agent].map(|sender| sender.signing_key.public().to_string());
        assert!(text.contains(&old));
        fs::write(&file, text.replace(&old, &new)).unwrap();
        self.signal(rustix::process::Signal::HUP);
        let known = format!("select exists (select from phusa.keys where public_key = '{new}')");
        let told = async {
            while !self.ask(&known).await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            // Written down before it is taken over: a batch under the old key is then refused.
            let mut probe = before.clone();
            probe.skip(90);
            let batch = probe.seal(Phase::Read, false, &[]);
            while !matches!(probe.send(&batch).await, Err(refused) if refused.code == phusa_protocol::fault::Code::SignatureWrong)
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), told).await.unwrap();
    }

    /// Has the hub read its register again.
    pub(crate) fn reload_register(&self) {
        self.signal(rustix::process::Signal::HUP);
    }

    async fn reload_until_refused(&self, agent: &Sender) {
        self.signal(rustix::process::Signal::HUP);
        let refused = async {
            while agent.hello().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), refused).await.unwrap();
    }

    /// Names in the table, sorted by bytes.
    pub(crate) async fn names(&self) -> Vec<String> {
        let sql = "select ten from cong_dan.citizens order by ten collate \"C\"";
        let rows = self.database().await.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// A yes or no from the database.
    pub(crate) async fn ask(&self, sql: &str) -> bool {
        self.database().await.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// The text of `/metrics`.
    pub(crate) async fn metrics(&self) -> String {
        let url = format!("http://127.0.0.1:{}/metrics", self.metrics_port);
        reqwest::get(url).await.unwrap().text().await.unwrap()
    }

    /// The key receipts are signed with.
    pub(crate) fn hub_key(&self) -> PublicKey {
        let text = fs::read_to_string(self.path("hub/signing.pub")).unwrap();
        PublicKey::try_from(text.trim().to_owned()).unwrap()
    }

    /// A registered agent before its first batch.
    pub(crate) fn sender(&self, agent: &str) -> Sender {
        let own = self.path("agents").join(agent.replace('/', "__"));
        let read = |name: &str| fs::read_to_string(own.join(name)).unwrap();
        let identity =
            reqwest::Identity::from_pem((read("agent.pem") + &read("agent.key")).as_bytes());
        let ca = reqwest::Certificate::from_pem(read("ca.pem").as_bytes()).unwrap();
        let client = reqwest::Client::builder()
            .tls_certs_only([ca])
            .identity(identity.unwrap())
            .https_only(true)
            .build()
            .unwrap();
        Sender {
            signing_key: SigningKey::from_text(&read("signing.key")).unwrap(),
            source_ahead: Duration::ZERO,
            agent: AgentId::try_from(agent.to_owned()).unwrap(),
            url: format!("https://127.0.0.1:{}/v1", self.port),
            client,
            contract: Contract::from_toml(CONTRACT).unwrap(),
            epoch: Epoch(1),
            seq: Seq::NONE,
            headers: vec![Digest::ZERO],
        }
    }

    async fn serve(&self, failpoint: Option<&str>) {
        let mut command = self.command();
        command.arg("serve").stdout(Stdio::null());
        command.envs(failpoint.map(|point| ("PHUSA_FAILPOINT", point)));
        let hub = command.spawn().unwrap();
        *self.hub.lock().unwrap() = Some(hub);
        let url = format!("http://127.0.0.1:{}/readyz", self.metrics_port);
        // Two minutes: several databases are made at once on a machine of two cores.
        for _ in 0..2_400 {
            let ready = reqwest::get(&url).await;
            // Where the disk reserve is asked too high the hub lives and is not ready.
            if ready.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the hub did not become ready");
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_phusa-hub"));
        command.arg("--config").arg(self.path("hub/hub.toml")).env("RUST_LOG", "warn");
        command
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let id = self.hub.lock().unwrap().as_ref().unwrap().id();
        let id = rustix::process::Pid::from_raw(id.try_into().unwrap()).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
    }

    pub(crate) async fn database(&self) -> tokio_postgres::Client {
        let mut config = tokio_postgres::Config::new();
        config.host_path(self.path("state/postgresql/socket")).port(5432);
        config.user("phusa").dbname("postgres");
        // Whoever means harm would not let the history's triggers tell of it.
        config.options("-c session_replication_role=replica");
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
        let tracker = tokio_util::task::TaskTracker::new();
        tracker.spawn(connection);
        client
    }

    fn agent_file(&self, agent: &str) -> PathBuf {
        self.path("hub/agents").join(agent.replace('/', "__") + ".toml")
    }

    /// Where people's pages are, and the CA their certificate descends from.
    pub(crate) fn portal(&self) -> (String, Vec<u8>) {
        let ca = fs::read(self.path("hub/ca.pem")).unwrap();
        (format!("https://127.0.0.1:{}", self.portal_port), ca)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for World {
    /// A test that failed leaves neither hub nor database behind.
    fn drop(&mut self) {
        let Some(mut hub) = self.hub.lock().unwrap().take() else { return };
        let id = rustix::process::Pid::from_raw(hub.id().try_into().unwrap()).unwrap();
        let _ended = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        let _status = hub.wait();
    }
}

impl Sender {
    /// The next batch of the stream, signed.
    pub(crate) fn seal(&mut self, phase: Phase, tx_open: bool, rows: &[Row<'_>]) -> Batch {
        let mut body = BodyWriter::default();
        for (op, id, name) in rows {
            let id = id.to_be_bytes();
            put_tuple(body.begin_row(*op), &[Field::Value(&id), Field::Value(name.as_bytes())]);
        }
        self.seal_body(phase, tx_open, body)
    }

    /// The same agent's stream of another dataset, before its first batch.
    pub(crate) fn on(&self, contract: &str) -> Self {
        let contract = Contract::from_toml(contract).unwrap();
        let headers = vec![Digest::ZERO];
        Self { contract, epoch: Epoch(1), seq: Seq::NONE, headers, ..self.clone() }
    }

    /// A batch with a field the contract does not have.
    pub(crate) fn seal_wider(&mut self) -> Batch {
        let id = 3_i64.to_be_bytes();
        self.seal_fields(&[Field::Value(&id), Field::Value(b"x"), Field::Value(b"secret")])
    }

    /// A batch whose one row has these fields.
    pub(crate) fn seal_fields(&mut self, fields: &[Field<'_>]) -> Batch {
        let mut body = BodyWriter::default();
        put_tuple(body.begin_row(Op::Snapshot), fields);
        self.seal_body(Phase::Read, false, body)
    }

    /// A batch whose text is these bytes.
    pub(crate) fn seal_bytes(&mut self, id: i64, name: &[u8]) -> Batch {
        let mut body = BodyWriter::default();
        let id = id.to_be_bytes();
        put_tuple(body.begin_row(Op::Snapshot), &[Field::Value(&id), Field::Value(name)]);
        self.seal_body(Phase::Read, false, body)
    }

    /// Goes back `count` batches, to make others under their numbers.
    pub(crate) fn rewind(&mut self, count: u64) {
        self.seq = Seq(self.seq.0 - count);
        self.headers.truncate(self.headers.len() - usize::try_from(count).unwrap());
    }

    /// Leaves out `count` numbers.
    pub(crate) fn skip(&mut self, count: u64) {
        self.seq = Seq(self.seq.0 + count);
    }

    /// Begins the next epoch.
    pub(crate) fn begin_epoch(&mut self) {
        (self.epoch, self.seq, self.headers) = (self.epoch.next(), Seq::NONE, vec![Digest::ZERO]);
    }

    /// Delivers a batch.
    pub(crate) async fn send(&self, batch: &Batch) -> Answer {
        read(self.post("batch", frame::encode(batch)).await).await
    }

    /// A hub that stops an agent cuts its connections; the next one is told why.
    async fn post(&self, to: &str, body: Vec<u8>) -> reqwest::Response {
        let send = || self.client.post(format!("{}/{to}", self.url)).body(body.clone()).send();
        match send().await {
            Ok(answer) => answer,
            Err(_) => send().await.unwrap(),
        }
    }

    /// Delivers a batch to a hub that dies of it; whether an answer came all the same.
    pub(crate) async fn send_and_lose(&self, batch: &Batch) -> bool {
        let request = self.client.post(format!("{}/batch", self.url)).body(frame::encode(batch));
        request.send().await.is_ok()
    }

    /// Whether the hub speaks to a caller without a certificate.
    pub(crate) async fn is_heard_without_certificate(&self, world: &World) -> bool {
        let ca = fs::read(world.path("hub/ca.pem")).unwrap();
        let ca = reqwest::Certificate::from_pem(&ca).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([ca]).build().unwrap();
        client.post(format!("{}/hello", self.url)).send().await.is_ok()
    }

    /// Says hello for the one dataset.
    pub(crate) async fn hello(&self) -> Result<Welcome, Refusal> {
        let contract = &self.contract;
        let hello = Hello {
            protocol: phusa_protocol::PROTOCOL_VERSION,
            agent: self.agent.clone(),
            agent_version: "0.1.0".to_owned(),
            sent_at: Timestamp::now(),
            datasets: vec![Offer {
                dataset: contract.dataset.clone(),
                contract: contract.fingerprint(),
                mapping: Digest::of(b"mapping"),
            }],
        };
        let body = serde_json::to_vec(&hello).unwrap();
        read(self.post("hello", body).await).await
    }

    pub(crate) fn seal_body(&mut self, phase: Phase, tx_open: bool, body: BodyWriter) -> Batch {
        let (body, counts) = body.finish();
        let contract = self.contract.clone();
        self.seq = self.seq.next();
        let body_bytes = body.len() as u64;
        let (encoding, body) = frame::pack(body, 1);
        let salt = [7; SALT_BYTES];
        let header = Header {
            v: HEADER_VERSION,
            agent: self.agent.clone(),
            dataset: contract.dataset.clone(),
            epoch: self.epoch,
            seq: self.seq,
            previous: *self.headers.last().unwrap(),
            contract: contract.fingerprint(),
            mapping: Digest::of(b"mapping"),
            phase,
            tx_open,
            position_from: "0/1".to_owned(),
            position_to: "0/2".to_owned(),
            counts,
            quality: std::collections::BTreeMap::new(),
            body_bytes,
            encoding,
            commitment: commitment(&salt, &body),
            read_at: Timestamp::now(),
            source_time: Timestamp::now().after(self.source_ahead),
            agent_version: "0.1.0".to_owned(),
        };
        let signed = SignedHeader::sign(header, &self.signing_key);
        self.headers.push(signed.digest());
        Batch { signed, salt, body }
    }
}

async fn read<T: serde::de::DeserializeOwned>(answer: reqwest::Response) -> Result<T, Refusal> {
    let is_success = answer.status().is_success();
    let body = answer.bytes().await.unwrap();
    let text = || String::from_utf8_lossy(&body).into_owned();
    if is_success {
        return Ok(serde_json::from_slice(&body).unwrap_or_else(|_| panic!("{}", text())));
    }
    Err(serde_json::from_slice(&body).unwrap_or_else(|_| panic!("{}", text())))
}

/// A port nobody listens on, another one each time, below those that outgoing connections take by
/// themselves: one of those may be taken before the hub has it.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 20_000).unwrap();
    loop {
        let port = 10_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 22_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
