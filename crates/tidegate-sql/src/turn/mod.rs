//! Which of the two databases is open, and the one write that changes it.
//!
//! ```text
//!             closing side                          opening side
//!   begin     turning = prepared:T                  turning = prepared:T
//!             .. fence, drain, verify, sequences ..
//!   send      turning = sent:T         (CAS)
//!   open                                            generation + 1, phase, record, turning = NULL   (CAS)  <- the turn
//!   follow    generation + 1, ..
//!
//!   abort     turning = aborted:T      (CAS from prepared: nothing was opened, and nothing will be)
//!   withdraw                                        turning = aborted:T   (CAS from prepared; then the closing side's)
//! ```
//!
//! Once `sent` stands, the closing side alone says nothing: only the opening side knows whether it was opened, and
//! [`withdraw`] decides it there, against an opening that may still be on its way. The opened side has the higher
//! generation; whatever else is written anywhere, that is the truth.

mod migration;
mod problem;
mod standing;
mod steps;

pub use migration::{Opening, Withdrawal, abort, begin, follow, open, read_turned, send, withdraw};
pub use standing::{Standing, Turning, open_side, standing};
pub use steps::{Step, StepState, copy_steps, read_steps, record_step};
