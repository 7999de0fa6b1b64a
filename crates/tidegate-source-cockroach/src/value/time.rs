//! Dates and times.
//!
//! CockroachDB prints years before the first either with ` BC` or, where Go's clock library does, as 0 and below;
//! PostgreSQL reads only the former.

use super::ValueError;

/// What both databases hold at most.
const FRACTION_DIGITS: usize = 6;

/// The year under which CockroachDB documents its earliest timestamp, counted as PostgreSQL counts it: no year 0. The
/// year before it is outside of what both hold, so nothing else can be meant.
const EARLIEST_BC: i64 = 4714;

/// Writes a date: `2016-01-25`, `infinity`.
pub(super) fn write_date(text: &str, out: &mut Vec<u8>) -> Result<(), ValueError> {
    if is_infinite(text) {
        out.extend_from_slice(text.as_bytes());
        return Ok(());
    }
    let (year, rest) = split_year(text)?;
    year.write(out);
    out.extend_from_slice(rest.as_bytes());
    year.write_era(out);
    Ok(())
}

/// Writes a time of day, with or without an offset: `03:04:05.123456`, `03:04:05-05:00:00`.
pub(super) fn write_time(text: &str, out: &mut Vec<u8>) -> Result<(), ValueError> {
    if !text.starts_with(|first: char| first.is_ascii_digit()) {
        return Err(other("a time"));
    }
    let (time, zone) = split_fraction(text)?;
    out.extend_from_slice(time.as_bytes());
    out.extend_from_slice(if zone == "Z" { "+00" } else { zone }.as_bytes());
    Ok(())
}

/// Writes a timestamp, with or without an offset: `2016-01-25T10:10:10.5`, `2025-05-09T21:20:29.203923Z`, `infinity`.
pub(super) fn write_timestamp(text: &str, out: &mut Vec<u8>) -> Result<(), ValueError> {
    if is_infinite(text) {
        out.extend_from_slice(text.as_bytes());
        return Ok(());
    }
    let (year, rest) = split_year(text)?;
    let (day, time) = rest.split_once(['T', ' ']).ok_or(other("a timestamp"))?;
    year.write(out);
    out.extend_from_slice(day.as_bytes());
    out.push(b' ');
    write_time(time, out)?;
    year.write_era(out);
    Ok(())
}

fn is_infinite(text: &str) -> bool {
    matches!(text, "infinity" | "-infinity")
}

fn other(expected: &'static str) -> ValueError {
    ValueError::Form { found: "another string", expected }
}

/// A year as it was written, or one that has to be written otherwise.
#[derive(Clone, Copy)]
enum Year<'a> {
    Written(&'a str),
    Before(i64),
}

impl Year<'_> {
    fn write(self, out: &mut Vec<u8>) {
        match self {
            Year::Written(digits) => out.extend_from_slice(digits.as_bytes()),
            Year::Before(bc) => out.extend_from_slice(format!("{bc:04}").as_bytes()),
        }
    }

    fn write_era(self, out: &mut Vec<u8>) {
        if let Year::Before(_) = self {
            out.extend_from_slice(b" BC");
        }
    }
}

/// Splits a date behind its year: `-MM-DD...` is left.
fn split_year(text: &str) -> Result<(Year<'_>, &str), ValueError> {
    let unsigned = text.strip_prefix('-');
    let digits = unsigned.unwrap_or(text);
    let end = digits.bytes().take_while(u8::is_ascii_digit).count();
    let (year, rest) = digits.split_at(end);
    let number: i64 = year.parse().map_err(|_| other("a date"))?;
    let is_day = rest.starts_with('-') && rest[1..].starts_with(|first: char| first.is_ascii_digit());
    if end < 4 || !is_day {
        return Err(other("a date"));
    }
    let year = match (unsigned, number) {
        (None, 1..) => Year::Written(year),
        (Some(_), EARLIEST_BC) => Year::Before(EARLIEST_BC),
        (_, years_before_zero) => Year::Before(years_before_zero.checked_add(1).ok_or(other("a date"))?),
    };
    Ok((year, rest))
}

/// Splits a time into what is before its zone, with a fraction of at most six digits, and the rest. More digits are
/// taken if they say nothing.
fn split_fraction(text: &str) -> Result<(&str, &str), ValueError> {
    let clock_end = text.find(|letter: char| !letter.is_ascii_digit() && letter != ':').unwrap_or(text.len());
    let Some(fraction) = text[clock_end..].strip_prefix('.') else { return Ok(text.split_at(clock_end)) };
    let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
    let (fraction, zone) = fraction.split_at(digits);
    if fraction.bytes().skip(FRACTION_DIGITS).any(|digit| digit != b'0') {
        return Err(ValueError::TooFine);
    }
    let kept = fraction.len().min(FRACTION_DIGITS);
    let kept = if kept == 0 { clock_end } else { clock_end + 1 + kept };
    Ok((&text[..kept], zone))
}
