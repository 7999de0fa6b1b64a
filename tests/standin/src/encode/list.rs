//! Arrays and records in PostgreSQL's text form.

/// Splits `{a,"b c",NULL}` into its elements. CockroachDB has arrays of one dimension only.
pub fn elements(text: &str) -> Vec<Option<String>> {
    // A lower bound other than 1 stands before the braces.
    let inner = text.find('{').map_or("", |open| text[open + 1..].strip_suffix('}').unwrap_or(""));
    if inner.is_empty() {
        return Vec::new();
    }
    let null =
        |(text, quoted): (String, bool)| if !quoted && text.eq_ignore_ascii_case("NULL") { None } else { Some(text) };
    split(inner).into_iter().map(null).collect()
}

/// Splits `(1,"a b",)` into its fields.
pub fn fields(text: &str) -> Vec<Option<String>> {
    let inner = text.strip_prefix('(').and_then(|text| text.strip_suffix(')')).unwrap_or(text);
    split(inner).into_iter().map(|(text, quoted)| if !quoted && text.is_empty() { None } else { Some(text) }).collect()
}

/// Splits at commas outside quotes; tells of each part whether it was quoted.
fn split(text: &str) -> Vec<(String, bool)> {
    let mut parts = Vec::new();
    let (mut part, mut quoted, mut inside) = (String::new(), false, false);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' => part.extend(characters.next()),
            // Records double their quotes.
            '"' if inside && characters.peek() == Some(&'"') => {
                characters.next();
                part.push('"');
            }
            '"' => {
                inside = !inside;
                quoted = true;
            }
            ',' if !inside => parts.push((std::mem::take(&mut part), std::mem::take(&mut quoted))),
            _ => part.push(character),
        }
    }
    parts.push((part, quoted));
    parts
}
