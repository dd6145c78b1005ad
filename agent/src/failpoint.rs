//! Named points between durable steps at which a test can kill the process.
//!
//! `PHUSA_FAILPOINT=<name>` or `<name>:<n>` makes the process kill itself, as `kill -9` would, when
//! it passes that point for the n-th time (from 1). Without the variable a point costs one load.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Every point of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failpoint {
    /// The replication slot exists, nothing has been read.
    AfterSlotCreated,
    /// A batch was written to its temporary file and synced, and has not got its name yet.
    BeforeSpoolRename,
    /// A batch has its name; the folder is not yet synced.
    AfterSpoolRename,
    /// A batch is durable; the source has not been told.
    AfterSpoolDurable,
    /// The source has been told that it may forget what the spool holds.
    AfterSourceReleased,
    /// A batch is about to be sent.
    BeforeSend,
    /// A receipt has come and is not recorded.
    AfterReceipt,
    /// A receipt is recorded; its spool file is still there.
    AfterReceiptRecorded,
    /// A spool file was deleted.
    AfterSpoolDelete,
    /// A new epoch's folder exists and nothing else of it.
    AfterEpochOpened,
    /// A release was written into its slot, which has not got its name yet.
    AfterSlotWritten,
    /// A slot has its name; the folder is not yet synced.
    AfterSlotNamed,
    /// It is written down that a release is tried; the link has not been exchanged.
    AfterTrialNoted,
    /// The new link exists beside the old one.
    BeforeFlip,
    /// The link was exchanged; the folder is not yet synced.
    AfterFlip,
    /// It is written down that a release was taken back; the link has not been exchanged.
    AfterReturnNoted,
    /// It is written down that a release stays; old slots are still there.
    AfterCommitNoted,
}

impl Failpoint {
    /// Every point that a row passes, in its order.
    pub const ALL: [Self; 10] = [
        Self::AfterEpochOpened,
        Self::AfterSlotCreated,
        Self::BeforeSpoolRename,
        Self::AfterSpoolRename,
        Self::AfterSpoolDurable,
        Self::AfterSourceReleased,
        Self::BeforeSend,
        Self::AfterReceipt,
        Self::AfterReceiptRecorded,
        Self::AfterSpoolDelete,
    ];

    /// Every point of an update, in its order.
    pub const UPDATE: [Self; 7] = [
        Self::AfterSlotWritten,
        Self::AfterSlotNamed,
        Self::AfterTrialNoted,
        Self::BeforeFlip,
        Self::AfterFlip,
        Self::AfterReturnNoted,
        Self::AfterCommitNoted,
    ];

    /// The name in `PHUSA_FAILPOINT`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AfterSlotCreated => "after_slot_created",
            Self::BeforeSpoolRename => "before_spool_rename",
            Self::AfterSpoolRename => "after_spool_rename",
            Self::AfterSpoolDurable => "after_spool_durable",
            Self::AfterSourceReleased => "after_source_released",
            Self::BeforeSend => "before_send",
            Self::AfterReceipt => "after_receipt",
            Self::AfterReceiptRecorded => "after_receipt_recorded",
            Self::AfterSpoolDelete => "after_spool_delete",
            Self::AfterEpochOpened => "after_epoch_opened",
            Self::AfterSlotWritten => "after_slot_written",
            Self::AfterSlotNamed => "after_slot_named",
            Self::AfterTrialNoted => "after_trial_noted",
            Self::BeforeFlip => "before_flip",
            Self::AfterFlip => "after_flip",
            Self::AfterReturnNoted => "after_return_noted",
            Self::AfterCommitNoted => "after_commit_noted",
        }
    }

    /// Passes this point, or dies here.
    pub fn pass(self) {
        static WANTED: OnceLock<Option<(String, u64)>> = OnceLock::new();
        static PASSED: AtomicU64 = AtomicU64::new(0);
        let Some((name, nth)) = WANTED.get_or_init(wanted) else { return };
        if name == self.name() && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *nth {
            let _ = rustix::process::kill_process(
                rustix::process::getpid(),
                rustix::process::Signal::KILL,
            );
        }
    }
}

fn wanted() -> Option<(String, u64)> {
    let text = std::env::var("PHUSA_FAILPOINT").ok()?;
    Some(match text.split_once(':') {
        Some((name, nth)) => (name.to_owned(), nth.parse().ok()?),
        None => (text, 1),
    })
}
