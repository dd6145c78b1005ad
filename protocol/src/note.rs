//! Signed notes as C2SP describes them: a text, an empty line, and a line per signature.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::digest::Digest;
use crate::keys::PublicKey;

/// The kind of key that signs a note's text as it stands.
pub const ED25519: u8 = 1;

/// The kind of key that signs a checkpoint together with a time (tlog-cosignature).
pub const COSIGNATURE: u8 = 4;

/// Signatures on one note at most: one of the log and one of each of a thousand agents fit.
const SIGNATURES_MAX: usize = 2_000;

/// Bytes of a note at most.
pub const NOTE_BYTES_MAX: usize = 512 << 10;

/// A text with signatures, none of which is checked by reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The signed text; ends with a newline.
    pub text: String,
    /// Who signed.
    pub signatures: Vec<Line>,
}

/// One signature of a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The key's name.
    pub name: String,
    /// The first bytes of a digest of name, kind and key.
    pub key_id: [u8; 4],
    /// What the kind of key calls a signature.
    pub bytes: Vec<u8>,
}

/// A text that is no signed note.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a signed note")]
pub struct BadNote;

impl Note {
    /// Reads a note.
    ///
    /// # Errors
    /// When it has another form, or more than 2,000 signatures.
    pub fn parse(note: &str) -> Result<Self, BadNote> {
        let (text, lines) = note.rsplit_once("\n\n").ok_or(BadNote)?;
        let lines = lines.strip_suffix('\n').ok_or(BadNote)?;
        let signatures: Vec<Line> =
            lines.split('\n').map(Line::parse).collect::<Option<_>>().ok_or(BadNote)?;
        if signatures.len() > SIGNATURES_MAX {
            return Err(BadNote);
        }
        Ok(Self { text: format!("{text}\n"), signatures })
    }

    /// The note as it travels.
    #[must_use]
    pub fn to_text(&self) -> String {
        let lines: String = self.signatures.iter().map(Line::to_text).collect();
        format!("{}\n{lines}", self.text)
    }
}

impl Line {
    /// Reads a line without its newline.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let (name, bytes) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
        let bytes = BASE64.decode(bytes).ok()?;
        let (key_id, bytes) = bytes.split_first_chunk::<4>()?;
        let is_name = !name.is_empty() && !name.contains(['+', ' ']);
        is_name.then(|| Self { name: name.to_owned(), key_id: *key_id, bytes: bytes.to_vec() })
    }

    /// The line with its newline.
    #[must_use]
    pub fn to_text(&self) -> String {
        let bytes = [&self.key_id[..], &self.bytes].concat();
        format!("\u{2014} {} {}\n", self.name, BASE64.encode(bytes))
    }
}

/// The id of a key under a name.
#[must_use]
pub fn key_id(name: &str, kind: u8, key: &PublicKey) -> [u8; 4] {
    let digest = Digest::of(&[name.as_bytes(), &[b'\n', kind], key.as_bytes()].concat());
    let [a, b, c, d, ..] = *digest.as_bytes();
    [a, b, c, d]
}

/// The key as tools for notes take it: `name+id+key`.
#[must_use]
pub fn verifier_key(name: &str, kind: u8, key: &PublicKey) -> String {
    let id = crate::hex::encode(&key_id(name, kind, key));
    format!("{name}+{id}+{}", BASE64.encode([&[kind][..], key.as_bytes()].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_comes_back_letter_by_letter_and_other_texts_are_none() {
        let line = |name: &str| Line { name: name.to_owned(), key_id: [1; 4], bytes: vec![2; 64] };
        let note =
            Note { text: "a\n\nb\n".to_owned(), signatures: vec![line("log"), line("H57/a")] };
        let text = note.to_text();
        assert_eq!(Note::parse(&text), Ok(note));
        for bad in
            ["", "a\n", "a\n\n", "a\n\n- log AAAA\n", text.trim_end(), &text.replace("log", "l+g")]
        {
            assert_eq!(Note::parse(bad), Err(BadNote), "{bad}");
        }
    }
}
