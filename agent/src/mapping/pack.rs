//! The text of a value, once every rule is through with it, as the bytes of its contract type.

use phusa_protocol::value::Kind;

use super::moment;
use super::nfc;
use super::number;
use super::quality::Rule;
use super::uuid;

/// Whether a text can become this type at all.
pub(super) fn exists(kind: Kind) -> bool {
    match kind {
        Kind::Bool
        | Kind::Int2
        | Kind::Int4
        | Kind::Int8
        | Kind::Numeric
        | Kind::Text
        | Kind::Date
        | Kind::Time
        | Kind::Timestamp
        | Kind::Timestamptz
        | Kind::Uuid => true,
        // A decimal text is no binary float exactly, and the others have no one text.
        Kind::Float4 | Kind::Float8 | Kind::Bytea | Kind::Jsonb | Kind::TextArray => false,
    }
}

/// Appends the bytes of `words`.
///
/// # Errors
/// [`Rule::Unconvertible`] when they are not the text of such a value.
pub(super) fn put(kind: Kind, words: &str, out: &mut Vec<u8>) -> Result<(), Rule> {
    put_if_so(kind, words, out).ok_or(Rule::Unconvertible)
}

fn put_if_so(kind: Kind, words: &str, out: &mut Vec<u8>) -> Option<()> {
    match kind {
        // Old bytes may hold U+0000, which no text of the warehouse can; capitals of a letter in NFC
        // need not be in NFC.
        Kind::Text if words.contains('\0') => return None,
        Kind::Text => nfc::put(words.as_bytes(), out).ok()?,
        Kind::Bool => out.push(match words {
            "true" => 1,
            "false" => 0,
            _ => return None,
        }),
        Kind::Int2 => out.extend_from_slice(&words.parse::<i16>().ok()?.to_be_bytes()),
        Kind::Int4 => out.extend_from_slice(&words.parse::<i32>().ok()?.to_be_bytes()),
        Kind::Int8 => out.extend_from_slice(&words.parse::<i64>().ok()?.to_be_bytes()),
        Kind::Numeric => out.extend_from_slice(&number::from_literal(words)?),
        Kind::Date => {
            let days = i32::try_from(moment::parse_date(words)?).ok()?;
            out.extend_from_slice(&days.to_be_bytes());
        }
        Kind::Time => out.extend_from_slice(&moment::parse_time(words)?.to_be_bytes()),
        Kind::Timestamp => out.extend_from_slice(&moment::parse_timestamp(words)?.to_be_bytes()),
        Kind::Timestamptz => {
            // The exact text of a moment names its zone as `+00`.
            out.extend_from_slice(&moment::parse_timestamptz(words)?.to_be_bytes());
        }
        Kind::Uuid => out.extend_from_slice(&uuid::parse(words)?),
        Kind::Float4 | Kind::Float8 | Kind::Bytea | Kind::Jsonb | Kind::TextArray => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_bytes_or_are_refused() {
        let check = |kind: Kind, words: &str, expected: Result<&[u8], Rule>| {
            let mut out = Vec::new();
            let found = put(kind, words, &mut out).map(|()| out.as_slice());
            assert_eq!(found, expected, "{kind} {words}");
        };
        check(Kind::Text, "Huế", Ok("Huế".as_bytes()));
        check(Kind::Text, "Hue\u{302}\u{301}", Ok("Huế".as_bytes()));
        check(Kind::Text, "a\0", Err(Rule::Unconvertible));
        check(Kind::Bool, "true", Ok(&[1]));
        check(Kind::Bool, "1", Err(Rule::Unconvertible));
        check(Kind::Int2, "-2", Ok(&[0xff, 0xfe]));
        check(Kind::Int2, "40000", Err(Rule::Unconvertible));
        check(Kind::Int4, "1.0", Err(Rule::Unconvertible));
        check(Kind::Date, "2000-01-02", Ok(&[0, 0, 0, 1]));
        check(Kind::Date, "2000", Err(Rule::Unconvertible));
        check(Kind::Timestamp, "2000-01-01 00:00:00", Ok(&[0; 8]));
        check(Kind::Timestamptz, "2000-01-01 00:00:00+00", Ok(&[0; 8]));
        check(Kind::Float8, "1", Err(Rule::Unconvertible));
        for kind in Kind::ALL {
            assert!(exists(kind) || put(kind, "1", &mut Vec::new()).is_err(), "{kind}");
        }
    }
}
