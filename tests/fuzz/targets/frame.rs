//! Frames: what is decoded is encoded to the same bytes, and a body is never unpacked beyond what its
//! header states, whatever it holds.

#![cfg_attr(fuzzing, no_main)]

use std::sync::LazyLock;

use phusa_fuzz::{agent, fuzz_target, key};
use phusa_hub::ingest::check;
use phusa_protocol::batch::{
    Batch, Encoding, HEADER_VERSION, Header, Phase, SignedHeader, commitment,
};
use phusa_protocol::change::Counts;
use phusa_protocol::digest::Digest;
use phusa_protocol::frame::{self, BODY_BYTES_MAX, FRAME_BYTES_MAX, HEADER_BYTES_MAX};
use phusa_protocol::ids::{DatasetId, Epoch, Seq};
use phusa_protocol::time::Timestamp;

static HEADER: LazyLock<Header> = LazyLock::new(|| Header {
    v: HEADER_VERSION,
    agent: agent(),
    dataset: DatasetId::new("cong_dan.citizens").expect("a name"),
    epoch: Epoch(1),
    seq: Seq(1),
    previous: Digest::ZERO,
    contract: Digest::ZERO,
    mapping: Digest::ZERO,
    phase: Phase::Live,
    tx_open: false,
    position_from: String::new(),
    position_to: String::new(),
    counts: Counts::default(),
    quality: Default::default(),
    body_bytes: 0,
    encoding: Encoding::None,
    commitment: Digest::ZERO,
    read_at: Timestamp::UNIX_EPOCH,
    source_time: Timestamp::UNIX_EPOCH,
    agent_version: String::new(),
});

/// What a decoded frame must be like.
fn check_whole(bytes: &[u8], batch: &Batch) {
    assert_eq!(frame::encode(batch), bytes);
    assert!(bytes.len() <= FRAME_BYTES_MAX && batch.signed.bytes.len() <= HEADER_BYTES_MAX);
    if let Ok(body) = check::unpack(batch) {
        assert!(body.len() <= BODY_BYTES_MAX);
        assert_eq!(Some(body.len()), usize::try_from(batch.signed.header.body_bytes).ok());
    }
}

fuzz_target!(|data: &[u8]| {
    if let Ok(batch) = frame::decode(data) {
        check_whole(data, &batch);
    }
    let Some((how, rest)) = data.split_first() else { return };
    let Some((stated, body)) = rest.split_first_chunk::<3>() else { return };
    let [high, middle, low] = stated.map(u64::from);
    let (encoding, body) = match how % 3 {
        0 => (Encoding::None, body.to_vec()),
        1 => (Encoding::Zstd, body.to_vec()),
        _ => frame::pack(body.to_vec(), i32::from(how % 4)),
    };
    let salt = [*how; 32];
    let header = Header {
        // Up to a gibibyte, where the bound is an eighth of it.
        body_bytes: if how & 0x80 == 0 {
            rest.len() as u64 - 3
        } else {
            high << 22 | middle << 8 | low
        },
        encoding,
        commitment: commitment(&salt, &body),
        ..HEADER.clone()
    };
    let batch = Batch { signed: SignedHeader::sign(header, &key()), salt, body };
    let bytes = frame::encode(&batch);
    assert_eq!(frame::decode(&bytes).as_ref(), Ok(&batch));
    check_whole(&bytes, &batch);
    for place in [0, 5, bytes.len() / 2, bytes.len() - 1] {
        let mut damaged = bytes.clone();
        damaged[place] ^= 1 << (how % 8);
        // The header, which holds the digest of salt and body, is held by its signature alone.
        if let Ok(read) = frame::decode(&damaged) {
            assert!(read.signed.verify(&key().public()).is_err());
        }
    }
});
