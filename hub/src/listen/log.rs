//! The transfer log, read-only, for the agents: `GET /log/checkpoint`, `/log/tile/…`, `/log/key`,
//! `/log/proven`, `/log/entries/<dataset>/<epoch>/<first>`; and `POST /log/cosignature`.
//!
//! Tiles hold digests and signatures, which tell nothing of any agency. Entries tell, and so an
//! agent gets its own alone. Answers are bounded by what a tile or a page holds.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use phusa_protocol::checkpoint::{Checkpoint, LogKey};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::hello::Refusal;
use phusa_protocol::ids::{AgentId, DatasetId, Epoch, Seq};
use phusa_protocol::keys::PublicKey;
use phusa_protocol::policy::Policy;
use phusa_protocol::tile::{Asked, TILE_HASHES, Tile};
use tokio::sync::watch;

use super::Peer;
use super::https::{admitted, answer, receive, refusal};
use crate::config::register::Register;
use crate::ingest::{Caller, Ingest};
use crate::transfers::folder::Folder;
use crate::transfers::publish::blocking;
use crate::transfers::{evidence, witnesses};
use crate::warehouse::Warehouse;

/// A checkpoint with one cosignature; more comes from no agent.
const COSIGNED_BYTES_MAX: usize = 4 << 10;

/// Tiles never change once they are whole.
const FOREVER: &str = "max-age=31536000, immutable";

/// What these routes share.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Says who may ask.
    pub ingest: Arc<Ingest>,
    /// Where entries and cosignatures are.
    pub warehouse: Warehouse,
    /// Where the log's files are.
    pub folder: Folder,
    /// The hub's word for the log's key.
    pub log_key: LogKey,
    /// The policy of the configuration, if it names one.
    pub policy: Option<Policy>,
    /// The agents, who are the witnesses.
    pub register: watch::Receiver<Arc<Register>>,
}

/// The routes; each request carries its [`Peer`].
pub fn router(shown: Shown) -> Router {
    Router::new()
        .route("/log/checkpoint", get(checkpoint))
        .route("/log/proven", get(proven))
        .route("/log/key", get(key))
        .route("/log/tile/{*path}", get(tile))
        .route("/log/entries/{agency}/{dataset}/{epoch}/{first}", get(other_entries))
        .route("/log/entries/{dataset}/{epoch}/{first}", get(entries))
        .route("/log/cosignature", post(cosignature))
        .with_state(shown)
}

/// The policy in force: the configured one, or any one of the agents.
#[must_use]
pub fn policy(configured: Option<&Policy>, log: &PublicKey, register: &Register) -> Policy {
    configured.cloned().unwrap_or_else(|| {
        let agents: Vec<(String, PublicKey)> =
            register.keys().into_iter().map(|(agent, key)| (agent.to_string(), key)).collect();
        Policy::of_agents(*log, &agents, 1)
    })
}

impl Shown {
    async fn admit(&self, peer: &Peer) -> Result<Caller, Refusal> {
        admitted(&self.ingest, peer).await
    }

    fn key_of(&self, agent: &AgentId) -> Option<PublicKey> {
        self.register.borrow().get(agent).map(|enrolled| enrolled.signing_key)
    }
}

async fn checkpoint(State(shown): State<Shown>, Extension(peer): Extension<Peer>) -> Response {
    if let Err(refusal) = shown.admit(&peer).await {
        return answer(&refusal);
    }
    let folder = shown.folder.clone();
    match blocking(move || folder.checkpoint()).await {
        Ok(Some(checkpoint)) => note(&checkpoint),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(fault) => failed(&fault),
    }
}

async fn proven(State(shown): State<Shown>, Extension(peer): Extension<Peer>) -> Response {
    match shown.admit(&peer).await {
        Ok(_) => newest_proven(&shown).await,
        Err(refusal) => answer(&refusal),
    }
}

async fn newest_proven(shown: &Shown) -> Response {
    let found = async {
        let client = shown.warehouse.client().await?;
        witnesses::proven(&client, shown.folder.log()).await
    };
    match found.await {
        Ok(Some(checkpoint)) => note(&checkpoint),
        Ok(None) => StatusCode::NO_CONTENT.into_response(),
        Err(fault) => failed(&fault),
    }
}

async fn key(State(shown): State<Shown>, Extension(peer): Extension<Peer>) -> Response {
    match shown.admit(&peer).await {
        Ok(_) => Json(&shown.log_key).into_response(),
        Err(refusal) => answer(&refusal),
    }
}

async fn tile(
    State(shown): State<Shown>,
    Extension(peer): Extension<Peer>,
    Path(path): Path<String>,
) -> Response {
    if let Err(refusal) = shown.admit(&peer).await {
        return answer(&refusal);
    }
    let Some(asked) = Asked::parse(&format!("tile/{path}")) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let folder = shown.folder.clone();
    match blocking(move || published(&folder, asked)).await {
        Ok(Some(bytes)) => {
            let (_, width) = place(asked);
            let caching = if width == TILE_HASHES { FOREVER } else { "max-age=3600" };
            let kind = "application/octet-stream";
            ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, caching)], bytes)
                .into_response()
        }
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(fault) => failed(&fault),
    }
}

/// Only what a checkpoint covers is shown.
fn published(folder: &Folder, asked: Asked) -> Result<Option<Vec<u8>>, Fault> {
    let size = folder.checkpoint()?.map_or(0, |checkpoint| checkpoint.head.size);
    let (tile, width) = place(asked);
    if tile.width(size) < width {
        return Ok(None);
    }
    folder.read(asked)
}

fn place(asked: Asked) -> (Tile, u64) {
    match asked {
        Asked::Hashes(tile, width) => (tile, width),
        Asked::Entries(index, width) => (Tile { level: 0, index }, width),
    }
}

async fn entries(
    State(shown): State<Shown>,
    Extension(peer): Extension<Peer>,
    Path((dataset, epoch, first)): Path<(String, u64, u64)>,
) -> Response {
    let caller = match shown.admit(&peer).await {
        Ok(caller) => caller,
        Err(refusal) => return answer(&refusal),
    };
    let Ok(dataset) = DatasetId::try_from(dataset) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let which = (&dataset, Epoch(epoch), Seq(first));
    match evidence::placed(&shown.warehouse, &caller.agent, which).await {
        Ok(placed) => Json(placed).into_response(),
        Err(fault) => failed(&fault),
    }
}

/// Whoever names an agency names another than its own, which it need not name.
async fn other_entries(State(shown): State<Shown>, Extension(peer): Extension<Peer>) -> Response {
    match shown.admit(&peer).await {
        Ok(caller) => {
            let what = format!("{} may read its own entries alone", caller.agent);
            answer(&refusal(Code::NotOwner, what))
        }
        Err(refusal) => answer(&refusal),
    }
}

async fn cosignature(
    State(shown): State<Shown>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let taken = async {
        let caller = shown.admit(&peer).await?;
        let body = receive(request, COSIGNED_BYTES_MAX).await?;
        let signed = Checkpoint::parse(&String::from_utf8_lossy(&body), shown.folder.log())
            .map_err(|error| refusal(Code::ProtocolVersion, error.to_string()))?;
        let unknown = || refusal(Code::AgentUnknown, caller.agent.to_string());
        let key = shown.key_of(&caller.agent).ok_or_else(unknown)?;
        let register = Arc::clone(&shown.register.borrow());
        let policy = policy(shown.policy.as_ref(), shown.folder.log(), &register);
        take(&shown, &signed, (&caller.agent, &key), &policy).await
    };
    match taken.await {
        Ok(()) => newest_proven(&shown).await,
        Err(refusal) => answer(&refusal),
    }
}

async fn take(
    shown: &Shown,
    signed: &Checkpoint,
    (agent, key): (&AgentId, &PublicKey),
    policy: &Policy,
) -> Result<(), Refusal> {
    let told = |fault: Fault| {
        tracing::warn!(code = %fault.code, %agent, "{}", fault.chain());
        refusal(fault.code, fault.what)
    };
    let mut client = shown.warehouse.client().await.map_err(told)?;
    witnesses::accept(&mut client, signed, (&agent.to_string(), key), policy).await.map_err(told)
}

fn note(checkpoint: &Checkpoint) -> Response {
    let kind = "text/plain; charset=utf-8";
    let head = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-store")];
    (head, checkpoint.to_note()).into_response()
}

fn failed(fault: &Fault) -> Response {
    tracing::warn!(code = %fault.code, "The log could not be shown: {}", fault.chain());
    answer(&refusal(fault.code, fault.what.clone()))
}
