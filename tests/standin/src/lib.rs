//! A stand-in for CockroachDB, backed by PostgreSQL: what tests and the demonstration use where no CockroachDB is.
//!
//! It is a relay of messages. Each client session has a session of the backing server; the text of statements is
//! rewritten at the level of words, or refused as CockroachDB refuses it; rows, parameters and copies pass as they are;
//! errors get CockroachDB's codes and texts. Changefeeds, reading at a time and jobs are its own work.
//!
//! ```text
//!   client ──► wire (frames) ──► session ──► dialect (rewrite, refuse) ──► backing session
//!          ◄── wire (frames) ◄── translate (errors) ◄────────────────────┘
//!                                   └──► feed, history, jobs, knobs
//! ```
//!
//! It says what it is: in `version()`, in its log, and in the line with which its program begins.

pub mod encode;
pub mod error;
pub mod feed;
pub mod history;
pub mod jobs;
pub mod knobs;

mod backing;
mod dialect;
mod install;
mod options;
mod server;
mod session;
mod shape;
mod standin;
mod translate;
mod wire;

pub use options::{ShapeList, StandinOptions, VERSION, Version};
pub use shape::shape_of;
pub use standin::Standin;
