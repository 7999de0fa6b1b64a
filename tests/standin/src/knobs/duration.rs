//! Durations as Go and PostgreSQL write them.

use std::time::Duration;

/// Reads a Go duration without a sign: `10s`, `1m30s`, `250ms`, `1.5h`, `0`.
pub fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|length| *length > 0)?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let scale = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * scale;
        rest = after;
    }
    if text.is_empty() { None } else { Duration::try_from_secs_f64(seconds).ok() }
}

/// Writes microseconds as an INTERVAL of PostgreSQL: `00:00:03`, `00:00:00.25`, `96:00:00`.
pub fn interval_text(micros: i64) -> String {
    let (sign, micros) = if micros < 0 { ("-", micros.unsigned_abs()) } else { ("", micros.unsigned_abs()) };
    let seconds = micros / 1_000_000;
    let text = format!("{sign}{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    match micros % 1_000_000 {
        0 => text,
        fraction => format!("{text}.{fraction:06}").trim_end_matches('0').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_go_are_read() {
        let read = |text| go_duration(text).map(|duration| duration.as_micros());
        assert_eq!(read("10s"), Some(10_000_000));
        assert_eq!(read("1m30s"), Some(90_000_000));
        assert_eq!(read("250ms"), Some(250_000));
        assert_eq!(read("1.5h"), Some(5_400_000_000));
        assert_eq!((read("0"), read(""), read("bar"), read("10"), read("s")), (Some(0), None, None, None, None));
    }

    #[test]
    fn intervals_are_written_as_postgresql_does() {
        assert_eq!(interval_text(3_000_000), "00:00:03");
        assert_eq!(interval_text(250_000), "00:00:00.25");
        assert_eq!(interval_text(345_600_000_000), "96:00:00");
    }
}
