//! What the benches measure with: backlogs as a server sends them, without a server.

mod backlog;
mod encode;

pub use backlog::Backlog;
