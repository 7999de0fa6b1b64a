//! PostgreSQL as a source: its tables, its slot and publication, and the stream of what it commits.
//!
//! ```text
//!   check ------> findings                 before anything is made
//!   catalog ----> tables                   as pgoutput will describe them
//!   publication, slot ----> point, snapshot
//!   history ----> may this stream go on?   on each start and on each reconnection
//!
//!   walsender --> reader task --> decode thread --> PostgresSource::next
//!       ^             |  bounded by bytes, each               |
//!       +-- status ---+<------- acknowledge(position) <-------+
//! ```
//!
//! Nothing here is ever reported to the server as flushed that the caller has not acknowledged.

pub mod assembly;
pub mod catalog;
pub mod check;
pub mod copy;
pub mod fence;
pub mod history;
pub mod pgoutput;
mod problem;
pub mod publication;
mod queue;
pub mod slot;
pub mod spool;
mod stream;
mod timeline;
mod version;
pub mod wal;

pub use history::History;
pub use stream::{HistorySink, PostgresSource, Received, SourceConfig};
pub use version::ServerVersion;
