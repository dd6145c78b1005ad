//! Releases: what people signed of a program and what the hub says an agent is to run.

#![cfg_attr(fuzzing, no_main)]

use phusa_fuzz::{agent, comes_back, fuzz_target, key};
use phusa_protocol::release::{Facts, SignedAssignment, UpdateReport, Version};
use tough::schema::{Root, Signed, Snapshot, Target, Targets, Timestamp};

fuzz_target!(|data: &[u8]| {
    if let Ok(assignment) = SignedAssignment::open(data, &key().public(), &agent()) {
        panic!("nobody signed {assignment:?}");
    }
    if let Some(facts) = comes_back::<Facts>(data) {
        let name = facts.target_name();
        assert!(name.starts_with(&facts.product) && name.ends_with(&facts.system));
    }
    drop(comes_back::<UpdateReport>(data));
    // The fields of our own in a target, as an agent takes them out of what people signed.
    if let Ok(target) = serde_json::from_slice::<Target>(data) {
        let custom = target.custom.into_iter().collect();
        let _ = serde_json::from_value::<Facts>(serde_json::Value::Object(custom));
    }
    let _ = serde_json::from_slice::<Signed<Root>>(data);
    let _ = serde_json::from_slice::<Signed<Targets>>(data);
    let _ = serde_json::from_slice::<Signed<Snapshot>>(data);
    let _ = serde_json::from_slice::<Signed<Timestamp>>(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    let signature = key().sign(format!("phusa/assignment/1\n{text}").as_bytes());
    let bytes = SignedAssignment { assignment: text.to_owned(), signature }.to_bytes();
    if let Ok(said) = SignedAssignment::open(&bytes, &key().public(), &agent()) {
        assert_eq!(said.agent, agent());
        let version = said.version.map(|version| version.to_string());
        assert_eq!(version.map(|text| Version::try_from(text).ok()), said.version.map(Some));
    }
});
