//! Which encoding a column's texts are in: each is tried on a sample and scored by how many of the
//! words it changes come out as Vietnamese syllables.
//!
//! A person sees the scores (`check`, `preview`), and `auto` refuses where the best is not clear:
//! a wrong guess would send wrong names that look right to a program.

use super::Encoding;
use crate::mapping::syllable::is_syllable;

/// Of a hundred words that are not plain ASCII, so many must come out as syllables.
pub const SCORE_MIN: u32 = 90;
/// The best must be so far ahead of the second that reads differently.
const LEAD_MIN: u32 = 10;
/// Fewer words than this prove nothing.
pub const WORDS_MIN: usize = 20;

/// What a sample of one column shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detection {
    /// Words that are not plain ASCII; only they tell encodings apart.
    pub words: usize,
    /// Per encoding, how many of a hundred words come out as syllables; best first.
    pub scores: Vec<(Encoding, u32)>,
    /// The encoding, where it is clear. Text that is all ASCII tells nothing.
    pub clear: Option<Encoding>,
}

/// Scores every encoding on `texts`, the bytes of a sample of values.
#[must_use]
pub fn detect<'t>(texts: impl Iterator<Item = &'t [u8]>) -> Detection {
    let texts: Vec<&[u8]> = texts.filter(|text| !text.is_ascii()).collect();
    let mut tried: Vec<(Encoding, Tried)> =
        Encoding::ALL.into_iter().map(|encoding| (encoding, Tried::on(encoding, &texts))).collect();
    // A stable sort: of equals the one preferred by `Encoding::ALL` stays before.
    tried.sort_by_key(|(_, tried)| std::cmp::Reverse(tried.score()));
    let words = tried.iter().map(|(_, tried)| tried.words).max().unwrap_or(0);
    let scores = tried.iter().map(|(encoding, tried)| (*encoding, tried.score())).collect();
    Detection { words, scores, clear: clear(&texts, words, &tried) }
}

fn clear(texts: &[&[u8]], words: usize, tried: &[(Encoding, Tried)]) -> Option<Encoding> {
    let (encoding, best) = tried.first().filter(|_| !texts.is_empty())?;
    let other = tried.iter().find(|(_, other)| other.text != best.text);
    let lead = best.score() - other.map_or(0, |(_, other)| other.score());
    let enough = words >= WORDS_MIN && best.score() >= SCORE_MIN && lead >= LEAD_MIN;
    enough.then_some(*encoding)
}

/// What one encoding makes of a sample.
#[derive(Debug, Default)]
struct Tried {
    words: usize,
    syllables: usize,
    /// All texts, so that encodings that read alike are not taken for rivals.
    text: String,
}

impl Tried {
    fn on(encoding: Encoding, texts: &[&[u8]]) -> Self {
        let mut tried = Self::default();
        for text in texts {
            let start = tried.text.len();
            if encoding.put(text, &mut tried.text).is_err() {
                tried.text.truncate(start);
                tried.words += 1;
                continue;
            }
            let decoded = tried.text.get(start..).unwrap_or_default();
            let is_apart = |letter: char| letter.is_ascii() && !letter.is_ascii_alphanumeric();
            let words = decoded.split(is_apart).filter(|word| !word.is_ascii());
            for word in words {
                tried.words += 1;
                tried.syllables += usize::from(is_syllable(word));
            }
        }
        tried
    }

    fn score(&self) -> u32 {
        let percent = self.syllables * 100 / self.words.max(1);
        u32::try_from(percent).unwrap_or(0)
    }
}
