//! Names and text inside SQL.

use postgres_protocol::escape;
use tidegate_model::TableName;

/// Quotes an identifier. Always, so that case, spaces and keywords survive.
pub fn identifier(name: &str) -> String {
    escape::escape_identifier(name)
}

/// Quotes a table's name together with its schema: sessions have no search path to rely on.
pub fn table(name: &TableName) -> String {
    format!("{}.{}", identifier(&name.schema), identifier(&name.name))
}

/// Quotes text as a literal, whatever `standard_conforming_strings` says.
pub fn literal(text: &str) -> String {
    escape::escape_literal(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_inside_names_and_text_are_doubled() {
        assert_eq!(table(&TableName::new("My \"Schema", "select")), r#""My ""Schema"."select""#);
        assert_eq!(literal("it's"), "'it''s'");
    }
}
