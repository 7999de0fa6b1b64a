//! CockroachDB as a source: its tables, its history, and the stream of what it commits.
//!
//! ```text
//!   check ------> findings                 before anything is made
//!   catalog ----> tables                   as a feed will tell them
//!   history ----> may this stream go on?   on each start and on each reconnection
//!   copy -------> rows as of one time T    again and again, from any session
//!
//!   changefeed --> reader task --> decode thread (message, value, window, spool) --> CockroachSource::next
//!       ^             |  bounded by bytes, each
//!       +-- cursor ---+
//! ```
//!
//! The pull feed is the one kind of feed there is so far. Whatever else brings messages to [`message::Decoder`] can
//! share everything behind it.

pub mod catalog;
pub mod check;
pub mod copy;
mod gc;
pub mod history;
pub mod message;
mod problem;
mod queue;
pub mod spool;
mod statement;
mod stream;
pub mod table;
pub mod value;
pub mod window;

pub use gc::{GcLevel, GcWindow, TTL_SECONDS_DEFAULT};
pub use history::{History, now};
pub use stream::{CockroachSource, Received, SourceConfig, Work};
pub use table::TableInfo;
pub use value::Kind;
