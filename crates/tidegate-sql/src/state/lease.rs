//! The right to write to a target.

use tidegate_model::Position;

use super::StateKey;
use crate::dialect::Dialect;
use crate::quote;

/// The right of one process to write a stream: the epoch it took. A later owner takes a higher one, and from then on
/// every transaction of this one fails at its first statement, also one whose client died long ago.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Which stream.
    pub key: StateKey,
    /// The epoch of the owner.
    pub epoch: i64,
}

impl Lease {
    /// Returns SQL that raises a division by zero (22012) unless this epoch still owns the checkpoint row, and
    /// otherwise keeps the transaction and a new owner apart. The first statement of every copy transaction.
    ///
    /// PostgreSQL holds the row until the transaction ends. CockroachDB only reads it: its transactions are
    /// serializable, so that one which commits after all was before the new owner for everybody, who sees what it wrote.
    pub fn guard_sql(&self, dialect: Dialect) -> String {
        self.guard(dialect, "")
    }

    /// Returns the same, which also raises unless the checkpoint stands at exactly `at`, and holds it there until the
    /// transaction ends: for what may be written at that position only.
    pub(crate) fn guard_at_sql(&self, dialect: Dialect, at: &Position) -> String {
        self.guard(dialect, &format!(" AND position = {}", quote::literal(&at.to_string())))
    }

    fn guard(&self, dialect: Dialect, condition: &str) -> String {
        let lock = if dialect.is_cockroach() { "" } else { " FOR SHARE" };
        format!(
            "SELECT 1 / count(*) FROM (SELECT epoch FROM {} WHERE {} AND shard = 0 AND epoch = {}{condition}{lock}) AS mine",
            self.key.table("checkpoint"),
            self.key.condition(),
            self.epoch
        )
    }
}
