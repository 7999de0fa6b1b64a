//! Comparing tables of two databases at a pair of snapshots.
//!
//! ```text
//!   fence --> Pair { source, target, position }
//!                |         each side: rows in any order, as text
//!                v
//!   compare_table: row --canonical form--> hash --> bucket of its key     (first pass: counts and sums)
//!                  buckets that differ --> rows of these buckets          (second pass: keys and columns)
//!   compare_keys:  the same answer for a set of keys, read by key         (what was touched since the last time)
//!                |
//!                v
//!   TableReport, Report                                                   repair: changes that would make them equal
//! ```
//!
//! Nothing relies on the order in which rows come, so collations do not matter; nothing grows with the table, so its
//! size does not either. [`Touched`] remembers the keys that a stream wrote since a table was last compared.

mod compare;
mod key;
mod layout;
mod problem;
mod repair;
mod report;
mod row;
mod side;
mod touched;
mod value;

pub use compare::{Options, Pair, compare_keys, compare_table};
pub use key::Key;
pub use repair::repair;
pub use report::{ColumnValues, DifferenceKind, KeyReport, KeyText, Report, SequenceReport, TableReport, Verdict};
pub use side::{Side, SnapshotRef};
pub use touched::{Touched, TouchedKeys};
pub use value::Equality;
