//! A table in a round.

use std::collections::VecDeque;
use std::sync::Arc;

use tidegate_model::{Chunk, CopyTable, Load, TableMap};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A table that is not copied yet.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) index: usize,
    pub(super) map: Arc<TableMap>,
    pub(super) bytes_estimated: u64,
}

impl Candidate {
    pub(super) fn new(index: usize, table: &CopyTable) -> Self {
        Candidate { index, map: Arc::new(table.map.clone()), bytes_estimated: table.bytes_estimated }
    }
}

/// A table in this round.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) candidate: Candidate,
    pub(super) stage: Stage,
    /// `None` until it was begun at the target in this round.
    pub(super) begun: Option<Begun>,
    /// Attempts since the last chunk was written.
    pub(super) attempts: u32,
}

/// Where it is on its way.
#[derive(Debug)]
pub(super) enum Stage {
    /// To be opened, not before this moment.
    Waiting(Instant),
    Opening,
    Active(Active),
    /// All chunks are written under one guard.
    Finishing,
    /// To be given its indexes back when a worker is free.
    Copied,
    Restoring,
}

/// A table whose chunks are being copied.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) running: usize,
    /// Stops its chunks.
    pub(super) interrupt: CancellationToken,
    /// Lets its guard go.
    pub(super) release: CancellationToken,
    /// What became of its guard.
    pub(super) guard: Option<GuardEnd>,
}

/// What the target was made ready for.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) load: Load,
    pub(super) chunks_total: u64,
    pub(super) todo: VecDeque<Chunk>,
}

/// How a guard ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum GuardEnd {
    /// Let go because everything was written, held until then.
    Kept,
    /// Let go because someone else wanted the table, or lost.
    Broken,
}
