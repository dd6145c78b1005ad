//! Bytes on the wire and on disk: a batch as one frame; encode and decode that never panic.
//!
//! `"PHB1" · u32 header length · header · 64 bytes signature · 32 bytes salt · u32 body length ·
//! body`, integers big-endian. Nothing follows the body. The commitment inside the signed header
//! is the checksum.

use std::io::Read as _;

use crate::batch::{Batch, Encoding, SALT_BYTES, SignedHeader, commitment};
use crate::keys::{SIGNATURE_BYTES, Signature};

/// First bytes of every frame.
pub const MAGIC: [u8; 4] = *b"PHB1";

/// A header is a few hundred bytes; a longer one is no header.
pub const HEADER_BYTES_MAX: usize = 16 << 10;

/// The largest body, packed or unpacked. A batch is closed at `batch_bytes_max` (at most half of
/// this) and one row may be at most as large again.
pub const BODY_BYTES_MAX: usize = 128 << 20;

/// The largest frame.
pub const FRAME_BYTES_MAX: usize =
    4 + 4 + HEADER_BYTES_MAX + SIGNATURE_BYTES + SALT_BYTES + 4 + BODY_BYTES_MAX;

/// Bytes that are not a whole, untouched batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// Not a frame of this version.
    #[error("the bytes do not begin with a batch frame of version 1")]
    Magic,
    /// Ends early, or bytes follow its end.
    #[error("the frame's lengths do not match its bytes")]
    Length,
    /// A part is larger than this version allows.
    #[error("a part of the frame is larger than allowed")]
    TooLarge,
    /// The header is not one.
    #[error("the frame's header cannot be read")]
    Header,
    /// The body is not the one the header commits to.
    #[error("the body is not the one the header was signed for")]
    Commitment,
    /// The body does not unpack to the length the header states.
    #[error("the body does not unpack to its stated length")]
    Unpack,
}

/// The bytes of `batch`.
#[must_use]
pub fn encode(batch: &Batch) -> Vec<u8> {
    let header = &batch.signed.bytes;
    let size = 4 + 4 + header.len() + SIGNATURE_BYTES + SALT_BYTES + 4 + batch.body.len();
    let mut out = Vec::with_capacity(size);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&length_field(header.len()));
    out.extend_from_slice(header);
    out.extend_from_slice(batch.signed.signature.as_bytes());
    out.extend_from_slice(&batch.salt);
    out.extend_from_slice(&length_field(batch.body.len()));
    out.extend_from_slice(&batch.body);
    out
}

/// Reads a frame and checks that the body is the one its header commits to. Whose signature the
/// header bears is for the caller to check.
///
/// # Errors
/// [`BadFrame`].
pub fn decode(bytes: &[u8]) -> Result<Batch, BadFrame> {
    let (magic, rest) = bytes.split_first_chunk::<4>().ok_or(BadFrame::Magic)?;
    if *magic != MAGIC {
        return Err(BadFrame::Magic);
    }
    let (header, rest) = take_part(rest, HEADER_BYTES_MAX)?;
    let (signature, rest) = rest.split_first_chunk::<SIGNATURE_BYTES>().ok_or(BadFrame::Length)?;
    let (salt, rest) = rest.split_first_chunk::<SALT_BYTES>().ok_or(BadFrame::Length)?;
    let (body, rest) = take_part(rest, BODY_BYTES_MAX)?;
    if !rest.is_empty() {
        return Err(BadFrame::Length);
    }
    let signature = Signature::from_bytes(*signature);
    let signed = SignedHeader::read(header.to_vec(), signature).map_err(|_| BadFrame::Header)?;
    if commitment(salt, body) != signed.header.commitment {
        return Err(BadFrame::Commitment);
    }
    Ok(Batch { signed, salt: *salt, body: body.to_vec() })
}

/// Packs a body.
#[must_use]
pub fn pack(body: Vec<u8>, level: i32) -> (Encoding, Vec<u8>) {
    if level == 0 {
        return (Encoding::None, body);
    }
    match zstd::bulk::compress(&body, level) {
        Ok(packed) => (Encoding::Zstd, packed),
        // Only an allocation failure or a wrong level gets here; the body may travel as it is.
        Err(_) => (Encoding::None, body),
    }
}

/// Unpacks a batch's body, never beyond the length its header states nor [`BODY_BYTES_MAX`].
///
/// # Errors
/// [`BadFrame::TooLarge`], [`BadFrame::Unpack`].
pub fn unpack(batch: &Batch) -> Result<Vec<u8>, BadFrame> {
    let stated = usize::try_from(batch.signed.header.body_bytes).unwrap_or(usize::MAX);
    if stated > BODY_BYTES_MAX {
        return Err(BadFrame::TooLarge);
    }
    let body = match batch.signed.header.encoding {
        Encoding::None => batch.body.clone(),
        Encoding::Zstd => unzstd(&batch.body, stated)?,
    };
    if body.len() == stated { Ok(body) } else { Err(BadFrame::Unpack) }
}

fn unzstd(packed: &[u8], stated: usize) -> Result<Vec<u8>, BadFrame> {
    let reader = zstd::stream::read::Decoder::new(packed).map_err(|_| BadFrame::Unpack)?;
    let mut body = Vec::with_capacity(stated.min(16 << 20));
    let limit = u64::try_from(stated).unwrap_or(u64::MAX).saturating_add(1);
    reader.take(limit).read_to_end(&mut body).map_err(|_| BadFrame::Unpack)?;
    Ok(body)
}

fn length_field(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}

fn take_part(bytes: &[u8], bytes_max: usize) -> Result<(&[u8], &[u8]), BadFrame> {
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or(BadFrame::Length)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length > bytes_max {
        return Err(BadFrame::TooLarge);
    }
    rest.split_at_checked(length).ok_or(BadFrame::Length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::tests::sample;
    use crate::digest::Digest;

    fn batch() -> Batch {
        Batch { signed: sample(1, Digest::ZERO), salt: [9; SALT_BYTES], body: b"body".to_vec() }
    }

    #[test]
    fn a_frame_comes_back_and_any_flipped_byte_is_found() {
        let bytes = encode(&batch());
        assert_eq!(decode(&bytes), Ok(batch()));
        let key = crate::batch::tests::key().public();
        for index in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[index] ^= 1;
            let believed = decode(&damaged).is_ok_and(|b| b.signed.verify(&key).is_ok());
            assert!(!believed, "byte {index}");
        }
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err());
        }
    }

    #[test]
    fn a_body_never_unpacks_beyond_its_stated_length() {
        let (encoding, packed) = pack(vec![0; 1 << 20], 1);
        assert_eq!(encoding, Encoding::Zstd);
        let mut bomb = batch();
        bomb.body = packed;
        bomb.signed.header.encoding = encoding;
        bomb.signed.header.body_bytes = 10;
        assert_eq!(unpack(&bomb), Err(BadFrame::Unpack));
        bomb.signed.header.body_bytes = 1 << 20;
        assert_eq!(unpack(&bomb).map(|body| body.len()), Ok(1 << 20));
        bomb.signed.header.body_bytes = u64::MAX;
        assert_eq!(unpack(&bomb), Err(BadFrame::TooLarge));
    }
}
