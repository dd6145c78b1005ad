//! Exact decimals in PostgreSQL's binary form: made of integers and literals, compared, written
//! out.
//!
//! The form is `ndigits: u16 · weight: i16 · sign: u16 · dscale: u16` and that many digits to the
//! base 10,000; the first digit counts 10,000 to the power of `weight`.

use std::cmp::Ordering;
use std::io::Write as _;

const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xc000;
const INFINITY: u16 = 0xd000;
const MINUS_INFINITY: u16 = 0xf000;

/// A decimal still lying in the buffer it came in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decimal<'a> {
    weight: i16,
    sign: u16,
    scale: u16,
    digits: &'a [[u8; 2]],
}

impl<'a> Decimal<'a> {
    /// Reads the binary form; `None` when the bytes are not one.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (head, digits) = bytes.split_first_chunk::<8>()?;
        let &[n0, n1, w0, w1, s0, s1, d0, d1] = head;
        let (digits, []) = digits.as_chunks::<2>() else { return None };
        (digits.len() == usize::from(u16::from_be_bytes([n0, n1]))).then_some(Self {
            weight: i16::from_be_bytes([w0, w1]),
            sign: u16::from_be_bytes([s0, s1]),
            scale: u16::from_be_bytes([d0, d1]),
            digits,
        })
    }

    /// The digit that counts 10,000 to the power of `power`.
    fn digit(&self, power: i32) -> u16 {
        let index = usize::try_from(i32::from(self.weight) - power).ok();
        index.and_then(|index| self.digits.get(index)).map_or(0, |digit| u16::from_be_bytes(*digit))
    }

    /// The power of the first digit that is not zero; `None` for zero.
    fn first_power(&self) -> Option<i32> {
        let leading = self.digits.iter().position(|digit| *digit != [0, 0])?;
        Some(i32::from(self.weight) - i32::try_from(leading).ok()?)
    }

    /// In PostgreSQL's order: infinities at the ends, NaN after everything.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank()).then_with(|| match self.rank() {
            -1 => other.compare_size(self),
            1 => self.compare_size(other),
            _ => Ordering::Equal,
        })
    }

    fn rank(&self) -> i8 {
        match (self.sign, self.first_power()) {
            (NAN, _) => 3,
            (INFINITY, _) => 2,
            (MINUS_INFINITY, _) => -2,
            (_, None) => 0,
            (NEGATIVE, _) => -1,
            _ => 1,
        }
    }

    fn compare_size(&self, other: &Self) -> Ordering {
        let (first, other_first) = (self.first_power(), other.first_power());
        let lowest = |decimal: &Self| {
            i32::from(decimal.weight) - i32::try_from(decimal.digits.len()).unwrap_or(0)
        };
        let top = first.unwrap_or(0);
        let powers = (lowest(self).min(lowest(other))..=top).rev();
        let mut pairs = powers.map(|power| self.digit(power).cmp(&other.digit(power)));
        first
            .cmp(&other_first)
            .then_with(|| pairs.find(|order| *order != Ordering::Equal).unwrap_or(Ordering::Equal))
    }

    /// Appends the text that PostgreSQL prints.
    pub(super) fn put_text(&self, out: &mut Vec<u8>) {
        match self.sign {
            NAN => return out.extend_from_slice(b"NaN"),
            INFINITY => return out.extend_from_slice(b"Infinity"),
            MINUS_INFINITY => return out.extend_from_slice(b"-Infinity"),
            NEGATIVE => out.push(b'-'),
            _ => {}
        }
        let top = i32::from(self.weight).max(0);
        put_digits(out, format_args!("{}", self.digit(top)));
        for power in (0..top).rev() {
            put_digits(out, format_args!("{:04}", self.digit(power)));
        }
        if self.scale == 0 {
            return;
        }
        out.push(b'.');
        let end = out.len() + usize::from(self.scale);
        let mut power = -1;
        while out.len() < end {
            put_digits(out, format_args!("{:04}", self.digit(power)));
            power -= 1;
        }
        out.truncate(end);
    }
}

fn put_digits(out: &mut Vec<u8>, digits: std::fmt::Arguments<'_>) {
    // Writing into a Vec cannot fail.
    let _ = out.write_fmt(digits);
}

/// Appends the binary form of an integer.
pub(super) fn put_integer(value: i64, out: &mut Vec<u8>) {
    let mut digits = [[0_u8; 2]; 5];
    let mut count = 0_u16;
    let mut rest = value.unsigned_abs();
    for slot in digits.iter_mut().rev() {
        if rest == 0 {
            break;
        }
        *slot = u16::try_from(rest % 10_000).unwrap_or(0).to_be_bytes();
        rest /= 10_000;
        count += 1;
    }
    let used = digits.len() - usize::from(count);
    let digits = digits.get(used..).unwrap_or_default();
    let trailing = digits.iter().rev().take_while(|digit| **digit == [0, 0]).count();
    let digits = digits.get(..digits.len() - trailing).unwrap_or_default();
    let sign = if value < 0 { NEGATIVE } else { 0 };
    put_head(
        out,
        digits.len(),
        i16::try_from(count).unwrap_or(0).saturating_sub(1).max(0),
        sign,
        0,
    );
    out.extend(digits.iter().flatten());
}

fn put_head(out: &mut Vec<u8>, digit_count: usize, weight: i16, sign: u16, scale: u16) {
    out.extend_from_slice(&u16::try_from(digit_count).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(&weight.to_be_bytes());
    out.extend_from_slice(&sign.to_be_bytes());
    out.extend_from_slice(&scale.to_be_bytes());
}

/// The binary form of a literal such as `-12.50`; `None` when it is none, or longer than 1,000
/// characters.
pub(super) fn from_literal(text: &str) -> Option<Vec<u8>> {
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (NEGATIVE, rest),
        None => (0, text),
    };
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) || text.len() > 1_000 {
        return None;
    }
    let lead = "0".repeat(whole.len().next_multiple_of(4) - whole.len());
    let tail = "0".repeat(fraction.len().next_multiple_of(4) - fraction.len());
    let digits = format!("{lead}{whole}{fraction}{tail}");
    let (groups, _) = digits.as_bytes().as_chunks::<4>();
    let weight = i16::try_from(whole.len().div_ceil(4)).ok()?.saturating_sub(1);
    let mut out = Vec::new();
    put_head(&mut out, groups.len(), weight, sign, u16::try_from(fraction.len()).ok()?);
    for group in groups {
        let digit = group.iter().fold(0_u16, |sum, byte| sum * 10 + u16::from(byte - b'0'));
        out.extend_from_slice(&digit.to_be_bytes());
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        Decimal::read(bytes).unwrap().put_text(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn decimals_come_back_as_written() {
        for literal in ["0", "7", "-12.50", "10000", "0.0001", "0.00000001", "123456789.987654321"]
        {
            assert_eq!(text(&from_literal(literal).unwrap()), literal);
        }
        for (literal, shown) in [("007", "7"), ("-0.10", "-0.10"), ("100000000.0", "100000000.0")] {
            assert_eq!(text(&from_literal(literal).unwrap()), shown);
        }
        for bad in ["", "-", ".5", "1e5", "1.2.3", "NaN"] {
            assert_eq!(from_literal(bad), None, "{bad}");
        }
        assert_eq!(text(&[0, 0, 0, 0, 0xc0, 0, 0, 0]), "NaN");
        assert_eq!(text(&[0, 0, 0, 0, 0xf0, 0, 0, 0]), "-Infinity");
    }

    #[test]
    fn integers_get_the_form_postgresql_gives_them() {
        let check = |value: i64, expected: &[u8]| {
            let mut out = Vec::new();
            put_integer(value, &mut out);
            assert_eq!(out, expected, "{value}");
            assert_eq!(text(&out), value.to_string());
        };
        check(0, &[0, 0, 0, 0, 0, 0, 0, 0]);
        check(1, &[0, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
        check(-10_000, &[0, 1, 0, 1, 0x40, 0, 0, 0, 0, 1]);
        check(12_345, &[0, 2, 0, 1, 0, 0, 0, 0, 0, 1, 0x09, 0x29]);
        for value in [i64::MIN, i64::MAX, 1_000_000_000_000_000_000, -99_990_000] {
            let mut out = Vec::new();
            put_integer(value, &mut out);
            assert_eq!(text(&out), value.to_string());
        }
    }

    #[test]
    fn order_is_by_value_whatever_the_form() {
        let check = |left: &str, right: &str, expected: Ordering| {
            let (left_form, right_form) =
                (from_literal(left).unwrap(), from_literal(right).unwrap());
            let (l, r) = (Decimal::read(&left_form).unwrap(), Decimal::read(&right_form).unwrap());
            assert_eq!(l.compare(&r), expected, "{left} {right}");
            assert_eq!(r.compare(&l), expected.reverse(), "{right} {left}");
        };
        check("1", "1.000", Ordering::Equal);
        check("0", "-0.0", Ordering::Equal);
        check("1.5", "1.49", Ordering::Greater);
        check("-1.5", "-1.49", Ordering::Less);
        check("-1", "1", Ordering::Less);
        check("10000", "9999.9999", Ordering::Greater);
        check("0.00001", "0", Ordering::Greater);
        let nan = [0, 0, 0, 0, 0xc0, 0, 0, 0];
        let one = from_literal("1").unwrap();
        let (nan, one) = (Decimal::read(&nan).unwrap(), Decimal::read(&one).unwrap());
        assert_eq!(nan.compare(&one), Ordering::Greater);
    }
}
