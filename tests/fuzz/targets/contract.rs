//! Contracts: a file is one or none, it is written so that it is read with the same fingerprint, and
//! what a later one changes can be told.

#![cfg_attr(fuzzing, no_main)]

use phusa_fuzz::fuzz_target;
use phusa_hub::catalog::rule::BodyRule;
use phusa_hub::category::Lists;
use phusa_protocol::batch::{Phase, canonical_json};
use phusa_protocol::change::Counts;
use phusa_protocol::contract::Contract;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(contract) = Contract::from_toml(text) else { return };
    let again = Contract::from_toml(&contract.to_toml()).expect("what was written is one");
    assert_eq!(again, contract);
    assert_eq!(again.fingerprint(), contract.fingerprint());
    let json = canonical_json(&contract);
    assert_eq!(serde_json::from_slice::<Contract>(&json).ok().as_ref(), Some(&contract));
    let _ = (contract.number(), contract.key_indexes());
    let rule = BodyRule::of(&contract, &Lists::new());
    assert!(rule.walk(b"", Phase::Live, &Counts::default()).is_ok());
});
