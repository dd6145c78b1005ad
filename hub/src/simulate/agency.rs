//! One agency: its keys, its contract, and the rows it delivers.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use phusa_protocol::batch::{
    Batch, HEADER_VERSION, Header, Phase, SALT_BYTES, SignedHeader, commitment,
};
use phusa_protocol::change::{BodyWriter, Op};
use phusa_protocol::contract::Contract;
use phusa_protocol::digest::Digest;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::frame;
use phusa_protocol::ids::{AgentId, DatasetId, Epoch, Seq};
use phusa_protocol::keys::SigningKey;
use phusa_protocol::row::put_tuple;
use phusa_protocol::time::Timestamp;
use phusa_protocol::value::Field;
use tracing::warn;

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
    seq: Seq,
    newest: Digest,
    rows: u64,
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
        Ok(Self {
            agent,
            mapping: Digest::of(b"phusa simulate"),
            contract,
            key,
            url: format!("https://127.0.0.1:{port}/v1/batch"),
            client,
            seq: Seq::NONE,
            newest: Digest::ZERO,
            rows: 0,
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

    /// Delivers the first read, or some changes after it; what is not taken is sent again the next time.
    pub(super) async fn deliver(&mut self) {
        let (batch, rows) = match self.seal() {
            Ok(sealed) => sealed,
            Err(fault) => return warn!(code = %fault.code, "{}", fault.chain()),
        };
        let (seq, digest) = (batch.signed.header.seq, batch.signed.digest());
        let sent = self.client.post(&self.url).body(frame::encode(&batch)).send().await;
        match sent {
            Ok(answer) if answer.status().is_success() => {
                (self.seq, self.newest) = (seq, digest);
                self.rows = self.rows.saturating_add(rows);
            }
            Ok(answer) => {
                let (agent, status) = (&self.agent, answer.status());
                warn!(%agent, %status, "A batch of {agent} was not taken: {status}");
            }
            Err(error) => warn!(%error, "A batch of {} did not arrive: {error}", self.agent),
        }
    }

    fn seal(&self) -> Result<(Batch, u64), Fault> {
        // The full read, its end, and then changes.
        let (phase, op, count) = match self.seq.0 {
            0 => (Phase::Read, Op::Snapshot, ROWS),
            1 => (Phase::ReadEnd, Op::Snapshot, 0),
            _ => (Phase::Live, Op::Update, CHANGES),
        };
        let mut body = BodyWriter::default();
        for row in 0..count {
            // Another stretch of rows each time.
            let id = (self.seq.0.wrapping_mul(CHANGES).wrapping_add(row)) % ROWS;
            let id = i64::try_from(id).unwrap_or(0).to_be_bytes();
            let said = format!("Dòng mô phỏng {} lần {}", row, self.seq.0);
            put_tuple(body.begin_row(op), &[Field::Value(&id), Field::Value(said.as_bytes())]);
        }
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
            epoch: Epoch(1),
            seq,
            previous: self.newest,
            contract: self.contract.fingerprint(),
            mapping: self.mapping,
            phase,
            tx_open: false,
            position_from: format!("sim:{}", self.seq.0),
            position_to: format!("sim:{}", seq.0),
            counts,
            quality: std::collections::BTreeMap::new(),
            body_bytes,
            encoding,
            commitment: commitment(&salt, &body),
            read_at: Timestamp::now(),
            source_time: Timestamp::now(),
            agent_version: crate::VERSION.to_owned(),
        };
        Ok((Batch { signed: SignedHeader::sign(header, &self.key), salt, body }, count))
    }
}

fn contract(agent: &AgentId) -> String {
    let number = agent.agency().as_str().trim_start_matches("MP.").to_owned();
    format!(
        "dataset = \"mo_phong.bang_{number}\"\nversion = 1\ntitle_vi = \"Bảng mô phỏng {number}\"\n\
         title_en = \"Simulated table {number}\"\nowner = \"{}\"\n\
         legal_basis = \"Mô phỏng, không phải dữ liệu thật\"\nsharing = \"default\"\n\
         frequency = \"5m\"\nretention = \"30d\"\nkey = [\"id\"]\n\n\
         [[field]]\nname = \"id\"\ntype = \"int8\"\nclass = \"P\"\nrequired = true\nname_vi = \"Số\"\n\n\
         [[field]]\nname = \"noi_dung\"\ntype = \"text\"\nclass = \"P\"\nname_vi = \"Nội dung\"\n",
        agent.agency()
    )
}
