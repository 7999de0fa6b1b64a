//! Dates and times, from PostgreSQL's ISO style with time zone UTC.

/// CockroachDB stores an infinite TIMESTAMP as the last (or first) one there is.
const LAST: &str = "294276-12-31T23:59:59.999999";
const FIRST: &str = "-4714-11-24T00:00:00";

/// `2016-01-25 10:10:10.5` becomes `2016-01-25T10:10:10.5`.
pub fn timestamp(text: &str) -> String {
    match text {
        "infinity" => LAST.to_owned(),
        "-infinity" => FIRST.to_owned(),
        _ => text.replacen(' ', "T", 1),
    }
}

/// `2025-05-09 21:20:29.203923+00` becomes `2025-05-09T21:20:29.203923Z`.
pub fn timestamp_utc(text: &str) -> String {
    let (text, era) = match text.strip_suffix(" BC") {
        Some(text) => (text, " BC"),
        None => (text, ""),
    };
    format!("{}Z{era}", timestamp(text.strip_suffix("+00").unwrap_or(text)))
}

/// `03:04:05-05` becomes `03:04:05-05:00:00`.
pub fn time_with_offset(text: &str) -> String {
    let offset = text.rfind(['+', '-']).unwrap_or(text.len());
    let parts = text[offset..].split(':').count();
    format!("{text}{}", ":00".repeat(3_usize.saturating_sub(parts)))
}
