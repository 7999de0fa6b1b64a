//! Whether values of one type can be written to a column of another: the obvious answers only.

/// How a source type and a target type go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Every value fits.
    Fits,
    /// Some values may not fit.
    MayNotFit,
    /// The texts of the one are not those of the other.
    No,
    /// Nothing obvious: a type of the user's.
    Unknown,
}

/// Families of types whose texts can be read by each other, from narrow to wide.
const FAMILIES: [&[&str]; 6] = [
    &["smallint", "integer", "bigint", "numeric"],
    &["real", "double precision"],
    &["date", "timestamp without time zone", "timestamp with time zone"],
    &["time without time zone", "time with time zone"],
    &["jsonb", "json"],
    &["inet", "cidr"],
];

/// Types that take any text.
const TEXTS: [&str; 4] = ["text", "character varying", "character", "\"char\""];

/// Types that stand alone.
const ALONE: [&str; 11] =
    ["boolean", "bytea", "uuid", "interval", "xml", "money", "oid", "macaddr", "tsvector", "point", "bit varying"];

/// Compares two types by their names without modifier, as `format_type` writes them.
pub fn fit(source: &str, target: &str) -> Fit {
    if source == target {
        return Fit::Fits;
    }
    match (source.strip_suffix("[]"), target.strip_suffix("[]")) {
        (Some(source), Some(target)) => return fit(source, target),
        (None, None) => {}
        (Some(_), None) if TEXTS.contains(&target) => return Fit::Fits,
        _ => return Fit::No,
    }
    if TEXTS[..2].contains(&target) {
        return Fit::Fits;
    }
    if TEXTS.contains(&target) && TEXTS.contains(&source) {
        return Fit::MayNotFit;
    }
    let family = |name: &str| FAMILIES.iter().position(|family| family.contains(&name));
    match (family(source), family(target)) {
        (Some(a), Some(b)) if a == b => {
            let width = |name: &str| FAMILIES[a].iter().position(|other| *other == name);
            if width(source) < width(target) && a < 2 { Fit::Fits } else { Fit::MayNotFit }
        }
        // Whole numbers are read as floating-point ones, with as many digits as there are.
        (Some(0), Some(1)) => Fit::MayNotFit,
        _ if is_known(source) && is_known(target) => Fit::No,
        _ => Fit::Unknown,
    }
}

fn is_known(name: &str) -> bool {
    FAMILIES.iter().any(|family| family.contains(&name)) || ALONE.contains(&name) || TEXTS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn obvious_answers() {
        for (source, target, expected) in [
            ("integer", "integer", Fit::Fits),
            ("integer", "bigint", Fit::Fits),
            ("bigint", "integer", Fit::MayNotFit),
            ("numeric", "double precision", Fit::MayNotFit),
            ("text", "integer", Fit::No),
            ("integer", "text", Fit::Fits),
            ("mood", "text", Fit::Fits),
            ("mood", "public.mood", Fit::Unknown),
            ("integer[]", "bigint[]", Fit::Fits),
            ("integer[]", "integer", Fit::No),
            ("json", "jsonb", Fit::MayNotFit),
            ("timestamp with time zone", "date", Fit::MayNotFit),
            ("boolean", "uuid", Fit::No),
        ] {
            assert_eq!(fit(source, target), expected, "{source} to {target}");
        }
    }
}
