//! Points in time and times of day, in microseconds.

use super::Equality;

/// Nobody stores more digits of a second.
const FRACTION_DIGITS: usize = 6;

/// What CockroachDB stores for infinite timestamps (its documentation, TIMESTAMP).
const LAST: &str = "294276-12-31 23:59:59.999999";
const FIRST: &str = "4714-11-24 00:00:00 BC";

/// Appends a timestamp as microseconds since 1970 UTC; one without a zone counts as UTC, which sessions are set to.
/// `None`: the text is not one, and is compared as it is.
pub(super) fn timestamp(text: &[u8], equality: Equality, out: &mut Vec<u8>) -> Option<()> {
    let text = match (std::str::from_utf8(text).ok()?, equality) {
        ("infinity", Equality::Meaning) => LAST,
        ("-infinity", Equality::Meaning) => FIRST,
        (text, _) => text,
    };
    let (text, before_christ) = text.strip_suffix(" BC").map_or((text, false), |rest| (rest, true));
    let (date, time) = text.split_once([' ', 'T']).unwrap_or((text, ""));
    let days = i128::from(days(date, before_christ)?);
    let (micros, offset) = if time.is_empty() { (0, None) } else { clock(time)? };
    let instant = days * 86_400_000_000 + i128::from(micros) - i128::from(offset.unwrap_or(0)) * 1_000_000;
    out.extend_from_slice(&instant.to_be_bytes());
    Some(())
}

/// Appends a time of day and the offset of its zone, which is part of the value. `None`: the text is not one.
pub(super) fn of_day(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (micros, offset) = clock(std::str::from_utf8(text).ok()?)?;
    out.extend_from_slice(&micros.to_be_bytes());
    if let Some(offset) = offset {
        out.extend_from_slice(&offset.to_be_bytes());
    }
    Some(())
}

/// Reads `2020-02-29` as days since 1970-01-01 in the Gregorian calendar (days from civil, H. Hinnant).
fn days(date: &str, before_christ: bool) -> Option<i64> {
    let mut parts = date.split('-');
    let (year, month, day) = (number(parts.next()?)?, number(parts.next()?)?, number(parts.next()?)?);
    if parts.next().is_some() || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if before_christ { 1 - year } else { year };
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

/// Reads `12:34:56.789+05:30` as microseconds and, if there is one, the offset in seconds.
pub(super) fn clock(text: &str) -> Option<(i64, Option<i64>)> {
    let (time, offset) = match text.find(['+', '-', 'Z']) {
        Some(at) => (&text[..at], Some(offset(&text[at..])?)),
        None => (text, None),
    };
    let (seconds, fraction) = time.split_once('.').unwrap_or((time, ""));
    Some((sexagesimal(seconds)? * 1_000_000 + micros(fraction)?, offset))
}

fn micros(fraction: &str) -> Option<i64> {
    if fraction.is_empty() {
        return Some(0);
    }
    let missing = FRACTION_DIGITS.checked_sub(fraction.len())?;
    Some(number(fraction)? * 10_i64.pow(missing as u32))
}

fn offset(text: &str) -> Option<i64> {
    match text.split_at_checked(1)? {
        ("Z", "") => Some(0),
        ("+", rest) => sexagesimal(rest),
        ("-", rest) => sexagesimal(rest).map(|seconds| -seconds),
        _ => None,
    }
}

/// Reads hours, minutes and seconds, of which the last ones may be left out.
fn sexagesimal(text: &str) -> Option<i64> {
    let mut unit = 3600;
    let mut seconds = 0;
    for part in text.split(':') {
        if unit == 0 {
            return None;
        }
        seconds += number(part)?.checked_mul(unit)?;
        unit /= 60;
    }
    Some(seconds)
}

fn number(digits: &str) -> Option<i64> {
    // Fifteen digits are more than any part has, and cannot overflow.
    let plain = (1..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}
