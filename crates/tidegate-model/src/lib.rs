//! The nouns of Tidegate and the traits between its parts. No I/O happens here.
//!
//! ```text
//!   Source --> Event(Transaction | Watermark) --> Batch(Span) --> Applier
//!      ^                                                            |
//!      +---------------- acknowledge(Position) <--------------------+
//! ```
//!
//! Everything a direction of a migration moves is one of these types, whatever the databases at its ends:
//!
//! - [`Position`]: where in one history something lies; [`Span`]: a stretch of it; [`Checkpoint`]: how far the target is.
//! - [`Transaction`], [`Change`], [`Row`]: what the source committed, with honest row shapes.
//! - [`TableMap`]: which source table and columns go to which target table and columns.
//! - [`Source`] and [`Applier`]: the two ends of a pipeline.
//! - [`Problem`]: what a user reads when something stops.

mod batch;
mod checkpoint;
mod copy;
mod filter;
mod mark;
mod name;
mod position;
mod problem;
mod row;
mod table;
mod traits;
mod transaction;

pub use batch::Batch;
pub use checkpoint::{Checkpoint, CheckpointError, Span};
pub use copy::{
    Chunk, ChunkReader, ChunkSize, ChunkStart, ChunkWriter, CopyFormat, CopySnapshot, CopySource, CopyState, CopyTable,
    CopyTarget, Guarded, Load, TableGuard, Wanted,
};
pub use filter::TableFilter;
pub use mark::{MESSAGE_PREFIX, is_applied_message};
pub use name::{ColumnName, InvalidName, MigrationName, RelationId, Stream, TableName};
pub use position::{CommitPosition, Hlc, InvalidPosition, Lsn, Position};
pub use problem::{Class, Finding, Problem, Severity};
pub use row::{NewRow, OldRow, Row, RowBuilder, Value};
pub use table::{ColumnMap, ReplicaIdentity, SourceColumn, SourceTable, TableMap, TableRoute};
pub use traits::{Applier, Event, Source};
pub use transaction::{Change, ChangeReader, Changes, SpooledChanges, Timestamp, Transaction};
