//! The second factor: codes of six digits that change every 30 seconds (RFC 6238, SHA-1, as every
//! authenticator program speaks it).
//!
//! Thirty lines over `hmac` and `sha1` instead of a crate: the crates there are bring a URL parser,
//! an image encoder and an opinion on storage, and check no replay (decision 0019).

use hmac::{Hmac, Mac as _};
use sha1::Sha1;

/// Seconds a code is shown for.
pub const STEP_SECONDS: u64 = 30;

/// Steps before and after the present one that are taken: telephones' clocks are a little off.
const STEPS_AROUND: u64 = 1;

/// Length of a secret in bytes, as RFC 4226 recommends.
pub const SECRET_BYTES: usize = 20;

/// Which letters a secret is written in.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The code of a step.
fn code(secret: &[u8], step: u64) -> Option<u32> {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret).ok()?;
    mac.update(&step.to_be_bytes());
    let digest = mac.finalize().into_bytes();
    let offset = usize::from(digest.last()? & 0x0f);
    let bytes: [u8; 4] = digest.get(offset..offset + 4)?.try_into().ok()?;
    Some((u32::from_be_bytes(bytes) & 0x7fff_ffff) % 1_000_000)
}

/// The step whose code this is, if it is one of now and later than the last that was used: a code
/// is good once.
#[must_use]
pub fn step_of(secret: &[u8], typed: &str, now_seconds: u64, used: u64) -> Option<u64> {
    let digits: String = typed.chars().filter(|c| !c.is_whitespace()).collect();
    if digits.len() != 6 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (typed, now): (u32, u64) = (digits.parse().ok()?, now_seconds / STEP_SECONDS);
    let mut found = None;
    for step in now.saturating_sub(STEPS_AROUND)..=now + STEPS_AROUND {
        // Every step is computed, whichever fits.
        if code(secret, step) == Some(typed) && step > used && found.is_none() {
            found = Some(step);
        }
    }
    found
}

/// A secret as a person types it.
#[must_use]
pub fn to_base32(secret: &[u8]) -> String {
    let mut text = String::new();
    let (mut bits, mut held) = (0_u32, 0_u32);
    for byte in secret {
        held = (held << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(letter(held >> bits));
        }
    }
    if bits > 0 {
        text.push(letter(held << (5 - bits)));
    }
    text
}

/// A secret out of the text that a person types, as a program that takes it does; `None` when it is none.
/// Bits that fill no byte are passed over.
#[must_use]
pub fn from_base32(text: &str) -> Option<Vec<u8>> {
    let (mut secret, mut bits, mut held) = (Vec::new(), 0_u32, 0_u32);
    for letter in text.bytes() {
        let place = BASE32.iter().position(|known| *known == letter)?;
        held = (held << 5 | u32::try_from(place).ok()?) & 0xFFF;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            secret.push(u8::try_from((held >> bits) & 0xFF).ok()?);
        }
    }
    Some(secret)
}

fn letter(value: u32) -> char {
    let place = usize::try_from(value & 31).unwrap_or(0);
    BASE32.get(place).map_or('A', |letter| char::from(*letter))
}

/// What an authenticator program reads from a square: `otpauth://totp/…`. `name` is an account's.
#[must_use]
pub fn uri(secret: &[u8], name: &str) -> String {
    let secret = to_base32(secret);
    format!("otpauth://totp/PhuSa:{name}?secret={secret}&issuer=PhuSa&digits=6&period=30")
}

/// The code of a moment, for tests and for setting a new device up.
#[must_use]
pub fn code_at(secret: &[u8], now_seconds: u64) -> String {
    code(secret, now_seconds / STEP_SECONDS).map_or_else(String::new, |code| format!("{code:06}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_rfc_6238() {
        let secret = b"12345678901234567890";
        let check = |seconds: u64, expected: &str| {
            assert_eq!(code_at(secret, seconds), expected);
            let step = seconds / STEP_SECONDS;
            assert_eq!(step_of(secret, expected, seconds, 0), Some(step));
            assert_eq!(step_of(secret, expected, seconds + 30, 0), Some(step));
            assert_eq!(step_of(secret, expected, seconds + 60, 0), None, "too late");
            assert_eq!(step_of(secret, expected, seconds, step), None, "used already");
        };
        // The RFC's eight digits, cut to six.
        check(59, "287082");
        check(1_111_111_109, "081804");
        check(1_111_111_111, "050471");
        check(1_234_567_890, "005924");
        check(2_000_000_000, "279037");
        check(20_000_000_000, "353130");
    }

    #[test]
    fn what_is_no_code_is_none() {
        for typed in ["", "12345", "1234567", "28708x", "२८७०८२"] {
            assert_eq!(step_of(b"12345678901234567890", typed, 59, 0), None, "{typed}");
        }
        assert!(step_of(b"12345678901234567890", "287 082", 59, 0).is_some());
    }

    #[test]
    fn secrets_are_written_as_rfc_4648_says() {
        let check = |bytes: &[u8], text: &str| {
            assert_eq!(to_base32(bytes), text);
            assert_eq!(from_base32(text).as_deref(), Some(bytes));
        };
        check(b"f", "MY");
        check(b"fooba", "MZXW6YTB");
        check(b"foobar", "MZXW6YTBOI");
        check(&[0xFF; 20], &"7".repeat(32));
        assert_eq!(from_base32("MZXW6YT8"), None);
    }
}
