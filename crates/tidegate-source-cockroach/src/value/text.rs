//! Strings.

use std::borrow::Cow;

use super::{ValueError, unexpected};

/// Returns the content of a JSON string.
pub(super) fn string(json: &str) -> Result<Cow<'_, str>, ValueError> {
    let Some(inner) = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Err(unexpected(json, "a string"));
    };
    if !inner.as_bytes().contains(&b'\\') {
        return Ok(Cow::Borrowed(inner));
    }
    let text: String = serde_json::from_str(json)?;
    // JSON writes it as an escape, so it can only be here.
    if text.contains('\0') { Err(ValueError::Nul) } else { Ok(Cow::Owned(text)) }
}
