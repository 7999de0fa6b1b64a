//! The copy of rows that exist already: what its coordinator, its reading half and its writing half tell each other.
//!
//! ```text
//!   CopySource --> CopySnapshot(point) --> TableGuard (ctids keep their meaning)
//!                        |
//!                        +--> ChunkReader --blocks--> ChunkWriter --> CopyTarget
//! ```
//!
//! What has a point is the table: all its chunks are read under one snapshot. Chunks mean nothing under another
//! snapshot.

use std::future::Future;

use bytes::Bytes;

use crate::{Position, Problem, TableMap, TableRoute};

/// A table that the copy is asked for.
#[derive(Clone, Debug)]
pub struct CopyTable {
    /// Which goes where.
    pub map: TableMap,
    /// About how many bytes it takes on disk at the source, TOAST included and indexes not.
    pub bytes_estimated: u64,
    /// About how many rows it has.
    pub rows_estimated: u64,
    /// What the target's state says about it.
    pub state: CopyState,
}

/// How far the copy of a table is, as the target remembers it across restarts.
#[derive(Clone, Debug, PartialEq)]
pub enum CopyState {
    /// Nothing of it was copied, or it is to be copied again.
    Planned,
    /// It was begun. What the target holds of it is worth nothing, because the snapshot it came from is gone.
    Copying,
    /// It is complete as of the route's point.
    Copied(TableRoute),
}

impl CopyState {
    /// Returns the name that state tables and `status` use.
    pub fn as_str(&self) -> &'static str {
        match self {
            CopyState::Planned => "planned",
            CopyState::Copying => "copying",
            CopyState::Copied(_) => "copied",
        }
    }
}

/// How rows travel from a source session to a target session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyFormat {
    /// The servers' binary form: only where every column has the same built-in type on both sides.
    Binary,
    /// The servers' text form.
    Text,
}

impl CopyFormat {
    /// Returns the name that SQL and state tables use.
    pub fn as_str(self) -> &'static str {
        match self {
            CopyFormat::Binary => "binary",
            CopyFormat::Text => "text",
        }
    }
}

/// A stretch of a table's heap, as ctids count it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// From 0 in the order of the pages.
    pub number: u64,
    /// The first page.
    pub first_page: u64,
    /// The page after the last one; `None`: to the end, however far the table grows.
    pub end_page: Option<u64>,
}

impl Chunk {
    /// Cuts `pages` pages into chunks of `pages_each`; the last one is open-ended and there is always one.
    pub fn cut(pages: u64, pages_each: u64) -> Vec<Chunk> {
        let pages_each = pages_each.max(1);
        let count = pages.div_ceil(pages_each).max(1);
        let end = |number| if number + 1 < count { Some((number + 1) * pages_each) } else { None };
        (0..count).map(|number| Chunk { number, first_page: number * pages_each, end_page: end(number) }).collect()
    }
}

/// A target table that was made ready to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// How its rows travel.
    pub format: CopyFormat,
    /// Which copy of the table this is, counted from 1. Chunks of an earlier one are refused by the target.
    pub copy: i32,
}

/// Reads tables under snapshots.
pub trait CopySource: Send + Sync + 'static {
    /// A snapshot of it.
    type Snapshot: CopySnapshot;

    /// Takes a snapshot whose point lies in the stream's history. Several may be taken one after another.
    fn snapshot(&self) -> impl Future<Output = Result<Self::Snapshot, Problem>> + Send;
}

/// One consistent view of the whole source. Dropping it lets go of everything at the source.
pub trait CopySnapshot: Send + Sync + 'static {
    /// Keeps a table as the snapshot knows it.
    type Guard: TableGuard;
    /// Reads chunks.
    type Reader: ChunkReader;

    /// Returns its point: it holds exactly the commits at or before it.
    fn point(&self) -> &Position;

    /// Waits until the snapshot is lost. What was read before stays good; nothing more can be begun.
    fn lost(&self) -> impl Future<Output = ()> + Send;

    /// Guards a table against being rewritten or emptied while its chunks are read. Does not wait for locks.
    fn guard(&self, table: &TableMap) -> impl Future<Output = Result<Guarded<Self::Guard>, Problem>> + Send;

    /// Returns how rows travel, the target taking `format`. A source that has only the text form says so.
    fn format(&self, format: CopyFormat) -> CopyFormat {
        format
    }

    /// Opens a session that reads under this snapshot.
    fn reader(&self) -> impl Future<Output = Result<Self::Reader, Problem>> + Send;
}

/// The answer to a wish to guard a table.
#[derive(Debug)]
pub enum Guarded<G> {
    /// It is guarded and still has the pages the snapshot knows.
    Held(G),
    /// Someone else holds or wants a lock that excludes readers: try again later.
    Busy,
    /// It was rewritten or emptied since the snapshot: only a newer snapshot can read it.
    Rewritten,
}

/// Holds a table. While it is held, the pages of the table keep their meaning.
pub trait TableGuard: Send + 'static {
    /// Cuts the table into chunks.
    fn chunks(&self) -> Vec<Chunk>;

    /// Waits until the guard has to be let go: someone has waited for it (or for a chunk of its table) as long as we
    /// let others wait, or it is lost. Cancel-safe.
    fn wanted(&mut self) -> impl Future<Output = Wanted> + Send;

    /// Lets go. Returns whether it was held without a break until now.
    fn release(self) -> impl Future<Output = bool> + Send;
}

/// Why a guard has to be let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Someone waits for a lock that excludes readers.
    ByOther,
    /// The guard is gone already.
    Lost,
}

/// A source session under a snapshot. Reads one chunk at a time and holds no lock between chunks.
pub trait ChunkReader: Send + 'static {
    /// Starts to read a chunk.
    fn open(
        &mut self,
        table: &TableMap,
        chunk: &Chunk,
        format: CopyFormat,
    ) -> impl Future<Output = Result<(), Problem>> + Send;

    /// Returns the next bytes of the open chunk; `None`: it was read to its end and its locks are released.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, Problem>> + Send;

    /// Ends the session and the statement it may be running, in whatever state an abandoned call left it.
    fn abandon(self) -> impl Future<Output = ()> + Send;
}

/// Writes tables.
pub trait CopyTarget: Send + Sync + 'static {
    /// Writes chunks.
    type Writer: ChunkWriter;

    /// Takes away what stands in the way of loading `loading` (foreign keys), before the first table is begun. `stream`
    /// are all tables of the stream, `loading` included. May be repeated.
    fn prepare(&self, stream: &[TableMap], loading: &[TableMap]) -> impl Future<Output = Result<(), Problem>> + Send;

    /// Makes a table ready for its first chunk: refuses one with rows that are not ours, empties one that was begun
    /// before, and remembers that it is being copied. May be repeated: it then counts as another copy.
    fn begin(&self, table: &TableMap, bytes_estimated: u64) -> impl Future<Output = Result<Load, Problem>> + Send;

    /// Returns a writer; it connects when it is first used.
    fn writer(&self) -> Self::Writer;

    /// Remembers that all `chunks` chunks of a table are written, with the route that the stream follows from now on.
    /// May be repeated.
    fn finish(&self, route: &TableRoute, load: &Load, chunks: u64) -> impl Future<Output = Result<(), Problem>> + Send;

    /// Restores what loading took away from a table that is copied (indexes, keys). May be repeated.
    fn restore(&self, table: &TableMap) -> impl Future<Output = Result<(), Problem>> + Send;
}

/// A target session that writes each chunk in a transaction of its own, with the record of it. Connects by itself,
/// again after a failure.
pub trait ChunkWriter: Send + 'static {
    /// Starts the transaction of a chunk. After an error or an abandoned call it may be called anew.
    fn begin(
        &mut self,
        table: &TableMap,
        load: &Load,
        chunk: &Chunk,
    ) -> impl Future<Output = Result<ChunkStart, Problem>> + Send;

    /// Writes more of the chunk.
    fn write(&mut self, block: Bytes) -> impl Future<Output = Result<(), Problem>> + Send;

    /// Commits the chunk. A lost answer is settled by reading the chunk's record.
    fn commit(&mut self) -> impl Future<Output = Result<ChunkSize, Problem>> + Send;

    /// Rolls back, in whatever state an abandoned call left it.
    fn abandon(&mut self) -> impl Future<Output = ()> + Send;
}

/// Whether a chunk has to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkStart {
    /// Write it, then commit.
    Open,
    /// It was written before, by a transaction whose answer was lost.
    Written(ChunkSize),
}

/// What a chunk held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkSize {
    /// Its rows.
    pub rows: u64,
    /// Its bytes as they travelled.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_every_page_once_and_the_last_has_no_end() {
        for (pages, each) in [(0, 4), (1, 4), (4, 4), (5, 4), (9, 1), (3, 0)] {
            let chunks = Chunk::cut(pages, each);
            let mut next = 0;
            for (number, chunk) in chunks.iter().enumerate() {
                assert_eq!((chunk.number, chunk.first_page), (number as u64, next));
                match chunk.end_page {
                    Some(end) => next = end,
                    None => assert_eq!(number + 1, chunks.len()),
                }
            }
            assert!(next < pages.max(1));
        }
    }
}
