//! Leaving: what Tidegate made in a database is listed, shown, and removed.
//!
//! Nothing is guessed: an object is ours by its name (`tidegate_<name>`) or by a record in the state. The state goes
//! last, so that a removal that was interrupted finds the rest again.

mod ending;
mod inventory;
mod removal;

pub use ending::declare_over;
pub use inventory::{Removal, RemovalKind, inventory};
pub use removal::remove;

/// What stays on purpose, in every database.
pub const KEPT: [&str; 2] =
    ["the values of sequences, which were moved on", "the replica identity of tables for which it was set on request"];
