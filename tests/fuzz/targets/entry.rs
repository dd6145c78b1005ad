//! Entries of the log: read, sealed, counted, verified and told to a collector, whatever they hold.

#![cfg_attr(fuzzing, no_main)]

use std::collections::BTreeMap;

use phusa_fuzz::{comes_back, fuzz_target, key};
use phusa_hub::siem::{message::Form, told};
use phusa_protocol::batch::Header;
use phusa_protocol::digest::Digest;
use phusa_protocol::entry::{Entry, LogLine, LogVerifier, link};
use phusa_protocol::ids::AgencyId;
use phusa_protocol::minutes::{Figures, Minutes, Scope, Tally};
use phusa_protocol::time::Timestamp;

fn count(text: &str) {
    let scope = Scope {
        agency: AgencyId::new("H57.12").expect("a name"),
        dataset: None,
        from: Timestamp::from_micros(i64::MIN),
        to: Timestamp::from_micros(i64::MAX),
        up_to: u64::MAX,
    };
    let mut tally = Tally::new(scope);
    for number in 1..4 {
        let _ = tally.add(number, text);
    }
    let figures = tally.figures();
    let _ = (figures.sum(), figures.fingerprint());
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let event = told::entry(1, Timestamp::UNIX_EPOCH, text);
    for form in [Form::Syslog, Form::Json] {
        let framed = event.framed(form, "hub");
        assert!(framed.len() < 64 << 10, "a line of {} bytes", framed.len());
    }
    drop(comes_back::<LogLine>(data));
    if let Some(figures) = comes_back::<Figures>(data) {
        let _ = figures.sum();
    }
    let _ = Minutes::open(text, &[key().public()]);
    let Some(entry) = comes_back::<Entry>(data) else { return };
    let (sealed, signature) = entry.seal(&key());
    let again: Entry = serde_json::from_str(&sealed).expect("a sealed entry is one");
    assert_eq!((again.seal(&key()).0, again.by()), (sealed.clone(), entry.by()));
    count(&sealed);
    let mut verifier = LogVerifier::new(vec![key().public()], BTreeMap::new());
    let line = LogLine {
        number: 1,
        link: link(Digest::ZERO, &sealed),
        entry: sealed,
        hub_signature: signature,
    };
    let _ = (verifier.add(&line), verifier.summary());
    let header = entry.header.as_deref().and_then(|text| serde_json::from_str::<Header>(text).ok());
    if let Some(header) = header {
        let _ = header.counts.total();
    }
});
