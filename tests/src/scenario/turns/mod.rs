//! Turns under load, and turns in which something dies.

mod crashes;
mod load;
mod writers;

pub use crashes::{Deaths, run as run_crashes};
pub use load::{Load, Turned, run as run_load};
