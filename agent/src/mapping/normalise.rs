//! The small repairs a person may ask for by name; none is made unasked but NFC.
//!
//! They are applied in the order of [`Normal`], whatever order the file has them in.

use unicode_normalization::UnicodeNormalization as _;

use super::nfc;

/// A repair of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Normal {
    /// `Ð` and `ð` (Icelandic), `Ɖ` and `ɖ` (African) become `Đ` and `đ`.
    DStroke,
    /// Cyrillic and Greek letters that look Latin become Latin.
    LookAlikes,
    /// Full-width and Arabic-Indic digits become 0 to 9.
    Digits,
    /// No white space at the ends, no invisible letters anywhere.
    Trim,
    /// One blank wherever there is white space.
    InnerSpaces,
    /// A word whose unmarked letters are all capitals is all capitals (TCVN3 loses that).
    Capitals,
    /// A telephone number without blanks, dots, dashes and brackets; `+84` and `84` become `0`.
    Phone,
    /// An empty text becomes null.
    EmptyIsNull,
}

/// Applies `list`, which is in order, to `words`; `spare` is room to work in.
pub(super) fn apply(list: &[Normal], words: &mut String, spare: &mut String) {
    // Most texts need no repair, and one look tells.
    let is_tidy = !list.is_empty() && is_tidy(words.as_bytes());
    for normal in list {
        if !(is_tidy && *normal < Normal::Capitals) {
            normal.apply(words, spare);
        }
    }
}

/// Whether none of the repairs before `Capitals` changes a text: ASCII and composed Vietnamese
/// letters, no odd one among them, with single blanks between.
fn is_tidy(text: &[u8]) -> bool {
    let (mut rest, mut after_blank) = (text, true);
    loop {
        let (is_blank, after) = match rest {
            [] => return !after_blank || text.is_empty(),
            [b' ', after @ ..] => (true, after),
            [b'!'..=b'~', after @ ..] => (false, after),
            // Without U+00D0 and U+00F0, which look like đ.
            [0xc3, 0x80..=0x8f | 0x91..=0xaf | 0xb1..=0xbf, after @ ..]
            | [0xc4 | 0xc5, _, after @ ..]
            | [0xc6, 0xa0 | 0xa1 | 0xaf | 0xb0, after @ ..]
            | [0xe1, 0xba | 0xbb, _, after @ ..] => (false, after),
            _ => return false,
        };
        if is_blank && after_blank {
            return false;
        }
        (rest, after_blank) = (after, is_blank);
    }
}

impl Normal {
    fn apply(self, words: &mut String, spare: &mut String) {
        match self {
            Self::DStroke => replace(words, spare, d_stroke),
            Self::Digits => replace(words, spare, digit),
            Self::LookAlikes => {
                replace(words, spare, latin);
                compose(words);
            }
            Self::Trim => trim(words, spare),
            Self::InnerSpaces => inner_spaces(words, spare),
            Self::Capitals => capitals(words, spare),
            Self::Phone => phone(words, spare),
            Self::EmptyIsNull => {}
        }
    }
}

/// Replaces letter by letter; a text of ASCII has nothing to replace.
fn replace(words: &mut String, spare: &mut String, with: fn(char) -> char) {
    if words.is_ascii() || words.chars().all(|letter| with(letter) == letter) {
        return;
    }
    spare.clear();
    spare.extend(words.chars().map(with));
    std::mem::swap(words, spare);
}

/// A Latin letter in the place of another may compose with the mark after it.
fn compose(words: &mut String) {
    if !nfc::is_plain(words.as_bytes()) {
        *words = words.nfc().collect();
    }
}

fn d_stroke(letter: char) -> char {
    match letter {
        'Ð' | 'Ɖ' => 'Đ',
        'ð' | 'ɖ' => 'đ',
        letter => letter,
    }
}

fn digit(letter: char) -> char {
    let zero = match letter {
        '０'..='９' => '０',
        '٠'..='٩' => '٠',
        '۰'..='۹' => '۰',
        letter => return letter,
    };
    char::from_digit(u32::from(letter) - u32::from(zero), 10).unwrap_or(letter)
}

/// Pairs that no reader can tell apart.
const LOOK_ALIKES: [(&str, &str); 3] = [
    ("АВЕІЈКМНОРСТУХЅаеіјорсухѕ", "ABEIJKMHOPCTYXSaeijopcyxs"),
    ("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧο", "ABEZHIKMNOPTYXo"),
    ("ԛԝһ", "qwh"),
];

fn latin(letter: char) -> char {
    let find = |(from, to): &(&str, &str)| {
        let at = from.chars().position(|other| other == letter)?;
        to.chars().nth(at)
    };
    let is_foreign = ('\u{370}'..='\u{52f}').contains(&letter);
    is_foreign.then(|| LOOK_ALIKES.iter().find_map(find)).flatten().unwrap_or(letter)
}

/// Letters that take no room and change every comparison.
fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
}

fn trim(words: &mut String, spare: &mut String) {
    if !words.is_ascii() && words.contains(is_invisible) {
        spare.clear();
        spare.extend(words.chars().filter(|letter| !is_invisible(*letter)));
        std::mem::swap(words, spare);
    }
    let end = words.trim_end().len();
    words.truncate(end);
    let start = end - words.trim_start().len();
    words.drain(..start);
}

fn inner_spaces(words: &mut String, spare: &mut String) {
    let is_odd = |letter: char| letter != ' ' && letter.is_whitespace();
    if !words.contains("  ") && !words.contains(is_odd) {
        return;
    }
    spare.clear();
    for letter in words.chars() {
        if !letter.is_whitespace() {
            spare.push(letter);
        } else if !spare.ends_with(' ') {
            spare.push(' ');
        }
    }
    std::mem::swap(words, spare);
}

fn capitals(words: &mut String, spare: &mut String) {
    spare.clear();
    for (index, word) in words.split(' ').enumerate() {
        spare.push_str(if index == 0 { "" } else { " " });
        let mut plain = word.chars().filter(char::is_ascii_alphabetic).peekable();
        let is_capital = plain.peek().is_some() && plain.all(|letter| letter.is_ascii_uppercase());
        // One capital alone begins a name, `Ý Nhi`, as often as it is one.
        if is_capital && word.chars().filter(char::is_ascii_uppercase).count() > 1 {
            spare.extend(word.chars().flat_map(char::to_uppercase));
        } else {
            spare.push_str(word);
        }
    }
    std::mem::swap(words, spare);
}

fn phone(words: &mut String, spare: &mut String) {
    let is_apart = |letter: char| matches!(letter, ' ' | '.' | '-' | '(' | ')' | '\u{a0}');
    spare.clear();
    spare.extend(words.chars().filter(|letter| !is_apart(*letter)));
    let abroad = spare
        .strip_prefix("+84")
        .or_else(|| spare.strip_prefix("84").filter(|rest| rest.len() >= 9));
    words.clear();
    if let Some(rest) = abroad {
        words.push('0');
        words.push_str(rest.strip_prefix('0').unwrap_or(rest));
    } else {
        words.push_str(spare);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn repairs_do_what_their_names_say() {
        let check = |list: &[Normal], text: &str, expected: &str| {
            let (mut words, mut spare) = (text.to_owned(), String::from("left over"));
            apply(list, &mut words, &mut spare);
            assert_eq!(words, expected, "{list:?}");
        };
        check(&[], " a ", " a ");
        check(&[Normal::DStroke], "Ðặng ðình", "Đặng đình");
        check(&[Normal::LookAlikes], "Нuế а", "Huế a");
        check(&[Normal::LookAlikes], "\u{430}\u{301}", "á");
        check(&[Normal::LookAlikes], "Ђ Я", "Ђ Я");
        check(&[Normal::Digits], "０４６ ٠٩ ۵", "046 09 5");
        check(&[Normal::Trim], "\u{feff} \u{a0}Huế\t", "Huế");
        check(&[Normal::Trim], "   ", "");
        check(&[Normal::InnerSpaces], "Lê  Văn\u{a0}An", "Lê Văn An");
        check(&[Normal::Trim, Normal::InnerSpaces], "  Lê   An ", "Lê An");
        check(&[Normal::Capitals], "NGUYễN VăN An Ý Lê", "NGUYỄN VĂN An Ý Lê");
        check(&[Normal::Phone], "+84 (90) 512.34-56", "0905123456");
        check(&[Normal::Phone], "84905123456", "0905123456");
        check(&[Normal::Phone], "8412", "8412");
    }

    #[test]
    fn every_letter_of_a_tidy_text_stays() {
        for letter in (0..0x1_1000).filter_map(char::from_u32).filter(|letter| *letter != ' ') {
            let text = format!("a{letter}");
            if is_tidy(text.as_bytes()) {
                let (mut words, mut spare) = (text.clone(), String::new());
                REPAIRS.iter().for_each(|normal| normal.apply(&mut words, &mut spare));
                assert_eq!(words, text, "{letter:?}");
            }
        }
    }

    const REPAIRS: [Normal; 5] =
        [Normal::DStroke, Normal::LookAlikes, Normal::Digits, Normal::Trim, Normal::InnerSpaces];

    proptest! {
        #[test]
        fn a_tidy_text_needs_no_repair(text in "[ -~àÐðĐđƠơƯưḀ-ỿ\u{a0}\u{200b}а٠]{0,12}") {
            let (mut words, mut spare) = (text.clone(), String::new());
            REPAIRS.iter().for_each(|normal| normal.apply(&mut words, &mut spare));
            prop_assert!(!is_tidy(text.as_bytes()) || words == text, "{text:?}");
        }
    }
}
