//! Where agents report: a port of the hub, MQTT 3.1.1 over mutual TLS, ended here; or a broker of the
//! province ([`broker`]). The port is no broker: an agent talks to the hub alone.
//!
//! [`rules`] decides what a packet means and who may send it, [`wire`] reads and writes packets,
//! [`session`] does what was decided. Connections are let in, told from each other and cut as those
//! of [`crate::listen`]; a session whose agent may speak no longer ends where it stands.

pub mod broker;
pub mod rules;
mod session;
mod wire;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgentId;
use phusa_protocol::orders::SignedOrders;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use self::broker::Broker;
use self::session::Session;
use crate::SECURITY;
use crate::config::plan::Plan;
use crate::config::plan::link::LinkPlan;
use crate::config::register::Register;
use crate::ingest::check::admit;
use crate::listen::gate::{Bounds, Entrant, Gate};
use crate::listen::own::Own;
use crate::listen::{
    HANDSHAKE_MAX, client_tls_config, handshake_failed, part, peer_of, tls_config,
};
use crate::views::metrics::Metrics;
use crate::warehouse::Warehouse;

/// Sessions at once; each agent has one.
const SESSIONS_MAX: usize = 2_048;

/// Reports stored at once: the rest of the database's connections are for batches. A session whose
/// turn it is not is not read from.
const STORING_MAX: usize = 2;

/// Where agents report.
#[derive(Debug)]
pub enum Link {
    /// At the hub's own port.
    Port(Port),
    /// At a broker.
    Broker(Broker),
}

impl Link {
    /// Opens it; `None` where the configuration names none.
    ///
    /// # Errors
    /// When certificates or keys are none, or the port is taken.
    pub async fn open(
        (plan, own): (&Plan, &Arc<Own>),
        warehouse: &Warehouse,
        (register, metrics): (watch::Receiver<Arc<Register>>, Metrics),
        orders: watch::Receiver<Wanted>,
    ) -> Result<Option<Self>, Fault> {
        let Some(link) = &plan.link else { return Ok(None) };
        let shared = Shared {
            warehouse: warehouse.clone(),
            register,
            metrics,
            storing: Arc::new(Semaphore::new(STORING_MAX)),
            sessions: Sessions::default(),
            orders,
        };
        let link = match link {
            LinkPlan::Listen(listen) => Self::Port(Port::open(*listen, (plan, own), shared).await?),
            LinkPlan::Broker(address) => {
                Self::Broker(Broker::new(address.clone(), client_tls_config(plan, own)?, shared))
            }
        };
        Ok(Some(link))
    }

    /// Serves until `stop`.
    pub async fn run(self, tasks: TaskTracker, stop: CancellationToken) {
        match self {
            Self::Port(port) => port.run(tasks, stop).await,
            Self::Broker(broker) => broker.run(stop).await,
        }
    }
}

/// The port of the link.
pub struct Port {
    gate: Gate,
    tls: TlsAcceptor,
    shared: Shared,
}

/// What every session has in common.
#[derive(Clone)]
pub(crate) struct Shared {
    warehouse: Warehouse,
    register: watch::Receiver<Arc<Register>>,
    metrics: Metrics,
    storing: Arc<Semaphore>,
    sessions: Sessions,
    orders: watch::Receiver<Wanted>,
}

/// What every agent is to be told.
pub type Wanted = Arc<BTreeMap<AgentId, SignedOrders>>;

impl std::fmt::Debug for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Port").field("gate", &self.gate).finish_non_exhaustive()
    }
}

/// Who has a session. A second one of the same agent ends the first.
#[derive(Debug, Clone, Default)]
struct Sessions {
    open: Arc<Mutex<BTreeMap<AgentId, (u64, CancellationToken)>>>,
}

impl Sessions {
    /// Takes the place of this agent's session; what is returned is cancelled when another does.
    fn enter(&self, agent: &AgentId) -> (u64, CancellationToken) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let token = CancellationToken::new();
        let number = open.get(agent).map_or(0, |(number, _)| number.wrapping_add(1));
        if let Some((_, before)) = open.insert(agent.clone(), (number, token.clone())) {
            before.cancel();
        }
        (number, token)
    }

    /// Gives the place back, unless another has it by now.
    fn leave(&self, agent: &AgentId, number: u64) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.get(agent).is_some_and(|(at, _)| *at == number) {
            open.remove(agent);
        }
    }
}

impl Port {
    async fn open(
        listen: SocketAddr,
        (plan, own): (&Plan, &Arc<Own>),
        shared: Shared,
    ) -> Result<Self, Fault> {
        let mut tls = tls_config(plan, own)?;
        // Stock clients of MQTT name no protocol in TLS.
        tls.alpn_protocols.clear();
        let door = (listen, "the link");
        let bounds = Bounds { most: SESSIONS_MAX, from_one: plan.connections_per_address_max };
        let gate = Gate::open(door, &plan.allowed_networks, bounds).await?;
        Ok(Self { gate, tls: TlsAcceptor::from(Arc::new(tls)), shared })
    }

    /// Accepts until `stop`.
    async fn run(self, tasks: TaskTracker, stop: CancellationToken) {
        while let Some(entrant) = self.gate.next(&stop).await {
            let (tls, shared) = (self.tls.clone(), self.shared.clone());
            tasks.spawn(serve(entrant, tls, shared, stop.clone()));
        }
    }
}

async fn serve(
    Entrant { stream, address, place: _place }: Entrant,
    tls: TlsAcceptor,
    shared: Shared,
    stop: CancellationToken,
) {
    let handshake = tokio::time::timeout(HANDSHAKE_MAX, tls.accept(stream).into_fallible());
    let stream = tokio::select! {
        () = stop.cancelled() => return,
        handshake = handshake => match handshake {
            Ok(Ok(stream)) => stream,
            Ok(Err((error, stream))) => {
                handshake_failed(address, &error);
                return part(stream).await;
            }
            Err(_) => return warn!(%address, "TLS with {address} took longer than {HANDSHAKE_MAX:?}"),
        },
    };
    let peer = peer_of(&stream, address);
    let agent = match &peer.identity {
        Ok(agent) => agent.clone(),
        Err(why) => {
            return warn!(target: SECURITY, code = %Code::OwnCertificate, %address, "Closed a connection of the link from {address}: {why}");
        }
    };
    let refused = admit(&shared.register.borrow(), &peer.caller(&agent)).err();
    let session = Session { agent, peer, shared, refused };
    session.run(stream, stop).await;
    debug!(%address, "A session of the link ended");
}
