//! What the fuzz targets share: fixed keys, names, and the one property of everything that travels as
//! JSON.

// In the short form (`short.rs`) a target is a function.
#[cfg(fuzzing)]
pub use libfuzzer_sys::fuzz_target;
use phusa_protocol::ids::AgentId;
use phusa_protocol::keys::SigningKey;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A key that is the same in every run.
#[must_use]
pub fn key() -> SigningKey {
    SigningKey::from_text("BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=").expect("a key")
}

/// The agent that everything is said to come from.
#[must_use]
pub fn agent() -> AgentId {
    AgentId::try_from("H57.12/may-1".to_owned()).expect("a name")
}

/// What is read from JSON is written so that it is read again, and then written no differently.
pub fn comes_back<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let read: T = serde_json::from_slice(bytes).ok()?;
    let written = serde_json::to_vec(&read).expect("it was read, so it can be written");
    let again: T = serde_json::from_slice(&written).expect("it was written, so it can be read");
    assert_eq!(serde_json::to_vec(&again).expect("as before"), written);
    Some(read)
}

/// Cuts an input into parts: two bytes with a length, then so many bytes.
pub fn parts(mut data: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    while let Some((head, rest)) = data.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*head)).min(rest.len());
        let (part, rest) = rest.split_at(length);
        parts.push(part);
        data = rest;
    }
    parts
}
