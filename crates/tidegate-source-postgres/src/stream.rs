//! The stream: what the source commits, in order, for as long as it is wanted.
//!
//! ```text
//!   walsender --> Reader --(Input, by bytes)--> decoder thread --(events, by bytes)--> PostgresSource::next
//!       ^            |
//!       +-- status --+   also while nobody takes events; flushed = acknowledged, never more
//!
//!   Gauge: measures what the slot keeps back, emits the heartbeat
//! ```
//!
//! The reader reconnects by itself. What was emitted before is not emitted again: the server starts again from what was
//! acknowledged, the decoder drops everything up to the last event it gave out.

mod decoder;
mod feedback;
mod gauge;
mod open;
mod reader;
mod refusal;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use tidegate_connect::Settings;
use tidegate_model::{Event, Lsn, MigrationName, Position, Problem, Source};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::History;
use crate::queue::{ByteQueue, Closed};
use crate::spool::Spool;
use crate::wal::{RetainedWal, WalBudget, WalLevel};
use decoder::{Decoder, Input};
use gauge::Gauge;
use reader::{Ended, Reader};

/// Bytes read from the socket and not yet decoded. Enough to keep the decoder busy while the reader waits for the
/// network.
const RECEIVED_BYTES_MAX: u64 = 4 << 20;
/// Bytes of decoded events, in memory or on disk, that nobody has taken yet.
const DECODED_BYTES_MAX: u64 = 16 << 20;

/// Stores the history of a stream that goes on at a promoted server. Called, and awaited, before any event of the new
/// timeline is given out: a checkpoint there means nothing under the old history.
pub type HistorySink = Arc<dyn Fn(History) -> BoxFuture<'static, Result<(), Problem>> + Send + Sync>;

/// How to read a source.
#[derive(Clone)]
pub struct SourceConfig {
    /// The source.
    pub settings: Settings,
    /// The migration.
    pub name: MigrationName,
    /// Where transactions go that do not fit into memory.
    pub spool_dir: PathBuf,
    /// The most that may lie there. `None`: half of what is free there at the start.
    pub spool_bytes_max: Option<u64>,
    /// Memory for transactions that are not complete or not yet taken.
    pub memory_budget_bytes: u64,
    /// How often a transactional logical message is emitted at the source, so that also a source without any writes
    /// moves. `None`: never.
    pub heartbeat_every: Option<Duration>,
    /// How much WAL the slot may keep back.
    pub wal_budget: WalBudget,
    /// Whether to drop the transactions that this migration wrote to the source itself, in its other direction: those
    /// under one of its replication origins and those that begin with its message. Whatever anybody else writes is
    /// carried, whatever its origin.
    pub drop_own: bool,
    /// How soon an acknowledged position is told to the server.
    pub status_every: Duration,
    /// Where the history goes when the source was promoted. `None`: the stream stops then, and its next start stores
    /// it.
    pub on_new_history: Option<HistorySink>,
}

impl SourceConfig {
    /// Returns the configuration with everything at its default.
    pub fn new(settings: Settings, name: MigrationName) -> Self {
        SourceConfig {
            settings,
            name,
            spool_dir: std::env::temp_dir(),
            spool_bytes_max: None,
            memory_budget_bytes: 64 << 20,
            heartbeat_every: None,
            wal_budget: WalBudget::default(),
            drop_own: false,
            status_every: Duration::from_millis(50),
            on_new_history: None,
        }
    }
}

impl std::fmt::Debug for SourceConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourceConfig")
            .field("settings", &self.settings)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What is known about the stream beside its events.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// Up to where the server has sent. Not yet decoded, not yet taken.
    pub position: Lsn,
    /// When the server was last heard of.
    pub heard_at: Option<SystemTime>,
    /// Why nothing comes, while the connection is being made again.
    pub waiting_for: Option<String>,
    /// What the slot keeps back, as last measured. Its `end` is the end of the source's WAL.
    pub wal: Option<RetainedWal>,
    /// How much of the WAL budget is used.
    pub wal_level: WalLevel,
    /// How many transactions were dropped as our own ([`SourceConfig::drop_own`]) since the start. The watermark has moved
    /// over them.
    pub dropped: u64,
    /// The code of the problem with which the stream has ended. [`Source::next`] gives the problem itself.
    pub ended: Option<&'static str>,
}

/// A PostgreSQL source. Keeps its connection alive, and reconnects, by itself. Dropped, it ends;
/// [`PostgresSource::close`] also waits until the server knows.
pub struct PostgresSource {
    events: Arc<ByteQueue<Result<Vec<Event>, Problem>>>,
    input: Arc<ByteQueue<Input>>,
    taken: VecDeque<Event>,
    /// The last position given out: nothing later can be acknowledged.
    delivered: Position,
    acknowledged: watch::Sender<Position>,
    received: watch::Receiver<Received>,
    spool: Spool,
    stop: CancellationToken,
    running: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for PostgresSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresSource").field("delivered", &self.delivered).finish_non_exhaustive()
    }
}

impl PostgresSource {
    /// Verifies that the server still tells `history` and that the slot reaches back to `from`, and starts to stream
    /// what was committed after `from`. Everything at or before `from` is durable at the target.
    ///
    /// Errors of this first connection are given back, also transient ones; later ones are retried for ever. A slot
    /// that somebody else uses is waited for: [`Received::waiting_for`] says so.
    pub async fn start(config: SourceConfig, from: Position, history: History) -> Result<PostgresSource, Problem> {
        let spool = Spool::new(&config.spool_dir, config.spool_bytes_max, config.memory_budget_bytes)?;
        let input = Arc::new(ByteQueue::new(RECEIVED_BYTES_MAX.min(config.memory_budget_bytes / 8)));
        let events = Arc::new(ByteQueue::new(DECODED_BYTES_MAX.min(config.memory_budget_bytes / 4)));
        let (acknowledged, acknowledged_seen) = watch::channel(from.clone());
        let (received_sender, received) = watch::channel(Received::default());
        let stop = CancellationToken::new();

        let mut reader = Reader::new(
            config.clone(),
            history.clone(),
            acknowledged_seen,
            Arc::clone(&input),
            received_sender.clone(),
            stop.clone(),
        );
        reader.connect_first().await?;
        let drop_own = config.drop_own.then(|| config.name.clone());
        let decoder = Decoder::new(Arc::clone(&input), Arc::clone(&events), spool.clone(), drop_own, from.clone());
        decoder.start(received_sender.clone())?;

        let gauge = Gauge::new(config.clone(), history.slot.clone(), received_sender.clone());
        let running = Running { config, slot: history.slot, reader, gauge, received: received_sender };
        let running = tokio::spawn(running.run(Arc::clone(&input), Arc::clone(&events)));
        Ok(PostgresSource {
            events,
            input,
            taken: VecDeque::new(),
            delivered: from,
            acknowledged,
            received,
            spool,
            stop,
            running: Some(running),
        })
    }

    /// Returns what is known about the stream beside its events; it changes as the stream goes on.
    pub fn received(&self) -> watch::Receiver<Received> {
        self.received.clone()
    }

    /// Returns a view of how many bytes of large transactions are on disk.
    pub fn spooled_bytes(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        let spool = self.spool.clone();
        move || spool.disk_bytes()
    }

    /// Ends the stream and waits until the server has taken the last acknowledged position. It lets the slot go at once
    /// after that.
    pub async fn close(mut self) {
        self.stop.cancel();
        if let Some(running) = self.running.take() {
            // A panic in there was reported by the panic hook; closing has nothing to add.
            let _ = running.await;
        }
    }
}

impl Drop for PostgresSource {
    fn drop(&mut self) {
        self.stop.cancel();
        self.events.abandon();
        self.input.abandon();
    }
}

impl Source for PostgresSource {
    async fn next(&mut self) -> Result<Event, Problem> {
        loop {
            if let Some(event) = self.taken.pop_front() {
                self.delivered = match &event {
                    Event::Commit(transaction) => transaction.position.clone(),
                    Event::Watermark(position) => position.clone(),
                };
                return Ok(event);
            }
            match self.events.pop().await {
                Ok(events) => self.taken.extend(events?),
                Err(Closed) => return Err(refusal::has_ended()),
            }
        }
    }

    /// The WAL budget is spent because nobody takes events.
    async fn failed(&mut self) -> Problem {
        let spent = |received: &Received| received.wal_level == WalLevel::Spent && received.ended.is_some();
        // The sender lives as long as the stream; after an end without that there is nothing urgent.
        if self.received.wait_for(spent).await.is_ok()
            && let Ok(Err(problem)) = self.events.pop().await
        {
            return problem;
        }
        std::future::pending().await
    }

    async fn acknowledge(&mut self, position: &Position) -> Result<(), Problem> {
        if !position.is_at_or_before(&self.delivered) {
            return Err(refusal::not_delivered(position, &self.delivered));
        }
        // After part of a transaction the whole of it must come again, and the server knows only whole ones.
        if position.part == 0 {
            self.acknowledged.send_if_modified(|known| {
                let newer = *position > *known;
                if newer {
                    known.clone_from(position);
                }
                newer
            });
        }
        Ok(())
    }
}

/// The tasks of a stream, until one of them ends it.
struct Running {
    config: SourceConfig,
    slot: String,
    reader: Reader,
    gauge: Gauge,
    received: watch::Sender<Received>,
}

impl Running {
    async fn run(self, input: Arc<ByteQueue<Input>>, events: Arc<ByteQueue<Result<Vec<Event>, Problem>>>) {
        let _guard = PanicGuard { part: "reader", input: Arc::clone(&input), events: Arc::clone(&events) };
        let Running { config, slot, reader, gauge, received } = self;
        let (ended, spent) = tokio::select! {
            ended = reader.run() => (ended, None),
            spent = gauge.run() => (Ended::Stopped, Some(spent)),
        };
        if let Some(spent) = spent {
            let gauge::Spent { retained, budget } = spent;
            let when = config.wal_budget.when_spent;
            // The reader has let go of the slot.
            let problem = crate::wal::spend(&config.settings, &config.name, &slot, when, &retained, budget).await;
            let code = problem.code;
            // Ahead of what was not taken yet: a target that does not follow would never come to the end of it. And before
            // the decoder ends, which closes the queue.
            events.end_with(Err(problem));
            input.abandon();
            received.send_modify(|received| received.ended = Some(code));
            return;
        }
        match ended {
            Ended::Stopped => input.abandon(),
            Ended::Failed(problem) => {
                received.send_modify(|received| received.ended = Some(problem.code));
                // Behind what was received before. The decoder has gone only if it has told a problem of its own.
                let _ = input.push(Input::Ended(problem), 0);
                input.close();
            }
        }
    }
}

/// Ends the stream with a problem where a part of it panics: nobody may wait for what never comes.
struct PanicGuard {
    part: &'static str,
    input: Arc<ByteQueue<Input>>,
    events: Arc<ByteQueue<Result<Vec<Event>, Problem>>>,
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.input.abandon();
            self.events.end_with(Err(refusal::panicked(self.part)));
        }
    }
}
