//! Writing to PostgreSQL: state, ownership, planning and applying of batches, and what `check` finds at a target.
//!
//! - [`state`]: what a migration remembers in its databases, and who may write it ([`state::take`], [`state::Lease`]).
//! - [`plan`]: folds source changes into few self-checking statements. Pure.
//! - [`applier`]: writes batches with their checkpoint in one transaction, several under way.
//! - [`catalog`]: the target's tables, and the map from the source's to them. [`check`]: what is wrong with them.
//! - [`triggers`]: putting aside what changes rows of the target by itself.
//! - [`requests`]: what commands want from the owner of a stream. [`snapshot`]: a view of the target at its checkpoint.
//! - [`comparisons`]: what a comparison has found so far. [`conflicts`]: rows that both sides changed while both were open.
//! - [`fence`]: keeping everybody but the applier from writing. [`sequences`]: their values after a turn.
//! - [`repair`]: making rows of the target what a comparison found at the source.
//! - [`finish`]: removing what was made.
//! - [`turn`]: which database is open, and the one write that changes it.

pub mod applier;
pub mod catalog;
pub mod check;
pub mod comparisons;
pub mod conflicts;
pub mod copy;
pub mod dialect;
pub mod fence;
pub mod finish;
pub mod plan;
pub mod quote;
pub mod repair;
pub mod requests;
pub mod sequences;
pub mod snapshot;
pub mod state;
pub mod triggers;
pub mod turn;

mod retry;
mod server_error;
