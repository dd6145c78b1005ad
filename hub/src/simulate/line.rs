//! The link of one agency: a session with the hub, and reports that say what befell it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use phusa_protocol::diagnosis::{Diagnosis, Lately, Setting};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgentId;
use phusa_protocol::orders::Want;
use phusa_protocol::report::{
    Alive, Birth, CertificateReport, Channel, DatasetReport, Life, Obstacle, Phase,
    REPORT_BYTES_MAX, Report, SpoolReport,
};
use phusa_protocol::time::Timestamp;
use phusa_protocol::verdict::REPORT_EVERY;
use rumqttc::{
    AsyncClient, Event, LastWill, MqttOptions, Packet, QoS, TlsConfiguration, Transport,
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::agency::{Agency, folder, text_of};
use super::fate::Fate;
use super::orders::Book;

/// How long after a session broke off the next is begun.
const AGAIN_AFTER: Duration = Duration::from_secs(3);

/// How long a farewell may take.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

const GIB: u64 = 1 << 30;

/// A day.
const DAY: Duration = Duration::from_secs(86_400);

/// An agency's end of the link.
pub(super) struct Line {
    agent: AgentId,
    port: u16,
    tls: Arc<ClientConfig>,
    session: Option<Session>,
    /// No session before.
    rests_until: Instant,
    /// What befell it and how it stood to its orders when it last reported, and when the next is due.
    told: Option<((Fate, u64), Instant)>,
    orders: Arc<Book>,
    started_at: Timestamp,
    troubled_since: Option<Timestamp>,
}

/// A session under way.
struct Session {
    birth: Birth,
    client: AsyncClient,
    lives: watch::Receiver<bool>,
    driven: JoinHandle<()>,
}

impl Line {
    pub(super) fn new(agency: &Agency, dir: &Path, port: u16) -> Result<Self, Fault> {
        let agent = agency.agent();
        Ok(Self {
            agent: agent.clone(),
            orders: Arc::clone(agency.orders()),
            port,
            tls: Arc::new(tls(&folder(dir, agent))?),
            session: None,
            rests_until: Instant::now(),
            told: None,
            started_at: Timestamp::now(),
            troubled_since: None,
        })
    }

    /// Does what its fate asks for: begins a session, reports, falls silent, breaks off.
    pub(super) fn keep(&mut self, fate: Fate, agency: &Agency) {
        self.troubled_since = match (fate, self.troubled_since) {
            (Fate::Well, _) => None,
            (_, Some(since)) => Some(since),
            (_, None) => Some(Timestamp::now()),
        };
        match fate {
            Fate::Cut => self.break_off(),
            Fate::Silent => {}
            // What was said is sent; the session's task ends by itself when that is over.
            Fate::Stopped => drop(self.farewell()),
            Fate::Well
            | Fate::LoginRefused
            | Fate::SourceAway
            | Fate::DiskLow
            | Fate::ClockWrong
            | Fate::CertificateEnds
            | Fate::Behind => self.go_on(fate, agency),
        }
    }

    fn go_on(&mut self, fate: Fate, agency: &Agency) {
        if self.session.as_ref().is_some_and(|session| session.driven.is_finished()) {
            self.break_off();
            self.rests_until = Instant::now() + AGAIN_AFTER;
        }
        if self.session.is_none() && Instant::now() >= self.rests_until {
            self.session = Some(self.begin());
        }
        self.report(fate, agency);
    }

    /// Says farewell.
    pub(super) async fn leave(mut self) {
        if let Some(driven) = self.farewell() {
            let _late = tokio::time::timeout(FAREWELL_MAX, driven).await;
        }
    }

    fn farewell(&mut self) -> Option<JoinHandle<()>> {
        self.told = None;
        let session = self.session.take()?;
        self.say(&session, Channel::Life, life(session.birth, Alive::Leaving));
        let _full = session.client.try_disconnect();
        Some(session.driven)
    }

    fn break_off(&mut self) {
        if let Some(session) = self.session.take() {
            // Dropped with its connection, and no farewell: the hub sends the last will round.
            session.driven.abort();
        }
        self.told = None;
    }

    fn begin(&self) -> Session {
        let birth = Birth(Timestamp::now());
        let mut options = MqttOptions::new(self.agent.to_string(), "127.0.0.1", self.port);
        let tls = TlsConfiguration::Rustls(Arc::clone(&self.tls));
        let topic = Channel::Life.topic(&self.agent);
        options
            .set_transport(Transport::tls_with_config(tls))
            .set_keep_alive(Duration::from_secs(30))
            .set_clean_session(true)
            .set_max_packet_size(REPORT_BYTES_MAX, REPORT_BYTES_MAX + 1_024)
            .set_last_will(LastWill::new(topic, life(birth, Alive::Lost), QoS::AtLeastOnce, false));
        let (client, mut events) = AsyncClient::new(options, 4);
        let (born, lives) = watch::channel(false);
        let (agent, orders) = (self.agent.clone(), Arc::clone(&self.orders));
        let wanted = Channel::Command.topic(&agent);
        // There is room in a session that has not begun.
        let _full = client.try_subscribe(&wanted, QoS::AtLeastOnce);
        let driven = TaskTracker::new().spawn(async move {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => drop(born.send_replace(true)),
                    Ok(Event::Incoming(Packet::Publish(told))) if told.topic == wanted => {
                        if let Err(fault) = orders.take(&told.payload) {
                            debug!(code = %fault.code, "{agent}: {}", fault.chain());
                        }
                    }
                    Ok(_) => {}
                    Err(error) => return debug!(%error, "The link of {agent} ended: {error}"),
                }
            }
        });
        Session { birth, client, lives, driven }
    }

    fn report(&mut self, fate: Fate, agency: &Agency) {
        let Some(session) = self.session.as_ref().filter(|session| *session.lives.borrow()) else {
            return;
        };
        let (now, gist) = (Instant::now(), (fate, self.orders.changes()));
        match self.told {
            Some((told, next)) if told == gist && now < next => return,
            Some(_) => {}
            None => self.say(session, Channel::Life, life(session.birth, Alive::Born)),
        }
        self.say(session, Channel::Report, self.compose(session.birth, fate, agency).to_bytes());
        self.told = Some((gist, now + REPORT_EVERY));
    }

    fn say(&self, session: &Session, channel: Channel, bytes: Vec<u8>) {
        let topic = channel.topic(&self.agent);
        if session.client.try_publish(topic, QoS::AtLeastOnce, false, bytes).is_err() {
            debug!("The hub does not read; a report of {} was left out", self.agent);
        }
    }

    fn compose(&self, birth: Birth, fate: Fate, agency: &Agency) -> Report {
        let at = Timestamp::now();
        let since = self.troubled_since.unwrap_or(at);
        let (delivered, behind) = (agency.delivered(), fate == Fate::Behind);
        let code = fate.fault().map(|code| code.name().to_owned());
        let left = if fate == Fate::CertificateEnds { DAY } else { 6 * DAY };
        Report {
            v: Report::FORM,
            agent: self.agent.clone(),
            version: crate::VERSION.to_owned(),
            birth,
            started_at: self.started_at,
            at,
            spool: SpoolReport {
                bytes: if behind { 4 << 20 } else { 0 },
                bytes_max: GIB,
                oldest: None,
            },
            disk_free_bytes: Some(if fate == Fate::DiskLow { GIB + GIB / 2 } else { 100 * GIB }),
            disk_reserve_bytes: GIB,
            certificate: Some(CertificateReport {
                from: at.before(DAY.saturating_mul(7).saturating_sub(left)),
                until: at.after(left),
            }),
            skew_ms: Some(if fate == Fate::ClockWrong { 120_000 } else { 12 }),
            datasets: vec![DatasetReport {
                dataset: agency.dataset().clone(),
                phase: match agency.follows() {
                    _ if self.orders.is_paused() => Phase::Paused,
                    true => Phase::Following,
                    false => Phase::Reading,
                },
                epoch: agency.epoch(),
                position: format!("sim:{delivered}"),
                spooled_seq: delivered + u64::from(behind),
                released_seq: delivered,
                lag_seconds: if behind { 600 } else { 0 },
                rows: agency.rows(),
                rejects: 0,
                obstacle: code.map(|code| Obstacle { code, since }),
                contract: agency.contract().fingerprint(),
                mapping: agency.mapping(),
            }],
            update: None,
            orders: Some(self.orders.report()),
            diagnosis: self.orders.errand(Want::Diagnose).map(|order| self.diagnosis(order, fate)),
        }
    }

    /// What it says when it is asked what may be wrong: the machine it is made up on, and what befell it.
    fn diagnosis(&self, order: u64, fate: Fate) -> Box<Diagnosis> {
        let processors = std::thread::available_parallelism().map_or(0, usize::from);
        let last = self.troubled_since.unwrap_or_else(Timestamp::now);
        let lately = |code: Code| Lately { code: code.name().to_owned(), count: 1, last };
        let said = Diagnosis {
            order,
            platform: format!(
                "mô phỏng (simulated) {} {}",
                std::env::consts::OS,
                std::env::consts::ARCH
            ),
            memory_kib: None,
            processors: u64::try_from(processors).unwrap_or(u64::MAX),
            settings: vec![Setting { key: "simulated".to_owned(), value: "true".to_owned() }],
            faults: fate.fault().map(lately).into_iter().collect(),
        };
        Box::new(said.bounded())
    }
}

fn life(birth: Birth, state: Alive) -> Vec<u8> {
    Life { birth, state }.to_bytes()
}

fn tls(folder: &Path) -> Result<ClientConfig, Fault> {
    let wrong = |error: Box<dyn std::error::Error + Send + Sync>| {
        Fault::because(Code::SecretUnreadable, "a made-up certificate is unusable", error)
    };
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(text_of(folder, "ca.pem")?.as_bytes()) {
        roots
            .add(root.map_err(|error| wrong(error.into()))?)
            .map_err(|error| wrong(error.into()))?;
    }
    let chain = CertificateDer::pem_slice_iter(text_of(folder, "agent.pem")?.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(error.into()))?;
    let key = PrivateKeyDer::from_pem_slice(text_of(folder, "agent.key")?.as_bytes())
        .map_err(|error| wrong(error.into()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| wrong(error.into()))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|error| wrong(error.into()))
}
