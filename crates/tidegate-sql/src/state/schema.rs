//! Names of state tables.

use std::fmt;
use std::str::FromStr;

use tidegate_model::{InvalidName, MigrationName, Stream, TableName};

use crate::quote;

/// The schema that holds the state tables: `[a-z_][a-z0-9_]{0,62}`, so that it needs no quotes anywhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StateSchema(String);

impl StateSchema {
    /// Returns the qualified name of a state table, as SQL.
    pub fn table(&self, name: &str) -> String {
        format!("\"{}\".{name}", self.0)
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for StateSchema {
    fn default() -> Self {
        StateSchema("tidegate".to_owned())
    }
}

impl FromStr for StateSchema {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let begins = text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        if begins && text.len() <= 63 && text.bytes().all(allowed) && !text.starts_with("pg_") {
            return Ok(StateSchema(text.to_owned()));
        }
        let rule = "1 to 63 of the characters a-z, 0-9 and _, not beginning with a digit or pg_";
        Err(InvalidName { text: text.to_owned(), what: "state schema name", rule })
    }
}

impl fmt::Display for StateSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which rows of the state tables belong to a stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StateKey {
    /// The schema of the state tables.
    pub schema: StateSchema,
    /// The migration.
    pub migration: MigrationName,
    /// Its direction.
    pub stream: Stream,
}

impl StateKey {
    /// Returns the qualified name of a state table, as SQL.
    pub fn table(&self, name: &str) -> String {
        self.schema.table(name)
    }

    /// Returns the key of the advisory lock that the owner's session holds. Fixed for ever: an owner of another version
    /// must see it.
    pub(crate) fn advisory_lock(&self) -> i64 {
        advisory_key(&format!("tidegate/{}/{}/{}", self.schema, self.migration, self.stream))
    }

    /// Returns the condition that selects the rows of the stream. The key is made of checked names, so that it can
    /// stand in the text.
    pub(crate) fn condition(&self) -> String {
        format!("migration = '{}' AND stream = '{}'", self.migration, self.stream)
    }
}

/// Returns a table's name as state tables store it: `schema.name`, quoted where a dot or a quote would make it
/// ambiguous.
pub(crate) fn table_text(table: &TableName) -> String {
    let plain = |part: &str| !part.contains(['.', '"']);
    if plain(&table.schema) && plain(&table.name) { table.to_string() } else { quote::table(table) }
}

/// Returns the 64-bit FNV-1a hash of a text: stable across versions, which the hashers of the standard library are not.
pub(crate) fn advisory_key(text: &str) -> i64 {
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, hash) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_of_a_stream_never_changes() {
        let key =
            StateKey { schema: StateSchema::default(), migration: "default".parse().unwrap(), stream: Stream::Forward };
        assert_eq!(key.advisory_lock(), advisory_key("tidegate/tidegate/default/forward"));
        assert_eq!(advisory_key(""), 0xcbf2_9ce4_8422_2325_u64 as i64);
        assert_eq!(advisory_key("a"), 0xaf63_dc4c_8601_ec8c_u64 as i64);
    }

    #[test]
    fn two_tables_never_share_a_record() {
        assert_eq!(table_text(&TableName::new("public", "Orders")), "public.Orders");
        let (one, two) = (TableName::new("a.b", "c"), TableName::new("a", "b.c"));
        assert_ne!(table_text(&one), table_text(&two));
    }

    #[test]
    fn schema_names_need_no_quotes() {
        for bad in ["", "Tidegate", "1a", "a-b", "a\"b", "pg_x", &"a".repeat(64)] {
            assert!(bad.parse::<StateSchema>().is_err(), "{bad:?} was taken");
        }
    }
}
