//! Whether values of one type can be written to a column of another, and whether they stay what they were.
//!
//! Values travel as text and are read by the target's type. What that type refuses stops the stream, loudly; what it
//! rounds, cuts or pads without an error is the worse case, and is told apart here.
//!
//! What differs at CockroachDB: text that is too long is always refused, never cut; there is one type for JSON; and many
//! types of PostgreSQL are not there, so that their values can only be text.

use super::ValueType;
use crate::dialect::Dialect;

/// How a source type and a target type go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Every value fits.
    Fits,
    /// Some values may not fit: the target refuses them.
    MayBeRefused,
    /// Some values may be rounded, cut or read as something else without an error.
    MayChange,
    /// The texts of the one are not those of the other.
    No,
    /// Nothing obvious: a type of the user's.
    Unknown,
}

/// What a pair that fits may still do to a few values, at a server of the other kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Loss {
    /// An infinite timestamp becomes the largest or smallest one.
    Infinity,
    /// Of a JSON text only the meaning stays: no spaces, no order, no key twice.
    JsonText,
    /// An array of more than one dimension, or one that does not begin at 1, is refused.
    Dimensions,
    /// Text that the source compares without regard to case is compared with it.
    Case,
}

/// Returns what may become of a few values of a pair of types that fits.
pub fn loss(source: &ValueType, target: &ValueType, at: Dialect) -> Option<Loss> {
    if !at.is_cockroach() {
        return None;
    }
    if source.element().is_some() && target.element().is_some() {
        return Some(Loss::Dimensions);
    }
    match (kind(&source.name), kind(&target.name)) {
        (Some(Kind::Timestamp | Kind::TimestampZone), Some(Kind::Timestamp | Kind::TimestampZone)) => {
            Some(Loss::Infinity)
        }
        (Some(Kind::Json), Some(Kind::JsonBinary)) => Some(Loss::JsonText),
        (None, Some(Kind::Text)) if source.name.rsplit('.').next() == Some("citext") => Some(Loss::Case),
        _ => None,
    }
}

/// Types with rules of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A whole number: how many decimal digits it has at most, and how many bits.
    Whole {
        digits: i32,
        bits: i32,
    },
    Numeric,
    /// A floating-point number: how many bits of a whole number it keeps.
    Float {
        bits: i32,
    },
    Date,
    Timestamp,
    TimestampZone,
    Time,
    TimeZone,
    Interval,
    /// Text, with or without a limit, which keeps spaces at its end.
    Text,
    /// Text padded with spaces, which mean nothing at its end.
    Padded,
    /// Text of which only the beginning is kept: "char" and name.
    Cut,
    Bits,
    Json,
    JsonBinary,
    Inet,
    Cidr,
    /// A type of the server's that goes with nothing else.
    Alone,
}

fn kind(name: &str) -> Option<Kind> {
    Some(match name {
        "smallint" => Kind::Whole { digits: 5, bits: 15 },
        "integer" => Kind::Whole { digits: 10, bits: 31 },
        "bigint" => Kind::Whole { digits: 19, bits: 63 },
        "numeric" => Kind::Numeric,
        "real" => Kind::Float { bits: 24 },
        "double precision" => Kind::Float { bits: 53 },
        "date" => Kind::Date,
        "timestamp without time zone" => Kind::Timestamp,
        "timestamp with time zone" => Kind::TimestampZone,
        "time without time zone" => Kind::Time,
        "time with time zone" => Kind::TimeZone,
        "interval" => Kind::Interval,
        "text" | "character varying" => Kind::Text,
        "bpchar" => Kind::Padded,
        "\"char\"" | "name" => Kind::Cut,
        "\"bit\"" | "bit varying" => Kind::Bits,
        "json" => Kind::Json,
        "jsonb" => Kind::JsonBinary,
        "inet" => Kind::Inet,
        "cidr" => Kind::Cidr,
        "boolean" | "bytea" | "uuid" | "xml" | "money" | "oid" | "macaddr" | "tsvector" | "point" => Kind::Alone,
        _ => return None,
    })
}

/// Compares two types, the second one of a server that speaks `at`.
pub fn fit(source: &ValueType, target: &ValueType, at: Dialect) -> Fit {
    match (source.element(), target.element()) {
        (Some(source), Some(target)) => return fit(&source, &target, at),
        (None, None) => {}
        // The text of an array.
        (Some(_), None) if kind(&target.name) == Some(Kind::Text) => return into_text(Kind::Alone, source, target),
        _ => return Fit::No,
    }
    match (kind(&source.name), kind(&target.name)) {
        _ if source == target => Fit::Fits,
        (Some(from), Some(to)) => match fit_kinds((from, source), (to, target)) {
            // Told apart as a loss: there is nothing else to choose.
            Fit::MayChange if at.is_cockroach() && (from, to) == (Kind::Json, Kind::JsonBinary) => Fit::Fits,
            Fit::MayChange if at.is_cockroach() && to == Kind::Text => Fit::MayBeRefused,
            fit => fit,
        },
        (None, Some(Kind::Text)) => into_text(Kind::Alone, source, target),
        _ if !source.labels.is_empty() && !target.labels.is_empty() => {
            refused_unless(source.labels.iter().all(|label| target.labels.contains(label)))
        }
        _ if source.name == target.name => Fit::Fits,
        _ => Fit::Unknown,
    }
}

fn fit_kinds((from, source): (Kind, &ValueType), (to, target): (Kind, &ValueType)) -> Fit {
    match (from, to) {
        (_, Kind::Text) => into_text(from, source, target),
        (Kind::Padded, Kind::Padded) => refused_unless(no_shorter(source, target)),
        (Kind::Text, Kind::Padded) if target.length().is_none() => Fit::MayBeRefused,
        (_, Kind::Padded) => Fit::MayChange,
        (_, Kind::Cut) => changed_unless(source.name == target.name),
        (Kind::Whole { bits, .. }, Kind::Whole { bits: room, .. }) => refused_unless(bits <= room),
        (Kind::Whole { bits, .. }, Kind::Float { bits: room }) => changed_unless(bits <= room),
        (Kind::Whole { digits, .. }, Kind::Numeric) => fit_numeric(Some((digits, 0)), target),
        (Kind::Numeric, Kind::Numeric) => fit_numeric(source.precision_and_scale(), target),
        (Kind::Float { bits }, Kind::Float { bits: room }) => changed_unless(bits <= room),
        (Kind::Float { .. }, Kind::Numeric) => changed_unless(target.precision_and_scale().is_none()),
        (Kind::Numeric | Kind::Float { .. }, Kind::Whole { .. }) => Fit::MayBeRefused,
        (Kind::Numeric, Kind::Float { .. }) => Fit::MayChange,
        (Kind::Date, Kind::Timestamp) => Fit::Fits,
        (Kind::Timestamp, Kind::Timestamp)
        | (Kind::TimestampZone, Kind::TimestampZone)
        | (Kind::Time, Kind::Time)
        | (Kind::TimeZone, Kind::TimeZone) => changed_unless(source.second_digits() <= target.second_digits()),
        (Kind::Interval, Kind::Interval) => {
            let fields = target.interval_fields().is_none() || source.interval_fields() == target.interval_fields();
            changed_unless(fields && source.second_digits() <= target.second_digits())
        }
        // A zone is dropped or thought up, a time of day dropped.
        (Kind::Date | Kind::Timestamp | Kind::TimestampZone, Kind::Date | Kind::Timestamp | Kind::TimestampZone)
        | (Kind::Time | Kind::TimeZone, Kind::Time | Kind::TimeZone) => Fit::MayChange,
        (Kind::Bits, Kind::Bits) => refused_unless(target.name == "bit varying" && no_shorter(source, target)),
        (Kind::JsonBinary, Kind::Json) | (Kind::Cidr, Kind::Inet) => Fit::Fits,
        // Keys that are there twice, their order, and spaces are lost.
        (Kind::Json, Kind::JsonBinary) => Fit::MayChange,
        (Kind::Inet, Kind::Cidr) => Fit::MayBeRefused,
        _ if source.name == target.name => Fit::Fits,
        _ => Fit::No,
    }
}

/// Text with a limit refuses what is longer, but cuts spaces at the end without a word.
fn into_text(from: Kind, source: &ValueType, target: &ValueType) -> Fit {
    match from {
        _ if target.length().is_none() => Fit::Fits,
        Kind::Text | Kind::Padded => changed_unless(no_shorter(source, target)),
        Kind::Cut => Fit::MayChange,
        _ => Fit::MayBeRefused,
    }
}

fn no_shorter(source: &ValueType, target: &ValueType) -> bool {
    match (source.length(), target.length()) {
        (_, None) => true,
        (Some(source), Some(target)) => source <= target,
        (None, Some(_)) => false,
    }
}

/// Digits before the point that find no room are refused, digits behind it are rounded away.
fn fit_numeric(source: Option<(i32, i32)>, target: &ValueType) -> Fit {
    match (source, target.precision_and_scale()) {
        (_, None) => Fit::Fits,
        (None, Some(_)) => Fit::MayChange,
        (Some((_, scale)), Some((_, room))) if scale > room => Fit::MayChange,
        (Some((digits, scale)), Some((precision, room))) => refused_unless(digits - scale <= precision - room),
    }
}

fn refused_unless(fits: bool) -> Fit {
    if fits { Fit::Fits } else { Fit::MayBeRefused }
}

fn changed_unless(fits: bool) -> Fit {
    if fits { Fit::Fits } else { Fit::MayChange }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numeric(precision: i32, scale: i32) -> i32 {
        (precision << 16 | (scale & 0x7ff)) + 4
    }

    #[track_caller]
    fn assert_fits(cases: &[(&str, i32, &str, i32, Fit)]) {
        for (source, source_modifier, target, target_modifier, expected) in cases {
            let (source, target) =
                (ValueType::new(*source, *source_modifier), ValueType::new(*target, *target_modifier));
            assert_eq!(fit(&source, &target, Dialect::Postgres), *expected, "{source} to {target}");
        }
    }

    #[test]
    fn obvious_answers() {
        for (source, target, expected) in [
            ("integer", "integer", Fit::Fits),
            ("integer", "bigint", Fit::Fits),
            ("bigint", "integer", Fit::MayBeRefused),
            ("text", "integer", Fit::No),
            ("integer", "text", Fit::Fits),
            ("mood", "text", Fit::Fits),
            ("mood", "public.mood", Fit::Unknown),
            ("integer[]", "bigint[]", Fit::Fits),
            ("integer[]", "integer", Fit::No),
            ("integer[]", "text", Fit::Fits),
            ("boolean", "uuid", Fit::No),
            ("jsonb", "json", Fit::Fits),
            ("date", "timestamp without time zone", Fit::Fits),
            ("numeric", "integer", Fit::MayBeRefused),
            ("inet", "cidr", Fit::MayBeRefused),
        ] {
            assert_fits(&[(source, -1, target, -1, expected)]);
        }
    }

    #[test]
    fn what_is_rounded_or_cut_without_an_error_is_told_apart() {
        for (source, target) in [
            ("double precision", "real"),
            ("numeric", "double precision"),
            ("bigint", "double precision"),
            ("integer", "real"),
            ("timestamp with time zone", "date"),
            ("timestamp without time zone", "date"),
            ("timestamp with time zone", "timestamp without time zone"),
            ("time with time zone", "time without time zone"),
            ("json", "jsonb"),
            ("text", "\"char\""),
            ("text", "name"),
            ("double precision[]", "real[]"),
        ] {
            assert_fits(&[(source, -1, target, -1, Fit::MayChange)]);
        }
        assert_fits(&[
            ("numeric", numeric(12, 4), "numeric", numeric(12, 2), Fit::MayChange),
            ("numeric", -1, "numeric", numeric(12, 2), Fit::MayChange),
            ("numeric", numeric(5, 0), "numeric", numeric(5, -2), Fit::MayChange),
            ("numeric[]", numeric(12, 4), "numeric[]", numeric(12, 2), Fit::MayChange),
            ("double precision", -1, "numeric", numeric(12, 2), Fit::MayChange),
            ("bigint", -1, "numeric", numeric(30, -1), Fit::MayChange),
            ("timestamp with time zone", -1, "timestamp with time zone", 3, Fit::MayChange),
            ("time without time zone", 6, "time without time zone", 0, Fit::MayChange),
            ("interval", -1, "interval", 0x7fff << 16, Fit::MayChange),
            ("interval", -1, "interval", 4 << 16 | 0xffff, Fit::MayChange),
            ("character varying", 24, "bpchar", 24, Fit::MayChange),
            ("character varying", 24, "character varying", 14, Fit::MayChange),
            ("text", -1, "character varying", 24, Fit::MayChange),
        ]);
    }

    #[test]
    fn widening_is_fine() {
        assert_fits(&[
            ("numeric", numeric(10, 2), "numeric", numeric(12, 4), Fit::Fits),
            ("numeric", numeric(10, 2), "numeric", -1, Fit::Fits),
            ("integer", -1, "numeric", numeric(10, 0), Fit::Fits),
            ("real", -1, "double precision", -1, Fit::Fits),
            ("integer", -1, "double precision", -1, Fit::Fits),
            ("timestamp with time zone", 3, "timestamp with time zone", -1, Fit::Fits),
            ("timestamp with time zone", -1, "timestamp with time zone", 6, Fit::Fits),
            ("interval", 4 << 16 | 0xffff, "interval", -1, Fit::Fits),
            ("character varying", 24, "character varying", 34, Fit::Fits),
            ("character varying", 24, "text", -1, Fit::Fits),
            ("bpchar", 9, "bpchar", 14, Fit::Fits),
            ("\"bit\"", 3, "bit varying", 5, Fit::Fits),
        ]);
    }

    #[test]
    fn what_the_target_refuses_is_no_silent_change() {
        assert_fits(&[
            ("numeric", numeric(12, 2), "numeric", numeric(10, 2), Fit::MayBeRefused),
            ("bigint", -1, "numeric", numeric(10, 0), Fit::MayBeRefused),
            ("bpchar", 14, "bpchar", 9, Fit::MayBeRefused),
            ("uuid", -1, "character varying", 24, Fit::MayBeRefused),
            ("\"bit\"", 5, "\"bit\"", 3, Fit::MayBeRefused),
        ]);
    }

    #[test]
    fn cockroach_refuses_what_is_too_long_and_has_one_type_for_json() {
        for (source, modifier, target, target_modifier, expected, lost) in [
            ("text", -1, "character varying", 24, Fit::MayBeRefused, None),
            ("character varying", 24, "character varying", 14, Fit::MayBeRefused, None),
            ("json", -1, "jsonb", -1, Fit::Fits, Some(Loss::JsonText)),
            ("timestamp with time zone", -1, "timestamp with time zone", -1, Fit::Fits, Some(Loss::Infinity)),
            ("integer[]", -1, "integer[]", -1, Fit::Fits, Some(Loss::Dimensions)),
            ("public.citext", -1, "text", -1, Fit::Fits, Some(Loss::Case)),
            ("cidr", -1, "inet", -1, Fit::Fits, None),
            ("macaddr", -1, "text", -1, Fit::Fits, None),
            ("int4range", -1, "text", -1, Fit::Fits, None),
            ("money", -1, "numeric", -1, Fit::No, None),
            ("integer", -1, "bigint", -1, Fit::Fits, None),
            ("bigint", -1, "integer", -1, Fit::MayBeRefused, None),
            ("numeric", numeric(12, 4), "numeric", numeric(12, 2), Fit::MayChange, None),
            ("double precision", -1, "real", -1, Fit::MayChange, None),
            ("text", -1, "bpchar", 14, Fit::MayChange, None),
        ] {
            let (source, target) = (ValueType::new(source, modifier), ValueType::new(target, target_modifier));
            assert_eq!(fit(&source, &target, Dialect::Cockroach), expected, "{source} to {target}");
            assert_eq!(loss(&source, &target, Dialect::Cockroach), lost, "{source} to {target}");
            assert_eq!(loss(&source, &target, Dialect::Postgres), None);
        }
    }

    #[test]
    fn an_enum_fits_where_every_label_is_known() {
        let of = |name: &str, labels: &[&str]| {
            ValueType::new(name, -1).with_labels(labels.iter().map(|label| (*label).to_owned()).collect())
        };
        let (two, three) = (of("public.mood", &["sad", "glad"]), of("app.mood", &["sad", "so so", "glad"]));
        for at in [Dialect::Postgres, Dialect::Cockroach] {
            assert_eq!(fit(&two, &three, at), Fit::Fits);
            assert_eq!(fit(&three, &two, at), Fit::MayBeRefused);
            assert_eq!(fit(&of("public.mood[]", &["a"]), &of("app.mood[]", &["b"]), at), Fit::MayBeRefused);
        }
    }
}
