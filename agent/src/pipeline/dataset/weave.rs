//! Records that are read again, woven in between the blocks of a capture: only while the stream is
//! live and no source transaction is open at the hub, and each as the source has it now.
//!
//! The log may still hold older changes of such a record. They come after it, in order, and the
//! last of them is what the source had when the record was read, so both ends agree in the end.

use phusa_protocol::batch::Phase;
use phusa_protocol::fault::Fault;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::Dataset;
use crate::config::plan::DatasetPlan;
use crate::pipeline::repair::{self, Key};
use crate::pipeline::wiring;
use crate::source::{Block, Resume, Source};
use crate::spool::Tail;

/// Where the stream stands after the last block.
pub(super) struct Standing {
    number: u64,
    phase: Option<Phase>,
    tx_open: bool,
    position: String,
    resume: Option<Resume>,
}

impl Standing {
    /// After what is durable.
    pub(super) fn after(tail: &Tail, resume: Option<&Resume>) -> Self {
        let Tail { phase, tx_open, ref position, .. } = *tail;
        let (position, resume) = (position.clone(), resume.cloned());
        Self { number: 0, phase, tx_open, position, resume }
    }

    fn follow(&mut self, block: &Block) {
        (self.number, self.phase, self.tx_open) = (block.number, Some(block.phase), block.tx_open);
        self.position.clone_from(&block.position);
        self.resume = Some(block.resume.clone());
    }

    /// A block that leaves the stream where it stands; `None` where nothing may come between.
    fn takes(&self, block: Block) -> Option<Block> {
        let resume = self.resume.clone().filter(|_| self.may_mend())?;
        let (number, position) = (self.number, self.position.clone());
        Some(Block { number, position, resume, phase: Phase::Live, tx_open: false, ..block })
    }

    fn may_mend(&self) -> bool {
        self.phase == Some(Phase::Live) && !self.tx_open && self.resume.is_some()
    }
}

/// What weaving goes by.
pub(super) struct Weaving<'a, S> {
    pub(super) owner: &'a Dataset<S>,
    pub(super) dataset: &'a DatasetPlan,
    pub(super) standing: Standing,
    pub(super) onward: mpsc::Sender<Block>,
    /// How many blocks are durable.
    pub(super) written: watch::Receiver<u64>,
}

impl<S: Source> Weaving<'_, S> {
    /// Hands blocks on until there are none, and records that are asked for between them.
    pub(super) async fn run(mut self, mut captured: mpsc::Receiver<Block>) -> Result<(), Fault> {
        let mut look = interval(repair::LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sent = 0;
        loop {
            // Room first: a block that waits here would be one more in memory.
            let Ok(room) = self.onward.clone().reserve_owned().await else { return Ok(()) };
            tokio::select! {
                block = captured.recv() => {
                    let Some(block) = block else { return Ok(()) };
                    self.standing.follow(&block);
                    sent += 1;
                    room.send(block);
                }
                _ = look.tick(), if self.standing.may_mend() => {
                    drop(room);
                    let state_dir = &self.owner.plan.state_dir;
                    if repair::is_asked_for_records(state_dir, self.dataset.dataset()) {
                        sent += self.mend(sent).await?;
                    }
                }
            }
        }
    }

    /// Reads again what is asked for, and returns once it is durable, with the blocks it took.
    async fn mend(&mut self, sent: u64) -> Result<u64, Fault> {
        let (state_dir, id) = (&self.owner.plan.state_dir, self.dataset.dataset());
        let seal = wiring::spool_settings(&self.owner.plan)?.key;
        let keys: Vec<Key> = repair::records(state_dir, id, &seal)?;
        let (found, mut rows) = mpsc::channel(1);
        let reading = self.owner.source.reread(&self.dataset.selection, &keys, found);
        let pass = async {
            let mut count = 0;
            while let Some(block) = rows.recv().await {
                let Some(block) = self.standing.takes(block) else { break };
                if self.onward.send(block).await.is_err() {
                    break;
                }
                count += 1;
            }
            count
        };
        let (read, count) = tokio::join!(reading, pass);
        if !read? {
            tracing::info!(dataset = %id, "Records of {id} cannot be read by their keys; all of it is read anew");
            repair::request(state_dir, id)?;
            repair::records_done(state_dir, id);
            return Ok(count);
        }
        // Where the spool's end is gone the wish stays, and is fulfilled after the next start.
        if self.written.wait_for(|written| *written >= sent + count).await.is_ok() {
            let records = keys.len();
            tracing::info!(dataset = %id, records, "Read {records} records of {id} again, which a comparison found different");
            repair::records_done(state_dir, id);
        }
        Ok(count)
    }
}
