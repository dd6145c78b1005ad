//! Text in NFC: a scan that is usually all there is to do, and the rewriting where it is not.
//!
//! Vietnamese letters below U+0300 and from U+1E00 to U+1EFF are composed already and nothing
//! after them can change that, unless a combining mark follows, which the scan does not let pass.

use unicode_normalization::{IsNormalized, UnicodeNormalization as _, is_nfc_quick};

use super::quality::Rule;

const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

/// Whether `bytes` are UTF-8 in NFC as far as the fast scan can tell.
#[inline]
pub(super) fn is_plain(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    // Eight bytes at a time to the next letter that is not ASCII.
    while let Some(eight) = rest.first_chunk::<8>() {
        let high = u64::from_le_bytes(*eight) & HIGH_BITS;
        let ascii = usize::try_from(high.trailing_zeros() / 8).unwrap_or(8);
        rest = rest.get(ascii..).unwrap_or_default();
        if high != 0 {
            let Some(after) = after_letter(rest) else { return false };
            rest = after;
        }
    }
    loop {
        rest = match rest {
            [] => return true,
            [..=0x7f, after @ ..] => after,
            letter => match after_letter(letter) {
                Some(after) => after,
                None => return false,
            },
        };
    }
}

/// What follows the letter of two or three bytes; `None` where the scan knows nothing of it.
#[inline]
fn after_letter(rest: &[u8]) -> Option<&[u8]> {
    match rest {
        [0xc2..=0xcb, 0x80..=0xbf, after @ ..] => Some(after),
        [0xe1, 0xb8..=0xbb, 0x80..=0xbf, after @ ..] => Some(after),
        _ => None,
    }
}

/// Appends the text in NFC.
///
/// # Errors
/// [`Rule::TextNotUtf8`]; a database in `SQL_ASCII` lets any bytes in.
pub(super) fn put(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Rule> {
    if is_plain(bytes) {
        out.extend_from_slice(bytes);
        return Ok(());
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Rule::TextNotUtf8)?;
    if is_nfc_quick(text.chars()) == IsNormalized::Yes {
        out.extend_from_slice(bytes);
        return Ok(());
    }
    let mut utf8 = [0; 4];
    for letter in text.nfc() {
        out.extend_from_slice(letter.encode_utf8(&mut utf8).as_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_is_composed_or_refused() {
        let check = |text: &[u8], expected: Result<&str, Rule>| {
            let mut out = Vec::new();
            let result = put(text, &mut out).map(|()| String::from_utf8(out).unwrap());
            assert_eq!(result.as_deref(), expected.as_deref(), "{text:?}");
        };
        check("Nguyễn Thị Hường".as_bytes(), Ok("Nguyễn Thị Hường"));
        check("Nguye\u{302}\u{303}n".as_bytes(), Ok("Nguyễn"));
        check("đ\u{301}".as_bytes(), Ok("đ\u{301}"));
        check("Å 😀".as_bytes(), Ok("Å 😀"));
        check(b"", Ok(""));
        check(b"\xff", Err(Rule::TextNotUtf8));
        check(b"a\xc3", Err(Rule::TextNotUtf8));
        check(b"\xe1\xb8", Err(Rule::TextNotUtf8));
    }

    #[test]
    fn every_letter_the_scan_lets_pass_is_composed() {
        for letter in (0..0x1_1000).filter_map(char::from_u32) {
            let text = letter.to_string();
            if is_plain(text.as_bytes()) {
                assert_eq!(is_nfc_quick(text.chars()), IsNormalized::Yes, "{letter:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn what_the_scan_lets_pass_is_its_own_nfc(text in "[ -~à-ʯḀ-ỿ\u{300}-\u{303}]{0,20}") {
            if is_plain(text.as_bytes()) {
                prop_assert_eq!(text.nfc().collect::<String>(), text);
            }
        }

        #[test]
        fn any_bytes_are_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut out = Vec::new();
            prop_assert_eq!(put(&bytes, &mut out).is_ok(), std::str::from_utf8(&bytes).is_ok());
        }
    }
}
