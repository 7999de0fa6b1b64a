//! The stream: what the source commits, in order, for as long as it is wanted.
//!
//! ```text
//!   changefeed --> Reader --(rows, by bytes)--> decoder thread --(events, by bytes)--> CockroachSource::next
//!       ^            |                           Decoder, Window          |
//!       +- cursor ---+<---------------- last resolved given out ----------+
//!
//!   Gauge: the cluster's clock, how old the checkpoint is, how old it may become
//! ```
//!
//! One feed covers all tables: only then does one resolved timestamp say that whole transactions are here. The reader
//! reconnects by itself, with the last resolved timestamp that was given out as its cursor; nothing that was given out
//! comes again. A feed that nobody reads just waits.

mod decoder;
mod feed;
mod gauge;
mod reader;
mod refusal;
mod watchdog;

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use tidegate_connect::Settings;
use tidegate_model::{Event, Hlc, MigrationName, Position, Problem, RelationId, Source, Stream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::gc::GcWindow;
use crate::history::{self, History};
use crate::queue::{Closed, Taker, queue};
use crate::spool::Spool;
use crate::table::TableInfo;
use decoder::{Decoder, Input};
use gauge::Gauge;
use reader::{Ended, Reader};

/// Bytes read from the feed and not yet decoded. Enough to keep the decoder busy while the reader waits for the
/// network.
const RECEIVED_BYTES_MAX: u64 = 4 << 20;
/// Bytes of decoded events, in memory or on disk, that nobody has taken yet.
const DECODED_BYTES_MAX: u64 = 16 << 20;

/// What is given out: events, or the end.
type Outcome = Result<Vec<Event>, Problem>;

/// Returns a number that changes as work is done.
pub type Work = Arc<dyn Fn() -> u64 + Send + Sync>;

/// How to read a source.
#[derive(Clone)]
pub struct SourceConfig {
    /// The source.
    pub settings: Settings,
    /// The migration.
    pub name: MigrationName,
    /// Its direction, for the names of sessions.
    pub stream: Stream,
    /// All tables of the stream.
    pub tables: Vec<Arc<TableInfo>>,
    /// The points of tables that were copied later than the stream began: what they were at or before it is not looked
    /// at, whatever columns they had.
    pub points: HashMap<RelationId, Hlc>,
    /// Whether updates tell only the columns that they changed, where the table has a key: what the target's types cannot
    /// hold exactly is then not written back to where it came from.
    pub changed_only: bool,
    /// While it is set, updates tell the whole row as it was before, too: for a target that is asked whether it has it.
    pub old_rows: Arc<AtomicBool>,
    /// Where goes what does not fit into memory while it waits for its resolved timestamp.
    pub spool_dir: PathBuf,
    /// The most that may lie there. `None`: half of what is free there at the start.
    pub spool_bytes_max: Option<u64>,
    /// Memory for changes that are not resolved or not yet taken.
    pub memory_budget_bytes: u64,
    /// How often the feed is asked to say how far it is. The server adds its own 3 to 6 s.
    pub resolved_every: Duration,
    /// How long the feed may be without a resolved timestamp before the connection is made again.
    pub resolved_silence_max: Duration,
    /// How often clock and checkpoint are compared.
    pub gauge_every: Duration,
    /// How long a checkpoint that is older than the history that the source keeps may stand still.
    pub stalled_max: Duration,
    /// Returns a number that changes while the target is being written, also where the checkpoint cannot move yet.
    pub work: Work,
    /// How often the tables' `gc.ttlseconds` are read.
    pub ttl_every: Duration,
}

impl SourceConfig {
    /// Returns the configuration with everything at its default.
    pub fn new<T: Into<Arc<TableInfo>>>(
        settings: Settings,
        name: MigrationName,
        stream: Stream,
        tables: impl IntoIterator<Item = T>,
    ) -> Self {
        SourceConfig {
            settings,
            name,
            stream,
            tables: tables.into_iter().map(Into::into).collect(),
            points: HashMap::new(),
            changed_only: false,
            old_rows: Arc::default(),
            spool_dir: std::env::temp_dir(),
            spool_bytes_max: None,
            memory_budget_bytes: 64 << 20,
            // The shortest that CockroachDB does not advise against.
            resolved_every: Duration::from_millis(500),
            resolved_silence_max: Duration::from_secs(60),
            gauge_every: Duration::from_secs(1),
            // Longer than an ordinary statement takes, and short beside any window.
            stalled_max: Duration::from_secs(30),
            work: Arc::new(|| 0),
            ttl_every: Duration::from_secs(60),
        }
    }

    fn application_name(&self, role: &str) -> String {
        self.name.application_name(&format!("{}-{role}", self.stream))
    }
}

impl std::fmt::Debug for SourceConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourceConfig")
            .field("settings", &self.settings)
            .field("name", &self.name)
            .field("tables", &self.tables.len())
            .finish_non_exhaustive()
    }
}

/// What is known about the stream beside its events.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// The last resolved timestamp: everything at or before it has been received. Not all of it is taken yet.
    pub resolved: Option<Hlc>,
    /// When the feed was last heard of.
    pub heard_at: Option<SystemTime>,
    /// Why nothing comes, while the connection is being made again.
    pub waiting_for: Option<String>,
    /// How old the checkpoint is and how old it may become, as last looked at.
    pub gc: Option<GcWindow>,
    /// The cluster's clock, as last looked at.
    pub now: Option<Hlc>,
    /// The code of the problem with which the stream has ended. [`Source::next`] gives the problem itself.
    pub ended: Option<&'static str>,
}

/// A CockroachDB source. Reconnects by itself. Dropped, it ends; [`CockroachSource::close`] also waits until the
/// connections are gone.
pub struct CockroachSource {
    events: Taker<Outcome>,
    taken: VecDeque<Event>,
    /// The last position given out: nothing later can be acknowledged.
    delivered: Position,
    acknowledged: watch::Sender<Position>,
    received: watch::Receiver<Received>,
    urgent: Urgent,
    spool: Spool,
    stop: CancellationToken,
    running: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for CockroachSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CockroachSource").field("delivered", &self.delivered).finish_non_exhaustive()
    }
}

impl CockroachSource {
    /// Verifies that the server still tells `history` and what came after `from`, and starts to stream what was
    /// committed after `from`. Everything at or before `from` is durable at the target.
    ///
    /// Errors of this first look are given back, also transient ones; later ones are retried for ever.
    pub async fn start(config: SourceConfig, from: Position, history: History) -> Result<CockroachSource, Problem> {
        let (give_input, take_input) = queue(RECEIVED_BYTES_MAX.min(config.memory_budget_bytes / 8));
        let (give_events, events) = queue(DECODED_BYTES_MAX.min(config.memory_budget_bytes / 4));
        let start = history::resume_after(&from)?;
        let (acknowledged, acknowledged_seen) = watch::channel(from.clone());
        let (emitted, emitted_seen) = watch::channel(start);
        let (received_sender, received) = watch::channel(Received::default());
        let (urgent_sender, urgent) = oneshot::channel();
        let spool = Spool::new(&config.spool_dir, config.spool_bytes_max, config.memory_budget_bytes / 2)?;
        let stop = CancellationToken::new();

        let mut reader =
            Reader::new(config.clone(), history, emitted_seen, give_input, received_sender.clone(), stop.clone());
        reader.connect_first().await?;
        let decoder = Decoder::new(&config, spool.clone(), from.clone(), emitted, received_sender.clone());
        decoder.start(take_input, give_events)?;
        let gauge = Gauge::new(config, acknowledged_seen, received_sender.clone());
        let running = Running { reader, gauge, received: received_sender, urgent: urgent_sender, stop: stop.clone() };
        let running = tokio::spawn(running.run());
        Ok(CockroachSource {
            events,
            taken: VecDeque::new(),
            delivered: from,
            acknowledged,
            received,
            urgent: Urgent(Some(urgent)),
            spool,
            stop,
            running: Some(running),
        })
    }

    /// Returns what is known about the stream beside its events; it changes as the stream goes on.
    pub fn received(&self) -> watch::Receiver<Received> {
        self.received.clone()
    }

    /// Returns a view of how many bytes of unresolved changes and large transactions are on disk.
    pub fn spooled_bytes(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        let spool = self.spool.clone();
        move || spool.disk_bytes()
    }

    /// Ends the stream and waits until its connections are gone.
    pub async fn close(mut self) {
        self.stop.cancel();
        if let Some(running) = self.running.take() {
            // A panic in there was reported by the panic hook; closing has nothing to add.
            let _ = running.await;
        }
    }
}

impl Drop for CockroachSource {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Source for CockroachSource {
    async fn next(&mut self) -> Result<Event, Problem> {
        loop {
            if let Some(event) = self.taken.pop_front() {
                self.delivered = match &event {
                    Event::Commit(transaction) => transaction.position.clone(),
                    Event::Watermark(position) => position.clone(),
                };
                return Ok(event);
            }
            match self.events.take().await {
                Ok(events) => self.taken.extend(events?),
                // The stream ended without a word in the queue: then it was something urgent, or it was closed.
                Err(Closed) => return Err(self.urgent.taken().await.unwrap_or_else(refusal::has_ended)),
            }
        }
    }

    /// The checkpoint has fallen out of the garbage collection window because nobody takes events.
    async fn failed(&mut self) -> Problem {
        match self.urgent.taken().await {
            Some(problem) => problem,
            None => std::future::pending().await,
        }
    }

    async fn acknowledge(&mut self, position: &Position) -> Result<(), Problem> {
        if !position.is_at_or_before(&self.delivered) {
            return Err(refusal::not_delivered(position, &self.delivered));
        }
        // The server is told nothing; how far we are is measured against how far back it can go.
        self.acknowledged.send_if_modified(|known| {
            let newer = *position > *known;
            if newer {
                known.clone_from(position);
            }
            newer
        });
        Ok(())
    }
}

/// A problem that goes past the events that nobody takes.
struct Urgent(Option<oneshot::Receiver<Problem>>);

impl Urgent {
    /// Waits for it; `None` once there can be none. Cancel-safe.
    async fn taken(&mut self) -> Option<Problem> {
        let problem = self.0.as_mut()?.await;
        self.0 = None;
        problem.ok()
    }
}

/// The tasks of a stream, until one of them ends it.
struct Running {
    reader: Reader,
    gauge: Gauge,
    received: watch::Sender<Received>,
    urgent: oneshot::Sender<Problem>,
    stop: CancellationToken,
}

impl Running {
    async fn run(self) {
        let Running { reader, gauge, received, urgent, stop } = self;
        let mut urgent = PanicGuard(Some(urgent));
        let input = reader.input();
        let ended = tokio::select! {
            ended = reader.run() => ended,
            problem = gauge.run(stop) => {
                received.send_modify(|received| received.ended = Some(problem.code));
                urgent.tell(problem);
                return;
            }
        };
        if let Ended::Failed(problem) = ended {
            received.send_modify(|received| received.ended = Some(problem.code));
            // Behind what was received before. The decoder has gone only if it has told a problem of its own.
            let _ = input.give_now(Input::Ended(problem));
        }
    }
}

/// Ends the stream with a problem where the reader panics: nobody may wait for what never comes.
struct PanicGuard(Option<oneshot::Sender<Problem>>);

impl PanicGuard {
    fn tell(&mut self, problem: Problem) {
        if let Some(urgent) = self.0.take() {
            // Whoever dropped the source does not want to know.
            let _ = urgent.send(problem);
        }
    }
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell(refusal::panicked("reader"));
        }
    }
}
