//! The running hub has its log stamped by itself, and says when that does not come to be.

use std::time::Duration;

use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::time::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Terms;
use super::shelf::{Shelf, Stamped};
use super::token::{REPLY_BYTES_MAX, Request};
use crate::incidents::{self, Happening, Kind};
use crate::transfers::folder::Folder;
use crate::transfers::publish::blocking;
use crate::views::metrics::Metrics;
use crate::warehouse::Warehouse;

/// How often is looked whether a timestamp is due.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// How long after a request that failed the next one is made.
const RETRY_AFTER: Duration = Duration::from_secs(600);

/// What the schedule works with.
#[derive(Debug)]
pub struct Schedule {
    /// Whom to ask, and how often.
    pub terms: Terms,
    /// The published log.
    pub folder: Folder,
    /// Where timestamps lie.
    pub shelf: Shelf,
    /// Where incidents are opened.
    pub warehouse: Warehouse,
    /// What is shown of it.
    pub metrics: Metrics,
}

impl Schedule {
    /// Runs until stopped.
    pub async fn run(self, stop: CancellationToken) {
        let began = Timestamp::now();
        let (mut wait_until, mut told) = (None::<Instant>, false);
        let every = self.terms.every;
        let look = LOOK_EVERY.min(every / 4).max(Duration::from_millis(250));
        while stop.run_until_cancelled(tokio::time::sleep(look)).await.is_some() {
            let asked = wait_until.is_none_or(|at| at <= Instant::now());
            let made = match asked {
                true => stop.run_until_cancelled(self.stamp_if_due()).await,
                false => Some(Ok(())),
            };
            match made {
                Some(Ok(())) if asked => wait_until = None,
                Some(Ok(())) => {}
                Some(Err(fault)) => {
                    warn!(code = %fault.code, "The log was not timestamped: {}", fault.chain());
                    wait_until = Some(Instant::now() + RETRY_AFTER.min(every));
                }
                None => return,
            }
            match self.alarm(began, told).await {
                Ok(late) => told = late,
                Err(fault) => warn!(code = %fault.code, "{}", fault.chain()),
            }
        }
    }

    async fn stamp_if_due(&self) -> Result<(), Fault> {
        let (folder, shelf) = (self.folder.clone(), self.shelf.clone());
        let (head, last) = blocking(move || Ok((folder.checkpoint()?, shelf.last()?))).await?;
        let Some(checkpoint) = head else { return Ok(()) };
        let entries = checkpoint.head.size;
        let due = last.is_none_or(|last| {
            last.entries < entries && Timestamp::now().since(last.at) >= self.terms.every
        });
        if !due || entries == 0 {
            return Ok(());
        }
        let stamped = self.stamp(entries, checkpoint.to_note()).await?;
        info!(entries, at = %stamped.at, "The log of {entries} entries was timestamped at {}", stamped.at);
        Ok(())
    }

    async fn stamp(&self, entries: u64, note: String) -> Result<Stamped, Fault> {
        let what = || format!("the timestamp of {entries} entries by {}", self.terms.url);
        let refused = |error| Fault::because(Code::TimestampMissing, what(), error);
        let mut chance = [0; 8];
        getrandom::fill(&mut chance)
            .map_err(|error| Fault::because(Code::Bug, "no random bytes", error))?;
        let request = Request::new(note.as_bytes(), chance).map_err(refused)?;
        let reply = self.ask(request.der.clone()).await?;
        let at = request.verify(&reply, &self.terms.trust).map_err(refused)?;
        let shelf = self.shelf.clone();
        blocking(move || shelf.put(entries, &note, &reply)).await?;
        Ok(Stamped { entries, at })
    }

    async fn ask(&self, request: Vec<u8>) -> Result<Vec<u8>, Fault> {
        let what = || format!("cannot ask {} for a timestamp", self.terms.url);
        let failed = |error| Fault::because(Code::TimestampMissing, what(), error);
        let asked = self.terms.client.post(&self.terms.url);
        let asked = asked.header("content-type", "application/timestamp-query").body(request);
        let reply = asked.send().await.and_then(reqwest::Response::error_for_status);
        let mut reply = reply.map_err(failed)?;
        let mut bytes = Vec::new();
        while let Some(part) = reply.chunk().await.map_err(failed)? {
            bytes.extend_from_slice(&part);
            if bytes.len() > REPLY_BYTES_MAX {
                let why = format!("the reply is longer than {REPLY_BYTES_MAX} bytes");
                return Err(Fault::because(Code::TimestampMissing, what(), why));
            }
        }
        Ok(bytes)
    }

    /// Whether the log has grown and had no timestamp for two rounds and more; tells of it once.
    async fn alarm(&self, began: Timestamp, told: bool) -> Result<bool, Fault> {
        let (folder, shelf) = (self.folder.clone(), self.shelf.clone());
        let (head, last) = blocking(move || Ok((folder.checkpoint()?, shelf.last()?))).await?;
        let now = Timestamp::now();
        let age = now.since(last.as_ref().map_or(began, |last| last.at));
        self.metrics.observe_timestamp(age);
        let entries = head.map_or(0, |head| head.head.size);
        let grown = last.is_none_or(|last| last.entries < entries) && entries > 0;
        // Since the start, so that a hub that was off for days has its time to ask.
        let waited = age.min(now.since(began));
        let late = grown && waited > 2 * self.terms.every + RETRY_AFTER.min(self.terms.every);
        if late && !told {
            let what =
                format!("the log of {entries} entries has no timestamp by {}", self.terms.url);
            let client = self.warehouse.client().await?;
            let happening = Happening {
                kind: Kind::Timestamp,
                cause: "missing",
                agent: None,
                dataset: None,
                what: &what,
                transfer: None,
                at: now,
            };
            incidents::note(&**client, &happening).await?;
            warn!(code = %Code::TimestampMissing, "An incident was opened: {what}");
        }
        Ok(late)
    }
}
