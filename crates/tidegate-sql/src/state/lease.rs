//! The right to write to a target.

use super::StateKey;

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
    /// otherwise keeps the row from a new owner until the transaction ends. The first statement of every copy
    /// transaction.
    pub fn guard_sql(&self) -> String {
        format!(
            "SELECT 1 / count(*) FROM (SELECT FROM {} WHERE {} AND shard = 0 AND epoch = {} FOR SHARE) AS mine",
            self.key.table("checkpoint"),
            self.key.condition(),
            self.epoch
        )
    }
}
