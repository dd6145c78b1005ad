//! The pages for people: HTTPS without client certificates, on an address of its own.
//!
//! Rendered here; the one small script swaps what changes ([`live`]), and every page works without it.
//! [`door`] lets connections in, [`guard`] says who
//! asks and refuses what other sites send, [`frame`] is what every page looks like; each page is one
//! file. A session is looked up in the database at each request: what ends it, ends it everywhere.

pub mod door;
pub mod words;
pub mod form;
pub mod frame;
pub mod guard;
mod accounts;
mod contacts;
mod datasets;
mod deciding;
mod entries;
mod fleet;
mod incidents;
mod invitation;
pub mod live;
mod login;
mod notices;
mod own;
mod record;
mod releases;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use phusa_protocol::policy::Policy;
use tokio::sync::watch;

use crate::accounts::People;
use crate::accounts::session::Ends;
use crate::catalog::Catalog;
use crate::config::profile::Profile;
use crate::config::register::Register;
use crate::release::store::Store;
use crate::transfers::folder::Folder;

/// What the pages are made from.
#[derive(Debug, Clone)]
pub struct Portal {
    /// Accounts and sessions, and the warehouse they are in.
    pub people: People,
    /// How long sessions last.
    pub ends: Ends,
    /// The published log, for proofs.
    pub folder: Folder,
    /// The policy of the configuration, if it names one.
    pub policy: Option<Policy>,
    /// The contracts in force, which say how fresh data has to be.
    pub catalog: Catalog,
    /// What the province's regulation says, such as what data may be used for.
    pub profile: Arc<Profile>,
    /// The agents, who are the witnesses.
    pub register: watch::Receiver<Arc<Register>>,
    /// The releases that people signed.
    pub releases: Store,
    /// Who looks at what just now.
    pub live: live::Live,
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
pub struct From(pub IpAddr);

/// Every page. Requests carry [`From`].
pub fn router(portal: Portal) -> Router {
    Router::new()
        .route("/", get(async || Redirect::to("/fleet")))
        .route("/login", get(login::show).post(login::sign_in))
        .route("/logout", post(login::sign_out))
        .route("/invitation", get(invitation::show).post(invitation::take))
        .route("/own", get(own::show))
        .route("/own/end", post(own::end))
        .route("/own/lost", post(own::lost))
        .route("/accounts", get(accounts::list))
        .route("/accounts/new", get(accounts::blank).post(accounts::create))
        .route("/accounts/{name}", get(accounts::one).post(accounts::change))
        .route("/fleet", get(fleet::list))
        .route("/fleet/orders", post(fleet::order))
        .route("/fleet/orders/cancel", post(fleet::cancel))
        .route("/fleet/{agency}", get(fleet::one))
        .route("/datasets", get(datasets::list))
        .route("/datasets/{dataset}", get(datasets::one))
        .route("/datasets/{dataset}/record", get(record::ask).post(record::show))
        .route("/contacts", get(contacts::list))
        .route("/contacts/{agency}", get(contacts::one).post(contacts::set))
        .route("/incidents", get(incidents::list))
        .route("/incidents/file/{form}", get(incidents::export))
        .route("/incidents/{number}", get(incidents::show).post(incidents::close))
        .route("/notices", get(notices::list).post(notices::create))
        .route("/notices/{number}", post(notices::withdraw))
        .route("/releases", get(releases::show))
        .route("/releases/{turn}", post(releases::turn))
        .route("/live.js", get(live::script))
        .route("/live/fleet", get(live::of_fleet))
        .route("/live/fleet/{agency}", get(live::of_agency))
        .route("/live/incidents", get(live::of_incidents))
        .route("/transfers", get(entries::list))
        .route("/transfers/{number}", get(entries::one))
        .route("/transfers/{number}/proof", get(entries::proof))
        .route("/language/{lang}", get(words::choose))
        .route("/style.css", get(style))
        .fallback(async |headers: HeaderMap| {
            let lang = words::Lang::of(&headers);
            let text = lang.say("Không có trang này.", "There is no such page.");
            frame::message(lang, StatusCode::NOT_FOUND, text)
        })
        .layer(axum::middleware::from_fn(guard::keep))
        .with_state(portal)
}

async fn style() -> Response {
    let kind = "text/css; charset=utf-8";
    let head = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "max-age=300")];
    (head, include_str!("portal/style.css")).into_response()
}
