//! `Deed`: what a person did at the hub, as the transfer log tells of it.
//!
//! Names of accounts stand in it, because the log must say who (CT-39); the names and telephones of
//! the people behind them do not, and neither does anything that was typed.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::ids::{AgencyId, DatasetId};
use crate::time::Timestamp;

/// What somebody did, or tried to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Signed in.
    Login,
    /// Ended the own session.
    Logout,
    /// Took an invitation: chose a password and a second factor.
    Activate,
    /// Made an account.
    AccountCreate,
    /// Locked an account; its sessions ended.
    AccountLock,
    /// Unlocked it.
    AccountUnlock,
    /// Took password and second factor away and invited anew; its sessions ended.
    AccountReset,
    /// Ended the sessions of an account.
    AccountKill,
    /// Reported the own account as lost: it is locked, its sessions ended (CB-08).
    AccountLost,
    /// Wrote entries of the log out.
    LogExport,
    /// Made signed minutes.
    Minutes,
    /// Decided something in somebody's name at the console; only what was refused stands so, the rest
    /// in entries of its own kind.
    Decide,
    /// Asked an agent to deliver nothing of a dataset.
    FleetPause,
    /// Took such an order back.
    FleetResume,
    /// Asked an agent to read a dataset again.
    FleetReread,
    /// Asked an agent to compare a dataset with the warehouse.
    FleetCompare,
    /// Asked an agent to renew its certificate with a new key.
    FleetRotate,
    /// Asked an agent what may be wrong with it.
    FleetDiagnose,
    /// Asked an agent to look for another program.
    FleetCheckUpdate,
    /// Put signed releases into force.
    ReleasePublish,
    /// Began to roll a release out.
    RolloutStart,
    /// Held a rollout.
    RolloutPause,
    /// Let a rollout go on.
    RolloutResume,
    /// Let a rollout go on to its next ring.
    RolloutPromote,
    /// Had agents go back to an older release.
    RolloutRevert,
    /// Halted a rollout because a release was taken back somewhere.
    RolloutHalt,
    /// Closed an incident, naming its cause.
    IncidentClose,
    /// Wrote incidents out.
    IncidentExport,
    /// Wrote down who is to be called at an agency.
    ContactSet,
    /// Announced work on the system.
    NoticeCreate,
    /// Took such an announcement back.
    NoticeWithdraw,
}

impl Action {
    /// Its name in entries, logs and filters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Logout => "logout",
            Self::Activate => "activate",
            Self::AccountCreate => "account_create",
            Self::AccountLock => "account_lock",
            Self::AccountUnlock => "account_unlock",
            Self::AccountReset => "account_reset",
            Self::AccountKill => "account_kill",
            Self::AccountLost => "account_lost",
            Self::LogExport => "log_export",
            Self::Minutes => "minutes",
            Self::Decide => "decide",
            Self::FleetPause => "fleet_pause",
            Self::FleetResume => "fleet_resume",
            Self::FleetReread => "fleet_reread",
            Self::FleetCompare => "fleet_compare",
            Self::FleetRotate => "fleet_rotate",
            Self::FleetDiagnose => "fleet_diagnose",
            Self::FleetCheckUpdate => "fleet_check_update",
            Self::ReleasePublish => "release_publish",
            Self::RolloutStart => "rollout_start",
            Self::RolloutPause => "rollout_pause",
            Self::RolloutResume => "rollout_resume",
            Self::RolloutPromote => "rollout_promote",
            Self::RolloutRevert => "rollout_revert",
            Self::RolloutHalt => "rollout_halt",
            Self::IncidentClose => "incident_close",
            Self::IncidentExport => "incident_export",
            Self::ContactSet => "contact_set",
            Self::NoticeCreate => "notice_create",
            Self::NoticeWithdraw => "notice_withdraw",
        }
    }
}

/// Why it was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Denied {
    /// Name, password or code were not right, or the account is locked: which, is not said.
    Credentials,
    /// Too many tries from there, or for that name.
    RateLimit,
    /// The role does not allow it.
    Right,
}

impl Denied {
    /// Its name in entries and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Credentials => "credentials",
            Self::RateLimit => "rate_limit",
            Self::Right => "right",
        }
    }
}

/// What was written out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Taken {
    /// In which form: `json`, `csv`, `xlsx`, `html`.
    pub form: String,
    /// Of which agency alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agency: Option<AgencyId>,
    /// Of which dataset alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<DatasetId>,
    /// Committed at or after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Committed before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
    /// The newest entry that could be in it.
    pub up_to: u64,
    /// How many entries are in it, or were counted in it.
    pub entries: u64,
    /// SHA-256 of the figures of minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

/// What a person did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deed {
    /// Who: an account's name, or `console:` and the user of the hub's machine.
    pub by: String,
    /// What.
    pub action: Action,
    /// On which account, where on one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// From which address, where over the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Why it was refused; absent when it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<Denied>,
    /// For an export: what was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<Taken>,
}

impl Deed {
    /// One that was done.
    #[must_use]
    pub fn new(by: impl Into<String>, action: Action) -> Self {
        Self { by: by.into(), action, on: None, from: None, denied: None, taken: None }
    }

    /// The same, on an account.
    #[must_use]
    pub fn on(mut self, name: impl Into<String>) -> Self {
        self.on = Some(name.into());
        self
    }

    /// The same, from an address.
    #[must_use]
    pub fn from(mut self, address: impl Into<String>) -> Self {
        self.from = Some(address.into());
        self
    }

    /// The same, refused.
    #[must_use]
    pub fn denied(mut self, why: Denied) -> Self {
        self.denied = Some(why);
        self
    }
}
