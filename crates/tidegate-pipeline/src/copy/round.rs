//! One round: everything that is read under one snapshot.
//!
//! ```text
//!   waiting --open--> active --chunks--> all written --guard let go--> finishing --> copied --> restoring
//!      ^                |                                 |
//!      +--- let go -----+                                 +-- guard was lost: back to waiting
//!                       +--- rewritten, or let go too often, or the snapshot lost ---> left over
//! ```
//!
//! A table that had to be let go keeps the chunks it has: when it is guarded again under the same snapshot and was not
//! rewritten meanwhile, its pages still mean the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_model::{Chunk, Class, CopySnapshot, CopyTarget, Guarded, Problem, TableMap, TableRoute};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::CopyConfig;
use super::backoff::{Retry, pause_after};
use super::chunk::{ChunkEnd, ChunkOf, Worker};
use super::progress::{Board, Reason};
use super::table::{Active, Begun, Candidate, GuardEnd, Stage, Table};
use super::tasks::{self, Event, Opened, WorkerOf};

/// Attempts at a table without a chunk written in between, before it is left to the next round: a snapshot must not be
/// held for a table that cannot be had.
const ATTEMPTS_MAX: u32 = 5;

/// What a round leaves behind.
#[derive(Debug, Default)]
pub(super) struct RoundEnd {
    pub(super) copied: Vec<(usize, TableRoute)>,
    pub(super) left: Vec<Candidate>,
}

pub(super) struct Round<'a, S: CopySnapshot, T: CopyTarget> {
    snapshot: Arc<S>,
    target: Arc<T>,
    config: &'a CopyConfig,
    board: &'a mut Board,
    reason: Reason,
    tables: BTreeMap<usize, Table>,
    idle: Vec<WorkerOf<S, T>>,
    jobs: JoinSet<Event<S, T>>,
    /// The snapshot is lost: nothing new is begun.
    closing: bool,
    end: RoundEnd,
}

impl<'a, S: CopySnapshot, T: CopyTarget> Round<'a, S, T> {
    pub(super) fn new(
        snapshot: S,
        target: Arc<T>,
        config: &'a CopyConfig,
        board: &'a mut Board,
        candidates: Vec<Candidate>,
    ) -> Self {
        let now = Instant::now();
        let table = |candidate: Candidate| {
            (candidate.index, Table { candidate, stage: Stage::Waiting(now), begun: None, attempts: 0 })
        };
        let worker = || Worker { reader: None, writer: target.writer() };
        Round {
            idle: (0..config.workers.max(1)).map(|_| worker()).collect(),
            snapshot: Arc::new(snapshot),
            target,
            config,
            reason: board.reason(),
            board,
            tables: candidates.into_iter().map(table).collect(),
            jobs: JoinSet::new(),
            closing: false,
            end: RoundEnd::default(),
        }
    }

    /// Copies what can be copied under this snapshot. Dropping the call, or a definite problem, stops every task.
    pub(super) async fn run(mut self) -> Result<RoundEnd, Problem> {
        let snapshot = Arc::clone(&self.snapshot);
        let lost = snapshot.lost();
        tokio::pin!(lost);
        loop {
            let now = Instant::now();
            self.assign(now);
            let wake = self.next_wake(now);
            if self.jobs.is_empty() && wake.is_none() {
                return Ok(self.end);
            }
            tokio::select! {
                event = self.jobs.join_next(), if !self.jobs.is_empty() => match event {
                    Some(Ok(event)) => self.take(event)?,
                    Some(Err(panic)) => {
                        return Err(Problem::bug("CP010", "a task of the copy ended in the middle", panic.to_string()));
                    }
                    None => {}
                },
                () = &mut lost, if !self.closing => self.close(),
                () = sleep_until(wake.unwrap_or(now)), if wake.is_some() => {}
            }
        }
    }

    /// Gives every idle worker something to do, if there is anything.
    fn assign(&mut self, now: Instant) {
        while let Some(worker) = self.idle.pop() {
            if let Some(index) = self.copied() {
                self.restore(index, worker);
            } else if let Some(index) = self.next_table(now) {
                self.open(index, worker);
            } else if let Some(index) = self.next_active() {
                self.copy(index, worker);
            } else {
                self.idle.push(worker);
                return;
            }
        }
    }

    fn copied(&self) -> Option<usize> {
        let copied = |table: &Table| matches!(table.stage, Stage::Copied);
        self.tables.iter().find(|(_, table)| copied(table)).map(|(index, _)| *index)
    }

    /// Returns the largest table that may be opened now. Tables go before chunks: a worker to a table while there are
    /// tables, all to the last ones.
    fn next_table(&self, now: Instant) -> Option<usize> {
        let under_way = |table: &Table| matches!(table.stage, Stage::Opening | Stage::Active(_));
        if self.closing || self.tables.values().filter(|table| under_way(table)).count() >= self.config.tables_at_once {
            return None;
        }
        let due = |table: &Table| matches!(table.stage, Stage::Waiting(not_before) if not_before <= now);
        let due = self.tables.iter().filter(|(_, table)| due(table));
        due.max_by_key(|(_, table)| table.candidate.bytes_estimated).map(|(index, _)| *index)
    }

    /// Returns the table with chunks to do that has the fewest workers.
    fn next_active(&self) -> Option<usize> {
        let active = |table: &Table| match (&table.stage, &table.begun) {
            (Stage::Active(active), Some(begun)) if !active.interrupt.is_cancelled() && !begun.todo.is_empty() => {
                Some(active.running)
            }
            _ => None,
        };
        let running = self.tables.iter().filter_map(|(index, table)| active(table).map(|running| (running, *index)));
        running.min().map(|(_, index)| index)
    }

    /// Returns when the next table falls due. One that is due already waits for a worker, which announces itself.
    fn next_wake(&self, now: Instant) -> Option<Instant> {
        let later = |table: &Table| match table.stage {
            Stage::Waiting(at) if at > now => Some(at),
            _ => None,
        };
        self.tables.values().filter_map(later).min()
    }

    fn table(&mut self, index: usize) -> &mut Table {
        self.tables.get_mut(&index).expect("a table stays in its round until it is copied or left")
    }

    fn retry(&self) -> Retry {
        Retry::new(self.config, &self.reason)
    }

    fn open(&mut self, index: usize, worker: WorkerOf<S, T>) {
        let (snapshot, target) = (Arc::clone(&self.snapshot), Arc::clone(&self.target));
        let retry = self.retry();
        let table = self.table(index);
        table.stage = Stage::Opening;
        let (map, bytes) = (Arc::clone(&table.candidate.map), table.candidate.bytes_estimated);
        let load = table.begun.as_ref().map(|begun| begun.load.clone());
        self.jobs.spawn(async move {
            let opened = tasks::open(&*snapshot, &*target, &map, bytes, load, retry).await;
            Event::Opened(index, opened, worker)
        });
    }

    fn copy(&mut self, index: usize, mut worker: WorkerOf<S, T>) {
        let (snapshot, config, reason) = (Arc::clone(&self.snapshot), self.config.clone(), self.reason.clone());
        let table = self.table(index);
        let (Stage::Active(active), Some(begun)) = (&mut table.stage, &mut table.begun) else {
            unreachable!("only an active table gives out chunks");
        };
        let chunk = begun.todo.pop_front().expect("a table without chunks to do is not asked for one");
        active.running += 1;
        let (map, load) = (Arc::clone(&table.candidate.map), begun.load.clone());
        let of = ChunkOf { map, load, chunk, interrupt: active.interrupt.clone() };
        self.jobs.spawn(async move {
            let end = worker.copy(&*snapshot, &of, &config, &reason).await;
            Event::Chunk(index, of.chunk, end, worker)
        });
    }

    /// Needs no worker: what is complete is recorded at once, whatever the workers are busy with.
    fn finish(&mut self, index: usize) {
        let target = Arc::clone(&self.target);
        let (from, retry) = (self.snapshot.point().clone(), self.retry());
        let table = self.table(index);
        table.stage = Stage::Finishing;
        let route = TableRoute { map: TableMap::clone(&table.candidate.map), from };
        let begun = table.begun.as_ref().expect("a table that was not begun is not finished");
        let (load, chunks) = (begun.load.clone(), begun.chunks_total);
        self.jobs
            .spawn(async move { Event::Finished(index, tasks::finish(&*target, route, &load, chunks, retry).await) });
    }

    /// After the table is recorded as copied: building its indexes again costs less than reading it again.
    fn restore(&mut self, index: usize, worker: WorkerOf<S, T>) {
        let (target, retry) = (Arc::clone(&self.target), self.retry());
        let table = self.table(index);
        table.stage = Stage::Restoring;
        let map = Arc::clone(&table.candidate.map);
        self.jobs.spawn(async move {
            let restored = tasks::restore(&*target, &map, retry).await;
            Event::Restored(index, restored, worker)
        });
    }

    fn take(&mut self, event: Event<S, T>) -> Result<(), Problem> {
        match event {
            Event::Opened(index, opened, worker) => {
                self.idle.push(worker);
                self.opened(index, opened)?;
            }
            Event::Chunk(index, chunk, end, worker) => {
                self.idle.push(worker);
                self.chunk_ended(index, chunk, end?);
            }
            Event::Guard(index, end) => {
                if let Stage::Active(active) = &mut self.table(index).stage {
                    active.guard = Some(end);
                }
                self.settle(index);
            }
            Event::Finished(index, route) => {
                self.end.copied.push((index, route?));
                self.board.copied(index);
                self.table(index).stage = Stage::Copied;
            }
            Event::Restored(index, restored, worker) => {
                self.idle.push(worker);
                restored?;
                self.tables.remove(&index);
            }
        }
        Ok(())
    }

    fn opened(&mut self, index: usize, opened: Result<Guarded<Opened<S::Guard>>, Problem>) -> Result<(), Problem> {
        match opened {
            Ok(Guarded::Held(opened)) => self.activate(index, opened),
            Ok(Guarded::Busy) => self.put_off(index, "its lock was not to be had"),
            Ok(Guarded::Rewritten) => self.leave(index, "it was rewritten or emptied since the snapshot"),
            Err(problem) if problem.class == Class::Transient => self.put_off(index, &problem.what),
            Err(problem) => return Err(problem),
        }
        Ok(())
    }

    fn activate(&mut self, index: usize, opened: Opened<S::Guard>) {
        let (interrupt, release) = (CancellationToken::new(), CancellationToken::new());
        self.jobs.spawn(tasks::watch(index, opened.guard, interrupt.clone(), release.clone()));
        let table = self.table(index);
        table.stage = Stage::Active(Active { running: 0, interrupt, release, guard: None });
        if table.begun.is_none() {
            let chunks_total = opened.chunks.len() as u64;
            let todo = opened.chunks.into();
            table.begun = Some(Begun { load: opened.load, chunks_total, todo });
            self.board.begun(index, chunks_total);
        }
        if self.closing {
            self.close();
        }
        // A table that was let go after its last chunk has none left to do.
        self.settle(index);
    }

    fn chunk_ended(&mut self, index: usize, chunk: Chunk, end: ChunkEnd) {
        let table = self.table(index);
        let (Stage::Active(active), Some(begun)) = (&mut table.stage, &mut table.begun) else {
            unreachable!("a table stays active while a chunk of it is running");
        };
        active.running -= 1;
        match end {
            ChunkEnd::Written(size) => {
                table.attempts = 0;
                self.board.chunk(index, size);
            }
            ChunkEnd::Interrupted => begun.todo.push_front(chunk),
            ChunkEnd::SourceFailed(problem) => {
                let name = &table.candidate.map.source.name;
                tracing::warn!(error = %problem.what, code = problem.code, table = %name, "source session failed");
                begun.todo.push_front(chunk);
                // The table is let go as well: it must not stay locked while nothing reads it.
                active.interrupt.cancel();
                active.release.cancel();
                self.reason.set(problem.what);
            }
        }
        self.settle(index);
    }

    /// Moves an active table on once nothing of it is running.
    fn settle(&mut self, index: usize) {
        let table = self.table(index);
        let (Stage::Active(active), Some(begun)) = (&table.stage, &table.begun) else { return };
        if active.running > 0 {
            return;
        }
        let complete = begun.todo.is_empty();
        match active.guard {
            None if complete => active.release.cancel(),
            None => {}
            Some(GuardEnd::Kept) if complete => self.finish(index),
            Some(_) => self.put_off(index, "it was let go"),
        }
    }

    /// Tries a table again later under this snapshot, or leaves it to the next round.
    fn put_off(&mut self, index: usize, reason: &str) {
        let closing = self.closing;
        let config = self.config;
        let table = self.table(index);
        table.attempts += 1;
        if closing || table.attempts >= ATTEMPTS_MAX {
            return self.leave(index, reason);
        }
        let pause = pause_after(config, table.attempts - 1);
        table.stage = Stage::Waiting(Instant::now() + pause);
        tracing::info!(table = %table.candidate.map.source.name, reason, ?pause, "table is tried again later");
    }

    fn leave(&mut self, index: usize, reason: &str) {
        let table = self.tables.remove(&index).expect("a table leaves its round once");
        let name = &table.candidate.map.source.name;
        tracing::info!(table = %name, reason, "table is read again under a new snapshot");
        self.reason.set(format!("table \"{name}\" is read again: {reason}"));
        self.end.left.push(table.candidate);
    }

    /// The snapshot is lost: what is not read to its end is left to the next round.
    fn close(&mut self) {
        if !self.closing {
            tracing::warn!(point = %self.snapshot.point(), "snapshot lost");
        }
        self.closing = true;
        let waiting = |table: &Table| matches!(table.stage, Stage::Waiting(_));
        let left: Vec<usize> =
            self.tables.iter().filter(|(_, table)| waiting(table)).map(|(index, _)| *index).collect();
        for index in left {
            self.leave(index, "the snapshot was lost");
        }
        for table in self.tables.values() {
            if let (Stage::Active(active), Some(begun)) = (&table.stage, &table.begun)
                && (active.running > 0 || !begun.todo.is_empty())
            {
                active.interrupt.cancel();
                active.release.cancel();
            }
        }
    }
}
