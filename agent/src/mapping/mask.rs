//! Masks on text: what is left of a value for others to see.
//!
//! What a mask shows of a value is never the value: `keep_first`, `keep_last` show at most half of
//! its characters, `initials` hides a word of one letter. An empty text stays empty. `year`, `band`
//! and `commune` make values coarser; one that is as coarse already stays.

use std::fmt::Write as _;

use super::quality::Rule;
use super::syllable::folded_letters;

/// Leaves the first `count` characters, at most half of them; `*` stands for each of the others.
pub(super) fn keep_first(count: usize, words: &mut String, spare: &mut String) {
    let letters = words.chars().count();
    let shown = count.min(letters / 2);
    spare.clear();
    spare.extend(words.chars().take(shown));
    put_stars(letters - shown, spare);
    std::mem::swap(words, spare);
}

/// Appends `count` stars.
fn put_stars(count: usize, out: &mut String) {
    const STARS: &str = "********************************";
    match STARS.get(..count) {
        Some(stars) => out.push_str(stars),
        None => out.extend(std::iter::repeat_n('*', count)),
    }
}

/// Leaves the last `count` characters, at most half of them; `*` stands for each of the others.
pub(super) fn keep_last(count: usize, words: &mut String, spare: &mut String) {
    let letters = words.chars().count();
    let hidden = letters - count.min(letters / 2);
    let shown = words.char_indices().nth(hidden).and_then(|(at, _)| words.get(at..));
    spare.clear();
    put_stars(hidden, spare);
    spare.push_str(shown.unwrap_or_default());
    std::mem::swap(words, spare);
}

/// `Nguyễn Văn An` becomes `N.V.A.`; a word of fewer than two letters becomes `*.`.
pub(super) fn initials(words: &mut String, spare: &mut String) {
    spare.clear();
    for word in words.split_whitespace() {
        let mut letters = word.chars().filter(is_letter_or_digit);
        let first = letters.next().filter(|_| letters.next().is_some());
        spare.push(first.unwrap_or('*'));
        spare.push('.');
    }
    std::mem::swap(words, spare);
}

/// Whether it is a letter or a digit of any script; of Vietnamese letters one look tells.
fn is_letter_or_digit(letter: &char) -> bool {
    matches!(letter, 'À'..='Ö' | 'Ø'..='ö' | 'ø'..='ʯ' | 'Ḁ'..='ỿ') || letter.is_alphanumeric()
}

/// Leaves the year of a date, a moment or a partial date: `-44` for 44 BC.
///
/// # Errors
/// [`Rule::YearUnknown`] where there is none.
pub(super) fn year(words: &mut String) -> Result<(), Rule> {
    let digits = words.bytes().take_while(u8::is_ascii_digit).count();
    let ends_there = words.as_bytes().get(digits).is_none_or(|byte| *byte == b'-');
    if digits < 4 || !ends_there {
        return Err(Rule::YearUnknown);
    }
    let is_bc = words.ends_with(" BC");
    words.truncate(digits);
    let zeros = words.bytes().take_while(|byte| *byte == b'0').count().min(digits - 1);
    words.drain(..zeros);
    if is_bc {
        words.insert(0, '-');
    }
    Ok(())
}

/// Leaves the band of `width` that a number lies in: `20-29`, or its lower end alone.
///
/// # Errors
/// [`Rule::MaskUnfit`] for no number or one beyond 64 bits.
pub(super) fn band(width: u32, lower_alone: bool, words: &mut String) -> Result<(), Rule> {
    let whole = words.split('.').next().unwrap_or_default();
    let number: i64 = whole.parse().map_err(|_| Rule::MaskUnfit)?;
    let fraction = words.get(whole.len()..).unwrap_or_default();
    let is_fraction = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    if !fraction.bytes().all(is_fraction) {
        return Err(Rule::MaskUnfit);
    }
    // -0.5 lies below 0 although its whole part does not say so.
    let below =
        words.starts_with('-') && fraction.bytes().any(|byte| (b'1'..=b'9').contains(&byte));
    // The ends of a band may lie beyond the ends of the numbers.
    let width = i128::from(width.max(1));
    let lower = (i128::from(number) - i128::from(below)).div_euclid(width) * width;
    words.clear();
    // Writing into a String cannot fail.
    let _ = write!(words, "{lower}");
    if !lower_alone {
        let _ = write!(words, "-{}", lower + width - 1);
    }
    Ok(())
}

/// How an address names its commune, folded. Since 1 July 2025 there is no level between commune
/// and province; older addresses have it, and it stays.
const COMMUNES: [&str; 9] =
    ["xa ", "phuong ", "thi tran ", "dac khu ", "p. ", "x. ", "tt. ", "p ", "tt "];

/// How most write it: these need no folding.
const WRITTEN_OUT: [&str; 6] = ["Xã ", "xã ", "Phường ", "phường ", "Thị trấn ", "thị trấn "];

/// Leaves of an address the parts from the commune on.
///
/// # Errors
/// [`Rule::MaskUnfit`] where no part between commas names a commune.
pub(super) fn commune(words: &mut String) -> Result<(), Rule> {
    let mut start = 0;
    for part in words.split(',') {
        if names_commune(part.trim_start()) {
            let blanks = part.len() - part.trim_start().len();
            words.drain(..start + blanks);
            return Ok(());
        }
        start += part.len() + 1;
    }
    Err(Rule::MaskUnfit)
}

/// Reads no more letters than it takes to tell.
fn names_commune(part: &str) -> bool {
    if WRITTEN_OUT.iter().any(|word| part.starts_with(word)) {
        return true;
    }
    let mut words = COMMUNES.map(Some);
    for letter in folded_letters(part) {
        let mut is_open = false;
        for word in &mut words {
            *word = word.and_then(|rest| rest.strip_prefix(letter));
            match word {
                Some("") => return true,
                Some(_) => is_open = true,
                None => {}
            }
        }
        if !is_open {
            return false;
        }
    }
    false
}

/// Appends 256 bits as 64 hexadecimal digits.
pub(super) fn hexadecimal(code: &[u8], out: &mut Vec<u8>) {
    // The ten digits stand side by side in ASCII, and so do the six letters.
    let digit = |nibble: u8| nibble + if nibble < 10 { b'0' } else { b'a' - 10 };
    let start = out.len();
    out.resize(start + 2 * code.len(), b'0');
    let pairs = out.get_mut(start..).unwrap_or_default().chunks_exact_mut(2);
    for (pair, byte) in pairs.zip(code) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with(mask: impl FnOnce(&mut String, &mut String), text: &str) -> String {
        let (mut words, mut spare) = (text.to_owned(), String::from("left over"));
        mask(&mut words, &mut spare);
        words
    }

    #[test]
    fn masks_show_what_they_say() {
        let last = |count, text| with(|words, spare| keep_last(count, words, spare), text);
        assert_eq!(last(4, "001099001234"), "********1234");
        assert_eq!(last(9, "Huế"), "**ế");
        assert_eq!(last(2, ""), "");
        assert_eq!(last(2, "7"), "*");
        let first = |count, text| with(|words, spare| keep_first(count, words, spare), text);
        assert_eq!(first(3, "0905123456"), "090*******");
        assert_eq!(first(3, "Huế"), "H**");
        assert_eq!(with(initials, "Nguyễn Văn  An"), "N.V.A.");
        assert_eq!(with(initials, "Ý A. B"), "*.*.*.");
    }

    #[test]
    fn coarser_values_are_coarse() {
        let year = |text: &str| {
            let mut words = text.to_owned();
            year(&mut words).map(|()| words)
        };
        assert_eq!(year("1990-02-28").as_deref(), Ok("1990"));
        assert_eq!(year("1990-02-28 10:00:00+00").as_deref(), Ok("1990"));
        assert_eq!(year("0044-03-15 BC").as_deref(), Ok("-44"));
        assert_eq!(year("1990").as_deref(), Ok("1990"));
        assert_eq!(year("infinity"), Err(Rule::YearUnknown));
        assert_eq!(year("28/02/1990"), Err(Rule::YearUnknown));
        let band = |text: &str, alone| {
            let mut words = text.to_owned();
            band(10, alone, &mut words).map(|()| words)
        };
        assert_eq!(band("27", false).as_deref(), Ok("20-29"));
        assert_eq!(band("27.9", true).as_deref(), Ok("20"));
        assert_eq!(band("-0.5", true).as_deref(), Ok("-10"));
        assert_eq!(band("-9223372036854775808", true).as_deref(), Ok("-9223372036854775810"));
        assert_eq!(band("-10", true).as_deref(), Ok("-10"));
        for bad in ["", "x", "1.x", "12345678901234567890", "NaN", "+", "+1.-"] {
            assert_eq!(band(bad, true), Err(Rule::MaskUnfit), "{bad}");
        }
        let commune = |text: &str| {
            let mut words = text.to_owned();
            commune(&mut words).map(|()| words)
        };
        let address = "Số 7, đường Lê Lợi, Phường Thuận Hóa, thành phố Huế";
        assert_eq!(commune(address).as_deref(), Ok("Phường Thuận Hóa, thành phố Huế"));
        assert_eq!(commune("xã A Lưới 1").as_deref(), Ok("xã A Lưới 1"));
        assert_eq!(commune("Số 7, thành phố Huế"), Err(Rule::MaskUnfit));
    }

    proptest! {
        #[test]
        fn a_mask_never_shows_the_value(text in "\\PC{1,24}", count in 0_usize..30) {
            // A value of stars, or of dots and stars, is as masked as can be.
            prop_assume!(text.contains(|letter| letter != '*' && letter != '.'));
            // Nor is one half of stars already: `**an` is what is left of any name on `an`.
            let stars = text.chars().filter(|letter| *letter == '*').count();
            prop_assume!(stars == 0);
            let shown = with(|words, spare| keep_last(count, words, spare), &text);
            prop_assert!(!shown.contains(&text), "{shown}");
            let shown = with(|words, spare| keep_first(count, words, spare), &text);
            prop_assert!(!shown.contains(&text), "{shown}");
            let shown = with(initials, &text);
            prop_assert!(!shown.contains(&text) || text.trim().is_empty(), "{shown}");
        }

        #[test]
        fn no_text_breaks_a_mask(text in "\\PC{0,24}", width in 0_u32..1_000) {
            let mut words = text.clone();
            let _ = year(&mut words);
            words.clone_from(&text);
            let _ = band(width, false, &mut words);
            words.clone_from(&text);
            let _ = commune(&mut words);
        }
    }
}
