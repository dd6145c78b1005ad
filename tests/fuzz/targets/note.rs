//! Signed texts of the log: notes, checkpoints, cosignatures, policies, proofs and leaves have one form
//! each, and nobody's signature is found on what they did not sign.

#![cfg_attr(fuzzing, no_main)]

use phusa_fuzz::{comes_back, fuzz_target, key};
use phusa_protocol::checkpoint::{Checkpoint, Cosignature, Head, LogKey};
use phusa_protocol::digest::Digest;
use phusa_protocol::evidence::Evidence;
use phusa_protocol::keys::{PublicKey, SigningKey};
use phusa_protocol::leaf::{Placed, bundle, unbundle};
use phusa_protocol::note::{Line, Note};
use phusa_protocol::policy::Policy;
use phusa_protocol::release::Version;
use phusa_protocol::time::Timestamp;

fn other_key() -> SigningKey {
    SigningKey::from_text("CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg=").expect("a key")
}

/// A checkpoint that is the log's, with these lines after its signatures.
fn checkpoint(lines: &str) {
    let (log, witness) = (key().public(), other_key().public());
    let mut signed = Checkpoint::sign(Head { size: 12, root: Digest::of(b"root") }, &key());
    signed.cosign("H57.12/may-1", &other_key(), Timestamp::from_micros(1_700_000_000_000_000));
    let text = format!("{}{lines}", signed.to_note());
    let Ok(read) = Checkpoint::parse(&text, &log) else { return };
    assert_eq!(read.head, signed.head, "no line changes what was signed");
    assert!(read.cosigned_by(&witness).is_some());
    assert!(read.cosigned_by(&log).is_none(), "the log is no witness");
    let again = Checkpoint::parse(&read.to_note(), &log).expect("it was read before");
    assert_eq!(again, read);
}

fuzz_target!(|data: &[u8]| {
    if let Some(leaves) = unbundle(data) {
        assert_eq!(bundle(&leaves), data);
    }
    drop(comes_back::<Placed>(data));
    if let Some(log_key) = comes_back::<LogKey>(data) {
        assert!(log_key.verified(&key().public()).is_none(), "nobody signed it");
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(note) = Note::parse(text) {
        assert_eq!(note.to_text(), text);
        assert!(Checkpoint::parse(text, &key().public()).is_err());
    }
    if let Some(line) = Line::parse(text) {
        assert_eq!(line.to_text().trim_end_matches('\n'), text.trim_end_matches('\n'));
    }
    if let Some(cosignature) = Cosignature::parse(text) {
        assert_eq!(Cosignature::parse(&cosignature.to_line().to_text()), Some(cosignature));
    }
    let policy = Policy::parse(text);
    if let Ok(policy) = &policy {
        let again = Policy::parse(&policy.to_text());
        assert_eq!(again.as_ref().map(Policy::logs), Ok(policy.logs()));
        let _ = policy.is_met(&policy.witnesses().map(PublicKey::hash).collect());
    }
    if let Ok(evidence) = Evidence::parse(text) {
        assert_eq!(Evidence::parse(&evidence.to_text()).as_ref(), Ok(&evidence));
        let believed = Policy::of_agents(key().public(), &[], 0);
        assert!(evidence.verify(b"entry", &[key().public()], &believed).is_err());
    }
    if let Ok(version) = Version::try_from(text.to_owned()) {
        assert_eq!(version.to_string(), text);
    }
    if let Ok(moment) = Timestamp::try_from(text.to_owned()) {
        assert_eq!(Timestamp::try_from(moment.to_string()), Ok(moment));
        let _ = (moment.vietnamese(), moment.vietnamese_minute());
    }
    checkpoint(text);
});
