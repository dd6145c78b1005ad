//! The part of a page that changes, sent while somebody looks at it: server-sent events, bounded in
//! number, ended with the session they belong to and with the hub.
//!
//! How the fleet is, is worked out once for all who look, when somebody does.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::unfold;
use maud::{Markup, html};
use phusa_protocol::digest::Digest;
use phusa_protocol::fault::Fault;
use phusa_protocol::ids::AgencyId;
use phusa_protocol::time::Timestamp;
use phusa_protocol::verdict::Verdict;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::form::Fields;
use super::guard::Visitor;
use super::{Portal, fleet, frame, incidents};
use crate::fleet::health::{self, Health};

/// Streams at once.
const STREAMS_MAX: usize = 128;

/// Streams of one account: a few windows.
const OF_ACCOUNT_MAX: usize = 8;

/// How often is looked whether something changed.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How old what is known of the fleet may be when it is shown.
const KNOWN_FOR: Duration = Duration::from_millis(800);

/// What shows how long something lasts is sent anew after this, though nothing else changed.
const ANEW_AFTER: Duration = Duration::from_secs(30);

/// What all streams share.
#[derive(Debug, Clone)]
pub struct Live {
    places: Arc<Semaphore>,
    held: Arc<Mutex<BTreeMap<i64, usize>>>,
    known: Arc<tokio::sync::Mutex<Option<Known>>>,
    stop: CancellationToken,
}

/// How the fleet was when somebody last looked.
#[derive(Debug, Clone)]
struct Known {
    at: Instant,
    all: Arc<Vec<Health>>,
    /// Rises when a verdict is another.
    version: u64,
}

impl Live {
    /// Nobody looks yet; every stream ends at `stop`.
    #[must_use]
    pub fn new(stop: CancellationToken) -> Self {
        let places = Arc::new(Semaphore::new(STREAMS_MAX));
        Self { places, held: Arc::default(), known: Arc::default(), stop }
    }

    /// A place for one more stream of an account; `None` when there is none.
    fn place(&self, account: i64) -> Option<Place> {
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let of = held.entry(account).or_default();
        if *of >= OF_ACCOUNT_MAX {
            return None;
        }
        *of += 1;
        Some(Place { account, held: Arc::clone(&self.held), _permit: permit })
    }

    async fn fleet(&self, portal: &Portal) -> Result<(Arc<Vec<Health>>, u64), Fault> {
        let mut known = self.known.lock().await;
        if let Some(known) = known.as_ref().filter(|known| known.at.elapsed() < KNOWN_FOR) {
            return Ok((Arc::clone(&known.all), known.version));
        }
        let client = portal.people.warehouse.client().await?;
        let register = portal.register.borrow().clone();
        let contracts = portal.catalog.current();
        let all = health::all(&client, (&register, &contracts), Timestamp::now()).await?;
        let verdicts = |all: &[Health]| -> Vec<Verdict> {
            all.iter().map(|one| one.verdict.clone()).collect()
        };
        let before = known.as_ref().map(|known| (verdicts(&known.all), known.version));
        let version = match before {
            Some((before, version)) if before == verdicts(&all) => version,
            Some((_, version)) => version + 1,
            None => 1,
        };
        let all = Arc::new(all);
        *known = Some(Known { at: Instant::now(), all: Arc::clone(&all), version });
        Ok((all, version))
    }
}

/// A place among the streams, given back when its stream ends.
#[derive(Debug)]
struct Place {
    account: i64,
    held: Arc<Mutex<BTreeMap<i64, usize>>>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of) = held.get_mut(&self.account) {
            *of = of.saturating_sub(1);
            if *of == 0 {
                held.remove(&self.account);
            }
        }
    }
}

/// The part of a page that changes, with where it comes from while somebody looks.
pub(super) fn region(from: &str, content: &Markup) -> Markup {
    html! {
        div id="live" data-from=(from) { (content) }
        script src="/live.js" defer {}
    }
}

/// `GET /live.js`.
pub(super) async fn script() -> Response {
    let kind = "text/javascript; charset=utf-8";
    let head = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "max-age=300")];
    (head, include_str!("live.js")).into_response()
}

/// Which part of which page.
enum Region {
    Fleet(Fields),
    Agency(AgencyId),
    Incidents(Fields),
}

/// `GET /live/fleet`.
pub(super) async fn of_fleet(
    State(portal): State<Portal>,
    RawQuery(query): RawQuery,
    visitor: Visitor,
) -> Response {
    stream(portal, visitor, Region::Fleet(Fields::of_query(query.as_deref())))
}

/// `GET /live/incidents`.
pub(super) async fn of_incidents(
    State(portal): State<Portal>,
    RawQuery(query): RawQuery,
    visitor: Visitor,
) -> Response {
    stream(portal, visitor, Region::Incidents(Fields::of_query(query.as_deref())))
}

/// `GET /live/fleet/{agency}`.
pub(super) async fn of_agency(
    State(portal): State<Portal>,
    Path(agency): Path<String>,
    visitor: Visitor,
) -> Response {
    match AgencyId::new(agency) {
        Ok(agency) => stream(portal, visitor, Region::Agency(agency)),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

fn stream(portal: Portal, visitor: Visitor, region: Region) -> Response {
    let Some(place) = portal.live.place(visitor.account.account) else {
        let text = visitor.lang.say("Quá nhiều trang đang mở.", "Too many pages are open.");
        return frame::message(visitor.lang, StatusCode::SERVICE_UNAVAILABLE, text);
    };
    let looking = Looking { portal, visitor, region, shown: None, _place: place };
    let events = unfold(looking, Looking::next);
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}

/// What was sent last.
struct Shown {
    digest: Digest,
    version: u64,
    at: Instant,
}

/// One stream.
struct Looking {
    portal: Portal,
    visitor: Visitor,
    region: Region,
    shown: Option<Shown>,
    _place: Place,
}

impl Looking {
    /// The next event; `None` when the session or the hub ends, or the database does not answer: the
    /// browser comes again by itself, and is asked who it is.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        let stop = self.portal.live.stop.clone();
        loop {
            if self.shown.is_some() {
                stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await?;
            }
            let (people, now) = (&self.portal.people, Timestamp::now());
            let session = self.visitor.session.session;
            if !people.lives(session, self.portal.ends, now).await.ok()? {
                return None;
            }
            let Some((text, version)) = self.render().await.ok()? else { continue };
            let digest = Digest::of(text.as_bytes());
            let same = self.shown.as_ref().is_some_and(|shown| shown.digest == digest);
            self.shown = Some(Shown { digest, version, at: Instant::now() });
            if !same {
                return Some((Ok(Event::default().data(text)), self));
            }
        }
    }

    /// What is to be seen now, with its version; `None` while that is what was sent last.
    async fn render(&self) -> Result<Option<(String, u64)>, Fault> {
        let (portal, visitor) = (&self.portal, &self.visitor);
        let (content, version) = match &self.region {
            Region::Fleet(fields) => {
                let (all, version) = portal.live.fleet(portal).await?;
                let is_known = self.shown.as_ref().is_some_and(|shown| {
                    shown.version == version && shown.at.elapsed() < ANEW_AFTER
                });
                if is_known {
                    return Ok(None);
                }
                (fleet::changing(visitor, fields, &all), version)
            }
            Region::Agency(agency) => (fleet::changing_agency(portal, visitor, agency).await?, 0),
            Region::Incidents(fields) => (incidents::changing(portal, visitor, fields).await?, 0),
        };
        Ok(Some((content.into_string(), version)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_a_few_streams_and_what_ends_gives_its_place_back() {
        let live = Live::new(CancellationToken::new());
        let mut own: Vec<_> = (0..OF_ACCOUNT_MAX).map(|_| live.place(1).unwrap()).collect();
        assert!(live.place(1).is_none(), "no more of one account");
        let others: Vec<_> = (2_i64..).map_while(|account| live.place(account)).collect();
        assert_eq!(own.len() + others.len(), STREAMS_MAX);
        own.pop();
        assert!(live.place(1).is_some());
        drop((own, others));
        assert!(live.held.lock().unwrap().is_empty());
    }
}
