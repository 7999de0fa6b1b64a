//! A fence: a pair of snapshots at one position, taken while both sides are written.
//!
//! ```text
//!   hold the applier --> snapshot of the source --> at which position does it stand? --> apply exactly up to there
//!        |                                            (none: let go, and take another)          |
//!        +-- let go <------------------------------------------- snapshot of the target <-------+
//! ```
//!
//! Comparing the two can then take as long as it needs. Where no snapshot of a PostgreSQL source stands at a position,
//! that of a slot does ([`by_slot`]).

mod by_slot;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_connect::Settings;
use tidegate_model::{Class, Position, Problem, Stream, TableName, TableRoute};
use tidegate_pipeline::Gate;
use tidegate_source_postgres::fence::{self as source, Received};
use tidegate_sql::snapshot::{Snapshot, SnapshotTaker};
use tidegate_sql::state::StateKey;
use tidegate_verify::{Pair, Side, SnapshotRef, TouchedKeys};
use tokio::time::{sleep, timeout};
use tracing::{debug, info};

use super::seat::{Hold, Live, Seat};
use super::state_key;
use crate::config::Migration;

/// How long the applier may be held for one attempt.
const HOLD_MAX: Duration = Duration::from_secs(2);
/// Attempts before it is said that no fence can be had: about one in thirty does not settle.
const ATTEMPTS_MAX: u32 = 20;
/// Between attempts the applier catches up with what it missed.
const PAUSE: Duration = Duration::from_millis(50);

/// A pair of snapshots at one position.
#[derive(Debug)]
pub struct Fence {
    pub position: Position,
    pub pair: Pair,
    /// What was touched up to the position and not compared yet. It goes back to the stream with the fence.
    touched: Vec<(TableName, TouchedKeys)>,
    live: Live,
    /// For how long the applier was held.
    pub held: Duration,
    /// Attempts that it took.
    pub attempts: u32,
    /// When it was taken: it is not to be read for ever.
    pub taken_at: Instant,
    /// They keep the snapshots.
    _keepers: Keepers,
}

/// The sessions that keep the snapshots of the source, where it needs one, and of the target.
type Keepers = (Option<source::SnapshotTaker>, SnapshotTaker);

impl Fence {
    /// Returns what was touched of a table up to the position, since it was last found equal.
    pub fn touched(&self, table: &TableName) -> TouchedKeys {
        let found = self.touched.iter().find(|(name, _)| name == table);
        found.map_or(TouchedKeys::Whole, |(_, touched)| touched.clone())
    }

    /// Returns how many keys were touched; `None`: some table counts as touched as a whole.
    pub fn touched_keys(&self) -> Option<u64> {
        let count = |touched: &TouchedKeys| match touched {
            TouchedKeys::Nothing => Some(0),
            TouchedKeys::Keys(keys) => Some(keys.len() as u64),
            TouchedKeys::Whole => None,
        };
        self.touched.iter().map(|(_, touched)| count(touched)).sum()
    }

    /// Forgets what was touched of a table: it was found equal at the position.
    pub fn settle(&mut self, table: &TableName) {
        self.touched.retain(|(name, _)| name != table);
    }

    /// Returns the routes of the stream that the fence belongs to.
    pub fn routes(&self) -> Arc<Vec<TableRoute>> {
        Arc::clone(&self.live.routes)
    }
}

/// A fence at which the applier is still held: what is written to the target now comes before everything newer.
#[derive(Debug)]
pub struct HeldFence<'a> {
    pub fence: Fence,
    hold: Hold<'a>,
    began: Instant,
}

impl HeldFence<'_> {
    /// Lets the applier go.
    pub fn release(self) -> Fence {
        let HeldFence { mut fence, hold, began } = self;
        drop(hold);
        fence.held = began.elapsed();
        fence
    }
}

impl Drop for Fence {
    fn drop(&mut self) {
        let left = std::mem::take(&mut self.touched);
        self.live.touched(|touched| left.into_iter().for_each(|(table, keys)| touched.merge_back(&table, keys)));
    }
}

/// Returns what was touched of every table of a stream, and begins to note anew. Called while the applier is held.
fn cut(live: &Live) -> Vec<(TableName, TouchedKeys)> {
    let names = live.routes.iter().map(|route| route.map.source.name.clone());
    live.touched(|touched| names.map(|name| (name.clone(), touched.take(&name))).collect())
}

/// Where fences of a stream are taken.
#[derive(Debug)]
pub struct Fencing<'a> {
    migration: &'a Migration,
    seat: &'a Seat,
    read: Settings,
    written: Settings,
    key: StateKey,
}

/// What an attempt came to.
enum Attempt<'a> {
    Taken(Box<HeldFence<'a>>),
    /// The snapshot stood at no position, or it took too long.
    Unsettled(&'static str),
}

impl<'a> Fencing<'a> {
    pub fn new(migration: &'a Migration, seat: &'a Seat) -> Result<Fencing<'a>, Problem> {
        let (source, target) = (migration.source_settings()?, migration.target_settings()?);
        let (read, written) = match seat.stream {
            Stream::Forward => (source, target),
            Stream::Reverse => (target, source),
        };
        Ok(Fencing { migration, seat, read, written, key: state_key(migration, seat.stream)? })
    }

    /// Waits until a pipeline runs whose target is a state that the source once had. Cancel-safe.
    pub async fn live(&self) -> Live {
        self.seat.caught_up().await
    }

    /// Returns the database that the stream writes.
    pub fn written(&self) -> &Settings {
        &self.written
    }

    /// Looks at both sides as they are now, without a fence: at about the position of the stream.
    pub async fn now(&self, live: &Live) -> Result<Pair, Problem> {
        let look = |settings: &Settings| Side::now(settings.clone(), self.migration.name.clone());
        let position = live.handle.progress().borrow().applied.clone();
        Ok(Pair { source: look(&self.read).await?, target: look(&self.written).await?, position })
    }

    /// Takes a fence of the stream as it runs, once it has caught up.
    pub async fn take(&self) -> Result<Fence, Problem> {
        let fence = self.hold().await?.release();
        let (held_ms, attempts) = (fence.held.as_millis() as u64, fence.attempts);
        info!(position = %fence.position, held_ms, attempts, stream = %self.seat.stream, "fence taken");
        Ok(fence)
    }

    /// Takes a fence likewise, at which the applier stays held.
    pub async fn hold(&self) -> Result<HeldFence<'a>, Problem> {
        let mut why = "";
        for number in 1..=ATTEMPTS_MAX {
            let live = self.seat.caught_up().await;
            match self.attempt(&live, number).await {
                Ok(Attempt::Taken(held)) => return Ok(*held),
                Ok(Attempt::Unsettled(unsettled)) => why = unsettled,
                Err(problem) if problem.class == Class::Transient => {
                    debug!(error = %problem.why, "a fence is tried again");
                    why = "a database went away";
                }
                Err(problem) => return Err(problem),
            }
            sleep(PAUSE * number.min(10)).await;
        }
        self.by_slot(why).await
    }

    async fn attempt(&self, live: &Live, number: u32) -> Result<Attempt<'a>, Problem> {
        let target = SnapshotTaker::open(&self.written, &self.key).await?;
        let of_postgres = live.handle.progress().borrow().applied.lsn().is_some();
        let source = match of_postgres {
            true => Some(source::SnapshotTaker::open(&self.read, &self.migration.name).await?),
            false => None,
        };
        if source.is_none() {
            self.behind_the_other_stream(live).await?;
        }
        self.near(live, source.as_ref()).await?;
        let taking = async {
            match &source {
                Some(taker) => self.of_postgres(live, taker, &target).await,
                None => self.of_cockroach(live, &target).await.map(Some),
            }
        };
        // The wait is dropped with what it holds.
        let Ok(taken) = timeout(HOLD_MAX, taking).await else {
            return Ok(Attempt::Unsettled("the applier would have been held for too long"));
        };
        let Some(snapshots) = taken? else {
            return Ok(Attempt::Unsettled("commits became visible in another order than they were made"));
        };
        Ok(Attempt::Taken(Box::new(self.held(live, number, snapshots, (source, target)))))
    }

    fn held(&self, live: &Live, attempts: u32, snapshots: Snapshots<'a>, keepers: Keepers) -> HeldFence<'a> {
        let Snapshots { position, read, written, hold, began } = snapshots;
        let side = |settings: &Settings, snapshot| Side::new(settings.clone(), snapshot, self.migration.name.clone());
        let pair =
            Pair { position: position.clone(), source: side(&self.read, read), target: side(&self.written, written) };
        let fence = Fence {
            position,
            pair,
            touched: cut(live),
            live: live.clone(),
            held: began.elapsed(),
            attempts,
            taken_at: Instant::now(),
            _keepers: keepers,
        };
        HeldFence { fence, hold, began }
    }

    /// The snapshot decides the position.
    async fn of_postgres(
        &self,
        live: &Live,
        source: &source::SnapshotTaker,
        target: &SnapshotTaker,
    ) -> Result<Option<Snapshots<'a>>, Problem> {
        let began = Instant::now();
        let (hold, applied) = Hold::take(self.seat, live).await?;
        let snapshot = source.take().await?;
        live.handle.received(&snapshot.marker).await?;
        let queue = live.handle.queue().await?;
        let pending: Vec<(Position, u32)> =
            queue.pending.into_iter().filter_map(|one| Some((one.position, one.xid?))).collect();
        let received = Received { applied: &applied, pending: &pending, taken: &queue.taken };
        let Some(position) = source::position_of(&snapshot.view, received) else { return Ok(None) };
        live.handle.advance(&position).await?;
        let written = of_target(target.take(&position).await?);
        let read = SnapshotRef::Postgres { snapshot_id: snapshot.exported };
        Ok(Some(Snapshots { position, read, written, hold, began }))
    }

    /// Waits until the applier has what the source has now: whatever is still to be applied once it is held, is waited for
    /// by everything behind it. Under a gate the stream stands where it is to stand.
    async fn near(&self, live: &Live, source: Option<&source::SnapshotTaker>) -> Result<(), Problem> {
        if self.seat.gate() != Gate::Open {
            return Ok(());
        }
        if let Some(taker) = source {
            live.handle.received(&taker.mark().await?).await?;
        }
        // Nobody waits for the checkpoint of an idle stream.
        let Some(last) = live.handle.queue().await?.pending.pop() else { return Ok(()) };
        let reached = live.handle.applied(&last.position);
        tokio::pin!(reached);
        if let Ok(reached) = timeout(HOLD_MAX, &mut reached).await {
            return reached;
        }
        info!(until = %last.position, stream = %self.seat.stream, "the stream is behind: a fence is taken once it is there");
        reached.await
    }

    /// Waits until the stream is past everything that the other one has written at a CockroachDB source. Right after a
    /// turn it is not: as of that earlier time the source lacks rows that the target has had all along.
    async fn behind_the_other_stream(&self, live: &Live) -> Result<(), Problem> {
        let other = match self.seat.stream {
            Stream::Forward => Stream::Reverse,
            Stream::Reverse => Stream::Forward,
        };
        let taker = SnapshotTaker::open(&self.read, &state_key(self.migration, other)?).await?;
        let Some(written) = taker.written_at().await? else { return Ok(()) };
        let mut progress = live.handle.progress();
        // A pipeline that ended is found out by the attempt itself.
        let _ = progress.wait_for(|progress| progress.received.hlc().is_some_and(|at| at >= written)).await;
        Ok(())
    }

    /// Everything up to what was received is known, and can be read as of that time.
    async fn of_cockroach(&self, live: &Live, target: &SnapshotTaker) -> Result<Snapshots<'a>, Problem> {
        let began = Instant::now();
        let (hold, _applied) = Hold::take(self.seat, live).await?;
        let position = live.handle.queue().await?.received;
        live.handle.advance(&position).await?;
        let written = of_target(target.take(&position).await?);
        let at = position.hlc().expect("positions of a CockroachDB source are times");
        Ok(Snapshots { position, read: SnapshotRef::Cockroach { at }, written, hold, began })
    }
}

struct Snapshots<'a> {
    position: Position,
    read: SnapshotRef,
    written: SnapshotRef,
    hold: Hold<'a>,
    began: Instant,
}

fn of_target(snapshot: Snapshot) -> SnapshotRef {
    match snapshot {
        Snapshot::Exported(snapshot_id) => SnapshotRef::Postgres { snapshot_id },
        Snapshot::At(at) => SnapshotRef::Cockroach { at },
    }
}

fn unsettled(why: &str) -> Problem {
    Problem::definite(
        "VF010",
        format!("no fence could be taken in {ATTEMPTS_MAX} attempts"),
        why,
        "try again when the stream has caught up (tidegate status); tidegate verify --weak compares without a fence",
    )
}
