//! Decimal numbers of any length, digit by digit.

use super::Equality;

/// No server stores a number with more digits than that before or after the point (PostgreSQL: 131072 and 16383).
const EXPONENT_MAX: i64 = 150_000;

/// Appends a number without an exponent, without zeros in front and, by meaning, without zeros at the end of its
/// fraction. `None`: the text is not a number.
pub(super) fn write(text: &[u8], equality: Equality, out: &mut Vec<u8>) -> Option<()> {
    let (negative, unsigned) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if let Some(name) = special(unsigned) {
        out.extend_from_slice(if negative && name != NAN { b"-" } else { b"" });
        out.extend_from_slice(name);
        return Some(());
    }
    let parts = Parts::read(unsigned)?;
    let start = out.len();
    out.push(b'-');
    parts.write(equality, out);
    let is_zero = out[start + 1..].iter().all(|byte| matches!(byte, b'0' | b'.'));
    if !negative || is_zero {
        out.remove(start);
    }
    Some(())
}

const NAN: &[u8] = b"NaN";

fn special(text: &[u8]) -> Option<&'static [u8]> {
    let names: [(&[u8], &'static [u8]); 3] = [(b"nan", NAN), (b"infinity", b"Infinity"), (b"inf", b"Infinity")];
    names.into_iter().find(|(name, _)| text.eq_ignore_ascii_case(name)).map(|(_, canonical)| canonical)
}

/// What a number without its sign is written of.
struct Parts<'a> {
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i64,
}

impl<'a> Parts<'a> {
    fn read(text: &'a [u8]) -> Option<Parts<'a>> {
        let (mantissa, exponent) = match text.iter().position(|byte| matches!(byte, b'e' | b'E')) {
            Some(at) => (&text[..at], std::str::from_utf8(&text[at + 1..]).ok()?.parse::<i64>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = match mantissa.iter().position(|byte| *byte == b'.') {
            Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
            None => (mantissa, &b""[..]),
        };
        let digits = || whole.iter().chain(fraction);
        let is_number = digits().next().is_some() && digits().all(u8::is_ascii_digit);
        (is_number && exponent.abs() <= EXPONENT_MAX).then_some(Parts { whole, fraction, exponent })
    }

    fn write(&self, equality: Equality, out: &mut Vec<u8>) {
        let start = out.len();
        let digits = self.whole.iter().chain(self.fraction).copied();
        let length = (self.whole.len() + self.fraction.len()) as i64;
        let point = self.whole.len() as i64 + self.exponent;
        let zeros = |count: i64| std::iter::repeat_n(b'0', count.max(0) as usize);
        // Digits with the zeros that the exponent stands for on either side.
        let all = zeros(-point).chain(digits).chain(zeros(point - length));
        let whole_length = point.max(0) as usize;
        for (index, digit) in all.enumerate() {
            if index == whole_length {
                ensure_whole(out, start);
                out.push(b'.');
            }
            if index >= whole_length || digit != b'0' || out.len() > start {
                out.push(digit);
            }
        }
        ensure_whole(out, start);
        if equality == Equality::Meaning && out[start..].contains(&b'.') {
            let kept = out.iter().rposition(|byte| *byte != b'0').map_or(start, |last| last + 1);
            out.truncate(kept);
            if out.ends_with(b".") {
                out.pop();
            }
        }
    }
}

fn ensure_whole(out: &mut Vec<u8>, start: usize) {
    if out.len() == start {
        out.push(b'0');
    }
}
