//! What the contract asks of a text beyond being one: its length and its code list. The hub holds
//! every batch to it; held to it here first, one row stays at the agency instead of the whole batch
//! being refused.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use phusa_protocol::digest::Digest;
use serde::Deserialize;

use super::quality::Rule;

/// What is agreed of one field.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// The most characters it may have; `None` sets no bound.
    pub max_length: Option<usize>,
    /// The list its codes are of.
    pub codes: Option<AgreedList>,
}

/// A category list as the hub has it in force. Clones share what they know: one that the hub
/// replaces counts from the next row on.
#[derive(Debug, Clone)]
pub struct AgreedList {
    name: String,
    held: Arc<RwLock<Held>>,
}

/// What is known of a list; nothing yet lets everything pass, and the hub checks all the same.
#[derive(Debug, Default)]
struct Held {
    digest: Option<Digest>,
    known: BTreeSet<Vec<u8>>,
    digits: Option<usize>,
}

/// The part of a list's canonical JSON that counts here.
#[derive(Deserialize)]
struct Body {
    #[serde(default, rename = "code")]
    codes: Vec<CodeOf>,
    #[serde(default)]
    any_of_digits: Option<usize>,
}

#[derive(Deserialize)]
struct CodeOf {
    code: String,
}

impl Terms {
    /// Whether there are any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.max_length.is_none() && self.codes.is_none()
    }

    /// The rule that a mapped text breaks.
    #[must_use]
    pub(super) fn breach(&self, bytes: &[u8]) -> Option<Rule> {
        if self.max_length.is_some_and(|most| is_longer(bytes, most)) {
            return Some(Rule::AgreedLength);
        }
        let is_known = self.codes.as_ref().is_none_or(|codes| codes.holds(bytes));
        if is_known { None } else { Some(Rule::AgreedCode) }
    }
}

/// Each character begins with a byte that continues none.
fn is_longer(bytes: &[u8], most: usize) -> bool {
    bytes.len() > most && bytes.iter().filter(|byte| (*byte & 0xC0) != 0x80).count() > most
}

impl AgreedList {
    /// A list of which nothing is known yet.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), held: Arc::default() }
    }

    /// Its name at the hub.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The digest of what is known; `None` = nothing yet.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).digest
    }

    /// Takes over a list's canonical JSON; `false`, and nothing changes, when it is none.
    #[must_use]
    pub fn take(&self, body: &[u8]) -> bool {
        // An array would be taken for the fields in their order.
        let is_object = body.trim_ascii_start().starts_with(b"{");
        let read = is_object.then(|| serde_json::from_slice(body).ok()).flatten();
        let Some(Body { codes, any_of_digits }) = read else { return false };
        let held = Held {
            digest: Some(Digest::of(body)),
            known: codes.into_iter().map(|one| one.code.into_bytes()).collect(),
            digits: any_of_digits,
        };
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = held;
        true
    }

    /// Takes over what was kept of it in `folder`, if anything was.
    pub fn recall(&self, folder: &Path) {
        if let Ok(body) = std::fs::read(folder.join(self.file_name())) {
            // One that cannot be read is asked for again at the next greeting.
            let _taken = self.take(&body);
        }
    }

    /// Under which name it is kept.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}.json", self.name)
    }

    /// Whether the hub would take this code: codes of any time pass, and a list without content
    /// holds everything.
    fn holds(&self, code: &[u8]) -> bool {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let is_open = held.known.is_empty() && held.digits.is_none();
        let fits = |digits| code.len() == digits && code.iter().all(u8::is_ascii_digit);
        is_open || held.known.contains(code) || held.digits.is_some_and(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_keeps_to_its_length_and_its_list_as_the_hub_has_them() {
        let list = AgreedList::new("gender");
        let terms = Terms { max_length: Some(3), codes: Some(list.clone()) };
        let check = |text: &str, expected: Option<Rule>| {
            assert_eq!(terms.breach(text.as_bytes()), expected, "{text}");
        };
        check("Huế", None);
        check("Huế.", Some(Rule::AgreedLength));
        assert!(!list.take(b"[]"));
        assert!(list.take(br#"{"list":"gender","code":[{"code":"1","name":"Nam"}]}"#));
        check("1", None);
        check("Huế", Some(Rule::AgreedCode));
        assert!(list.take(br#"{"any_of_digits":2}"#));
        check("12", None);
        check("1", Some(Rule::AgreedCode));
        assert_eq!(list.digest(), Some(Digest::of(br#"{"any_of_digits":2}"#)));
        assert!(Terms::default().is_empty());
    }
}
