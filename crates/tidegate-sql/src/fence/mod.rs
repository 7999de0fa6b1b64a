//! A fence: nobody but the applier writes to the tables of a migration in one database.
//!
//! ```text
//!   put_up      group by group:  LOCK .. SHARE ROW EXCLUSIVE   waits for every transaction that has written
//!                                CREATE TRIGGER ..             in the same transaction
//!   from then on, a statement that writes is let through by the trigger's function if
//!                                its session says the secret                        (the applier's: let_through)
//!                                the generation that opens this database is there   (the turn back: one write)
//!                                the fence of this turn was given up                (give_up: one write)
//!   take_down   DROP TRIGGER, table by table, outside of the blocked time
//! ```
//!
//! The turn and the generation that opens stand in the trigger, not in a table: a transaction with an older snapshot
//! would not see a new row, but it always sees a trigger. What it may miss is that the fence is gone, and then it is
//! refused once too often.
//!
//! [`put_up_by_revoke`] and [`make_read_only`] are for roles that may not make triggers; [`fn@barrier`] is what makes a
//! fence of them, or of a command of the user's own. CockroachDB has no locks of tables and no statement triggers:
//! there privileges are revoked.

mod barrier;
mod blockers;
mod grants;
mod locks;
mod members;
mod our_role;
mod problem;
mod read_only;
mod record;
mod triggers;
mod writers;

use std::time::Duration;

use tidegate_model::{MigrationName, TableName};
use tokio::time::Instant;

pub use barrier::barrier;
pub use blockers::Blocker;
pub use grants::{Unrevoked, Why, give_back, put_up_by_revoke, revoked, unrevoked};
pub use members::not_owned;
pub use our_role::sessions_of_our_role;
pub use read_only::{ReadOnly, make_read_only, make_writable};
pub use record::{FenceRow, give_up, let_through, read_fence};
pub(crate) use triggers::leftovers;
pub use triggers::{Present, is_of_a_fence, present, put_up, take_down};
pub use writers::writers;

/// How many tables are locked in one transaction.
pub const GROUP_SIZE: usize = 200;
/// How long a lock is waited for at a time. A lock that waits stops all writers behind it. Shorter than
/// `deadlock_timeout`, so that it is never the application whose transaction a deadlock ends.
pub const LOCK_TIMEOUT: Duration = Duration::from_millis(500);

/// What to fence.
#[derive(Clone, Debug)]
pub struct FenceOrder {
    /// The migration.
    pub name: MigrationName,
    /// The turn that this is for. A fence that was given up is not put up again for the same turn.
    pub turn: String,
    /// The generation before the turn. Two turns later this database is open again, and the fence lets everybody
    /// through.
    pub generation: i64,
    /// The tables; their partitions and children are found.
    pub tables: Vec<TableName>,
    /// Where writers have to go, in words for their developers: host, port and database.
    pub write_to: String,
    /// See [`GROUP_SIZE`].
    pub group_size: usize,
    /// See [`LOCK_TIMEOUT`].
    pub lock_timeout: Duration,
    /// When to stop trying.
    pub until: Instant,
}

impl FenceOrder {
    /// Makes an order with the usual sizes.
    pub fn new(
        name: MigrationName,
        turn: impl Into<String>,
        generation: i64,
        tables: Vec<TableName>,
        write_to: impl Into<String>,
        until: Instant,
    ) -> Self {
        let (turn, write_to) = (turn.into(), write_to.into());
        let (group_size, lock_timeout) = (GROUP_SIZE, LOCK_TIMEOUT);
        FenceOrder { name, turn, generation, tables, write_to, group_size, lock_timeout, until }
    }

    /// Returns the generation that opens the database again.
    pub fn opens_at(&self) -> i64 {
        self.generation + 2
    }
}

/// A fence that stands.
#[derive(Clone, Debug)]
pub struct Fenced {
    /// When the first writer may have been stopped: the first attempt at the first lock.
    pub blocked_since: Instant,
    /// What is fenced, partitions and children included.
    pub tables: Vec<TableName>,
}

/// Told who is in the way, again and again while a lock is waited for.
pub type OnWait<'a> = &'a mut (dyn FnMut(&[Blocker]) + Send);
