//! Names of things, each a type of its own.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A name that breaks its rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a {what}: {rule}")]
pub struct InvalidName {
    /// What was given.
    pub text: String,
    /// What it should have named.
    pub what: &'static str,
    /// The rule it breaks.
    pub rule: &'static str,
}

/// The name of a migration: `[a-z0-9_]{1,32}`, so that slots and publications can be named after it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct MigrationName(String);

impl MigrationName {
    /// Returns the name of the slot and of the publication of this migration.
    pub fn object_name(&self) -> String {
        format!("tidegate_{}", self.0)
    }

    /// Returns the `application_name` of a session of this migration with this role, such as `apply` or `owner`.
    pub fn application_name(&self, role: &str) -> String {
        format!("tidegate/{}/{role}", self.0)
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MigrationName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        if (1..=32).contains(&text.len()) && text.bytes().all(allowed) {
            return Ok(MigrationName(text.to_owned()));
        }
        let rule = "1 to 32 of the characters a-z, 0-9 and _";
        Err(InvalidName { text: text.to_owned(), what: "migration name", rule })
    }
}

impl fmt::Display for MigrationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One direction of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// From the database of `--source` to the database of `--target`.
    Forward,
    /// From the database of `--target` back to the database of `--source`.
    Reverse,
}

impl Stream {
    /// Returns the name that state tables and `status` use.
    pub fn as_str(self) -> &'static str {
        match self {
            Stream::Forward => "forward",
            Stream::Reverse => "reverse",
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The identity of a table within one database (PostgreSQL: its OID in `pg_class`). Survives a rename.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RelationId(pub u32);

/// A table's schema and name, as the catalog stores them: unquoted and case-sensitive.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableName {
    /// Its schema.
    pub schema: Arc<str>,
    /// Its name within the schema.
    pub name: Arc<str>,
}

impl TableName {
    /// Names a table.
    pub fn new(schema: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        TableName { schema: schema.into(), name: name.into() }
    }
}

impl fmt::Display for TableName {
    /// For people: `schema.name`, without quotes. SQL text is made with the quoting functions of the SQL crates.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

impl fmt::Debug for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TableName({self})")
    }
}

/// A column's name, as the catalog stores it: unquoted and case-sensitive.
pub type ColumnName = Arc<str>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migration_names_fit_into_slot_names() {
        let longest = "a".repeat(32);
        for good in ["a", "orders_2", &longest] {
            assert!(good.parse::<MigrationName>().unwrap().object_name().len() < 64);
        }
        for bad in ["", "Orders", "a-b", "a b", "ä", &"a".repeat(33)] {
            assert!(bad.parse::<MigrationName>().is_err(), "{bad:?} was taken");
        }
    }
}
