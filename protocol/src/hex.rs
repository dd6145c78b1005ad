//! Bytes as hexadecimal digits, lower case, as digests, keys and proofs are written.

use std::fmt::Write as _;

/// The digits of `bytes`.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a `String` does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Exactly `N` bytes; `None` for anything else, capitals too.
#[must_use]
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (pairs, odd) = text.as_bytes().as_chunks::<2>();
    let mut bytes = [0; N];
    if pairs.len() != bytes.len() || !odd.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = (nibble(*high)? << 4) | nibble(*low)?;
    }
    Some(bytes)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_as_many_lower_case_digits_as_asked_for_are_bytes() {
        assert_eq!(decode::<2>(&encode(&[0, 255])), Some([0, 255]));
        for bad in ["", "00f", "00FF", "00fg", "00ff00"] {
            assert_eq!(decode::<2>(bad), None, "{bad}");
        }
    }
}
