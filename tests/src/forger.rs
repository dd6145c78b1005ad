//! `Forger`: an agent made by hand, with an agent's real keys, that sends whatever it is told to.

use std::fs;
use std::path::Path;

use phusa_protocol::batch::{
    Batch, HEADER_VERSION, Header, Phase, SALT_BYTES, SignedHeader, commitment,
};
use phusa_protocol::change::{BodyWriter, Op};
use phusa_protocol::contract::Contract;
use phusa_protocol::digest::Digest;
use phusa_protocol::frame;
use phusa_protocol::hello::{Hello, Offer, Refusal, Welcome};
use phusa_protocol::ids::{AgentId, Epoch, Seq};
use phusa_protocol::keys::SigningKey;
use phusa_protocol::receipt::SignedReceipt;
use phusa_protocol::row::put_tuple;
use phusa_protocol::time::Timestamp;
use phusa_protocol::value::Field;
use serde::de::DeserializeOwned;

/// One agent's side of one stream; what it sends is right unless the caller makes it wrong.
#[derive(Debug)]
pub struct Forger {
    /// Signs headers; another key makes signatures wrong.
    pub signing_key: SigningKey,
    /// The contract that headers name.
    pub fingerprint: Digest,
    /// The mapping that headers name.
    pub mapping: Digest,
    agent: AgentId,
    contract: Contract,
    url: String,
    client: reqwest::Client,
    seq: Seq,
    newest: Digest,
}

impl Forger {
    /// An agent with the files in `folder`, made by `dev-certs`, that talks to `port` on loopback.
    ///
    /// # Panics
    /// When the files are none.
    #[must_use]
    pub fn new(folder: &Path, agent: &str, port: u16, contract: &str) -> Self {
        // Another test of this program may have installed it already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let read = |name: &str| fs::read_to_string(folder.join(name)).expect("an agent's file");
        let identity = read("agent.pem") + &read("agent.key");
        let identity = reqwest::Identity::from_pem(identity.as_bytes()).expect("an identity");
        let ca = reqwest::Certificate::from_pem(read("ca.pem").as_bytes()).expect("a CA");
        let client = reqwest::Client::builder().tls_certs_only([ca]).identity(identity);
        let contract = Contract::from_toml(contract).expect("a contract");
        Self {
            fingerprint: contract.fingerprint(),
            mapping: Digest::of(b"mapping"),
            signing_key: SigningKey::from_text(&read("signing.key")).expect("a signing key"),
            agent: AgentId::try_from(agent.to_owned()).expect("an agent's name"),
            contract,
            url: format!("https://127.0.0.1:{port}/v1"),
            client: client.https_only(true).build().expect("a client"),
            seq: Seq::NONE,
            newest: Digest::ZERO,
        }
    }

    /// The next batch of the stream's first epoch: one row of these fields, read in the full read.
    pub fn seal(&mut self, fields: &[Field<'_>]) -> Batch {
        let mut body = BodyWriter::default();
        put_tuple(body.begin_row(Op::Snapshot), fields);
        let (body, counts) = body.finish();
        self.seq = self.seq.next();
        let body_bytes = body.len() as u64;
        let (encoding, body) = frame::pack(body, 1);
        let salt = [7; SALT_BYTES];
        let header = Header {
            v: HEADER_VERSION,
            agent: self.agent.clone(),
            dataset: self.contract.dataset.clone(),
            epoch: Epoch(1),
            seq: self.seq,
            previous: self.newest,
            contract: self.fingerprint,
            mapping: self.mapping,
            phase: Phase::Read,
            tx_open: false,
            position_from: "read:0".to_owned(),
            position_to: "read:1".to_owned(),
            counts,
            quality: std::collections::BTreeMap::new(),
            body_bytes,
            encoding,
            commitment: commitment(&salt, &body),
            read_at: Timestamp::now(),
            source_time: Timestamp::now(),
            agent_version: "0.1.0".to_owned(),
        };
        let signed = SignedHeader::sign(header, &self.signing_key);
        self.newest = signed.digest();
        Batch { signed, salt, body }
    }

    /// Forgets the batch sealed last, so that the next one takes its number.
    pub fn take_back(&mut self, sealed: &Batch) {
        self.seq = Seq(self.seq.0.saturating_sub(1));
        self.newest = sealed.signed.header.previous;
    }

    /// Delivers a frame as it is.
    ///
    /// # Errors
    /// The hub's refusal.
    ///
    /// # Panics
    /// When the hub does not answer in its own words.
    pub async fn send(&self, frame: Vec<u8>) -> Result<SignedReceipt, Refusal> {
        self.post("batch", frame).await
    }

    /// Says hello with this clock.
    ///
    /// # Errors
    /// The hub's refusal.
    ///
    /// # Panics
    /// When the hub does not answer in its own words.
    pub async fn hello(&self, sent_at: Timestamp) -> Result<Welcome, Refusal> {
        let hello = Hello {
            protocol: phusa_protocol::PROTOCOL_VERSION,
            agent: self.agent.clone(),
            agent_version: "0.1.0".to_owned(),
            sent_at,
            datasets: vec![Offer {
                dataset: self.contract.dataset.clone(),
                contract: self.contract.fingerprint(),
                mapping: Digest::of(b"mapping"),
            }],
        };
        self.post("hello", serde_json::to_vec(&hello).expect("a greeting")).await
    }

    async fn post<T: DeserializeOwned>(&self, to: &str, body: Vec<u8>) -> Result<T, Refusal> {
        let send = || self.client.post(format!("{}/{to}", self.url)).body(body.clone()).send();
        // A hub that stops an agent cuts its connections; the next one is told why.
        let answer = match send().await {
            Ok(answer) => answer,
            Err(_) => send().await.expect("an answer"),
        };
        let is_success = answer.status().is_success();
        let body = answer.bytes().await.expect("an answer's body");
        if is_success {
            return Ok(serde_json::from_slice(&body).expect("the answer asked for"));
        }
        Err(serde_json::from_slice(&body).expect("a refusal"))
    }
}
