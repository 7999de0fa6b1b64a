//! What the databases of a migration write down of a turn, and the one write that is the turn.
//!
//! ```text
//!   closing side:  begun T --> turning T --> (follow) generation + 1
//!                     |           | only behind a refusal of the opening side
//!                     +-----------+--> aborted T
//!   opening side:  generation --> (open) generation + 1, unless it says aborted T (refuse)
//! ```
//!
//! Every write is a compare-and-set that may be repeated: an answer that was lost is settled by reading what stands.
//! What the words in `turning` mean, and which write may follow which, is decided by whoever plans turns; here they are
//! text.

mod book;
mod problem;
mod steps;

pub use book::{Book, Opening};
pub use steps::{Recorded, StepRow, StepState};
