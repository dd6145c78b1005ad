//! Which transfers a key may have signed.

use crate::keys::PublicKey;

/// A public key, and the transfers it may have signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySpan {
    /// The key.
    pub key: PublicKey,
    /// The first transfer.
    pub first: u64,
    /// The last; `None` while it is in use.
    pub last: Option<u64>,
}

impl KeySpan {
    /// A key that may have signed any transfer.
    #[must_use]
    pub fn always(key: PublicKey) -> Self {
        Self { key, first: 0, last: None }
    }

    pub(super) fn covers(&self, transfer: u64) -> bool {
        self.first <= transfer && self.last.is_none_or(|last| transfer <= last)
    }
}
