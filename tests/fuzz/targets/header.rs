//! Headers of batches: any JSON is a header or none, and a header has one form alone.

#![cfg_attr(fuzzing, no_main)]

use phusa_fuzz::{comes_back, fuzz_target, key};
use phusa_protocol::batch::{
    HEADER_VERSION, Header, QUALITY_COUNTS_MAX, SignedHeader, canonical_json,
};

fuzz_target!(|data: &[u8]| {
    let signature = key().sign(data);
    if let Ok(signed) = SignedHeader::read(data.to_vec(), signature) {
        assert_eq!(canonical_json(&signed.header), data);
        assert!(signed.header.quality.len() <= QUALITY_COUNTS_MAX);
        assert_eq!(signed.verify(&key().public()), Ok(()));
        let mut other = signed.clone();
        other.bytes[data.len() / 2] ^= 1;
        assert!(other.verify(&key().public()).is_err());
    }
    let Some(header) = comes_back::<Header>(data) else { return };
    let _ = (header.stream(), header.counts.total(), header.epoch.next(), header.seq.next());
    let signed = SignedHeader::sign(header.clone(), &key());
    match SignedHeader::read(signed.bytes.clone(), signed.signature) {
        Ok(read) => assert_eq!(read, signed),
        Err(_) => assert!(header.v != HEADER_VERSION || !header.quality.is_empty()),
    }
});
