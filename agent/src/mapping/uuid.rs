//! The text of a UUID as its 16 bytes.

/// `None` when it is not written 8-4-4-4-12 in hexadecimal.
pub(super) fn parse(text: &str) -> Option<Vec<u8>> {
    let parts: Vec<usize> = text.split('-').map(str::len).collect();
    if parts != [8, 4, 4, 4, 12] || !text.is_ascii() {
        return None;
    }
    let digits: String = text.split('-').collect();
    let (pairs, _) = digits.as_bytes().as_chunks::<2>();
    let pair = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    hexadecimal.then(|| pairs.iter().map(pair).collect())?
}
