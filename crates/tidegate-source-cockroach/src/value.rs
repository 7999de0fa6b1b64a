//! Values: from the JSON of a feed to the text form that PostgreSQL takes for the same type.
//!
//! Numbers never become binary floating-point numbers on their way, which would round them: their digits are passed on
//! as they came. What PostgreSQL would print otherwise is brought into its form where that is plain (timestamps,
//! booleans, arrays), so that a value has one text whether it came through a feed or was read by a query.

mod array;
mod kind;
mod text;
mod time;

pub use kind::Kind;

use text::string;

/// Why a value cannot be given to PostgreSQL. Says nothing of the value itself.
#[derive(Debug, thiserror::Error)]
pub enum ValueError {
    /// Its JSON is of another kind than its column's type has.
    #[error("it is {found}, and {expected} was expected")]
    Form {
        /// What came.
        found: &'static str,
        /// What should have come.
        expected: &'static str,
    },
    /// A string with a NUL character.
    #[error("it contains the character U+0000, which PostgreSQL cannot hold in a text")]
    Nul,
    /// More than microseconds.
    #[error("it has a fraction of a second finer than microseconds")]
    TooFine,
    /// Not JSON.
    #[error("it is not valid JSON")]
    Json(#[from] serde_json::Error),
}

/// Writes the PostgreSQL text of the JSON value `json` to `out`. Returns `false`, and writes nothing, for SQL NULL.
/// `json` is one valid JSON value without space around it.
pub fn write(kind: &Kind, json: &str, out: &mut Vec<u8>) -> Result<bool, ValueError> {
    if json == "null" {
        return Ok(false);
    }
    match kind {
        Kind::Bool => out.push(boolean(json)?),
        Kind::Int => out.extend_from_slice(integer(json)?.as_bytes()),
        Kind::Decimal | Kind::Float => out.extend_from_slice(number(json)?.as_bytes()),
        Kind::Text => out.extend_from_slice(string(json)?.as_bytes()),
        Kind::Oid if is_integer(json) => out.extend_from_slice(json.as_bytes()),
        Kind::Oid => out.extend_from_slice(string(json)?.as_bytes()),
        Kind::Bytes => out.extend_from_slice(bytes(json)?.as_bytes()),
        Kind::Date => time::write_date(&string(json)?, out)?,
        Kind::Time => time::write_time(&string(json)?, out)?,
        Kind::Timestamp => time::write_timestamp(&string(json)?, out)?,
        Kind::Json => out.extend_from_slice(embedded(json).as_bytes()),
        Kind::Geo if json.starts_with('{') => out.extend_from_slice(json.as_bytes()),
        Kind::Geo => return Err(unexpected(json, "a GeoJSON object")),
        Kind::Vector => vector(json, out)?,
        Kind::Array(element) => array::write(element, json, out)?,
    }
    Ok(true)
}

fn boolean(json: &str) -> Result<u8, ValueError> {
    match json {
        "true" => Ok(b't'),
        "false" => Ok(b'f'),
        _ => Err(unexpected(json, "true or false")),
    }
}

fn integer(json: &str) -> Result<&str, ValueError> {
    if is_integer(json) { Ok(json) } else { Err(unexpected(json, "a whole number")) }
}

fn is_integer(json: &str) -> bool {
    let digits = json.strip_prefix('-').unwrap_or(json);
    !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit())
}

/// A number, exponent and all, which PostgreSQL reads exactly; or one of those that JSON cannot write as numbers.
fn number(json: &str) -> Result<&str, ValueError> {
    match json {
        "\"NaN\"" | "\"Infinity\"" | "\"-Infinity\"" => Ok(&json[1..json.len() - 1]),
        _ if json.starts_with(|first: char| first == '-' || first.is_ascii_digit()) => Ok(json),
        _ => Err(unexpected(json, "a number, \"NaN\", \"Infinity\" or \"-Infinity\"")),
    }
}

/// `\x` and hexadecimal digits: the text form of `bytea` already.
fn bytes(json: &str) -> Result<std::borrow::Cow<'_, str>, ValueError> {
    let text = string(json)?;
    let digits = text.strip_prefix("\\x").filter(|digits| digits.len() % 2 == 0);
    match digits {
        Some(digits) if digits.bytes().all(|digit| digit.is_ascii_hexdigit()) => Ok(text),
        _ => Err(ValueError::Form { found: "another string", expected: "\\x and hexadecimal digits" }),
    }
}

/// A JSON document, as it came: the digits of its numbers and the order of its members stay. A feed with
/// `encode_json_value_null_as_object` tells JSON's null from SQL's by an object.
fn embedded(json: &str) -> &str {
    const NULL: &str = r#"{"__crdb_json_null__":true}"#;
    let is_null =
        json.len() < 2 * NULL.len() && json.bytes().filter(|byte| !byte.is_ascii_whitespace()).eq(NULL.bytes());
    if is_null { "null" } else { json }
}

/// `[1,0.5]`, in a string or as an array.
fn vector(json: &str, out: &mut Vec<u8>) -> Result<(), ValueError> {
    if !json.starts_with('[') {
        out.extend_from_slice(string(json)?.as_bytes());
        return Ok(());
    }
    let elements: Vec<&serde_json::value::RawValue> = serde_json::from_str(json)?;
    out.push(b'[');
    for (at, element) in elements.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(number(element.get())?.as_bytes());
    }
    out.push(b']');
    Ok(())
}

fn unexpected(json: &str, expected: &'static str) -> ValueError {
    let found = match json.bytes().next() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        _ if is_integer(json) => "a whole number",
        _ => "a number",
    };
    ValueError::Form { found, expected }
}
