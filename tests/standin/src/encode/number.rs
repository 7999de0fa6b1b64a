//! Numbers as CockroachDB's decimal library (apd) prints them: in plain form unless the exponent is above zero or the
//! first digit is further than six places behind the point.

/// Writes a DECIMAL from PostgreSQL's plain text.
pub fn decimal(text: &str, out: &mut String) {
    match text {
        "NaN" | "Infinity" | "-Infinity" => {
            out.push('"');
            out.push_str(text);
            out.push('"');
        }
        _ => print(text, out),
    }
}

/// Writes a FLOAT, which goes through a decimal of its shortest digits. A FLOAT4 is a FLOAT8 of less precision there,
/// so it shows the digits of the wider type.
pub fn float(text: &str, single: bool, out: &mut String) {
    let wide = match text {
        "NaN" | "Infinity" | "-Infinity" => return decimal(text, out),
        _ if single => text.parse::<f32>().map(f64::from),
        _ => text.parse::<f64>(),
    };
    match wide {
        // `{:e}` gives the shortest digits that read back as the same number.
        Ok(number) => print(&format!("{number:e}"), out),
        Err(_) => print(text, out),
    }
}

/// Writes any number text: digits, a point, an exponent.
pub fn print(text: &str, out: &mut String) {
    let (negative, text) = match text.strip_prefix('-') {
        Some(text) => (true, text),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    let digits = if digits.is_empty() { "0" } else { digits };
    let places = |count: usize| i64::try_from(count).expect("a number has few digits");
    let exponent = exponent.parse::<i64>().unwrap_or(0) - places(fraction.len());
    let adjusted = exponent + places(digits.len()) - 1;
    if negative {
        out.push('-');
    }
    if exponent <= 0 && adjusted >= -6 {
        plain(digits, usize::try_from(-exponent).expect("it is not above zero"), out);
    } else {
        out.push_str(&digits[..1]);
        if digits.len() > 1 {
            out.push('.');
            out.push_str(&digits[1..]);
        }
        out.push_str(&format!("E{adjusted:+}"));
    }
}

/// Writes digits of which the last `fraction` are behind the point.
fn plain(digits: &str, fraction: usize, out: &mut String) {
    if fraction == 0 {
        return out.push_str(digits);
    }
    if digits.len() <= fraction {
        out.push_str("0.");
        out.push_str(&"0".repeat(fraction - digits.len()));
        return out.push_str(digits);
    }
    let (whole, behind) = digits.split_at(digits.len() - fraction);
    out.push_str(whole);
    out.push('.');
    out.push_str(behind);
}
