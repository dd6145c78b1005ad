//! Legacy Vietnamese text to Unicode in NFC, exactly or not at all: TCVN3, VNI, VISCII, code page
//! 1258, and UTF-8 that was read once too often.
//!
//! | encoding | published as | here |
//! |---|---|---|
//! | `tcvn3` | TCVN 5712:1993, as the `VnTime` fonts use it | the upper half; a capital and the small letter of the same base (`41 B5`) is one capital, À |
//! | `vni` | VNI for Windows | base letter and mark, two bytes (`41 D8`) |
//! | `viscii` | RFC 1456 | one byte a letter, six of them among the control codes |
//! | `cp1258` | Windows code page 1258 | base letter and combining tone |
//! | `double_utf8` | – | UTF-8 whose bytes were taken for Windows-1252 (`Huáº¿`) |
//!
//! A legacy column comes as raw bytes (`bytea`, a database in `SQL_ASCII`) or as text whose letters
//! stand for the bytes (`µ` for `B5`); both are taken. A byte that the encoding does not define
//! refuses the value. TCVN3 has small letters with tones only: capitals typed for the capital fonts
//! (`VnTimeH`) are the codes of small letters and come out small (`capitals` of `normalise` helps).

pub mod detect;
mod tables;

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::{compose, decompose_canonical};

use self::tables::{
    CP1252_HIGH, CP1258_CHANGED, TCVN3_HIGH, VISCII_HIGH, VISCII_LOW, VNI_MARKS, VNI_SINGLE,
};
use super::nfc;
use super::quality::Rule;

/// How the bytes of a text stand for letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Encoding {
    /// Unicode as it should be; brought to NFC.
    Utf8,
    /// Windows code page 1258.
    Cp1258,
    /// TCVN 5712:1993.
    Tcvn3,
    /// VNI for Windows.
    Vni,
    /// RFC 1456.
    Viscii,
    /// UTF-8 read as Windows-1252.
    DoubleUtf8,
}

impl Encoding {
    /// Every encoding, in the order in which `auto` prefers them.
    pub const ALL: [Self; 6] =
        [Self::Utf8, Self::Cp1258, Self::Tcvn3, Self::Vni, Self::Viscii, Self::DoubleUtf8];

    /// Its name in dataset files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Utf8 => "utf8",
            Self::Cp1258 => "cp1258",
            Self::Tcvn3 => "tcvn3",
            Self::Vni => "vni",
            Self::Viscii => "viscii",
            Self::DoubleUtf8 => "double_utf8",
        }
    }

    /// Appends the text that `bytes` stand for, in NFC.
    ///
    /// # Errors
    /// [`Rule::Undecodable`] at a byte that the encoding does not define, [`Rule::TextNotUtf8`] for
    /// `utf8` itself; `out` may then hold a part.
    pub(super) fn put(self, bytes: &[u8], out: &mut String) -> Result<(), Rule> {
        if self == Self::Utf8 {
            return put_utf8(bytes, out);
        }
        let plain = if self == Self::Viscii { is_plain_viscii } else { <[u8]>::is_ascii };
        if plain(bytes) {
            return put_utf8(bytes, out);
        }
        let start = out.len();
        match std::str::from_utf8(bytes) {
            Err(_) => self.put_raw(bytes.iter().copied().map(Some), (start, out))?,
            Ok(text) if self == Self::Cp1258 && text.chars().any(is_cp1258_read_right) => {
                out.push_str(text);
            }
            Ok(text) => self.put_raw(text.chars().map(byte_of), (start, out))?,
        }
        compose_from(start, out)
    }

    fn put_raw(
        self,
        bytes: impl Iterator<Item = Option<u8>>,
        (start, out): (usize, &mut String),
    ) -> Result<(), Rule> {
        let mut bytes = bytes.map(|byte| byte.ok_or(Rule::Undecodable));
        match self {
            Self::DoubleUtf8 | Self::Utf8 => {
                let bytes = bytes.collect::<Result<Vec<u8>, Rule>>()?;
                put_utf8(&bytes, out).map_err(|_| Rule::Undecodable)
            }
            Self::Tcvn3 => bytes.try_for_each(|byte| push_tcvn3(byte?, (start, out))),
            Self::Vni => bytes.try_for_each(|byte| push_vni(byte?, out)),
            Self::Viscii => bytes.try_for_each(|byte| {
                out.push(letter(viscii(byte?))?);
                Ok(())
            }),
            Self::Cp1258 => bytes.try_for_each(|byte| {
                out.push(letter(cp1258(byte?))?);
                Ok(())
            }),
        }
    }
}

/// Appends UTF-8 in NFC.
pub(super) fn put_utf8(bytes: &[u8], out: &mut String) -> Result<(), Rule> {
    let text = std::str::from_utf8(bytes).map_err(|_| Rule::TextNotUtf8)?;
    if nfc::is_plain(bytes) {
        out.push_str(text);
    } else {
        out.extend(text.nfc());
    }
    Ok(())
}

/// Letters that only a right reading of code page 1258 gives: its own precomposed ones and tones.
fn is_cp1258_read_right(letter: char) -> bool {
    CP1258_CHANGED.iter().any(|(_, own)| *own == letter && !letter.is_ascii() && letter > '\u{ff}')
}

fn is_plain_viscii(bytes: &[u8]) -> bool {
    let special = |byte: &u8| !byte.is_ascii() || VISCII_LOW.iter().any(|(low, _)| low == byte);
    !bytes.iter().any(special)
}

/// The byte that a letter stands for where bytes were taken for Latin-1 or Windows-1252.
fn byte_of(letter: char) -> Option<u8> {
    u8::try_from(u32::from(letter)).ok().or_else(|| {
        let at = CP1252_HIGH.iter().position(|high| *high == letter)?;
        u8::try_from(at + 0x80).ok()
    })
}

/// A letter of a table; `\0` marks what the encoding leaves undefined.
fn letter(found: char) -> Result<char, Rule> {
    if found == '\0' { Err(Rule::Undecodable) } else { Ok(found) }
}

fn of_table(table: &[char], first: u8, byte: u8) -> char {
    if byte.is_ascii() {
        return char::from(byte);
    }
    let at = byte.checked_sub(first).map(usize::from);
    at.and_then(|at| table.get(at)).copied().unwrap_or('\0')
}

fn viscii(byte: u8) -> char {
    let low = VISCII_LOW.iter().find(|(low, _)| *low == byte);
    low.map_or_else(|| of_table(&VISCII_HIGH, 0x80, byte), |(_, letter)| *letter)
}

fn cp1258(byte: u8) -> char {
    let changed = CP1258_CHANGED.iter().find(|(changed, _)| *changed == byte);
    match changed {
        Some((_, letter)) => *letter,
        None if byte >= 0xa0 => char::from(byte),
        None => of_table(&CP1252_HIGH, 0x80, byte),
    }
}

/// A toned small letter after the capital of the same base is that capital with the tone.
fn push_tcvn3(byte: u8, (start, out): (usize, &mut String)) -> Result<(), Rule> {
    let found = letter(of_table(&TCVN3_HIGH, 0xa0, byte))?;
    let own = out.get(start..).unwrap_or_default();
    let before = own.chars().next_back().filter(|before| before.is_uppercase());
    if !byte.is_ascii()
        && let Some(before) = before
        && without_tone(found).is_some_and(|base| before.to_lowercase().eq([base]))
    {
        out.pop();
        out.extend(found.to_uppercase());
        return Ok(());
    }
    out.push(found);
    Ok(())
}

/// The letter a toned letter is made of; `None` for one without a tone.
fn without_tone(letter: char) -> Option<char> {
    let (mut base, mut marks, mut toned) = ('\0', None, false);
    decompose_canonical(letter, |part| match part {
        '\u{300}' | '\u{301}' | '\u{303}' | '\u{309}' | '\u{323}' => toned = true,
        '\u{302}' | '\u{306}' | '\u{31b}' => marks = Some(part),
        part => base = part,
    });
    let whole = marks.map_or(Some(base), |mark| compose(base, mark));
    whole.filter(|_| toned)
}

/// A base letter, or the marks of the base letter before it.
fn push_vni(byte: u8, out: &mut String) -> Result<(), Rule> {
    if byte.is_ascii() {
        out.push(char::from(byte));
        return Ok(());
    }
    // A capital's code is 0x20 below that of the small letter.
    let (small, is_capital) = if byte < 0xe0 { (byte + 0x20, true) } else { (byte, false) };
    if let Some((_, single)) = VNI_SINGLE.iter().find(|(code, _)| *code == small) {
        if is_capital {
            out.extend(single.to_uppercase());
        } else {
            out.push(*single);
        }
        return Ok(());
    }
    let marks = VNI_MARKS.iter().find(|(code, _)| *code == small).map(|(_, marks)| marks);
    let marks = marks.ok_or(Rule::Undecodable)?;
    out.push_str(marks);
    Ok(())
}

/// Joins letters and marks from `start` on. A mark that belongs to no letter shows that the text
/// is not in this encoding.
fn compose_from(start: usize, out: &mut String) -> Result<(), Rule> {
    let tail = out.get(start..).unwrap_or_default();
    if nfc::is_plain(tail.as_bytes()) {
        return Ok(());
    }
    let composed: String = tail.nfc().collect();
    if composed.contains(|letter| matches!(letter, '\u{300}'..='\u{36f}')) {
        return Err(Rule::Undecodable);
    }
    out.truncate(start);
    out.push_str(&composed);
    Ok(())
}

#[cfg(test)]
mod tests;
