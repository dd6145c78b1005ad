//! One agency: its keys, its contract, and the rows it delivers.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use phusa_protocol::PROTOCOL_VERSION;
use phusa_protocol::batch::{
    Batch, HEADER_VERSION, Header, Phase, SALT_BYTES, SignedHeader, commitment,
};
use phusa_protocol::change::{BodyWriter, Op};
use phusa_protocol::contract::Contract;
use phusa_protocol::digest::Digest;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::frame;
use phusa_protocol::ids::{AgentId, DatasetId, Epoch, Seq};
use phusa_protocol::keys::{PublicKey, SigningKey};
use phusa_protocol::orders::Want;
use phusa_protocol::proof::{Answer, BITS_MAX, Print, Proof, Question, Summary};
use phusa_protocol::row::{Tuple, put_tuple};
use phusa_protocol::time::Timestamp;
use phusa_protocol::value::Field;
use serde::Serialize;
use tracing::warn;

use super::orders::Book;

use crate::identity::files::not_made_for;

/// Rows of the first read.
const ROWS: u64 = 100;

/// Rows that change each time.
const CHANGES: u64 = 5;

/// How long one delivery may take.
const DELIVERS_WITHIN: Duration = Duration::from_secs(30);

/// An agency made up here.
#[derive(Debug)]
pub(super) struct Agency {
    agent: AgentId,
    contract: Contract,
    mapping: Digest,
    key: SigningKey,
    url: String,
    client: reqwest::Client,
    epoch: Epoch,
    seq: Seq,
    newest: Digest,
    rows: u64,
    /// What its table holds as far as that was delivered: a tuple for each key.
    table: BTreeMap<u64, Vec<u8>>,
    /// What was sealed and has no receipt yet: it is sent again as it is.
    sealed: Option<Sealed>,
    orders: Arc<Book>,
}

/// A batch that was sealed, with the rows it brings.
#[derive(Debug)]
struct Sealed {
    batch: Batch,
    rows: BTreeMap<u64, Vec<u8>>,
}

/// The agent of agency `number`.
pub(super) fn name(number: u16) -> Result<AgentId, Fault> {
    let name = format!("MP.{number:04}/may-1");
    AgentId::try_from(name).map_err(|error| Fault::because(Code::Bug, "a made-up agent", error))
}

/// Where the files of an agent lie.
pub(super) fn folder(dir: &Path, agent: &AgentId) -> PathBuf {
    dir.join("agents").join(format!("{}__{}", agent.agency(), agent.name()))
}

/// A file of an agent.
pub(super) fn text_of(folder: &Path, name: &str) -> Result<String, Fault> {
    let file = folder.join(name);
    fs::read_to_string(&file).map_err(|error| {
        Fault::because(Code::SecretUnreadable, format!("cannot read {}", file.display()), error)
    })
}

impl Agency {
    /// The agency of `agent`, whose files were made in `dir`; it delivers to `port` here.
    pub(super) fn new(agent: AgentId, dir: &Path, port: u16) -> Result<Self, Fault> {
        let folder = folder(dir, &agent);
        let unusable = |error| Fault::because(Code::SecretUnreadable, "made-up keys", error);
        let identity = text_of(&folder, "agent.pem")? + &text_of(&folder, "agent.key")?;
        let identity = reqwest::Identity::from_pem(identity.as_bytes()).map_err(unusable)?;
        let ca = text_of(&folder, "ca.pem")?;
        let ca = reqwest::Certificate::from_pem(ca.as_bytes()).map_err(unusable)?;
        let client = reqwest::Client::builder()
            .tls_certs_only([ca])
            .identity(identity)
            .https_only(true)
            .timeout(DELIVERS_WITHIN)
            .build()
            .map_err(unusable)?;
        let key = SigningKey::from_text(&text_of(&folder, "signing.key")?)
            .map_err(|error| Fault::because(Code::SecretUnreadable, "a made-up key", error))?;
        let contract = Contract::from_toml(&contract(&agent))
            .map_err(|error| Fault::because(Code::Bug, "a made-up contract", error))?;
        let hub = PublicKey::try_from(text_of(&folder, "hub.pub")?.trim().to_owned())
            .map_err(|error| Fault::because(Code::SecretUnreadable, "the hub's key", error))?;
        let orders = Arc::new(Book::new(&agent, hub, &contract.dataset));
        Ok(Self {
            agent,
            mapping: Digest::of(b"phusa simulate"),
            contract,
            key,
            url: format!("https://127.0.0.1:{port}"),
            client,
            epoch: Epoch(1),
            seq: Seq::NONE,
            newest: Digest::ZERO,
            rows: 0,
            table: BTreeMap::new(),
            sealed: None,
            orders,
        })
    }

    pub(super) fn agent(&self) -> &AgentId {
        &self.agent
    }

    pub(super) fn contract(&self) -> &Contract {
        &self.contract
    }

    pub(super) fn mapping(&self) -> Digest {
        self.mapping
    }

    pub(super) fn key(&self) -> &SigningKey {
        &self.key
    }

    pub(super) fn dataset(&self) -> &DatasetId {
        &self.contract.dataset
    }

    /// What the hub wants of it.
    pub(super) fn orders(&self) -> &Arc<Book> {
        &self.orders
    }

    /// The epoch it is in.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.0
    }

    /// Whether the full read is delivered, with its end.
    pub(super) fn follows(&self) -> bool {
        self.seq.0 >= 2
    }

    /// Batches that have a receipt.
    pub(super) fn delivered(&self) -> u64 {
        self.seq.0
    }

    /// Rows that were delivered.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Begins the next epoch where the hub wants the dataset read again.
    pub(super) fn begin_again(&mut self) {
        if self.orders.is_to_be_read_again(self.epoch.0) {
            (self.epoch, self.seq, self.newest) = (self.epoch.next(), Seq::NONE, Digest::ZERO);
            self.table.clear();
            self.sealed = None;
        }
    }

    /// Delivers the first read, or some changes after it; what is not taken is sent again the next time.
    pub(super) async fn deliver(&mut self) {
        let sealed = match self.sealed.take().map_or_else(|| self.seal(), Ok) {
            Ok(sealed) => sealed,
            Err(fault) => return warn!(code = %fault.code, "{}", fault.chain()),
        };
        let url = format!("{}/v1/batch", self.url);
        match self.client.post(url).body(frame::encode(&sealed.batch)).send().await {
            Ok(answer) if answer.status().is_success() => return self.took(sealed),
            Ok(answer) => {
                let (agent, status) = (&self.agent, answer.status());
                warn!(%agent, %status, "A batch of {agent} was not taken: {status}");
            }
            Err(error) => warn!(%error, "A batch of {} did not arrive: {error}", self.agent),
        }
        self.sealed = Some(sealed);
    }

    fn took(&mut self, Sealed { batch, rows }: Sealed) {
        (self.seq, self.newest) = (batch.signed.header.seq, batch.signed.digest());
        self.rows = self.rows.saturating_add(u64::try_from(rows.len()).unwrap_or(0));
        self.table.extend(rows);
    }

    /// Does what the hub wants once, as far as that can be done where everything is made up: a comparison
    /// and a look for an update are real; what has a trouble at its source tells that. Whether nothing
    /// is left to be tried again.
    pub(super) async fn run_errands(&self, trouble: Option<Code>) -> bool {
        let mut is_done = true;
        let mut end = |order, ended: Result<(), Code>| {
            is_done &= ended.is_ok();
            self.orders.ended(order, ended);
        };
        if let Some(order) = self.orders.errand(Want::Compare).filter(|_| self.follows()) {
            let compared = async { self.compare().await.map_err(|fault| fault.code) };
            end(order, if let Some(code) = trouble { Err(code) } else { compared.await });
        }
        if let Some(order) = self.orders.errand(Want::CheckUpdate) {
            end(order, self.look_for_an_update().await.map_err(|fault| fault.code));
        }
        // Its certificate is a file that nobody enrolled, as that of a real agent set up by hand.
        if let Some(order) = self.orders.errand(Want::Rotate) {
            self.orders.cannot(order);
        }
        is_done
    }

    /// Compares its table with the warehouse, part by part, and reports what came of it.
    async fn compare(&self) -> Result<(), Fault> {
        let key = self.contract.key_indexes();
        let mut summary = Summary::new(BITS_MAX);
        for tuple in self.table.values() {
            if let Some(print) = Print::of(Tuple::known(tuple), &key) {
                summary.add(&print);
            }
        }
        let (agent, dataset) = (self.agent.clone(), self.contract.dataset.clone());
        let question = Question {
            protocol: PROTOCOL_VERSION,
            agent: agent.clone(),
            dataset: dataset.clone(),
            contract: self.contract.fingerprint(),
            bits: BITS_MAX,
            named: Vec::new(),
        };
        let answer = self.post("/v1/digest", &question).await?;
        let answer = answer.bytes().await.map_err(unanswered)?;
        let answer: Answer = serde_json::from_slice(&answer).map_err(unanswered)?;
        let warehouse = Summary::from_parts(BITS_MAX, &answer.parts);
        let differing = summary.differing(&warehouse).iter().map(|(_, rows)| rows).sum();
        let proof = Proof {
            protocol: PROTOCOL_VERSION,
            agent,
            dataset,
            contract: self.contract.fingerprint(),
            source: summary.total(),
            warehouse: warehouse.total(),
            differing,
            compared_at: Timestamp::now(),
        };
        self.post("/v1/proof", &proof).await.map(drop)
    }

    /// Asks which program the hub assigns to it; what is made up runs none and stays as it is.
    async fn look_for_an_update(&self) -> Result<(), Fault> {
        let asked = self.client.get(format!("{}/release/assignment", self.url)).send().await;
        asked.and_then(reqwest::Response::error_for_status).map(drop).map_err(unanswered)
    }

    async fn post(&self, path: &str, body: &impl Serialize) -> Result<reqwest::Response, Fault> {
        let body = serde_json::to_vec(body).unwrap_or_default();
        let sent = self.client.post(format!("{}{path}", self.url)).body(body).send().await;
        sent.and_then(reqwest::Response::error_for_status).map_err(unanswered)
    }

    fn seal(&self) -> Result<Sealed, Fault> {
        // The full read, its end, and then changes.
        let (phase, op, count) = match self.seq.0 {
            0 => (Phase::Read, Op::Snapshot, ROWS),
            1 => (Phase::ReadEnd, Op::Snapshot, 0),
            _ => (Phase::Live, Op::Update, CHANGES),
        };
        let mut rows = BTreeMap::new();
        for row in 0..count {
            // Another stretch of rows each time.
            let id = (self.seq.0.wrapping_mul(CHANGES).wrapping_add(row)) % ROWS;
            let key = i64::try_from(id).unwrap_or(0).to_be_bytes();
            let said = format!("Dòng mô phỏng {} lần {}", row, self.seq.0);
            let mut tuple = Vec::new();
            put_tuple(&mut tuple, &[Field::Value(&key), Field::Value(said.as_bytes())]);
            rows.insert(id, tuple);
        }
        let mut body = BodyWriter::default();
        for tuple in rows.values() {
            body.begin_row(op).extend_from_slice(tuple);
        }
        Ok(Sealed { batch: self.batch(phase, body)?, rows })
    }

    fn batch(&self, phase: Phase, body: BodyWriter) -> Result<Batch, Fault> {
        let (body, counts) = body.finish();
        let body_bytes = u64::try_from(body.len()).unwrap_or(u64::MAX);
        let (encoding, body) = frame::pack(body, 1);
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(not_made_for)?;
        let seq = self.seq.next();
        let header = Header {
            v: HEADER_VERSION,
            agent: self.agent.clone(),
            dataset: self.contract.dataset.clone(),
            epoch: self.epoch,
            seq,
            previous: self.newest,
            contract: self.contract.fingerprint(),
            mapping: self.mapping,
            phase,
            tx_open: false,
            position_from: format!("sim:{}", self.seq.0),
            position_to: format!("sim:{}", seq.0),
            counts,
            quality: BTreeMap::new(),
            body_bytes,
            encoding,
            commitment: commitment(&salt, &body),
            read_at: Timestamp::now(),
            source_time: Timestamp::now(),
            agent_version: crate::VERSION.to_owned(),
        };
        Ok(Batch { signed: SignedHeader::sign(header, &self.key), salt, body })
    }
}

fn unanswered(error: impl std::error::Error + Send + Sync + 'static) -> Fault {
    Fault::because(Code::HubUnreachable, "the hub did not answer a made-up agency", error)
}

fn contract(agent: &AgentId) -> String {
    let number = agent.agency().as_str().trim_start_matches("MP.").to_owned();
    format!(
        "dataset = \"mo_phong.bang_{number}\"\nversion = 1\ntitle_vi = \"Bảng mô phỏng {number}\"\n\
         title_en = \"Simulated table {number}\"\nowner = \"{}\"\n\
         legal_basis = \"Mô phỏng, không phải dữ liệu thật\"\nsharing = \"default\"\n\
         frequency = \"1m\"\nretention = \"30d\"\nkey = [\"id\"]\n\n\
         [[field]]\nname = \"id\"\ntype = \"int8\"\nclass = \"P\"\nrequired = true\nname_vi = \"Số\"\n\n\
         [[field]]\nname = \"noi_dung\"\ntype = \"text\"\nclass = \"P\"\nname_vi = \"Nội dung\"\n",
        agent.agency()
    )
}
