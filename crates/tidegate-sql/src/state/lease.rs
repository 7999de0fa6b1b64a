//! The right to write to a target.

use super::StateKey;
use crate::dialect::Dialect;

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
        let lock = if dialect.is_cockroach() { "" } else { " FOR SHARE" };
        format!(
            "SELECT 1 / count(*) FROM (SELECT epoch FROM {} WHERE {} AND shard = 0 AND epoch = {}{lock}) AS mine",
            self.key.table("checkpoint"),
            self.key.condition(),
            self.epoch
        )
    }
}
