//! 500 names made of syllables come back from every encoding, as bytes and as letters that stand
//! for bytes, and `auto` finds the encoding or refuses.

use proptest::prelude::*;
use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::decompose_canonical;

use super::detect::detect;
use super::*;
use crate::mapping::syllable::is_syllable;

fn decoded(encoding: Encoding, bytes: &[u8]) -> Result<String, Rule> {
    let mut out = String::new();
    encoding.put(bytes, &mut out).map(|()| out)
}

/// The bytes of a text, written from the tables read the other way round.
fn encoded(encoding: Encoding, text: &str) -> Vec<u8> {
    match encoding {
        Encoding::Utf8 => text.as_bytes().to_vec(),
        Encoding::DoubleUtf8 => text.bytes().map(as_1252).collect::<String>().into_bytes(),
        Encoding::Viscii => {
            text.chars().map(|letter| table_byte(&VISCII_HIGH, 0x80, letter)).collect()
        }
        Encoding::Tcvn3 => text.chars().flat_map(tcvn3_bytes).collect(),
        Encoding::Vni => text.chars().flat_map(vni_bytes).collect(),
        Encoding::Cp1258 => text.chars().flat_map(cp1258_bytes).collect(),
    }
}

fn as_1252(byte: u8) -> char {
    let high = byte.checked_sub(0x80).and_then(|at| CP1252_HIGH.get(usize::from(at))).copied();
    high.filter(|letter| *letter != '\0').unwrap_or(char::from(byte))
}

fn table_byte(table: &[char], first: u8, letter: char) -> u8 {
    let low = VISCII_LOW.iter().find(|(_, own)| *own == letter && first == 0x80);
    let at =
        table.iter().position(|own| *own == letter).map(|at| first + u8::try_from(at).unwrap());
    low.map(|(byte, _)| *byte).or(at).unwrap_or_else(|| u8::try_from(letter).unwrap())
}

/// As the `VnTime` fonts have it: a capital with a tone is the plain capital and the small letter.
fn tcvn3_bytes(letter: char) -> Vec<u8> {
    let byte = |letter| table_byte(&TCVN3_HIGH, 0xa0, letter);
    match without_tone(letter) {
        Some(base) if letter.is_uppercase() => {
            let small = letter.to_lowercase().next().unwrap();
            vec![byte(base), byte(small)]
        }
        _ => vec![byte(letter)],
    }
}

fn vni_bytes(letter: char) -> Vec<u8> {
    let small = letter.to_lowercase().next().unwrap();
    let shift = if small == letter { 0 } else { 0x20 };
    if let Some((byte, _)) = VNI_SINGLE.iter().find(|(_, single)| *single == small) {
        return vec![byte - shift];
    }
    let (mut base, mut marks) = (String::new(), String::new());
    decompose_canonical(letter, |part| {
        let is_mark = ('\u{300}'..='\u{309}').contains(&part) || part == '\u{323}';
        if is_mark { marks.push(part) } else { base.push(part) }
    });
    // ơ and ư are letters of one byte, below their tones.
    let base: char = base.nfc().next().unwrap();
    let mut bytes =
        if base.is_ascii() { vec![u8::try_from(base).unwrap()] } else { vni_bytes(base) };
    let marks: String =
        if marks.starts_with('\u{323}') { marks.chars().rev().collect() } else { marks };
    let mark = VNI_MARKS.iter().find(|(_, own)| *own == marks);
    bytes.extend(mark.map(|(byte, _)| byte - shift));
    bytes
}

fn cp1258_bytes(letter: char) -> Vec<u8> {
    let byte = |letter: char| {
        let own = CP1258_CHANGED.iter().find(|(_, own)| *own == letter).map(|(byte, _)| *byte);
        own.or_else(|| u8::try_from(letter).ok().filter(|byte| cp1258(*byte) == letter))
    };
    if let Some(byte) = byte(letter) {
        return vec![byte];
    }
    let mut tone = '\0';
    decompose_canonical(letter, |part| {
        if matches!(part, '\u{300}' | '\u{301}' | '\u{303}' | '\u{309}' | '\u{323}') {
            tone = part;
        }
    });
    [without_tone(letter).unwrap(), tone].map(|part| byte(part).unwrap()).to_vec()
}

/// A generator that is the same each run.
fn next(state: &mut u64, below: usize) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*state >> 33).unwrap() % below
}

/// 500 names of syllables made of onset, rhyme and tone.
fn names() -> Vec<String> {
    let onsets = [
        "", "b", "c", "ch", "d", "đ", "g", "h", "kh", "l", "m", "n", "ng", "nh", "ph", "t", "th",
        "tr", "v", "x",
    ];
    let heads = ["a", "ă", "â", "e", "ê", "i", "o", "ô", "ơ", "u", "ư", "y"];
    let tails = ["", "n", "m", "ng", "i", "c", "t", "nh"];
    let tones = ["", "\u{300}", "\u{301}", "\u{309}", "\u{303}", "\u{323}"];
    let mut state = 7;
    let mut syllable = || loop {
        let (onset, head) = (onsets[next(&mut state, 20)], heads[next(&mut state, 12)]);
        let (tail, tone) = (tails[next(&mut state, 8)], tones[next(&mut state, 6)]);
        let text: String = format!("{onset}{head}{tone}{tail}").nfc().collect();
        if is_syllable(&text) {
            let mut letters = text.chars();
            let first: String = letters.next().unwrap().to_uppercase().collect();
            return first + letters.as_str();
        }
    };
    (0..500).map(|_| format!("{} {} {}", syllable(), syllable(), syllable())).collect()
}

#[test]
fn five_hundred_names_come_back_from_every_encoding() {
    for name in names() {
        for encoding in Encoding::ALL {
            let bytes = encoded(encoding, &name);
            assert_eq!(
                decoded(encoding, &bytes).as_deref(),
                Ok(name.as_str()),
                "{}",
                encoding.name()
            );
            // The same bytes after a database took them for Windows-1252 or Latin-1.
            if encoding != Encoding::Utf8 && encoding != Encoding::DoubleUtf8 {
                for read in [as_1252, char::from] {
                    let text: String = bytes.iter().map(|byte| read(*byte)).collect();
                    let found = decoded(encoding, text.as_bytes());
                    assert_eq!(found.as_deref(), Ok(name.as_str()), "{}", encoding.name());
                }
            }
        }
    }
}

#[test]
fn known_texts_are_read_as_the_standards_say() {
    let check = |encoding: Encoding, bytes: &[u8], expected: Result<&str, Rule>| {
        assert_eq!(
            decoded(encoding, bytes).as_deref(),
            expected.as_ref().copied(),
            "{}",
            encoding.name()
        );
    };
    check(Encoding::Tcvn3, b"Hu\xd5", Ok("Huế"));
    check(Encoding::Tcvn3, "C«ng an tØnh".as_bytes(), Ok("Công an tỉnh"));
    check(Encoding::Tcvn3, b"\x41\xb5", Ok("À"));
    check(Encoding::Tcvn3, b"NGUY\xd4N", Ok("NGUYễN"));
    check(Encoding::Tcvn3, b"\x80", Err(Rule::Undecodable));
    check(Encoding::Tcvn3, "Huế".as_bytes(), Err(Rule::Undecodable));
    check(Encoding::Vni, b"Hue\xe1", Ok("Huế"));
    check(Encoding::Vni, b"\x41\xd8", Ok("À"));
    check(Encoding::Vni, "Nguyeãn Vaên Ñöùc".as_bytes(), Ok("Nguyễn Văn Đức"));
    check(Encoding::Vni, b"\xf9a", Err(Rule::Undecodable));
    check(Encoding::Viscii, b"Hu\xaa", Ok("Huế"));
    check(Encoding::Viscii, b"\x02", Ok("Ẳ"));
    check(Encoding::Cp1258, b"Hu\xea\xec", Ok("Huế"));
    check(Encoding::Cp1258, "Hu\u{ea}\u{301}".as_bytes(), Ok("Huế"));
    check(Encoding::Cp1258, b"\x8a", Err(Rule::Undecodable));
    check(Encoding::DoubleUtf8, "Huáº¿".as_bytes(), Ok("Huế"));
    check(Encoding::DoubleUtf8, "Hu\u{e1}".as_bytes(), Err(Rule::Undecodable));
    check(Encoding::Utf8, "Hue\u{302}\u{301}".as_bytes(), Ok("Huế"));
    check(Encoding::Utf8, b"\xff", Err(Rule::TextNotUtf8));
}

fn say(line: &str) {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{line}").unwrap();
}

#[test]
fn the_encoding_of_a_sample_is_found_or_refused() {
    let names = names();
    let (mut right, mut all) = (0, 0);
    for encoding in Encoding::ALL {
        let (mut found, mut samples) = (0, 0);
        for sample in names.chunks(20) {
            let texts: Vec<Vec<u8>> = sample.iter().map(|name| encoded(encoding, name)).collect();
            let detection = detect(texts.iter().map(Vec::as_slice));
            // A wrong answer is worse than none.
            assert!(
                detection.clear.is_none_or(|clear| clear == encoding),
                "{encoding:?} {detection:?}"
            );
            found += usize::from(detection.clear == Some(encoding));
            samples += 1;
        }
        say(&format!("{:<12} found in {found} of {samples} samples of 20 names", encoding.name()));
        (right, all) = (right + found, all + samples);
    }
    say(&format!("all          found in {right} of {all} samples, none taken for another"));
    assert!(right * 100 >= all * 95, "{right} of {all}");
    assert_eq!(detect([b"plain".as_slice()].into_iter()).clear, None, "ASCII proves nothing");
    assert_eq!(detect(["Huế".as_bytes()].into_iter()).clear, None, "one word proves nothing");
    let noise: Vec<Vec<u8>> = (0..60).map(|n| vec![b'a', 0x80 + n, 0xff - n]).collect();
    assert_eq!(detect(noise.iter().map(Vec::as_slice)).clear, None);
}

#[test]
fn a_text_leaves_what_stands_before_it_as_it_is() {
    for encoding in Encoding::ALL {
        for last in 'A'..='Z' {
            for first in 0..=u8::MAX {
                let mut out = String::from(last);
                let put = encoding.put(&[first, 0xff, first], &mut out);
                assert!(out.starts_with(last), "{encoding:?} {last} {first:#04x} {put:?}");
            }
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        for encoding in Encoding::ALL {
            let _ = decoded(encoding, &bytes);
        }
        let _ = detect(bytes.split(|byte| *byte == b' '));
    }
}
