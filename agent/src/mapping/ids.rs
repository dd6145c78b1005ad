//! Numbers that the state gives out, and how they are built: citizen id, tax code, social
//! insurance, health card, telephone, e-mail. Form alone; nobody is asked whether they exist.

/// A citizen id taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CitizenId {
    /// Whether its century digit stands for a man.
    pub(super) is_male: bool,
    /// The year of birth.
    pub(super) birth_year: i32,
}

/// The 63 provinces that ids are given out under; births keep the code of their time, so the
/// mergers of 2025 change nothing here. Codes from 101 on are countries.
const PROVINCES: [u16; 63] = [
    1, 2, 4, 6, 8, 10, 11, 12, 14, 15, 17, 19, 20, 22, 24, 25, 26, 27, 30, 31, 33, 34, 35, 36, 37,
    38, 40, 42, 44, 45, 46, 48, 49, 51, 52, 54, 56, 58, 60, 62, 64, 66, 67, 68, 70, 72, 74, 75, 77,
    79, 80, 82, 83, 84, 86, 87, 89, 91, 92, 93, 94, 95, 96,
];
const FIRST_COUNTRY: u16 = 101;

/// Twelve digits: province or country of birth registration (3), century and sex (1), year (2),
/// number (6). There is no check digit.
pub(super) fn citizen_id(text: &str) -> Option<CitizenId> {
    let digits = digits::<12>(text)?;
    let [p0, p1, p2, century, y0, y1, ..] = digits;
    let place = u16::from(p0) * 100 + u16::from(p1) * 10 + u16::from(p2);
    if place < FIRST_COUNTRY && !PROVINCES.contains(&place) {
        return None;
    }
    let birth_year = 1_900 + i32::from(century / 2) * 100 + i32::from(y0) * 10 + i32::from(y1);
    Some(CitizenId { is_male: century % 2 == 0, birth_year })
}

/// Ten digits of an organisation, of which the last checks the others; a branch adds three, with a
/// dash or without; since 1 July 2025 a person's is the citizen id.
pub(super) fn is_tax_code(text: &str) -> bool {
    match text.len() {
        10 => digits::<10>(text).is_some_and(has_check_digit),
        12 => citizen_id(text).is_some(),
        13 => text.split_at_checked(10).is_some_and(|(main, branch)| is_branch(main, branch)),
        14 => text.split_once('-').is_some_and(|(main, branch)| is_branch(main, branch)),
        _ => false,
    }
}

fn is_branch(main: &str, branch: &str) -> bool {
    digits::<3>(branch).is_some_and(|branch| branch != [0, 0, 0])
        && digits::<10>(main).is_some_and(has_check_digit)
}

fn has_check_digit(digits: [u8; 10]) -> bool {
    const WEIGHTS: [u32; 9] = [31, 29, 23, 19, 17, 13, 7, 5, 3];
    let [.., check] = digits;
    let sum: u32 =
        WEIGHTS.iter().zip(digits).map(|(weight, digit)| weight * u32::from(digit)).sum();
    // A sum that 11 divides gives 10, which no digit is: such numbers are not given out.
    10 - sum % 11 == u32::from(check)
}

/// Ten digits.
pub(super) fn is_social_insurance(text: &str) -> bool {
    digits::<10>(text).is_some()
}

/// Two letters, one digit of benefit, two of the province, and the ten of social insurance; cards
/// since 2021 show the ten alone.
pub(super) fn is_health_card(text: &str) -> bool {
    if text.len() == 10 {
        return is_social_insurance(text);
    }
    let Some((group, rest)) = text.split_at_checked(2) else { return false };
    let benefit = |digits: [u8; 13]| (1..=5).contains(&digits[0]);
    group.bytes().all(|letter| letter.is_ascii_uppercase())
        && digits::<13>(rest).is_some_and(benefit)
}

/// Since 2018: mobile 0 and nine digits after the prefixes in use, fixed 02 and eight or nine;
/// `+84` may stand for the 0.
pub(super) fn is_phone(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("+84").or_else(|| text.strip_prefix('0')) else {
        return false;
    };
    if let Some([first, second, ..]) = digits::<9>(rest)
        && first != 2
    {
        return match first {
            3 => second >= 2,
            5 => matches!(second, 2 | 5 | 6 | 8 | 9),
            7 => second == 0 || second >= 6,
            8 => second >= 1,
            9 => true,
            _ => false,
        };
    }
    rest.starts_with('2') && (digits::<9>(rest).is_some() || digits::<10>(rest).is_some())
}

/// A local part and a domain of at least two labels; the common form, without quotes.
pub(super) fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let in_local =
        |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&byte);
    let dots = |text: &str| !text.starts_with('.') && !text.ends_with('.') && !text.contains("..");
    let label = |label: &str| {
        let sound = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (1..=63).contains(&label.len()) && sound && !label.starts_with('-') && !label.ends_with('-')
    };
    (1..=64).contains(&local.len())
        && local.bytes().all(in_local)
        && dots(local)
        && text.len() <= 254
        && domain.contains('.')
        && domain.split('.').all(label)
}

/// The values of exactly `N` decimal digits.
fn digits<const N: usize>(text: &str) -> Option<[u8; N]> {
    let bytes: [u8; N] = text.as_bytes().try_into().ok()?;
    bytes.iter().all(u8::is_ascii_digit).then(|| bytes.map(|byte| byte - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn citizen_ids_say_century_sex_and_year() {
        let check = |text: &str, expected: Option<(bool, i32)>| {
            let found = citizen_id(text).map(|id| (id.is_male, id.birth_year));
            assert_eq!(found, expected, "{text}");
        };
        check("046199000001", Some((false, 1999)));
        check("001075000001", Some((true, 1975)));
        check("092305123456", Some((false, 2005)));
        check("112085000001", Some((true, 1985)));
        check("003075000001", None);
        check("000075000001", None);
        check("046199 00001", None);
        check("46199000001", None);
        check("", None);
    }

    #[test]
    fn numbers_and_addresses_are_told_from_others() {
        let check = |is: fn(&str) -> bool, good: &[&str], bad: &[&str]| {
            good.iter().for_each(|text| assert!(is(text), "{text}"));
            bad.iter().for_each(|text| assert!(!is(text), "{text}"));
        };
        let good = ["0100233488", "0314409058-002", "0314409058002", "0100112437", "046199000001"];
        let bad =
            ["0100233480", "0314409058-000", "0314409058-02", "0100233488-1", "é100233488", ""];
        check(is_tax_code, &good, &bad);
        check(is_social_insurance, &["7916123456"], &["791612345", "79161234567", "791612345x"]);
        let bad = ["DN9790123456789", "dn4790123456789", "DN479012345678", "ĐN479012345678"];
        check(is_health_card, &["DN4790123456789", "0123456789"], &bad);
        let good = ["0905123456", "+84905123456", "0321234567", "02438251234", "0243825123"];
        let bad = ["0121234567", "0511234567", "905123456", "0905 123456", "090512345", "+84"];
        check(is_phone, &good, &bad);
        let good = ["lan.12@example.vn", "a@b.co"];
        let bad = ["a@b", "a..b@c.vn", "@c.vn", "a@-b.vn", "a b@c.vn", "a@b..vn", "ả@c.vn"];
        check(is_email, &good, &bad);
    }
}
