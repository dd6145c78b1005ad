//! `POST /v1/enrol` and `/v1/recover`, which alone need no certificate, and `/v1/renew`.
//!
//! Whoever has none is a stranger: few of them are served at once, their bodies are small, and each
//! refusal is written down like any other.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use phusa_protocol::fault::Code;
use phusa_protocol::hello::Refusal;
use phusa_protocol::identity::{Enrol, Issued, Recover, Renew};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::warn;

use super::Peer;
use super::https::{admitted, answer, receive, refusal};
use crate::admission::{Admission, Ended};
use crate::error::Refused;
use crate::ingest::Ingest;

/// A request is two keys and a certificate request; nothing honest is longer.
const ASKED_BYTES_MAX: usize = 16 << 10;

/// Requests at once: each holds a database connection for a moment. None waits for a sender: its body
/// was read before, so that four that dribble do not keep others from being enrolled.
const AT_ONCE_MAX: usize = 4;

/// How long one may wait for its turn, and how long its body may take.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// What the routes share.
#[derive(Debug, Clone)]
struct Routes {
    ingest: Arc<Ingest>,
    admission: Arc<Admission>,
    turns: Arc<Semaphore>,
}

/// The routes; each request carries its [`Peer`].
pub fn router(ingest: Arc<Ingest>, admission: Arc<Admission>) -> Router {
    let turns = Arc::new(Semaphore::new(AT_ONCE_MAX));
    Router::new()
        .route("/v1/enrol", post(enrol))
        .route("/v1/recover", post(recover))
        .route("/v1/renew", post(renew))
        .with_state(Routes { ingest, admission, turns })
}

async fn enrol(State(routes): State<Routes>, request: Request) -> Response {
    let asked = match read::<Enrol>(request).await {
        Ok(asked) => asked,
        Err(refusal) => return answer(&refusal),
    };
    let Ok(Ok(_turn)) = timeout(WAIT_MAX, routes.turns.acquire()).await else { return busy() };
    let ended = routes.admission.enrol(&asked).await;
    routes.told(ended).await
}

async fn recover(State(routes): State<Routes>, request: Request) -> Response {
    let asked = match read::<Recover>(request).await {
        Ok(asked) => asked,
        Err(refusal) => return answer(&refusal),
    };
    let Ok(Ok(_turn)) = timeout(WAIT_MAX, routes.turns.acquire()).await else { return busy() };
    let ended = routes.admission.recover(&asked).await;
    routes.told(ended).await
}

async fn renew(
    State(routes): State<Routes>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let caller = match admitted(&routes.ingest, &peer).await {
        Ok(caller) => caller,
        Err(refusal) => return answer(&refusal),
    };
    let asked = match read::<Renew>(request).await {
        Ok(asked) => asked,
        Err(refusal) => return answer(&refusal),
    };
    let Ok(Ok(_turn)) = timeout(WAIT_MAX, routes.turns.acquire()).await else { return busy() };
    if asked.agent != caller.agent {
        let what = format!("{} asks with the certificate of {}", asked.agent, caller.agent);
        let refused = Refused::new(Code::OwnCertificate, what);
        return answer(&routes.ingest.turn_away(Some(&caller.agent), refused).await);
    }
    let ended = routes.admission.renew(&asked, caller.generation).await;
    routes.told(ended).await
}

impl Routes {
    async fn told(&self, ended: Result<Issued, Ended>) -> Response {
        match ended {
            Ok(issued) => Json(issued).into_response(),
            Err(Ended::Refused(agent, refused)) => {
                answer(&self.ingest.turn_away(agent.as_ref(), refused).await)
            }
            Err(Ended::Failed(fault)) => {
                warn!(code = %fault.code, "A certificate could not be issued: {}", fault.chain());
                answer(&refusal(fault.code, fault.what))
            }
        }
    }
}

async fn read<T: DeserializeOwned>(request: Request) -> Result<T, Refusal> {
    let Ok(body) = timeout(WAIT_MAX, receive(request, ASKED_BYTES_MAX)).await else {
        return Err(refusal(Code::FrameDamaged, "the body took too long"));
    };
    serde_json::from_slice(&body?)
        .map_err(|_| refusal(Code::ProtocolVersion, "the request cannot be read"))
}

fn busy() -> Response {
    answer(&refusal(Code::HubBusy, "others are being enrolled"))
}
