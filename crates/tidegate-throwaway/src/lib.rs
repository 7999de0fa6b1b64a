//! PostgreSQL servers to throw away: for tests and for the demonstration.
//!
//! A [`Server`] is a cluster of its own in a temporary directory, on a free port of 127.0.0.1. It runs as an
//! unprivileged
//! user where we are root, because PostgreSQL refuses to run as root. It ends with the value, and also when our process
//! is killed:
//!
//! ```text
//!   our process --spawns--> postgres          (its children have the data directory as working directory)
//!        |                     ^
//!        +--pipe--> reaper ----+  at end of file, that is when we end in whatever way: kills them all, removes the
//! directory
//! ```
//!
//! Calls block; from async code use them on a blocking thread where the wait matters.

mod binaries;
mod builder;
mod processes;
mod reaper;
mod server;

pub use binaries::Binaries;
pub use builder::Builder;
pub use server::{Server, StopMode};
