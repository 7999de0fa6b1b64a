//! Types as CockroachDB's DDL writes them, for the statements that findings print.

use crate::catalog::ValueType;

/// What stands at CockroachDB for a type of PostgreSQL, by the name that `format_type` gives it. Never `INTEGER`: it
/// means 64 bits there.
const TYPES: [(&str, &str); 34] = [
    ("smallint", "INT2"),
    ("integer", "INT4"),
    ("bigint", "INT8"),
    ("real", "FLOAT4"),
    ("double precision", "FLOAT8"),
    ("numeric", "DECIMAL"),
    ("boolean", "BOOL"),
    ("text", "STRING"),
    ("character varying", "VARCHAR"),
    ("bpchar", "CHAR"),
    ("bytea", "BYTES"),
    ("date", "DATE"),
    ("time without time zone", "TIME"),
    ("time with time zone", "TIMETZ"),
    ("timestamp without time zone", "TIMESTAMP"),
    ("timestamp with time zone", "TIMESTAMPTZ"),
    ("interval", "INTERVAL"),
    ("uuid", "UUID"),
    ("json", "JSONB"),
    ("jsonb", "JSONB"),
    ("inet", "INET"),
    ("cidr", "INET"),
    ("\"bit\"", "BIT"),
    ("bit varying", "VARBIT"),
    // What there is no type for travels as text. Money is text that a number cannot be read from.
    ("money", "STRING"),
    ("xml", "STRING"),
    ("macaddr", "STRING"),
    ("macaddr8", "STRING"),
    ("point", "STRING"),
    ("line", "STRING"),
    ("lseg", "STRING"),
    ("box", "STRING"),
    ("path", "STRING"),
    ("polygon", "STRING"),
];

/// Returns a type for a column that takes every value of `value_type`.
pub(crate) fn type_text(value_type: &ValueType) -> String {
    if let Some(element) = value_type.element() {
        return format!("{}[]", type_text(&element));
    }
    let name = value_type.name.as_str();
    let base = TYPES.iter().find(|(postgres, _)| *postgres == name).map(|(_, cockroach)| *cockroach);
    let base = base.unwrap_or(if name.ends_with("range") { "STRING" } else { name });
    match (name, value_type.length(), value_type.precision_and_scale()) {
        // A scale below zero, or above the precision, is not to be had there.
        ("numeric", _, Some((precision, scale))) if (0..=precision).contains(&scale) => {
            format!("{base}({precision},{scale})")
        }
        ("bpchar" | "character varying" | "\"bit\"" | "bit varying", Some(length), _) => format!("{base}({length})"),
        ("interval", ..) if value_type.second_digits() < 6 => format!("{base}({})", value_type.second_digits()),
        _ if name.starts_with("time") && value_type.modifier >= 0 => format!("{base}({})", value_type.modifier),
        _ => base.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_finds_room() {
        for (name, modifier, expected) in [
            ("integer", -1, "INT4"),
            ("integer[]", -1, "INT4[]"),
            ("numeric", (12 << 16 | 4) + 4, "DECIMAL(12,4)"),
            ("numeric", (3 << 16 | (-2_i32 & 0x7ff)) + 4, "DECIMAL"),
            ("character varying", 24, "VARCHAR(20)"),
            ("bpchar", 9, "CHAR(5)"),
            ("\"bit\"", 3, "BIT(3)"),
            ("timestamp with time zone", 3, "TIMESTAMPTZ(3)"),
            ("timestamp with time zone", -1, "TIMESTAMPTZ"),
            ("interval", 0x7fff << 16 | 2, "INTERVAL(2)"),
            ("money", -1, "STRING"),
            ("int4range", -1, "STRING"),
            ("public.mood", -1, "public.mood"),
        ] {
            assert_eq!(type_text(&ValueType::new(name, modifier)), expected);
        }
    }
}
