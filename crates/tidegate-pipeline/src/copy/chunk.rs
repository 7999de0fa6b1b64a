//! One chunk: from a source session through to a commit at the target.

use std::sync::Arc;

use tidegate_model::{
    Chunk, ChunkReader, ChunkSize, ChunkStart, ChunkWriter, Class, CopySnapshot, Load, Problem, TableMap,
};
use tokio_util::sync::CancellationToken;

use super::CopyConfig;
use super::backoff::Backoff;
use super::progress::Reason;

/// A source session and a target session that work together.
#[derive(Debug)]
pub(super) struct Worker<R, W> {
    /// `None`: to be opened. A session that was interrupted is never used again, because a late cancel request would
    /// hit its next statement.
    pub(super) reader: Option<R>,
    pub(super) writer: W,
}

/// What a chunk needs to know of its table.
#[derive(Clone, Debug)]
pub(super) struct ChunkOf {
    pub(super) map: Arc<TableMap>,
    pub(super) load: Load,
    pub(super) chunk: Chunk,
    /// Cancelled when the table's guard is let go.
    pub(super) interrupt: CancellationToken,
}

/// How a chunk went, definite problems aside.
#[derive(Debug)]
pub(super) enum ChunkEnd {
    Written(ChunkSize),
    /// Its table was let go.
    Interrupted,
    /// The source session failed; another one may fare better.
    SourceFailed(Problem),
}

enum Failure {
    Source(Problem),
    Target(Problem),
}

impl<R: ChunkReader, W: ChunkWriter> Worker<R, W> {
    /// Copies one chunk. A target that fails for the moment is tried again until it works or the table is let go.
    pub(super) async fn copy<S: CopySnapshot<Reader = R>>(
        &mut self,
        snapshot: &S,
        of: &ChunkOf,
        config: &CopyConfig,
        reason: &Reason,
    ) -> Result<ChunkEnd, Problem> {
        let mut pause = Backoff::new(config);
        loop {
            let failure = match of.interrupt.run_until_cancelled(self.attempt(snapshot, of)).await {
                Some(Ok(size)) => return Ok(ChunkEnd::Written(size)),
                Some(Err(failure)) => Some(failure),
                None => None,
            };
            self.give_up().await;
            match failure {
                None => return Ok(ChunkEnd::Interrupted),
                Some(Failure::Source(problem)) if problem.class == Class::Transient => {
                    of.interrupt.run_until_cancelled(pause.wait()).await;
                    return Ok(ChunkEnd::SourceFailed(problem));
                }
                Some(Failure::Target(problem)) if problem.class == Class::Transient => {
                    tracing::warn!(
                        error = %problem.what,
                        code = problem.code,
                        table = %of.map.source.name,
                        chunk = of.chunk.number,
                        "chunk is tried again"
                    );
                    reason.set(problem.what);
                    of.interrupt.run_until_cancelled(pause.wait()).await;
                }
                Some(Failure::Source(problem) | Failure::Target(problem)) => return Err(problem),
            }
        }
    }

    async fn attempt<S: CopySnapshot<Reader = R>>(&mut self, snapshot: &S, of: &ChunkOf) -> Result<ChunkSize, Failure> {
        // The target first: a chunk that has to wait there must not hold a lock at the source meanwhile.
        let start = self.writer.begin(&of.map, &of.load, &of.chunk).await.map_err(Failure::Target)?;
        if let ChunkStart::Written(size) = start {
            return Ok(size);
        }
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => none.insert(snapshot.reader().await.map_err(Failure::Source)?),
        };
        reader.open(&of.map, &of.chunk, of.load.format).await.map_err(Failure::Source)?;
        while let Some(block) = reader.next().await.map_err(Failure::Source)? {
            self.writer.write(block).await.map_err(Failure::Target)?;
        }
        self.writer.commit().await.map_err(Failure::Target)
    }

    async fn give_up(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.abandon().await;
        }
        self.writer.abandon().await;
    }
}
