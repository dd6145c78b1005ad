//! Releases, for agents alone: `GET /release/metadata/<file>`; `/release/targets/<file>/<from>`, a piece at
//! a time, so that a broken download goes on where it broke and takes no memory; `/release/assignment` says
//! what the one who asks is to run.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Extension, Router};
use phusa_protocol::fault::Code;
use tracing::warn;

use super::Peer;
use super::https::{admitted, answer, refusal};
use crate::ingest::Ingest;
use crate::release::assign::Assigner;
use crate::release::store::{Folder, Store};

/// Bytes of a program in one answer: a tenth of a second over a line of 100 Mbit/s.
pub const PIECE_BYTES: u64 = 1 << 20;

/// The largest metadata file that is served.
const METADATA_BYTES_MAX: u64 = 8 << 20;

/// What these routes share.
#[derive(Debug, Clone)]
pub struct Served {
    /// Says who may ask.
    pub ingest: Arc<Ingest>,
    /// The files.
    pub store: Store,
    /// Who is to run what.
    pub assigner: Assigner,
}

/// The routes; each request carries its [`Peer`].
pub fn router(served: Served) -> Router {
    Router::new()
        .route("/release/metadata/{name}", get(metadata))
        .route("/release/targets/{name}/{from}", get(targets))
        .route("/release/assignment", get(assignment))
        .with_state(served)
}

async fn metadata(
    State(served): State<Served>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
) -> Response {
    served.give(&peer, (Folder::Metadata, name), 0, METADATA_BYTES_MAX).await
}

async fn targets(
    State(served): State<Served>,
    Extension(peer): Extension<Peer>,
    Path((name, from)): Path<(String, u64)>,
) -> Response {
    served.give(&peer, (Folder::Targets, name), from, PIECE_BYTES).await
}

async fn assignment(State(served): State<Served>, Extension(peer): Extension<Peer>) -> Response {
    let caller = match admitted(&served.ingest, &peer).await {
        Ok(caller) => caller,
        Err(refusal) => return answer(&refusal),
    };
    match served.assigner.of(&caller.agent).await {
        Ok(signed) => {
            ([(header::CONTENT_TYPE, "application/json")], signed.to_bytes()).into_response()
        }
        Err(fault) => {
            warn!(code = %fault.code, "An agent was not told what to run: {}", fault.chain());
            answer(&refusal(fault.code, fault.to_string()))
        }
    }
}

impl Served {
    async fn give(
        &self,
        peer: &Peer,
        (folder, name): (Folder, String),
        from: u64,
        bytes_max: u64,
    ) -> Response {
        if let Err(refusal) = admitted(&self.ingest, peer).await {
            return answer(&refusal);
        }
        let store = self.store.clone();
        let read =
            tokio::task::spawn_blocking(move || store.piece((folder, &name), from, bytes_max));
        match read.await {
            Ok(Ok(Some(bytes))) => {
                ([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response()
            }
            Ok(Ok(None)) => StatusCode::NOT_FOUND.into_response(),
            Ok(Err(error)) => {
                warn!(code = %Code::DiskFailed, %error, "A file of releases was not read");
                answer(&refusal(Code::HubBusy, "a file of releases cannot be read now"))
            }
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }
}
