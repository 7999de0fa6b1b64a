//! Texts that differ between PostgreSQL and CockroachDB although they mean the same value.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// How a type is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rendering {
    /// Alike on both.
    AsPrinted,
    /// A number: one of them may print `1E+2` for 100.
    Number,
    /// A time with a zone: `+00` or `+00:00`.
    Zoned,
    /// Members in another order.
    Json,
}

impl Rendering {
    /// Returns how a type of this name is printed.
    pub(super) fn of(type_name: &str) -> Rendering {
        match type_name {
            "json" | "jsonb" => Rendering::Json,
            "numeric" | "decimal" | "real" | "double precision" => Rendering::Number,
            "timestamp with time zone" | "time with time zone" => Rendering::Zoned,
            _ => Rendering::AsPrinted,
        }
    }

    /// Returns one text for all texts of a value.
    pub(super) fn canonical(self, text: &str) -> Cow<'_, str> {
        match self {
            Rendering::AsPrinted => Cow::Borrowed(text),
            Rendering::Number => plain_number(text),
            Rendering::Zoned => Cow::Borrowed(text.strip_suffix(":00").filter(|rest| has_zone(rest)).unwrap_or(text)),
            Rendering::Json => Cow::Owned(serde_json::from_str(text).map_or_else(|_| text.to_owned(), json)),
        }
    }
}

/// Whether the last three characters are a sign and hours.
fn has_zone(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() > 3 && matches!(bytes[bytes.len() - 3], b'+' | b'-') && bytes.contains(&b':')
}

/// Writes out an exponent.
fn plain_number(text: &str) -> Cow<'_, str> {
    let Some((mantissa, exponent)) = text.split_once(['e', 'E']) else { return Cow::Borrowed(text) };
    let Ok(exponent) = exponent.trim_start_matches('+').parse::<i32>() else { return Cow::Borrowed(text) };
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let point = whole.len() as i32 + exponent;
    let length = digits.len() as i32;
    let plain = if point <= 0 {
        format!("0.{}{digits}", "0".repeat(point.unsigned_abs() as usize))
    } else if point >= length {
        format!("{digits}{}", "0".repeat((point - length) as usize))
    } else {
        format!("{}.{}", &digits[..point as usize], &digits[point as usize..])
    };
    Cow::Owned(format!("{sign}{plain}"))
}

/// Prints JSON with its members in byte order and its numbers as they were written.
fn json(value: &RawValue) -> String {
    let text = value.get().trim();
    match text.as_bytes().first() {
        Some(b'{') => {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).expect("it was parsed before");
            let member = |(name, value): (String, &RawValue)| format!("{name:?}:{}", json(value));
            format!("{{{}}}", members.into_iter().map(member).collect::<Vec<_>>().join(","))
        }
        Some(b'[') => {
            let elements: Vec<&RawValue> = serde_json::from_str(text).expect("it was parsed before");
            format!("[{}]", elements.into_iter().map(json).collect::<Vec<_>>().join(","))
        }
        Some(b'"') => format!("{:?}", serde_json::from_str::<String>(text).expect("it was parsed before")),
        _ => plain_number(text).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_one_value_become_one_text_and_others_stay_apart() {
        let one = |type_name: &str, texts: &[&str]| {
            let canonical: Vec<_> = texts.iter().map(|text| Rendering::of(type_name).canonical(text)).collect();
            assert!(canonical.windows(2).all(|pair| pair[0] == pair[1]), "{canonical:?}");
        };
        one("numeric", &["100", "1E+2", "1e2"]);
        one("numeric", &["0.0000001", "1E-7"]);
        one("numeric", &["-12.50", "-1.250E+1"]);
        one("jsonb", &[r#"{"b": [1E+2, "é"], "a": null}"#, r#"{"a":null,"b":[100,"\u00e9"]}"#]);
        one("timestamp with time zone", &["2020-01-01 00:00:00+00", "2020-01-01 00:00:00+00:00"]);
        let apart = |type_name: &str, a: &str, b: &str| {
            let rendering = Rendering::of(type_name);
            assert_ne!(rendering.canonical(a), rendering.canonical(b));
        };
        apart("numeric", "1.0", "1.00");
        apart("jsonb", r#"{"a": "1"}"#, r#"{"a": 1}"#);
        apart("timestamp with time zone", "2020-01-01 00:00:00+00", "2020-01-01 00:00:00+01");
        apart("text", "1E+2", "100");
    }
}
