//! What the text of a value is cast to.

use std::borrow::Cow;

use tidegate_model::ColumnMap;

use crate::dialect::Dialect;

/// Returns the type that text for a column is cast to, without length or precision: assignment enforces those, where a
/// cast would cut silently.
pub(super) fn type_of(dialect: Dialect, column: &ColumnMap) -> Cow<'_, str> {
    match dialect {
        Dialect::Postgres => Cow::Borrowed(&column.target_type),
        Dialect::Cockroach => cockroach_type(&column.target_type),
    }
}

/// Returns CockroachDB's word for a type. Its catalog answers in PostgreSQL's words, some of which mean something else
/// when they are read again: `integer` is 64 bits wide, and `bit` and `character` are of length one.
fn cockroach_type(name: &str) -> Cow<'_, str> {
    if let Some(element) = name.strip_suffix("[]") {
        return match cockroach_type(element) {
            // An element keeps the blanks that a column of the type would not show.
            word if word == "BPCHAR" => Cow::Borrowed("STRING[]"),
            word => Cow::Owned(format!("{word}[]")),
        };
    }
    let word = match name.to_ascii_lowercase().as_str() {
        "smallint" | "int2" => "INT2",
        "integer" | "int4" => "INT4",
        "bigint" | "int8" | "int" | "int64" => "INT8",
        "real" | "float4" => "FLOAT4",
        "double precision" | "float8" | "float" => "FLOAT8",
        "numeric" | "decimal" => "DECIMAL",
        "boolean" | "bool" => "BOOL",
        "text" | "string" | "character varying" | "varchar" | "\"char\"" => "STRING",
        "character" | "char" | "bpchar" => "BPCHAR",
        "bytea" | "bytes" => "BYTES",
        "bit" | "\"bit\"" | "bit varying" | "varbit" => "VARBIT",
        "date" => "DATE",
        "time without time zone" | "time" => "TIME",
        "time with time zone" | "timetz" => "TIMETZ",
        "timestamp without time zone" | "timestamp" => "TIMESTAMP",
        "timestamp with time zone" | "timestamptz" => "TIMESTAMPTZ",
        "interval" => "INTERVAL",
        "json" | "jsonb" => "JSONB",
        "uuid" => "UUID",
        "inet" => "INET",
        _ => return Cow::Borrowed(name),
    };
    Cow::Borrowed(word)
}

/// Types whose `=` holds only between values with one text, in the words of both dialects.
const EXACT_TYPES: [&str; 17] = [
    "smallint",
    "integer",
    "bigint",
    "oid",
    "boolean",
    "uuid",
    "bytea",
    "date",
    "timestamp without time zone",
    "timestamp with time zone",
    "time without time zone",
    "int2",
    "int4",
    "int8",
    "bool",
    "bytes",
    "timestamptz",
];

/// Returns whether `=` of a column's type tells apart whatever texts tell apart.
pub(super) fn is_exact(column: &ColumnMap) -> bool {
    EXACT_TYPES.iter().any(|exact| column.target_type.eq_ignore_ascii_case(exact))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_mean_something_else_to_cockroach_are_replaced() {
        for (name, word) in [
            ("integer", "INT4"),
            ("integer[]", "INT4[]"),
            ("\"bit\"", "VARBIT"),
            ("character", "BPCHAR"),
            ("bpchar[]", "STRING[]"),
            ("timestamp with time zone", "TIMESTAMPTZ"),
            ("json", "JSONB"),
            ("STRING", "STRING"),
            ("\"Shop\".\"State\"", "\"Shop\".\"State\""),
            ("geometry", "geometry"),
        ] {
            assert_eq!(cockroach_type(name), word, "{name}");
        }
    }
}
