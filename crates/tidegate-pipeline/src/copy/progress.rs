//! How far the copy is.

use std::collections::VecDeque;
use std::time::Duration;

use tidegate_model::{ChunkSize, CopyState, CopyTable, TableName};
use tokio::sync::watch;
use tokio::time::Instant;

/// The rate is that of the last half minute: long enough to be steady, short enough to be true.
const RATE_WINDOW: Duration = Duration::from_secs(30);

/// How far the whole copy is, for the line on the terminal and for `status`.
#[derive(Clone, Debug, Default)]
pub struct CopyProgress {
    /// One for each table of the stream, in the order given.
    pub tables: Vec<TableProgress>,
    /// Rows written, those of tables finished in earlier runs not included.
    pub rows: u64,
    /// Bytes written, as they travelled; likewise.
    pub bytes: u64,
    /// Bytes per second of late, as they travel.
    pub bytes_per_second: u64,
    /// How much of the whole is done, between 0 and 1, measured in bytes on disk.
    pub fraction: f64,
    /// About how long it will take yet; `None` while that cannot be told.
    pub time_left: Option<Duration>,
    /// Why nothing moves, where something keeps failing.
    pub waiting_for: Option<String>,
}

/// How far the copy of one table is.
#[derive(Clone, Debug)]
pub struct TableProgress {
    /// The source table.
    pub table: TableName,
    /// `planned`, `copying` or `copied`.
    pub state: &'static str,
    /// Rows written.
    pub rows: u64,
    /// Bytes written, as they travelled.
    pub bytes: u64,
    /// Chunks written.
    pub chunks: u64,
    /// Chunks there are; 0 before it is begun.
    pub chunks_total: u64,
    /// About how many bytes it takes on the source's disk.
    pub bytes_estimated: u64,
}

impl CopyProgress {
    /// Returns how many tables are copied.
    pub fn copied(&self) -> usize {
        self.tables.iter().filter(|table| table.state == "copied").count()
    }
}

impl TableProgress {
    fn bytes_done(&self) -> f64 {
        match (self.state, self.chunks_total) {
            ("copied", _) => self.bytes_estimated as f64,
            (_, 0) => 0.0,
            (_, total) => self.bytes_estimated as f64 * self.chunks as f64 / total as f64,
        }
    }
}

/// Where the coordinator notes what it did and everyone else reads it.
#[derive(Debug)]
pub(super) struct Board {
    published: watch::Sender<CopyProgress>,
    /// When, bytes travelled and bytes on disk done by then.
    samples: VecDeque<(Instant, u64, f64)>,
}

/// Where anyone notes why nothing moves.
#[derive(Clone, Debug)]
pub(super) struct Reason(watch::Sender<CopyProgress>);

impl Reason {
    pub(super) fn set(&self, reason: String) {
        self.change(Some(reason));
    }

    pub(super) fn clear(&self) {
        self.change(None);
    }

    fn change(&self, reason: Option<String>) {
        self.0.send_if_modified(|progress| {
            let changed = progress.waiting_for != reason;
            progress.waiting_for = reason;
            changed
        });
    }
}

impl Board {
    pub(super) fn new(tables: &[CopyTable]) -> Self {
        let table = |table: &CopyTable| TableProgress {
            table: table.map.source.name.clone(),
            state: if matches!(table.state, CopyState::Copied(_)) { "copied" } else { "planned" },
            rows: 0,
            bytes: 0,
            chunks: 0,
            chunks_total: 0,
            // An empty table counts a little, so that a thousand of them are not nothing.
            bytes_estimated: table.bytes_estimated.max(8192),
        };
        let progress = CopyProgress { tables: tables.iter().map(table).collect(), ..CopyProgress::default() };
        Board { published: watch::Sender::new(progress), samples: VecDeque::new() }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<CopyProgress> {
        self.published.subscribe()
    }

    pub(super) fn reason(&self) -> Reason {
        Reason(self.published.clone())
    }

    pub(super) fn begun(&mut self, index: usize, chunks_total: u64) {
        self.change(index, |table| {
            table.state = "copying";
            (table.rows, table.bytes, table.chunks, table.chunks_total) = (0, 0, 0, chunks_total);
        });
    }

    pub(super) fn chunk(&mut self, index: usize, size: ChunkSize) {
        self.reason().clear();
        self.change(index, |table| {
            table.rows += size.rows;
            table.bytes += size.bytes;
            table.chunks += 1;
        });
    }

    pub(super) fn copied(&mut self, index: usize) {
        self.change(index, |table| table.state = "copied");
    }

    fn change(&mut self, index: usize, change: impl FnOnce(&mut TableProgress)) {
        let now = Instant::now();
        let samples = &mut self.samples;
        self.published.send_modify(|progress| {
            change(&mut progress.tables[index]);
            progress.rows = progress.tables.iter().map(|table| table.rows).sum();
            progress.bytes = progress.tables.iter().map(|table| table.bytes).sum();
            let all: f64 = progress.tables.iter().map(|table| table.bytes_estimated as f64).sum();
            let done: f64 = progress.tables.iter().map(TableProgress::bytes_done).sum();
            progress.fraction = if all > 0.0 { done / all } else { 1.0 };

            samples.push_back((now, progress.bytes, done));
            while samples.len() > 2 && now - samples[1].0 > RATE_WINDOW {
                samples.pop_front();
            }
            let (since, bytes_then, done_then) = samples[0];
            let seconds = (now - since).as_secs_f64();
            if seconds > 0.0 {
                progress.bytes_per_second = (progress.bytes.saturating_sub(bytes_then) as f64 / seconds) as u64;
                let rate = (done - done_then) / seconds;
                progress.time_left =
                    (rate > 0.0).then(|| Duration::try_from_secs_f64((all - done) / rate).unwrap_or(Duration::MAX));
            }
        });
    }
}
