//! Names inside SQL.

use postgres_protocol::escape::escape_identifier;
use tidegate_model::TableName;

/// Quotes a table's name together with its schema: sessions have no search path to rely on.
pub(super) fn table(name: &TableName) -> String {
    format!("{}.{}", escape_identifier(&name.schema), escape_identifier(&name.name))
}
