//! The initial copy: whole tables, largest first, read under as few snapshots as the source's life allows.
//!
//! ```text
//!   round:   snapshot (point P) --> tables, chunk by chunk --> copied, each with its point
//!               ^                         |
//!               +---- left over <---------+   snapshot lost, table rewritten or wanted by someone else
//! ```
//!
//! A `Round` has one live snapshot. A table that is finished keeps its rows and its point for good; what a round
//! leaves over is read again, from its first chunk, in the next round at a later point.

mod backoff;
mod chunk;
mod progress;
mod round;
mod table;
mod tasks;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tidegate_model::{CopySnapshot, CopySource, CopyState, CopyTable, CopyTarget, Problem, TableMap, TableRoute};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use backoff::{Backoff, Retry};
use progress::{Board, Reason};
pub use progress::{CopyProgress, TableProgress};
use round::Round;
use table::Candidate;

/// How the copy goes about its work.
#[derive(Clone, Debug)]
pub struct CopyConfig {
    /// Sessions that read, and as many that write.
    pub workers: usize,
    /// Tables that are under way at once; each holds a lock and a session at the source.
    pub tables_at_once: usize,
    /// The first pause before something that failed is tried again; doubled each time.
    pub pause_first: Duration,
    /// The longest such pause.
    pub pause_max: Duration,
}

impl Default for CopyConfig {
    fn default() -> Self {
        // Four of each keep two busy servers busy without taking every connection of a small one.
        let (pause_first, pause_max) = (Duration::from_millis(500), Duration::from_secs(30));
        CopyConfig { workers: 4, tables_at_once: 4, pause_first, pause_max }
    }
}

/// How a copy ended.
#[derive(Clone, Debug, PartialEq)]
pub enum CopyEnd {
    /// Every table is copied; the routes are in the order in which the tables were given.
    Copied(Vec<TableRoute>),
    /// It was told to stop. Finished tables stay finished.
    Stopped,
}

/// A copy that is about to run.
#[derive(Debug)]
pub struct Copy<S, T> {
    source: S,
    target: Arc<T>,
    tables: Vec<CopyTable>,
    config: CopyConfig,
    board: Board,
    reason: Reason,
}

impl<S: CopySource, T: CopyTarget> Copy<S, T> {
    /// Makes a copy of `tables`, which are all tables of the stream, finished ones included.
    pub fn new(source: S, target: T, tables: Vec<CopyTable>, config: CopyConfig) -> Self {
        let board = Board::new(&tables);
        let reason = board.reason();
        Copy { source, target: Arc::new(target), tables, config, board, reason }
    }

    /// Returns how far it is, from now on.
    pub fn progress(&self) -> watch::Receiver<CopyProgress> {
        self.board.subscribe()
    }

    /// Copies until every table is copied, a definite problem comes up or `stop` is cancelled. What fails for the
    /// moment is tried again for ever, with the reason in the progress. After any end, also a crash, another copy goes
    /// on from what the target remembers.
    pub async fn run(mut self, stop: CancellationToken) -> Result<CopyEnd, Problem> {
        // Stopping drops every task where it is: a chunk that was not committed is worth nothing without its snapshot.
        match stop.run_until_cancelled(self.run_rounds()).await {
            Some(routes) => routes.map(CopyEnd::Copied),
            None => Ok(CopyEnd::Stopped),
        }
    }

    async fn run_rounds(&mut self) -> Result<Vec<TableRoute>, Problem> {
        let mut routes = vec![None; self.tables.len()];
        let mut open = Vec::new();
        let mut copied_before = Vec::new();
        for (index, table) in self.tables.iter().enumerate() {
            match &table.state {
                CopyState::Copied(route) => {
                    copied_before.push(route.map.clone());
                    routes[index] = Some(route.clone());
                }
                CopyState::Planned | CopyState::Copying => open.push(Candidate::new(index, table)),
            }
        }
        self.prepare(&open).await?;

        let mut pause = Backoff::new(&self.config);
        while !open.is_empty() {
            let snapshot = self.take_snapshot().await?;
            tracing::info!(point = %snapshot.point(), tables = open.len(), "copying under a new snapshot");
            let round = Round::new(snapshot, Arc::clone(&self.target), &self.config, &mut self.board, open);
            let end = round.run().await?;
            // No snapshot is held while pausing: it would keep the source from vacuuming.
            if !end.copied.is_empty() {
                pause.reset();
            } else if !end.left.is_empty() {
                pause.wait().await;
            }
            for (index, route) in end.copied {
                routes[index] = Some(route);
            }
            open = end.left;
        }
        self.restore(copied_before).await?;
        Ok(routes.into_iter().map(|route| route.expect("a table that is not open is copied")).collect())
    }

    async fn prepare(&self, open: &[Candidate]) -> Result<(), Problem> {
        if open.is_empty() {
            return Ok(());
        }
        let stream: Vec<TableMap> = self.tables.iter().map(|table| table.map.clone()).collect();
        let loading: Vec<TableMap> = open.iter().map(|candidate| TableMap::clone(&candidate.map)).collect();
        let mut retry = self.retry();
        while retry.settle(self.target.prepare(&stream, &loading).await).await?.is_none() {}
        Ok(())
    }

    async fn take_snapshot(&self) -> Result<S::Snapshot, Problem> {
        let mut retry = self.retry();
        loop {
            if let Some(snapshot) = retry.settle(self.source.snapshot().await).await? {
                return Ok(snapshot);
            }
        }
    }

    fn retry(&self) -> Retry {
        Retry::new(&self.config, &self.reason)
    }

    /// Completes what a crash may have left between the end of a table's load and the return of its indexes.
    async fn restore(&self, tables: Vec<TableMap>) -> Result<(), Problem> {
        for map in tables {
            let mut retry = self.retry();
            while retry.settle(self.target.restore(&map).await).await?.is_none() {}
        }
        Ok(())
    }
}
