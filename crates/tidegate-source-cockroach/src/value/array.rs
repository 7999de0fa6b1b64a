//! Arrays, as array literals: `{1,NULL,"a b"}`.

use serde_json::value::RawValue;

use super::{Kind, ValueError, unexpected, write as write_value};

pub(super) fn write(element: &Kind, json: &str, out: &mut Vec<u8>) -> Result<(), ValueError> {
    if !json.starts_with('[') {
        return Err(unexpected(json, "an array"));
    }
    let elements: Vec<&RawValue> = serde_json::from_str(json)?;
    let mut text = Vec::new();
    out.push(b'{');
    for (at, value) in elements.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        text.clear();
        if write_value(element, value.get(), &mut text)? {
            write_element(&text, out);
        } else {
            out.extend_from_slice(b"NULL");
        }
    }
    out.push(b'}');
    Ok(())
}

/// Quotes where PostgreSQL does.
fn write_element(text: &[u8], out: &mut Vec<u8>) {
    let special = |byte: &u8| matches!(byte, b'{' | b'}' | b'"' | b'\\' | b',') || is_space(*byte);
    if !text.is_empty() && !text.eq_ignore_ascii_case(b"null") && !text.iter().any(special) {
        return out.extend_from_slice(text);
    }
    out.push(b'"');
    for &byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// What PostgreSQL's scanner takes for space: the vertical tab, too.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}
