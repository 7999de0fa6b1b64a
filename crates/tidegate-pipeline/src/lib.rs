//! One pipeline is one direction of one migration: it takes transactions from a source in commit order, batches them,
//! gives them to an applier and tells the source what it may forget.
//!
//! ```text
//!   Source::next --> Batcher --> Applier::submit     several batches under way
//!      ^                              |
//!      |                        Applier::durable
//!      +--- acknowledge(position) <---+              the only place where a source may forget
//! ```

mod batcher;
mod gate;
mod pipeline;

pub mod copy;

pub use batcher::BatchLimits;
pub use gate::{Gate, Handle, Pending, Queue};
pub use pipeline::{Ended, Observer, Pipeline, Progress};
