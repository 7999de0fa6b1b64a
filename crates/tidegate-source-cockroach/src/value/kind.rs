//! How the values of a type are written in a feed.

/// How the values of a type are written, and so how they are read. Types that are written alike share a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true`, `false`.
    Bool,
    /// A whole number of up to 64 bits.
    Int,
    /// A binary floating-point number, through its shortest decimal form.
    Float,
    /// A decimal number of any size.
    Decimal,
    /// A string that is taken as it is: text types, enums, UUID, INTERVAL, INET, BIT, TSVECTOR and more.
    Text,
    /// BYTES: a string of `\x` and hexadecimal digits.
    Bytes,
    /// DATE.
    Date,
    /// TIME and TIMETZ.
    Time,
    /// TIMESTAMP and TIMESTAMPTZ.
    Timestamp,
    /// JSONB: embedded JSON.
    Json,
    /// GEOMETRY, GEOGRAPHY: a GeoJSON object.
    Geo,
    /// VECTOR.
    Vector,
    /// OID and its aliases: a string, or a number.
    Oid,
    /// An array of such elements.
    Array(Box<Kind>),
}

impl Kind {
    /// Returns the kind of a type by its name as CockroachDB or PostgreSQL writes it, with or without a modifier
    /// (`STRING(20)`, `timestamp(3) with time zone`, `INT8[]`, `STRING COLLATE en`). `None` for a type that is not
    /// built in (an enum is [`Kind::Text`], which the catalog knows) or that a feed cannot carry.
    pub fn of_type(name: &str) -> Option<Kind> {
        let name = plain_name(name);
        match name.strip_suffix("[]") {
            // CockroachDB has no arrays of arrays.
            Some(element) if element.ends_with("[]") => None,
            Some(element) => Some(Kind::Array(Box::new(Kind::of_plain(element)?))),
            None => Kind::of_plain(&name),
        }
    }

    /// The same for a name in lower case, without modifier and collation, and not of an array.
    fn of_plain(name: &str) -> Option<Kind> {
        Some(match name {
            "bool" | "boolean" => Kind::Bool,
            "int" | "int2" | "int4" | "int8" | "int64" | "integer" | "smallint" | "bigint" => Kind::Int,
            "float" | "float4" | "float8" | "real" | "double precision" => Kind::Float,
            "decimal" | "dec" | "numeric" => Kind::Decimal,
            "string" | "text" | "varchar" | "char" | "\"char\"" | "character" | "character varying" | "bpchar"
            | "name" | "citext" | "uuid" | "inet" | "bit" | "varbit" | "bit varying" | "tsvector" | "tsquery"
            | "ltree" | "pg_lsn" | "refcursor" | "box2d" => Kind::Text,
            interval if interval == "interval" || interval.starts_with("interval ") => Kind::Text,
            "bytes" | "bytea" | "blob" => Kind::Bytes,
            "date" => Kind::Date,
            "time" | "timetz" | "time without time zone" | "time with time zone" => Kind::Time,
            "timestamp" | "timestamptz" | "timestamp without time zone" | "timestamp with time zone" => Kind::Timestamp,
            "json" | "jsonb" => Kind::Json,
            "geometry" | "geography" => Kind::Geo,
            "vector" => Kind::Vector,
            "oid" | "regclass" | "regtype" | "regproc" | "regprocedure" | "regnamespace" | "regrole" => Kind::Oid,
            _ => return None,
        })
    }
}

/// Returns a type's name in lower case, without modifier and collation.
fn plain_name(name: &str) -> String {
    let mut plain = String::with_capacity(name.len());
    let mut depth = 0_usize;
    for letter in name.trim().chars() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            letter if depth == 0 => plain.push(letter.to_ascii_lowercase()),
            _ => {}
        }
    }
    let brackets = plain.ends_with("[]");
    if let Some(collation) = plain.find(" collate ") {
        plain.truncate(collation);
        if brackets {
            plain.push_str("[]");
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_known_by_the_names_of_both_databases() {
        let array = |kind| Some(Kind::Array(Box::new(kind)));
        for (name, kind) in [
            ("INT8", Some(Kind::Int)),
            ("bigint", Some(Kind::Int)),
            ("DECIMAL(10,2)", Some(Kind::Decimal)),
            ("numeric(10,2)", Some(Kind::Decimal)),
            ("double precision", Some(Kind::Float)),
            ("STRING", Some(Kind::Text)),
            ("VARCHAR(20)", Some(Kind::Text)),
            ("character varying(20)", Some(Kind::Text)),
            ("STRING COLLATE en_US", Some(Kind::Text)),
            ("STRING(10)[] COLLATE en", array(Kind::Text)),
            ("STRING[] COLLATE en", array(Kind::Text)),
            ("\"char\"", Some(Kind::Text)),
            ("BYTES", Some(Kind::Bytes)),
            ("timestamp(3) with time zone", Some(Kind::Timestamp)),
            ("TIMESTAMPTZ(3)", Some(Kind::Timestamp)),
            ("time without time zone", Some(Kind::Time)),
            ("INTERVAL SECOND(3)", Some(Kind::Text)),
            ("interval", Some(Kind::Text)),
            ("VARBIT(8)", Some(Kind::Text)),
            ("GEOMETRY(POINT,4326)", Some(Kind::Geo)),
            ("VECTOR(3)", Some(Kind::Vector)),
            ("JSONB", Some(Kind::Json)),
            ("BYTES[]", array(Kind::Bytes)),
            ("timestamp(3) without time zone[]", array(Kind::Timestamp)),
            ("REGCLASS", Some(Kind::Oid)),
            ("INT8[][]", None),
            ("public.mood", None),
            ("RECORD", None),
            ("", None),
        ] {
            assert_eq!(Kind::of_type(name), kind, "{name}");
        }
    }

    #[test]
    fn brackets_take_no_stack() {
        assert_eq!(Kind::of_type(&format!("INT8{}", "[]".repeat(1_000_000))), None);
    }
}
