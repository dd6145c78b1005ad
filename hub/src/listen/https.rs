//! Frames over HTTPS: `POST /v1/hello`, `/v1/batch`, `/v1/digest`, `/v1/proof`,
//! `/v1/contract/proposed`, `/v1/contract/approve` and `/v1/list`.
//!
//! A body is read only after its sender was identified and may send. What bodies take in memory is
//! bounded over all connections, and so is the time a slow sender has for one.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use phusa_protocol::contract::consent::{Asked, SignedConsent};
use phusa_protocol::fault::Code;
use phusa_protocol::frame::FRAME_BYTES_MAX;
use phusa_protocol::hello::{Hello, ListAsked, Refusal};
use phusa_protocol::proof::{Proof, Question};
use tokio::time::{Instant, timeout};

use super::Peer;
use crate::error::{Refused, http_status};
use crate::ingest::memory::Memory;
use crate::ingest::{Caller, Ingest};

/// A greeting names at most some hundred datasets.
const HELLO_BYTES_MAX: usize = 1 << 20;

/// Memory for bodies being received, packed, over all connections: four of the largest frames fit,
/// or hundreds of ordinary ones.
const BODIES_MIB_MAX: usize = 512;

/// What is said where that is spent.
const CROWDED: &str = "too much is being received, from this agent or from all";

/// A sender that is silent for this long within a body is cut off.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// A body takes at most this long: the largest frame over a line of 2 Mbit/s.
const BODY_MAX: Duration = Duration::from_secs(600);

/// What the routes share.
#[derive(Debug, Clone)]
struct Routes {
    ingest: Arc<Ingest>,
    memory: Memory,
}

/// The routes of the port agents connect to; each request carries its [`Peer`].
pub fn router(ingest: Arc<Ingest>) -> Router {
    let memory = Memory::new(BODIES_MIB_MAX);
    Router::new()
        .route("/v1/hello", post(hello))
        .route("/v1/batch", post(batch))
        .route("/v1/digest", post(digest))
        .route("/v1/proof", post(proof))
        .route("/v1/contract/proposed", post(proposed))
        .route("/v1/contract/approve", post(approve))
        .route("/v1/list", post(list))
        .with_state(Routes { ingest, memory })
}

async fn hello(
    State(routes): State<Routes>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let caller = match identify(&routes.ingest, &peer).await {
        Ok(caller) => caller,
        Err(refusal) => return answer(&refusal),
    };
    let Some(_memory) = routes.memory.take(&caller.agent, HELLO_BYTES_MAX - 1).await else {
        return answer(&refusal(Code::HubBusy, CROWDED));
    };
    let body = match receive(request, HELLO_BYTES_MAX).await {
        Ok(body) => body,
        Err(refusal) => return answer(&refusal),
    };
    let Ok(hello) = serde_json::from_slice::<Hello>(&body) else {
        return answer(&refusal(Code::ProtocolVersion, "the greeting cannot be read"));
    };
    match routes.ingest.hello(&caller, &hello).await {
        Ok(welcome) => Json(welcome).into_response(),
        Err(refusal) => answer(&refusal),
    }
}

async fn batch(
    State(routes): State<Routes>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let caller = match admitted(&routes.ingest, &peer).await {
        Ok(caller) => caller,
        Err(refusal) => return answer(&refusal),
    };
    let Some(length) = content_length(&request) else {
        return answer(&refusal(Code::FrameDamaged, "a batch needs a Content-Length"));
    };
    if length > FRAME_BYTES_MAX {
        return answer(&refusal(Code::BatchTooLarge, format!("a frame of {length} bytes")));
    }
    let Some(_memory) = routes.memory.take(&caller.agent, length).await else {
        return answer(&refusal(Code::HubBusy, CROWDED));
    };
    let frame = match receive(request, length).await {
        Ok(frame) => frame,
        Err(refusal) => return answer(&refusal),
    };
    match routes.ingest.batch(caller, frame).await {
        Ok(receipt) => Json(receipt).into_response(),
        Err(refusal) => answer(&refusal),
    }
}

async fn digest(
    State(routes): State<Routes>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let asked = asked::<Question>(&routes, &peer, request).await;
    let answered = match asked {
        Ok((caller, question)) => routes.ingest.compare(&caller, &question).await,
        Err(refusal) => Err(refusal),
    };
    answered.map_or_else(|refusal| answer(&refusal), |found| Json(found).into_response())
}

async fn proof(
    State(routes): State<Routes>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let asked = asked::<Proof>(&routes, &peer, request).await;
    let answered = match asked {
        Ok((caller, proof)) => routes.ingest.proven(&caller, &proof).await,
        Err(refusal) => Err(refusal),
    };
    answered.map_or_else(|refusal| answer(&refusal), |()| StatusCode::NO_CONTENT.into_response())
}

async fn proposed(
    State(routes): State<Routes>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let answered = match asked::<Asked>(&routes, &peer, request).await {
        Ok((caller, asked)) => routes.ingest.proposal(&caller, &asked).await,
        Err(refusal) => Err(refusal),
    };
    answered.map_or_else(|refusal| answer(&refusal), |found| Json(found).into_response())
}

async fn approve(
    State(routes): State<Routes>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let answered = match asked::<SignedConsent>(&routes, &peer, request).await {
        Ok((caller, signed)) => routes.ingest.owner_signs(&caller, &signed).await,
        Err(refusal) => Err(refusal),
    };
    answered.map_or_else(|refusal| answer(&refusal), |()| StatusCode::NO_CONTENT.into_response())
}

async fn list(
    State(routes): State<Routes>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let answered = match asked::<ListAsked>(&routes, &peer, request).await {
        Ok((caller, asked)) => routes.ingest.list(&caller, &asked).await,
        Err(refusal) => Err(refusal),
    };
    let json = [(header::CONTENT_TYPE, "application/json")];
    answered.map_or_else(|refusal| answer(&refusal), |body| (json, body).into_response())
}

/// Who asks, and what.
async fn asked<T: serde::de::DeserializeOwned>(
    routes: &Routes,
    peer: &Peer,
    request: Request,
) -> Result<(Caller, T), Refusal> {
    let caller = identify(&routes.ingest, peer).await?;
    let memory = routes.memory.take(&caller.agent, HELLO_BYTES_MAX - 1).await;
    let Some(_memory) = memory else { return Err(refusal(Code::HubBusy, CROWDED)) };
    let body = receive(request, HELLO_BYTES_MAX).await?;
    let asked = serde_json::from_slice(&body);
    let asked = asked.map_err(|_| refusal(Code::ProtocolVersion, "the question cannot be read"))?;
    Ok((caller, asked))
}

async fn identify(ingest: &Ingest, peer: &Peer) -> Result<Caller, Refusal> {
    match &peer.identity {
        Ok(agent) => Ok(peer.caller(agent)),
        Err(reason) => {
            let refused = Refused::new(Code::OwnCertificate, reason.to_string());
            Err(ingest.turn_away(None, refused).await)
        }
    }
}

/// Who calls, if it may send now.
pub(super) async fn admitted(ingest: &Ingest, peer: &Peer) -> Result<Caller, Refusal> {
    let caller = identify(ingest, peer).await?;
    ingest.admit(&caller).await?;
    Ok(caller)
}

fn content_length(request: &Request) -> Option<usize> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads a body of at most `bytes_max`, as long as its sender keeps sending.
pub(super) async fn receive(request: Request, bytes_max: usize) -> Result<Bytes, Refusal> {
    let mut body = request.into_body();
    let mut bytes = BytesMut::new();
    let deadline = Instant::now() + BODY_MAX;
    loop {
        let frame = timeout(SILENCE_MAX, body.frame()).await;
        let Ok(frame) = frame else {
            return Err(refusal(Code::FrameDamaged, "the sender fell silent"));
        };
        let Some(frame) = frame else { return Ok(bytes.freeze()) };
        let Ok(frame) = frame else {
            return Err(refusal(Code::FrameDamaged, "the connection broke inside a body"));
        };
        if let Ok(part) = frame.into_data() {
            if bytes.len().saturating_add(part.len()) > bytes_max {
                return Err(refusal(Code::BatchTooLarge, "the body is longer than announced"));
            }
            if bytes.is_empty() {
                bytes.reserve(bytes_max.min(RESERVE_BYTES_MAX));
            }
            bytes.extend_from_slice(&part);
        }
        if Instant::now() > deadline {
            return Err(refusal(Code::FrameDamaged, "the body took too long"));
        }
    }
}

/// Memory is taken in advance only up to here; an announced length is not yet a sent one.
const RESERVE_BYTES_MAX: usize = 4 << 20;

pub(super) fn refusal(code: Code, what: impl Into<String>) -> Refusal {
    let retry_after_ms = (code == Code::HubBusy).then_some(1_000);
    Refusal { code, what: what.into(), expected: None, retry_after_ms }
}

pub(super) fn answer(refusal: &Refusal) -> Response {
    let status = StatusCode::from_u16(http_status(refusal.code));
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, Json(refusal)).into_response();
    if let Some(ms) = refusal.retry_after_ms {
        let seconds = HeaderValue::from(ms.div_ceil(1_000));
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
}
