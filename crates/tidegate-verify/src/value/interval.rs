//! Intervals: months, days and microseconds, which are three things. A month is not thirty days here, although `=` of
//! the servers says so: added to a date they differ, and nothing turns the one into the other on its way.

use super::time;

/// Appends an interval in the form `1 year 2 mons -3 days +04:05:06.7`. `None`: the text is not one.
pub(super) fn write(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let text = std::str::from_utf8(text).ok()?;
    let (mut months, mut days, mut micros) = (0_i64, 0_i64, 0_i64);
    let mut words = text.split(' ');
    while let Some(word) = words.next() {
        if word.contains(':') {
            micros = clock(word)?;
            continue;
        }
        let count: i64 = word.parse().ok()?;
        match words.next()? {
            "year" | "years" => months = months.checked_add(count.checked_mul(12)?)?,
            "mon" | "mons" => months = months.checked_add(count)?,
            "day" | "days" => days = count,
            _ => return None,
        }
    }
    for part in [months, days, micros] {
        out.extend_from_slice(&part.to_be_bytes());
    }
    Some(())
}

fn clock(word: &str) -> Option<i64> {
    let (negative, unsigned) = match word.split_at_checked(1)? {
        ("-", rest) => (true, rest),
        ("+", rest) => (false, rest),
        _ => (false, word),
    };
    match time::clock(unsigned)? {
        (micros, None) => Some(if negative { -micros } else { micros }),
        (_, Some(_)) => None,
    }
}
