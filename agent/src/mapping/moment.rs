//! Dates, times and intervals: PostgreSQL's counts to its ISO texts, and literals to its counts.

use std::io::Write as _;

/// Days from 0000-03-01 (proleptic Gregorian) to 2000-01-01, where PostgreSQL counts from.
const DAYS_TO_2000: i64 = 730_425;
/// Days in the 400 years after which the calendar repeats.
const DAYS_PER_ERA: i64 = 146_097;
const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_MINUTE: i64 = 60 * MICROS_PER_SECOND;
/// Tenths of a microsecond in a minute.
pub(super) const TENTHS_PER_MINUTE: i64 = 10 * MICROS_PER_MINUTE;
const MICROS_PER_HOUR: i64 = 60 * MICROS_PER_MINUTE;
/// A day that no clock changes.
const MICROS_PER_DAY: i64 = 24 * MICROS_PER_HOUR;

/// Year (0 is 1 BC), month and day of a count of days since 2000-01-01.
pub(super) fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + DAYS_TO_2000;
    let (era, day_of_era) = (days.div_euclid(DAYS_PER_ERA), days.rem_euclid(DAYS_PER_ERA));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// The count of days since 2000-01-01 of a date that exists; `None` for one that does not.
pub(super) fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let shifted = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * DAYS_PER_ERA + day_of_era - DAYS_TO_2000;
    (civil(days) == (year, month, day)).then_some(days)
}

/// The text of what stands in a date's place and is none, as MySQL allows: `0000-00-00`,
/// `2026-00-15`, perhaps with a time. No date, timestamp or moment has bytes of this length.
pub(super) fn partial(bytes: &[u8]) -> Option<&[u8]> {
    let (day, time) = bytes.split_at_checked("0000-00-00".len())?;
    let is_day = day.iter().enumerate().all(|(at, byte)| match at {
        4 | 7 => *byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    let of_time = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b' ' | b':' | b'.');
    (is_day && time.iter().all(of_time)).then_some(bytes)
}

/// The year as PostgreSQL's `extract` gives it: 1 BC is -1. `None` for an infinite date.
pub(super) fn year_of_date(days: i32) -> Option<i64> {
    (days != i32::MIN && days != i32::MAX).then(|| historic(civil(i64::from(days)).0))
}

/// The same of a timestamp.
pub(super) fn year_of_timestamp(micros: i64) -> Option<i64> {
    let finite = micros != i64::MIN && micros != i64::MAX;
    finite.then(|| historic(civil(micros.div_euclid(MICROS_PER_DAY)).0))
}

fn historic(year: i64) -> i64 {
    if year <= 0 { year - 1 } else { year }
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing into a Vec cannot fail.
    let _ = out.write_fmt(text);
}

/// Appends `2026-11-21`, `0044-03-15 BC` or `infinity`.
pub(super) fn put_date(days: i32, out: &mut Vec<u8>) {
    match days {
        i32::MAX => out.extend_from_slice(b"infinity"),
        i32::MIN => out.extend_from_slice(b"-infinity"),
        days => {
            let year = put_day(i64::from(days), out);
            put_era(year, out);
        }
    }
}

/// Appends `2026-11-21 08:30:00.5`, then `zone`, then ` BC` where it is.
pub(super) fn put_timestamp(micros: i64, zone: &str, out: &mut Vec<u8>) {
    match micros {
        i64::MAX => out.extend_from_slice(b"infinity"),
        i64::MIN => out.extend_from_slice(b"-infinity"),
        micros => {
            let year = put_day(micros.div_euclid(MICROS_PER_DAY), out);
            out.push(b' ');
            put_time(micros.rem_euclid(MICROS_PER_DAY), out);
            out.extend_from_slice(zone.as_bytes());
            put_era(year, out);
        }
    }
}

fn put_day(days: i64, out: &mut Vec<u8>) -> i64 {
    let (year, month, day) = civil(days);
    put(out, format_args!("{:04}-{month:02}-{day:02}", historic(year).abs()));
    year
}

fn put_era(year: i64, out: &mut Vec<u8>) {
    if year <= 0 {
        out.extend_from_slice(b" BC");
    }
}

/// Appends `08:30:00` and the fraction that is there.
pub(super) fn put_time(micros: i64, out: &mut Vec<u8>) {
    let (hours, minutes) = (micros / MICROS_PER_HOUR, micros / MICROS_PER_MINUTE % 60);
    put(out, format_args!("{hours:02}:{minutes:02}:"));
    let seconds = micros / MICROS_PER_SECOND % 60;
    put(out, format_args!("{seconds:02}"));
    put_fraction(micros % MICROS_PER_SECOND, out);
}

fn put_fraction(micros: i64, out: &mut Vec<u8>) {
    if micros == 0 {
        return;
    }
    put(out, format_args!(".{micros:06}"));
    while out.last() == Some(&b'0') {
        out.pop();
    }
}

/// As [`put_time`], one digit finer.
pub(super) fn put_time_tenths(tenths: i64, out: &mut Vec<u8>) {
    let micros = tenths / 10;
    put_time(micros, out);
    if tenths % 10 == 0 {
        return;
    }
    // What stood after the seconds may have been cut short.
    while out.last().is_some_and(|&byte| byte != b':') {
        out.pop();
    }
    let seconds = micros / MICROS_PER_SECOND % 60;
    put(out, format_args!("{seconds:02}.{:07}", tenths % (10 * MICROS_PER_SECOND)));
}

/// As [`put_timestamp`], one digit finer; no source has infinite ones.
pub(super) fn put_timestamp_tenths(tenths: i64, out: &mut Vec<u8>) {
    let year = put_day(tenths.div_euclid(10 * MICROS_PER_DAY), out);
    out.push(b' ');
    put_time_tenths(tenths.rem_euclid(10 * MICROS_PER_DAY), out);
    put_era(year, out);
}

/// Appends a zone as PostgreSQL prints it, `+07`, `+05:30` or `-00:00:15`.
pub(super) fn put_zone(seconds_west: i32, out: &mut Vec<u8>) {
    let seconds = i64::from(seconds_west).abs();
    let sign = if seconds_west > 0 { '-' } else { '+' };
    put(out, format_args!("{sign}{:02}", seconds / 3_600));
    if seconds % 3_600 != 0 {
        put(out, format_args!(":{:02}", seconds / 60 % 60));
    }
    if seconds % 60 != 0 {
        put(out, format_args!(":{:02}", seconds % 60));
    }
}

/// Appends an interval in ISO 8601, as PostgreSQL prints it under `intervalstyle = iso_8601`.
pub(super) fn put_interval(micros: i64, days: i32, months: i32, out: &mut Vec<u8>) {
    match (micros, days, months) {
        (0, 0, 0) => return out.extend_from_slice(b"PT0S"),
        (i64::MAX, i32::MAX, i32::MAX) => return out.extend_from_slice(b"infinity"),
        (i64::MIN, i32::MIN, i32::MIN) => return out.extend_from_slice(b"-infinity"),
        _ => out.push(b'P'),
    }
    put_part(i64::from(months / 12), 'Y', out);
    put_part(i64::from(months % 12), 'M', out);
    put_part(i64::from(days), 'D', out);
    if micros == 0 {
        return;
    }
    out.push(b'T');
    put_part(micros / MICROS_PER_HOUR, 'H', out);
    put_part(micros / MICROS_PER_MINUTE % 60, 'M', out);
    let left = micros % MICROS_PER_MINUTE;
    if left != 0 {
        let sign = if left < 0 { "-" } else { "" };
        put(out, format_args!("{sign}{}", left.abs() / MICROS_PER_SECOND));
        put_fraction(left.abs() % MICROS_PER_SECOND, out);
        out.push(b'S');
    }
}

fn put_part(count: i64, unit: char, out: &mut Vec<u8>) {
    if count != 0 {
        put(out, format_args!("{count}{unit}"));
    }
}

/// Days since 2000-01-01 of a literal `2026-11-21`.
pub(super) fn parse_date(text: &str) -> Option<i64> {
    let mut parts = text.splitn(3, '-');
    let year = digits(parts.next()?, 4)?;
    let month = digits(parts.next()?, 2)?;
    let day = digits(parts.next()?, 2)?;
    (year > 0).then(|| days(year, month, day)).flatten()
}

/// Microseconds since 2000-01-01 of a literal `2026-11-21` or `2026-11-21 08:30:00.5`.
pub(super) fn parse_timestamp(text: &str) -> Option<i64> {
    let (date, time) = text.split_once([' ', 'T']).unwrap_or((text, "00:00:00"));
    Some(parse_date(date)? * MICROS_PER_DAY + parse_time(time)?)
}

/// Microseconds since 2000-01-01 UTC of a literal that names its zone: `2026-11-21 08:30:00+07:00`
/// or `…Z`.
pub(super) fn parse_timestamptz(text: &str) -> Option<i64> {
    if let Some(text) = text.strip_suffix('Z') {
        return parse_timestamp(text);
    }
    let at = text.rfind(['+', '-']).filter(|&at| at > "2026-11-21".len())?;
    let (moment, zone) = text.split_at_checked(at)?;
    let (hours, minutes) = zone.get(1..)?.split_once(':').unwrap_or((zone.get(1..)?, "00"));
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    let east = hours * MICROS_PER_HOUR + minutes * MICROS_PER_MINUTE;
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    (hours < 16 && minutes < 60).then(|| parse_timestamp(moment).map(|utc| utc - sign * east))?
}

/// Microseconds since midnight of a literal `08:30`, `08:30:00` or `08:30:00.5`.
pub(super) fn parse_time(text: &str) -> Option<i64> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let mut parts = clock.splitn(3, ':');
    let hours = digits(parts.next()?, 2)?;
    let minutes = digits(parts.next()?, 2)?;
    let seconds = parts.next().map_or(Some(0), |seconds| digits(seconds, 2))?;
    let micros = digits(&format!("{fraction:0<6}"), 6)?;
    (hours < 24 && minutes < 60 && seconds < 60)
        .then_some(hours * MICROS_PER_HOUR + minutes * MICROS_PER_MINUTE)
        .map(|whole| whole + seconds * MICROS_PER_SECOND + micros)
}

/// Exactly `count` decimal digits.
fn digits(text: &str, count: usize) -> Option<i64> {
    let exact = text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    exact.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(put: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        put(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn moments_print_as_postgresql_prints_them() {
        let date = |days| shown(|out| put_date(days, out));
        assert_eq!(date(0), "2000-01-01");
        assert_eq!(date(-730_119), "0001-01-01");
        assert_eq!(date(-730_120), "0001-12-31 BC");
        assert_eq!(date(2_145_031_948), "5874897-12-31");
        assert_eq!(date(i32::MIN), "-infinity");
        let timestamp = |micros| shown(|out| put_timestamp(micros, "+00", out));
        assert_eq!(timestamp(-1), "1999-12-31 23:59:59.999999+00");
        assert_eq!(timestamp(500_000), "2000-01-01 00:00:00.5+00");
        assert_eq!(timestamp(i64::MAX), "infinity");
        let time = |tenths| shown(|out| put_time_tenths(tenths, out));
        let times = [time(5), time(15_000_000), time(10_000_001), time(863_999_999_999)];
        assert_eq!(
            times,
            ["00:00:00.0000005", "00:00:01.5", "00:00:01.0000001", "23:59:59.9999999"]
        );
        let timestamp = |tenths| shown(|out| put_timestamp_tenths(tenths, out));
        assert_eq!(timestamp(-1), "1999-12-31 23:59:59.9999999");
        assert_eq!(timestamp(-10), "1999-12-31 23:59:59.999999");
        let zone = |west| shown(|out| put_zone(west, out));
        let zones = [zone(-25_200), zone(-19_800), zone(15), zone(0)];
        assert_eq!(zones, ["+07", "+05:30", "-00:00:15", "+00"]);
    }

    #[test]
    fn intervals_print_in_iso_8601() {
        let check = |micros: i64, days: i32, months: i32, expected: &str| {
            assert_eq!(shown(|out| put_interval(micros, days, months, out)), expected);
        };
        check(0, 0, 0, "PT0S");
        check(0, 3, 14, "P1Y2M3D");
        check(3_661_500_000, 0, 0, "PT1H1M1.5S");
        check(-500_000, -1, -13, "P-1Y-1M-1DT-0.5S");
        check(i64::MAX, i32::MAX, i32::MAX, "infinity");
    }

    #[test]
    fn literals_are_read_or_refused() {
        assert_eq!(parse_date("2000-01-02"), Some(1));
        for bad in ["2026-02-29", "2026-13-01", "26-01-01", "2026-1-1", "0000-01-01", ""] {
            assert_eq!(parse_date(bad), None, "{bad}");
        }
        assert_eq!(parse_timestamp("2000-01-01 00:00:00.5"), Some(500_000));
        assert_eq!(parse_timestamp("2000-01-02"), Some(MICROS_PER_DAY));
        assert_eq!(parse_timestamp("2000-01-01 24:00:00"), None);
        assert_eq!(parse_timestamptz("2000-01-01 07:00:00+07"), Some(0));
        assert_eq!(parse_timestamptz("2000-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse_timestamptz("2000-01-01 00:00:00"), None);
    }

    proptest! {
        #[test]
        fn a_date_comes_back_from_its_text(day in -730_000_i32..2_000_000) {
            let text = shown(|out| put_date(day, out));
            prop_assert_eq!(parse_date(&text), Some(i64::from(day)));
        }
    }
}
