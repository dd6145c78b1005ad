//! What strangers hand over in DER: certificates, requests for them, and timestamps.

#![cfg_attr(fuzzing, no_main)]

use std::sync::LazyLock;
use std::time::Duration;

use phusa_fuzz::{agent, fuzz_target};
use phusa_hub::identity::facts::Facts;
use phusa_hub::identity::issue::Issuing;
use phusa_hub::identity::{self, Wanted};
use phusa_hub::listen::identity::{agent_of, shown};
use phusa_hub::stamping::token::{Request, Trust, time_of};
use phusa_protocol::time::Timestamp;

/// An authority that issues, and its certificate as one that stamps.
static AUTHORITY: LazyLock<(Issuing, Trust)> = LazyLock::new(|| {
    let dir = std::env::temp_dir().join(format!("phusa-fuzz-ca-{}", std::process::id()));
    let hub_names = vec!["127.0.0.1".to_owned()];
    let (broker_names, agents) = (Vec::new(), Vec::new());
    let wanted = Wanted { dir: dir.clone(), hub_names, broker_names, agents, days: 3_650 };
    identity::make(&wanted).expect("a CA");
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).expect("a file of the CA");
    let (certificate, key) = (read("hub/ca.pem"), read("ca.key"));
    let issuing = Issuing::read(&certificate, &key, Duration::from_secs(86_400)).expect("a CA");
    let trust = Trust::from_pem(&certificate).expect("a certificate");
    let _ = std::fs::remove_dir_all(dir);
    (issuing, trust)
});

fuzz_target!(|data: &[u8]| {
    let (issuing, trust) = &*AUTHORITY;
    let _ = (shown(data), agent_of(data), Facts::read(data));
    let _ = time_of(data);
    let request = Request::new(b"content", [7; 8]).expect("a request");
    assert!(request.verify(data, trust).is_err(), "nobody stamped it");
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = Facts::of_pem(data);
    if let Ok(issued) = issuing.issue(&agent(), text, (1, Timestamp::now())) {
        assert!(!issued.facts.is_ca);
    }
});
