//! The hub over HTTPS with mutual TLS: one request per greeting and per batch.
//!
//! It dials only addresses inside `allowed_networks` (CT-22), follows no redirect, uses no proxy,
//! and speaks HTTP/1.1: several batches in flight are several connections, which needs no window
//! tuning.

use std::net::{IpAddr, SocketAddr};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use phusa_protocol::PROTOCOL_VERSION;
use phusa_protocol::contract::consent::{Asked, Proposal, SignedConsent};
use phusa_protocol::delivery;
use phusa_protocol::digest::Digest;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::frame::FRAME_BYTES_MAX;
use phusa_protocol::hello::{Hello, ListAsked, Refusal, Welcome};
use phusa_protocol::identity::Issued;
use phusa_protocol::keys::PublicKey;
use phusa_protocol::network::Network;
use phusa_protocol::proof::{Answer, Proof, Question};
use phusa_protocol::receipt::SignedReceipt;
use reqwest::StatusCode;

use super::clock::HubClock;
use crate::transport::identity::connection_code;

/// The largest answer is a category list of some ten thousand codes; whatever is longer is not from a
/// hub.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// How long the hub may take to read a whole table for a comparison.
const COMPARISON_TIMEOUT: Duration = Duration::from_secs(3_600);

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the hub is and how it is known.
#[derive(Debug)]
pub struct Settings {
    /// `https://host:port`.
    pub url: reqwest::Url,
    /// The only addresses that are dialled.
    pub allowed_networks: Vec<Network>,
    /// Mutual TLS.
    pub tls: rustls::ClientConfig,
    /// The key that signs receipts.
    pub hub_key: PublicKey,
    /// How long one request may take.
    pub request_timeout: Duration,
}

/// The hub, as the agent sees it.
#[derive(Debug)]
pub struct Hub {
    /// Exchanged when the certificate is.
    client: RwLock<reqwest::Client>,
    dial: Dial,
    pub(super) base: reqwest::Url,
    hello: reqwest::Url,
    batch: reqwest::Url,
    digest: reqwest::Url,
    proof: reqwest::Url,
    proposed: reqwest::Url,
    approve: reqwest::Url,
    list: reqwest::Url,
    pub(super) hub_key: PublicKey,
    clock: HubClock,
}

/// How the hub is dialled, whatever the certificate.
#[derive(Debug, Clone)]
struct Dial {
    allowed_networks: Vec<Network>,
    request_timeout: Duration,
}

impl Dial {
    fn client(&self, tls: rustls::ClientConfig) -> Result<reqwest::Client, Fault> {
        reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(Resolver { allowed: self.allowed_networks.clone() })
            .https_only(true)
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(self.request_timeout)
            .build()
            .map_err(|error| {
                Fault::because(Code::ConfigInvalid, "cannot use the hub's address", error)
            })
    }
}

/// What became of one batch.
#[derive(Debug)]
pub struct Delivered {
    /// For the sender.
    pub answer: delivery::Answer,
    /// The receipt, when `answer` is one; it has been verified.
    pub receipt: Option<SignedReceipt>,
    /// For people, when it went wrong.
    pub fault: Option<Fault>,
}

/// A greeting that failed.
#[derive(Debug)]
pub struct NotWelcome {
    /// Why.
    pub fault: Fault,
    /// How long the hub asks to be left alone, if it asks.
    pub wait: Option<Duration>,
}

impl From<Fault> for NotWelcome {
    fn from(fault: Fault) -> Self {
        Self { fault, wait: None }
    }
}

impl Hub {
    /// A client for this hub; nothing is dialled yet.
    ///
    /// # Errors
    /// `network_not_allowed` when the URL names an address outside `allowed_networks`,
    /// `config_invalid` when it cannot be used at all.
    pub fn new(settings: Settings) -> Result<Self, Fault> {
        let literal = settings.url.host_str().and_then(|host| {
            host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok()
        });
        if let Some(address) = literal.filter(|a| !allows(&settings.allowed_networks, *a)) {
            let what = format!("the hub's address {address} is outside allowed_networks");
            return Err(Fault::new(Code::NetworkNotAllowed, what));
        }
        let join = |path| {
            settings.url.join(path).map_err(|error| {
                Fault::because(Code::ConfigInvalid, "cannot use the hub's address", error)
            })
        };
        let (hello, batch) = (join("/v1/hello")?, join("/v1/batch")?);
        let (digest, proof) = (join("/v1/digest")?, join("/v1/proof")?);
        let (proposed, approve) = (join("/v1/contract/proposed")?, join("/v1/contract/approve")?);
        let list = join("/v1/list")?;
        let base = join("/")?;
        let Settings { allowed_networks, tls, hub_key, request_timeout, .. } = settings;
        let dial = Dial { allowed_networks, request_timeout };
        let client = RwLock::new(dial.client(tls)?);
        Ok(Self {
            client,
            dial,
            base,
            hello,
            batch,
            digest,
            proof,
            proposed,
            approve,
            list,
            hub_key,
            clock: HubClock::default(),
        })
    }

    /// The client in use; requests under way keep the one they began with.
    pub(super) fn client(&self) -> reqwest::Client {
        self.client.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Speaks with another certificate from now on.
    ///
    /// # Errors
    /// `config_invalid`.
    pub fn exchange(&self, tls: rustls::ClientConfig) -> Result<(), Fault> {
        let client = self.dial.client(tls)?;
        *self.client.write().unwrap_or_else(PoisonError::into_inner) = client;
        Ok(())
    }

    /// Asks for a certificate at `path`, with the one in use or with `tls` in its place.
    ///
    /// # Errors
    /// The fault the hub named, or why it could not be asked.
    pub async fn certificate(
        &self,
        path: &str,
        question: &impl serde::Serialize,
        tls: Option<rustls::ClientConfig>,
    ) -> Result<Issued, Fault> {
        let what = "cannot ask the hub for a certificate";
        let client = tls.map_or_else(|| Ok(self.client()), |tls| self.dial.client(tls))?;
        let url = self.base.join(path).map_err(|error| {
            Fault::because(Code::ConfigInvalid, "cannot use the hub's address", error)
        })?;
        let body =
            serde_json::to_vec(question).map_err(|error| Fault::because(Code::Bug, what, error))?;
        let (status, answer) = self.read(client.post(url).body(body).send().await, what).await?;
        if !status.is_success() {
            let refusal = refusal(status, &answer);
            let what = format!("{what}: the hub answered: {}", refusal.what);
            return Err(Fault::new(refusal.code, what));
        }
        serde_json::from_slice(&answer)
            .map_err(|error| Fault::because(Code::ProtocolVersion, what, error))
    }

    /// Says hello.
    ///
    /// # Errors
    /// The fault the hub named, or why it could not be asked.
    pub async fn hello(&self, hello: &Hello) -> Result<Welcome, NotWelcome> {
        let what = "cannot greet the hub";
        let body = serde_json::to_vec(hello)
            .map_err(|error| Fault::because(Code::Bug, "cannot write a greeting", error))?;
        let sent = self.client().post(self.hello.clone()).body(body).send().await;
        let (status, answer) = self.read(sent, what).await?;
        if status == StatusCode::OK {
            return serde_json::from_slice(&answer)
                .map_err(|error| Fault::because(Code::ProtocolVersion, what, error).into());
        }
        let refusal = refusal(status, &answer);
        let what = format!("the hub refused the greeting: {}", refusal.what);
        let wait = refusal.retry_after_ms.map(Duration::from_millis);
        Err(NotWelcome { fault: Fault::new(refusal.code, what), wait })
    }

    /// Asks for digests of the warehouse's rows.
    ///
    /// # Errors
    /// The fault the hub named, or why it could not be asked.
    pub async fn digest(&self, question: &Question) -> Result<Answer, Fault> {
        let what = "cannot ask the hub for digests";
        let answer = self.ask(&self.digest, question, what).await?;
        serde_json::from_slice(&answer)
            .map_err(|error| Fault::because(Code::ProtocolVersion, what, error))
    }

    /// Reports what a comparison came to.
    ///
    /// # Errors
    /// The fault the hub named, or why it could not be told.
    pub async fn report(&self, proof: &Proof) -> Result<(), Fault> {
        self.ask(&self.proof, proof, "cannot report a comparison to the hub").await.map(drop)
    }

    /// Asks what is proposed for a dataset and what is in force.
    ///
    /// # Errors
    /// The fault the hub named, or why it could not be asked.
    pub async fn proposal(&self, asked: &Asked) -> Result<Proposal, Fault> {
        let what = "cannot ask the hub for a contract";
        let answer = self.ask(&self.proposed, asked, what).await?;
        serde_json::from_slice(&answer)
            .map_err(|error| Fault::because(Code::ProtocolVersion, what, error))
    }

    /// Hands in the owner's signature under a contract.
    ///
    /// # Errors
    /// The fault the hub named, or why it could not be told.
    pub async fn approve(&self, signed: &SignedConsent) -> Result<(), Fault> {
        self.ask(&self.approve, signed, "cannot hand in a signature").await.map(drop)
    }

    /// The canonical JSON of a category list in force.
    ///
    /// # Errors
    /// The fault the hub named, or why it could not be asked.
    pub async fn list(&self, list: &str) -> Result<Vec<u8>, Fault> {
        let asked = ListAsked { protocol: PROTOCOL_VERSION, list: list.to_owned() };
        self.ask(&self.list, &asked, "cannot ask the hub for a category list").await
    }

    async fn ask(
        &self,
        url: &reqwest::Url,
        question: &impl serde::Serialize,
        what: &str,
    ) -> Result<Vec<u8>, Fault> {
        let body =
            serde_json::to_vec(question).map_err(|error| Fault::because(Code::Bug, what, error))?;
        let mut asking = self.client().post(url.clone()).body(body);
        // All else is answered from what the hub knows: a hub that dribbles holds nothing up for long.
        if *url == self.digest {
            asking = asking.timeout(COMPARISON_TIMEOUT);
        }
        let (status, answer) = self.read(asking.send().await, what).await?;
        if status.is_success() {
            return Ok(answer);
        }
        let refusal = refusal(status, &answer);
        Err(Fault::new(refusal.code, format!("{what}: the hub answered: {}", refusal.what)))
    }

    /// Sends one frame and waits for what becomes of it. `header` is the digest of its header,
    /// which the receipt must name.
    pub async fn deliver(&self, frame: Vec<u8>, header: Digest) -> Delivered {
        if frame.len() > FRAME_BYTES_MAX {
            let fault = Fault::new(Code::BatchTooLarge, "a batch is larger than a frame may be");
            return failed(delivery::Answer::Refused(Code::BatchTooLarge), fault);
        }
        let sent = self.client().post(self.batch.clone()).body(frame).send().await;
        let (status, answer) = match self.read(sent, "cannot send a batch").await {
            Ok(read) => read,
            Err(fault) => return failed(delivery::Answer::Unreachable, fault),
        };
        if status != StatusCode::OK {
            return refused(&refusal(status, &answer));
        }
        match serde_json::from_slice::<SignedReceipt>(&answer) {
            Ok(receipt) if receipt.covers(header, &self.hub_key) => {
                Delivered { answer: delivery::Answer::Receipt, receipt: Some(receipt), fault: None }
            }
            Ok(_) | Err(_) => {
                let what = "the receipt is not signed with the hub's key or is for another batch";
                failed(delivery::Answer::Unreachable, Fault::new(Code::HubCertificate, what))
            }
        }
    }

    /// Status and body, the body bounded; what the answer says of the hub's clock is noted.
    pub(super) async fn read(
        &self,
        sent: Result<reqwest::Response, reqwest::Error>,
        what: &str,
    ) -> Result<(StatusCode, Vec<u8>), Fault> {
        let failed = |error: reqwest::Error| {
            Fault::because(connection_code(&error), what, error.without_url())
        };
        let mut response = sent.map_err(failed)?;
        self.clock.note(response.headers());
        let (status, mut body) = (response.status(), Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(Fault::new(Code::ProtocolVersion, format!("{what}: endless answer")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, body))
    }

    /// How far the hub's clock is ahead of this one, in milliseconds, as its newest answer said.
    #[must_use]
    pub fn skew_ms(&self) -> Option<i64> {
        self.clock.skew_ms()
    }
}

pub(super) fn refusal(status: StatusCode, answer: &[u8]) -> Refusal {
    let read = serde_json::from_slice::<Refusal>(answer);
    // Its words go into logs and onto terminals: a sentence, and nothing that acts there.
    let read = read.map(|refusal| Refusal { what: sentence(&refusal.what), ..refusal });
    read.unwrap_or_else(|_| {
        // Not our hub's words: a gateway in between, perhaps. Try again later.
        let what = format!("HTTP status {status} without a reason");
        Refusal { code: Code::HubUnreachable, what, expected: None, retry_after_ms: None }
    })
}

/// Characters of a reason that are kept; the hub's own are shorter.
const REASON_CHARACTERS_MAX: usize = 500;

fn sentence(text: &str) -> String {
    let shown = |letter: char| if letter.is_control() { ' ' } else { letter };
    text.chars().map(shown).take(REASON_CHARACTERS_MAX).collect()
}

fn refused(refusal: &Refusal) -> Delivered {
    let wait = refusal.retry_after_ms.map(Duration::from_millis);
    let answer = match (refusal.code, wait) {
        (Code::BatchOutOfTurn, _) => delivery::Answer::OutOfTurn,
        (Code::HubUnreachable, _) => delivery::Answer::Unreachable,
        (Code::HubBusy, wait) => delivery::Answer::Wait(wait.unwrap_or(Duration::from_secs(1))),
        (code, _) => delivery::Answer::Refused(code),
    };
    failed(answer, Fault::new(refusal.code, format!("the hub answered: {}", refusal.what)))
}

fn failed(answer: delivery::Answer, fault: Fault) -> Delivered {
    Delivered { answer, receipt: None, fault: Some(fault) }
}

fn allows(networks: &[Network], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(address))
}

/// Looks names up and keeps only addresses that may be dialled.
#[derive(Debug)]
struct Resolver {
    allowed: Vec<Network>,
}

impl reqwest::dns::Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let allowed = self.allowed.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let found: Vec<SocketAddr> = found.filter(|a| allows(&allowed, a.ip())).collect();
            if found.is_empty() {
                return Err("the name has no address inside allowed_networks".into());
            }
            Ok(Box::new(found.into_iter()) as reqwest::dns::Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_hub_says_is_a_sentence_and_nothing_that_a_terminal_acts_on() {
        let said = format!(
            "{{\"code\":\"hub_busy\",\"what\":\"a\\u001b[2Jb{}\",\"expected\":null,\"retry_after_ms\":1}}",
            "x".repeat(9_000)
        );
        let read = refusal(StatusCode::SERVICE_UNAVAILABLE, said.as_bytes());
        assert_eq!(read.code, Code::HubBusy);
        assert!(read.what.starts_with("a [2Jb") && read.what.len() == REASON_CHARACTERS_MAX);
        assert_eq!(refusal(StatusCode::BAD_GATEWAY, b"<html>").code, Code::HubUnreachable);
    }
}
