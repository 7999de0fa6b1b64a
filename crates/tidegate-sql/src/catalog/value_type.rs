//! The types of values: what a column's declaration says once domains are looked through.

use std::fmt;

/// What a type modifier that says nothing is.
const NONE: i32 = -1;
/// What stands before the length or the scale in the modifiers of types whose values have a length word.
const HEADER: i32 = 4;
/// The range of an interval that is not restricted to some fields.
const ALL_FIELDS: i32 = 0x7fff;
/// Digits after the point of a second, where nothing less is said.
const MICROSECONDS: i32 = 6;

/// A type and its modifier. A domain is what it is over: that is what its values are read as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueType {
    /// The type as `format_type` writes it without modifier: `character varying`, `numeric[]`.
    pub name: String,
    /// Its modifier as `pg_attribute.atttypmod` has it, -1 where it has none.
    pub modifier: i32,
    /// The labels of an enum, or of the enum whose arrays these are; else none.
    pub labels: Vec<String>,
}

impl ValueType {
    /// Makes a type of its name and its modifier.
    pub fn new(name: impl Into<String>, modifier: i32) -> Self {
        ValueType { name: name.into(), modifier, labels: Vec::new() }
    }

    /// Returns the type with the labels that its values may have.
    pub fn with_labels(self, labels: Vec<String>) -> Self {
        ValueType { labels, ..self }
    }

    /// Returns the type of a column that is declared with this type and `modifier`.
    pub fn declared(&self, modifier: i32) -> Self {
        let modifier = if modifier == NONE { self.modifier } else { modifier };
        ValueType { name: self.name.clone(), modifier, labels: self.labels.clone() }
    }

    /// Returns the type of the elements of an array type, as far as the name tells.
    pub(super) fn element(&self) -> Option<ValueType> {
        let name = self.name.strip_suffix("[]")?;
        Some(ValueType::new(name, self.modifier).with_labels(self.labels.clone()))
    }

    /// The length in characters or bits; `None` where there is no limit.
    pub(super) fn length(&self) -> Option<i32> {
        let header = if self.name.contains("bit") { 0 } else { HEADER };
        (self.modifier >= header).then_some(self.modifier - header)
    }

    /// Digits in all and after the point; `None` where there is no limit. The scale has 11 bits and a sign.
    pub(super) fn precision_and_scale(&self) -> Option<(i32, i32)> {
        let packed = self.modifier - HEADER;
        (self.modifier >= HEADER).then_some(((packed >> 16) & 0xffff, ((packed & 0x7ff) ^ 1024) - 1024))
    }

    /// Digits after the point of a second.
    pub(super) fn second_digits(&self) -> i32 {
        if self.name == "interval" {
            return if self.modifier == NONE { MICROSECONDS } else { (self.modifier & 0xffff).min(MICROSECONDS) };
        }
        if self.modifier == NONE { MICROSECONDS } else { self.modifier }
    }

    /// The fields that an interval keeps; `None` where it keeps all.
    pub(super) fn interval_fields(&self) -> Option<i32> {
        let fields = self.modifier >> 16;
        (self.modifier != NONE && fields != ALL_FIELDS).then_some(fields)
    }
}

/// Writes the type as SQL. The fields of a restricted interval are left out: the wider type takes its values too.
impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(element) = self.element() {
            return write!(f, "{element}[]");
        }
        match (self.name.as_str(), self.length(), self.precision_and_scale()) {
            ("numeric", _, Some((precision, scale))) => write!(f, "numeric({precision},{scale})"),
            ("bpchar", Some(length), _) => write!(f, "character({length})"),
            ("\"bit\"", Some(length), _) => write!(f, "bit({length})"),
            (name @ ("character varying" | "bit varying"), Some(length), _) => write!(f, "{name}({length})"),
            ("interval", ..) if self.second_digits() < MICROSECONDS => write!(f, "interval({})", self.second_digits()),
            (name, ..) if self.modifier != NONE && is_time(name) => {
                let (kind, zone) = name.split_once(' ').unwrap_or((name, ""));
                write!(f, "{kind}({}) {zone}", self.modifier)
            }
            (name, ..) => f.write_str(name),
        }
    }
}

fn is_time(name: &str) -> bool {
    ["time ", "timestamp "].iter().any(|kind| name.starts_with(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_written_as_the_server_writes_them() {
        for (name, modifier, expected) in [
            ("numeric", -1, "numeric"),
            ("numeric", (12 << 16 | 4) + 4, "numeric(12,4)"),
            ("numeric", (3 << 16 | (-2_i32 & 0x7ff)) + 4, "numeric(3,-2)"),
            ("numeric[]", (12 << 16 | 4) + 4, "numeric(12,4)[]"),
            ("character varying", 24, "character varying(20)"),
            ("bpchar", 9, "character(5)"),
            ("\"bit\"", 3, "bit(3)"),
            ("timestamp with time zone", 3, "timestamp(3) with time zone"),
            ("time without time zone", 0, "time(0) without time zone"),
            ("interval", 0x7fff << 16 | 2, "interval(2)"),
            ("integer", -1, "integer"),
        ] {
            assert_eq!(ValueType::new(name, modifier).to_string(), expected);
        }
    }
}
