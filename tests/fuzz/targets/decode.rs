//! Legacy texts: any bytes are scored in every encoding, and one that is clear is among those scored.

#![cfg_attr(fuzzing, no_main)]

use phusa_agent::mapping::decode::detect::detect;
use phusa_agent::mapping::evidence::Evidence;
use phusa_agent::source::Native;
use phusa_fuzz::fuzz_target;
use phusa_protocol::value::{Field, Kind};

fuzz_target!(|data: &[u8]| {
    let texts = data.split(|byte| *byte == b'\n');
    let found = detect(texts.clone());
    if let Some(clear) = found.clear {
        assert!(found.scores.iter().any(|(encoding, _)| *encoding == clear));
    }
    let mut evidence = Evidence::default();
    texts.for_each(|text| evidence.add(&Native::Text, Field::Value(text)));
    let _ = (evidence.dates(Kind::Text), evidence.number(), evidence.shapes(3));
});
