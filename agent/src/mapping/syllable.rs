//! What a Vietnamese syllable may look like: closed lists of onsets and rhymes, tones aside.
//!
//! It tells a text decoded rightly from one decoded wrongly, and a person's name from other words.

use unicode_normalization::UnicodeNormalization as _;

const ONSETS: [&str; 29] = [
    "", "b", "c", "ch", "d", "đ", "g", "gh", "gi", "h", "k", "kh", "l", "m", "n", "ng", "ngh",
    "nh", "p", "ph", "qu", "q", "r", "s", "t", "th", "tr", "v", "x",
];

/// Rhymes without their tones, by their first letters; with `k` at the end as in Đắk Lắk.
const RHYMES: &str = "a ac ach ai ak am an ang anh ao ap at au ay e ec em en eng eo ep et i ia ich im \
    in inh ip it iu iêc iêm iên iêng iêp iêt iêu o oa oac oach oai oam oan oang oanh oao oap oat \
    oay oc oe oem oen oeo oet oi om on ong ooc oong op ot oăc oăm oăn oăng oăt u ua ui um un ung \
    up ut uy uya uych uyn uynh uyp uyt uyu uyên uyêt uâc uân uâng uât uây uê uêch uên uênh uêu uôc \
    uôi uôm uôn uông uôp uôt uơ y ych ym yn ynh yp yt yê yêm yên yêng yêt yêu â âc âm ân âng âp ât \
    âu ây ê êch êm ên êng ênh êp êt êu êc ô ôc ôi ôm ôn ông ôp ôt ôôc ôông ă ăc ăk ăm ăn ăng ăp ăt ơ \
    ơi ơm ơn ơp ơt ư ưa ưc ưi ưm ưn ưng ưt ưu ươc ươi ươm ươn ương ươp ươt ươu";

/// Whether `word`, in letters of either case, is built as Vietnamese syllables are.
#[must_use]
pub fn is_syllable(word: &str) -> bool {
    let bare = without_tones(word);
    let rhyme = |onset: &&str| bare.strip_prefix(*onset).is_some_and(is_rhyme);
    !bare.is_empty() && ONSETS.iter().any(rhyme)
}

fn is_rhyme(rest: &str) -> bool {
    !rest.is_empty() && RHYMES.split_ascii_whitespace().any(|rhyme| rhyme == rest)
}

/// Small letters, tones taken off, the marks that make other letters (ă â ê ô ơ ư) kept.
#[must_use]
pub fn without_tones(word: &str) -> String {
    let is_tone =
        |part: &char| matches!(part, '\u{300}' | '\u{301}' | '\u{303}' | '\u{309}' | '\u{323}');
    let small = word.chars().flat_map(char::to_lowercase);
    small.nfd().filter(|part| !is_tone(part)).nfc().collect()
}

/// Small letters without any mark, đ as d: how column names and words are compared.
#[must_use]
pub fn folded(word: &str) -> String {
    folded_letters(word).collect()
}

/// The same letter by letter, for those who need only the first.
pub(super) fn folded_letters(word: &str) -> impl Iterator<Item = char> {
    let bare = |part: char| match part {
        '\u{300}'..='\u{36f}' => None,
        'đ' | 'ð' => Some('d'),
        part => Some(part),
    };
    word.chars().flat_map(move |letter| {
        let ascii = letter.is_ascii().then(|| letter.to_ascii_lowercase());
        let parts = (!letter.is_ascii()).then(|| letter.to_lowercase().nfd().filter_map(bare));
        ascii.into_iter().chain(parts.into_iter().flatten())
    })
}

/// Family names that nine in ten Vietnamese bear, folded.
const FAMILY_NAMES: &str = "nguyen tran le pham hoang huynh phan vu vo dang bui do ho ngo duong ly \
    nong ha dinh trinh mai lam thach chau luong dao doan truong trieu tong luu quach to ta cao kieu \
    vuong thai ta phung vi lo ka ro ha hua la ma ban giap nghiem khuc chu bach quan tang thi diep";

/// Whether `text` reads like the name of a Vietnamese person: a family name and one to five more
/// syllables, each begun with a capital or all in capitals.
#[must_use]
pub fn is_person_name(text: &str) -> bool {
    let words: Vec<&str> = text.split_whitespace().collect();
    let capital = |word: &&str| word.chars().next().is_some_and(char::is_uppercase);
    let family = words.first().map(|word| folded(word)).unwrap_or_default();
    (2..=6).contains(&words.len())
        && FAMILY_NAMES.split_ascii_whitespace().any(|name| name == family)
        && words.iter().all(|word| capital(word) && is_syllable(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syllables_are_told_from_other_words() {
        for word in
            "Nguyễn Thị Hường Đắk Quỳnh gì giếng quốc Khuya ngoằn NGHĨA y uyên Loan".split(' ')
        {
            assert!(is_syllable(word), "{word}");
        }
        for word in ["NguyÔn", "Ha?", "Huáº¿", "street", "", "123", "Nguye", "bng"] {
            assert!(!is_syllable(word), "{word}");
        }
    }

    #[test]
    fn names_are_told_from_other_texts() {
        for name in ["Nguyễn Thị Thanh Hường", "TRẦN VĂN ĐỨC", "Lê An"] {
            assert!(is_person_name(name), "{name}");
        }
        for other in ["Hồ sơ đã đối chiếu", "Nguyễn", "Phường Ninh Kiều", "lê an", "", "Trần X1"]
        {
            assert!(!is_person_name(other), "{other}");
        }
        assert_eq!(folded("Đặng_HọTên"), "dang_hoten");
    }
}
