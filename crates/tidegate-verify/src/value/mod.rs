//! Values, compared by what they mean.
//!
//! Two servers print one value differently: `100` and `1E+2`, `+00` and `+00:00`, members of a JSON object in another
//! order. Each value is therefore turned into canonical bytes, made so that two values are equal exactly if their bytes
//! are. Text that does not look like a value of its type is its own canonical form: it is compared as it is, never
//! dropped. Nothing goes through a floating-point number but floating-point numbers.

mod address;
mod array;
mod float;
mod interval;
mod json;
mod number;
mod time;

use tokio_postgres::types::Type;

/// When two values count as equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Equality {
    /// If they mean the same: the scale of a number and the sign of a floating-point zero do not count, and an infinite
    /// timestamp is the last or first one, which CockroachDB stores for it.
    #[default]
    Meaning,
    /// If they are the same stored value, however the servers print it: scale and sign of zero count.
    Exact,
}

/// How the texts of a type are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// As printed.
    Text,
    /// As printed, but for blanks at the end, which mean nothing.
    Padded,
    /// Letters of either case mean the same.
    Lower,
    Bool,
    /// Whole and decimal numbers.
    Number,
    Single,
    Double,
    Json,
    Timestamp,
    Time,
    Interval,
    Address,
    Array(Box<Kind>),
}

impl Kind {
    /// Returns how to compare values that go from a source type to a target type. The target's type decides, because
    /// that is what values were turned into; a type of the user's (a domain, an enumeration) is read like the other.
    pub(crate) fn of_pair(source_oid: u32, target_type: &str) -> Kind {
        let source = Type::from_oid(source_oid).and_then(|known| Kind::of_type(known.name()));
        match (source, Kind::of_type(target_type)) {
            (Some(Kind::Padded), Some(Kind::Text)) => Kind::Padded,
            (_, Some(target)) => target,
            (Some(source), None) => source,
            (None, None) => Kind::Text,
        }
    }

    /// Reads a type's name as either server writes it, without a modifier; `None` for one that is not built in.
    fn of_type(name: &str) -> Option<Kind> {
        let name = name.strip_prefix("pg_catalog.").unwrap_or(name);
        let element = name.strip_suffix("[]").or_else(|| name.strip_prefix('_'));
        if let Some(element) = element {
            return Some(Kind::Array(Box::new(Kind::of_type(element).unwrap_or(Kind::Text))));
        }
        Some(match name.to_lowercase().as_str() {
            "bool" | "boolean" => Kind::Bool,
            "smallint" | "integer" | "bigint" | "int" | "int2" | "int4" | "int8" | "numeric" | "decimal" | "oid" => {
                Kind::Number
            }
            "real" | "float4" => Kind::Single,
            "double precision" | "float8" | "float" => Kind::Double,
            "json" | "jsonb" => Kind::Json,
            "timestamptz" | "timestamp with time zone" | "timestamp" | "timestamp without time zone" => Kind::Timestamp,
            "timetz" | "time with time zone" | "time" | "time without time zone" => Kind::Time,
            "interval" => Kind::Interval,
            "inet" | "cidr" => Kind::Address,
            "uuid" => Kind::Lower,
            "bpchar" | "char" | "character" => Kind::Padded,
            "bytea" | "bytes" | "bit" | "\"bit\"" | "varbit" | "bit varying" | "text" | "string" | "varchar"
            | "character varying" | "name" | "\"char\"" | "xml" | "money" | "date" => Kind::Text,
            _ => return None,
        })
    }

    /// Appends the canonical form of a value.
    pub(crate) fn canonical(&self, text: &[u8], equality: Equality, out: &mut Vec<u8>) {
        let start = out.len();
        let read = match self {
            Kind::Text => None,
            Kind::Padded => {
                let kept = text.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
                out.extend_from_slice(&text[..kept]);
                Some(())
            }
            Kind::Lower => {
                out.extend(text.iter().map(u8::to_ascii_lowercase));
                Some(())
            }
            Kind::Bool => boolean(text, out),
            Kind::Number => number::write(text, equality, out),
            Kind::Single => float::single(text, equality, out),
            Kind::Double => float::double(text, equality, out),
            Kind::Json => json::write(text, equality, out),
            Kind::Timestamp => time::timestamp(text, equality, out),
            Kind::Time => time::of_day(text, out),
            Kind::Interval => interval::write(text, out),
            Kind::Address => address::write(text, out),
            Kind::Array(element) => array::write(text, element, equality, out),
        };
        if read.is_none() {
            out.truncate(start);
            out.extend_from_slice(text);
        }
    }
}

fn boolean(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.push(match text {
        b"t" | b"true" => b't',
        b"f" | b"false" => b'f',
        _ => return None,
    });
    Some(())
}

#[cfg(test)]
mod tests;
