//! Names of types, in both servers' tongues.
//!
//! What is the same type has the name that `format_type` of PostgreSQL gives it ([`ValueType`]), so that types of both
//! servers can be compared; a cast at CockroachDB has a name of its own, which must not carry a length: `CHAR` there is
//! `CHAR(1)`, `BIT` is `BIT(1)`, and a cast cuts what is longer without a word.

use std::collections::HashMap;

use tidegate_connect::Session;
use tokio_postgres::Error;

use crate::catalog::ValueType;
use crate::quote;

const TYPES: &str = "
SELECT t.oid, t.typname::text, n.nspname::text, t.typtype::text, t.typelem
  FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
 WHERE t.oid IN ({oids})";

const LABELS: &str = "
SELECT enumtypid, enumlabel::text FROM pg_catalog.pg_enum
 WHERE enumtypid IN ({oids}) ORDER BY enumtypid, enumsortorder";

/// A built-in type: its name in `pg_type`, in a cast, and as `format_type` of PostgreSQL writes it.
const BUILT_IN: [(&str, &str, &str); 31] = [
    ("bool", "BOOL", "boolean"),
    ("bytea", "BYTES", "bytea"),
    ("char", "\"char\"", "\"char\""),
    ("name", "NAME", "name"),
    ("int2", "INT2", "smallint"),
    ("int4", "INT4", "integer"),
    ("int8", "INT8", "bigint"),
    ("float4", "FLOAT4", "real"),
    ("float8", "FLOAT8", "double precision"),
    ("numeric", "DECIMAL", "numeric"),
    ("text", "STRING", "text"),
    ("varchar", "STRING", "character varying"),
    ("bpchar", "BPCHAR", "bpchar"),
    ("citext", "CITEXT", "citext"),
    ("date", "DATE", "date"),
    ("time", "TIME", "time without time zone"),
    ("timetz", "TIMETZ", "time with time zone"),
    ("timestamp", "TIMESTAMP", "timestamp without time zone"),
    ("timestamptz", "TIMESTAMPTZ", "timestamp with time zone"),
    ("interval", "INTERVAL", "interval"),
    ("uuid", "UUID", "uuid"),
    ("json", "JSONB", "jsonb"),
    ("jsonb", "JSONB", "jsonb"),
    ("inet", "INET", "inet"),
    ("bit", "VARBIT", "\"bit\""),
    ("varbit", "VARBIT", "bit varying"),
    ("oid", "OID", "oid"),
    ("tsvector", "TSVECTOR", "tsvector"),
    ("tsquery", "TSQUERY", "tsquery"),
    ("geometry", "GEOMETRY", "geometry"),
    ("geography", "GEOGRAPHY", "geography"),
];

/// A type as the catalog describes it.
#[derive(Clone, Debug)]
pub(super) struct TypeRow {
    name: String,
    schema: String,
    is_enum: bool,
    /// The type of its elements, where it is an array.
    element: Option<Box<TypeRow>>,
    labels: Vec<String>,
}

impl TypeRow {
    fn built_in(&self) -> Option<&'static (&'static str, &'static str, &'static str)> {
        BUILT_IN.iter().find(|(name, ..)| *name == self.name).filter(|_| self.schema == "pg_catalog")
    }

    /// Returns the name for a cast, without a length.
    pub(super) fn cast_name(&self) -> String {
        match (&self.element, self.built_in()) {
            (Some(element), _) => format!("{}[]", element.cast_name()),
            (None, Some((_, cast, _))) => (*cast).to_owned(),
            (None, None) if self.schema == "pg_catalog" => self.name.to_uppercase(),
            (None, None) => format!("{}.{}", quote::identifier(&self.schema), quote::identifier(&self.name)),
        }
    }

    /// Returns what its values are.
    pub(super) fn value_type(&self) -> ValueType {
        let name = match (&self.element, self.built_in()) {
            (Some(element), _) => format!("{}[]", element.value_type().name),
            (None, Some((.., postgres))) => (*postgres).to_owned(),
            (None, None) if self.schema == "pg_catalog" => self.name.clone(),
            (None, None) => format!("{}.{}", self.schema, self.name),
        };
        let labels = self.element.as_ref().map_or(&self.labels, |element| &element.labels);
        ValueType::new(name, -1).with_labels(labels.clone())
    }

    /// Returns the name of the type of a single value.
    pub(super) fn element_name(&self) -> &str {
        self.element.as_ref().map_or(&self.name, |element| element.element_name())
    }
}

/// Returns what the values of types are, by their OIDs.
pub(super) async fn value_types(session: &Session, oids: &[u32]) -> Result<HashMap<u32, ValueType>, Error> {
    let types = read(session, oids).await?;
    Ok(types.into_iter().map(|(oid, found)| (oid, found.value_type())).collect())
}

/// Reads types, with what their elements are.
pub(super) async fn read(session: &Session, oids: &[u32]) -> Result<HashMap<u32, TypeRow>, Error> {
    let mut found = rows(session, oids).await?;
    let elements: Vec<u32> = found.values().map(|(_, element)| *element).filter(|element| *element != 0).collect();
    let elements = rows(session, &elements).await?;
    let enums: Vec<u32> =
        found.iter().chain(&elements).filter(|(_, (found, _))| found.is_enum).map(|(oid, _)| *oid).collect();
    let labels = labels(session, &enums).await?;
    let with_labels =
        |oid: &u32, found: &TypeRow| TypeRow { labels: labels.get(oid).cloned().unwrap_or_default(), ..found.clone() };
    let whole = found.drain().map(|(oid, (row, element))| {
        // Some built-in types that are no arrays have elements too; an array's name begins with an underscore.
        let is_array = row.name.starts_with('_');
        let element = elements.get(&element).filter(|_| is_array);
        let element = element.map(|(found, _)| Box::new(with_labels(&element_oid(&elements, found), found)));
        (oid, TypeRow { element, ..with_labels(&oid, &row) })
    });
    Ok(whole.collect())
}

fn element_oid(elements: &HashMap<u32, (TypeRow, u32)>, wanted: &TypeRow) -> u32 {
    let same = |found: &TypeRow| (&found.schema, &found.name) == (&wanted.schema, &wanted.name);
    elements.iter().find(|(_, (found, _))| same(found)).map_or(0, |(oid, _)| *oid)
}

/// Reads types by their OIDs, each with the OID of what it has as elements.
async fn rows(session: &Session, oids: &[u32]) -> Result<HashMap<u32, (TypeRow, u32)>, Error> {
    if oids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = session.query(&super::with_oids(TYPES, sorted(oids).iter()), &[]).await?;
    let read = |row: &tokio_postgres::Row| {
        let is_enum = row.get::<_, &str>(3) == "e";
        let found = TypeRow { name: row.get(1), schema: row.get(2), is_enum, element: None, labels: Vec::new() };
        (row.get(0), (found, row.get(4)))
    };
    Ok(rows.iter().map(read).collect())
}

async fn labels(session: &Session, oids: &[u32]) -> Result<HashMap<u32, Vec<String>>, Error> {
    let mut labels: HashMap<u32, Vec<String>> = HashMap::new();
    if oids.is_empty() {
        return Ok(labels);
    }
    for row in session.query(&super::with_oids(LABELS, sorted(oids).iter()), &[]).await? {
        labels.entry(row.get(0)).or_default().push(row.get(1));
    }
    Ok(labels)
}

fn sorted(oids: &[u32]) -> Vec<u32> {
    let mut oids = oids.to_vec();
    oids.sort_unstable();
    oids.dedup();
    oids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, schema: &str) -> TypeRow {
        let (name, schema) = (name.to_owned(), schema.to_owned());
        TypeRow { name, schema, is_enum: false, element: None, labels: Vec::new() }
    }

    #[test]
    fn casts_never_carry_a_length_that_was_not_declared() {
        for (name, cast, value) in [
            ("bpchar", "BPCHAR", "bpchar"),
            ("bit", "VARBIT", "\"bit\""),
            ("varchar", "STRING", "character varying"),
            ("int4", "INT4", "integer"),
            ("pg_lsn", "PG_LSN", "pg_lsn"),
        ] {
            let found = of(name, "pg_catalog");
            assert_eq!((found.cast_name().as_str(), found.value_type().name.as_str()), (cast, value));
        }
    }

    #[test]
    fn types_of_users_and_arrays_are_qualified() {
        let mood = of("mood", "My Schema");
        assert_eq!(mood.cast_name(), "\"My Schema\".\"mood\"");
        let array = TypeRow { element: Some(Box::new(mood)), ..of("_mood", "My Schema") };
        assert_eq!(array.cast_name(), "\"My Schema\".\"mood\"[]");
        assert_eq!(array.element_name(), "mood");
        let numbers = TypeRow { element: Some(Box::new(of("int4", "pg_catalog"))), ..of("_int4", "pg_catalog") };
        assert_eq!((numbers.cast_name().as_str(), numbers.value_type().name.as_str()), ("INT4[]", "integer[]"));
    }
}
