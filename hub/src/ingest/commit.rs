//! The one transaction of a batch: rows, log entry and stream cursor, or nothing.

use deadpool_postgres::{Object, Transaction};
use phusa_protocol::batch::{Batch, Header, SALT_BYTES, SignedHeader};
use phusa_protocol::delivery::Judgement;
use phusa_protocol::entry::Entry;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::frame;
use phusa_protocol::hello::Committed;
use phusa_protocol::receipt::SignedReceipt;
use phusa_protocol::time::Timestamp;

use super::stream::{self, Staged, Standing, Step};
use super::turn::Known;
use super::{Ingest, Stop, Work, blocking, is_next, stop_of};
use crate::error::Refused;
use crate::error::database_fault;
use crate::failpoint::{self, Point};
use crate::transfers::Arrived;
use crate::warehouse::apply::{self, Delivery};

impl Ingest {
    /// Commits a checked batch when its turn comes. `begun` is what was known of the stream before
    /// anything was done for it.
    pub(super) async fn commit(&self, work: &Work, begun: Known) -> Result<SignedReceipt, Stop> {
        failpoint::pass(Point::BeforePrepare);
        let header = work.header();
        if let Some(assumed) = self.may_prepare_early(work)
            && let Ok(_permit) = self.early.try_acquire()
            && let Some(receipt) = self.commit_early(work, begun, &assumed).await?
        {
            return Ok(receipt);
        }
        let judgement = self.turns.wait(header, begun, &self.warehouse).await?;
        if judgement == Judgement::Repeat {
            return self.repeat(&work.batch.signed).await;
        }
        if !is_next(judgement) {
            return Err(stop_of(judgement));
        }
        let mut client = self.warehouse.client().await?;
        let locked = self.commit_in_turn(&mut client, work).await?;
        match locked {
            Ok(receipt) => Ok(receipt),
            // Another process, or the same batch sent twice, was faster.
            Err(Judgement::Repeat) => self.repeat(&work.batch.signed).await,
            Err(judgement) => Err(stop_of(judgement)),
        }
    }

    /// The standing to assume for a batch that may copy its rows before its turn: one of a known
    /// epoch, a little ahead, that will be applied as it is.
    fn may_prepare_early(&self, work: &Work) -> Option<Standing> {
        let header = work.header();
        let standing = self.turns.known(header).standing?;
        let is_early = stream::judge(Some(&standing), header) == Judgement::Early;
        let same_epoch = standing.committed.epoch == header.epoch;
        (is_early && same_epoch && !header.tx_open && !standing.tx_open).then_some(standing)
    }

    /// Copies the rows now and goes on in turn; `None` when the batches before it left the stream
    /// otherwise than assumed, and it has to be done again from the beginning.
    async fn commit_early(
        &self,
        work: &Work,
        begun: Known,
        assumed: &Standing,
    ) -> Result<Option<SignedReceipt>, Stop> {
        let header = work.header();
        let mut client = self.warehouse.client().await?;
        let tx = begin(&mut client).await?;
        let delivery = delivery(work, header, assumed);
        // Rows copied straight into their table name their transfer already; merged ones get it in
        // turn, so that `_version` rises per record.
        let mut transfer = None;
        if assumed.initial_load {
            transfer = Some(self.log.next_transfer(&tx).await?);
        }
        let early = transfer.unwrap_or_default();
        let prepared = apply::prepare(&tx, &delivery, early, &work.body).await?;
        failpoint::pass(Point::AfterPrepare);
        let judgement = self.turns.wait(header, begun, &self.warehouse).await?;
        if judgement == Judgement::Repeat {
            return Ok(None);
        }
        if !is_next(judgement) {
            return Err(stop_of(judgement));
        }
        let locked = stream::lock(&tx, &header.agent, &header.dataset).await?;
        let as_assumed = |s: &Standing| s.initial_load == assumed.initial_load && !s.tx_open;
        let next = stream::judge(locked.as_ref(), header) == Judgement::Next;
        let Some(standing) = locked.filter(|standing| next && as_assumed(standing)) else {
            return Ok(None);
        };
        standing.keeps_mapping(header)?;
        let transfer = match transfer {
            Some(transfer) => transfer,
            None => self.log.next_transfer(&tx).await?,
        };
        apply::finish(&tx, &delivery, transfer, prepared).await?;
        failpoint::pass(Point::AfterFinish);
        Ok(Some(self.conclude(tx, work, standing, transfer).await?))
    }

    /// Does everything in turn. `Ok(Err(…))` when it turns out, under the lock, not to be next.
    async fn commit_in_turn(
        &self,
        client: &mut Object,
        work: &Work,
    ) -> Result<Result<SignedReceipt, Judgement>, Stop> {
        let header = work.header();
        let tx = begin(client).await?;
        let locked = stream::lock(&tx, &header.agent, &header.dataset).await?;
        let standing = match (stream::judge(locked.as_ref(), header), locked) {
            (Judgement::Next, Some(standing)) => standing,
            (Judgement::NewEpoch, _) => {
                self.is_still_agreed(&tx, work).await?;
                match stream::begin_epoch(&tx, header, &work.agreed.shape).await? {
                    Some(standing) => standing,
                    None => return Ok(Err(Judgement::Early)),
                }
            }
            (judgement, found) => {
                // Another process was here: what this one remembers of the stream is too old.
                if let Some(standing) = found {
                    self.turns.publish(header, standing);
                }
                return Ok(Err(judgement));
            }
        };
        standing.keeps_mapping(header)?;
        if header.tx_open {
            let transfer = self.log.next_transfer(&tx).await?;
            let body = &work.batch.body;
            stream::stage(&tx, standing.stream_key, header.seq, transfer, body).await?;
            return Ok(Ok(self.conclude(tx, work, standing, transfer).await?));
        }
        if standing.tx_open {
            self.apply_staged(&tx, work, &standing).await?;
        }
        let transfer = self.log.next_transfer(&tx).await?;
        let delivery = delivery(work, header, &standing);
        let prepared = apply::prepare(&tx, &delivery, transfer, &work.body).await?;
        failpoint::pass(Point::AfterPrepare);
        apply::finish(&tx, &delivery, transfer, prepared).await?;
        failpoint::pass(Point::AfterFinish);
        Ok(Ok(self.conclude(tx, work, standing, transfer).await?))
    }

    /// Where a version that breaks with this one came into force a moment ago, tables of its shape
    /// stand under these names. Within an epoch the stream's row tells; a new one has to ask.
    async fn is_still_agreed(&self, tx: &Transaction<'_>, work: &Work) -> Result<(), Stop> {
        let sql = "select exists (select from phusa.contracts where dataset = $1 and in_force \
                   and version = $2)";
        let contract = &work.agreed.contract;
        let major = i32::try_from(contract.version).unwrap_or(i32::MAX);
        let row = tx.query_one(sql, &[&contract.dataset.to_string(), &major]).await;
        let row = row.map_err(|error| database_fault("cannot look for the contract", &error))?;
        if row.get(0) {
            return Ok(());
        }
        let what = format!("another major version of {} is in force", contract.dataset);
        Err(Refused::new(Code::ContractMismatch, what).into())
    }

    /// Applies what was staged of the source transaction that ends with this batch, in order and
    /// one body at a time.
    async fn apply_staged(
        &self,
        tx: &Transaction<'_>,
        work: &Work,
        standing: &Standing,
    ) -> Result<(), Stop> {
        let mut after = 0;
        while let Some(staged) = stream::staged_after(tx, standing.stream_key, after).await? {
            let transfer = staged.transfer;
            after = staged.seq;
            let (header, body) = blocking(move || unpack_staged(staged)).await?;
            if header.contract != work.header().contract {
                let what = "the contract changed inside a source transaction";
                return Err(Refused::new(Code::BatchConflict, what).into());
            }
            let delivery = delivery(work, &header, standing);
            let prepared = apply::prepare(tx, &delivery, transfer, &body).await?;
            apply::finish(tx, &delivery, transfer, prepared).await?;
        }
        Ok(stream::discard_staged(tx, standing.stream_key).await?)
    }

    /// Entry, cursor, commit; then everyone who waits for it is told.
    async fn conclude(
        &self,
        tx: Transaction<'_>,
        work: &Work,
        standing: Standing,
        transfer: i64,
    ) -> Result<SignedReceipt, Fault> {
        let (header, now) = (work.header(), Timestamp::now());
        let arrived = Arrived {
            signed: &work.batch.signed,
            salt: &work.batch.salt,
            bytes: work.arrival.bytes,
            received_at: work.arrival.at,
        };
        let (record, receipt) = self.log.accepted(&arrived, transfer, now);
        self.log.insert(&tx, &record).await?;
        failpoint::pass(Point::AfterEntry);
        let digest = work.batch.signed.digest();
        let committed = Committed { epoch: header.epoch, seq: header.seq, header: digest };
        let standing = Standing {
            committed,
            tx_open: header.tx_open,
            mapping: Some(header.mapping),
            ..standing
        };
        let step = Step { header, standing, bytes: work.arrival.bytes, now };
        stream::advance(&tx, &step).await?;
        failpoint::pass(Point::BeforeCommit);
        tx.commit().await.map_err(|error| database_fault("cannot commit a batch", &error))?;
        failpoint::pass(Point::AfterCommit);
        self.turns.publish(header, standing);
        self.log.wake();
        let took = work.arrival.began.elapsed();
        self.metrics.accepted(&header.dataset, &header.counts, work.arrival.bytes, took);
        tracing::debug!(
            agent = %header.agent, dataset = %header.dataset, batch = header.seq.0,
            rows = header.counts.total(), "Batch {} of {} is durable", header.seq, header.dataset
        );
        Ok(receipt)
    }
}

async fn begin(client: &mut Object) -> Result<Transaction<'_>, Fault> {
    let begun = client.transaction().await;
    begun.map_err(|error| database_fault("cannot begin a batch's transaction", &error))
}

/// What the warehouse needs of a batch. Nothing happened at a source after it arrived here: one whose clock
/// is ahead would write rows into the future, where no question for now finds them. The entry keeps the time
/// that the agent signed.
fn delivery<'a>(work: &'a Work, header: &'a Header, standing: &Standing) -> Delivery<'a> {
    Delivery {
        shape: &work.agreed.shape,
        agency: header.agent.agency(),
        source_time: header.source_time.min(work.arrival.at),
        phase: header.phase,
        initial_load: standing.initial_load,
        stream_key: standing.stream_key,
    }
}

/// A staged body unpacked, with the header it came under; both were checked when it was staged.
fn unpack_staged(staged: Staged) -> Result<(Header, Vec<u8>), Refused> {
    let broken = || Refused::new(Code::LogBroken, "a staged batch has no readable log entry");
    let entry: Entry = serde_json::from_str(&staged.entry).map_err(|_| broken())?;
    let bytes = entry.header.ok_or_else(broken)?.into_bytes();
    let signature = entry.agent_signature.ok_or_else(broken)?;
    let signed = SignedHeader::read(bytes, signature).map_err(|_| broken())?;
    let batch = Batch { signed, salt: [0; SALT_BYTES], body: staged.body };
    let body = frame::unpack(&batch).map_err(|_| broken())?;
    Ok((batch.signed.header, body))
}
