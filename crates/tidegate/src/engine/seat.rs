//! The place of one stream in this process: what others see of it, and how they steer it.
//!
//! A stream comes and goes: an outage ends its pipeline and another one begins. Its seat stays, so that whoever
//! compares or turns waits for the stream there, and what was decided of it (how far it may go) outlives the pipeline.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidegate_model::{Position, Problem, Stream, TableRoute};
use tidegate_pipeline::{Gate, Handle, Pending};
use tidegate_sql::requests::Taken;
use tidegate_sql::state::Lease;
use tidegate_verify::Touched;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::NoCopy;
use super::board::Board;
use super::roles::{Role, Roles};
use crate::status::{StreamState, StreamStatus};

/// How often it is looked whether a checkpoint has moved.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Requests that may wait for somebody to do them.
const REQUESTS_MAX: usize = 64;

/// A stream whose pipeline runs.
#[derive(Clone, Debug)]
pub struct Live {
    pub handle: Handle,
    /// Where the pipeline began.
    pub start: Position,
    pub routes: Arc<Vec<TableRoute>>,
    /// From here on the target is a state that the source once had.
    pub caught_up_at: Position,
    /// The keys that were given to the applier since their tables were last compared.
    pub touched: Arc<Mutex<Touched>>,
    pub lease: Lease,
}

impl Live {
    /// Does something with what is remembered of touched keys.
    pub fn touched<T>(&self, with: impl FnOnce(&mut Touched) -> T) -> T {
        with(&mut self.touched.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a stream takes from outside.
#[derive(Debug)]
pub struct Seat {
    pub stream: Stream,
    pub board: Board,
    /// What each stream was to do when this process became the owner of this one.
    owned: watch::Sender<Option<Roles>>,
    /// Whether every table is copied.
    copied: watch::Sender<bool>,
    live: watch::Sender<Option<Live>>,
    /// How far it may go, whichever pipeline it is.
    gate: watch::Sender<Gate>,
    /// As what a parked stream is shown.
    parked_as: Mutex<StreamState>,
    /// From where the stream is to begin, if it is to run at all.
    wanted: watch::Sender<Option<NoCopy>>,
    /// Why the stream ended that was to be armed.
    failed: watch::Sender<Option<String>>,
    /// Whether a stream the other way reads what this one writes.
    pub read_back: Arc<AtomicBool>,
    /// Whether both sides are open, or are about to be: its changes tell the row before, and are judged by what they find.
    pub arbitrate: Arc<AtomicBool>,
    /// Where requests go that were made of this stream.
    pub requests: mpsc::Sender<Taken>,
}

impl Seat {
    /// Makes a seat, and the other end of its requests.
    pub fn new(stream: Stream, role: &Role) -> (Arc<Seat>, mpsc::Receiver<Taken>) {
        let (requests, taken) = mpsc::channel(REQUESTS_MAX);
        let parked_as = match role {
            Role::Parked(state) => *state,
            Role::Off | Role::Flows => StreamState::Armed,
        };
        let begins = if *role == Role::Off { StreamState::Stopped } else { StreamState::Copying };
        let seat = Seat {
            stream,
            board: Board::new(StreamStatus::new(stream.as_str(), begins)),
            owned: watch::Sender::new(None),
            copied: watch::Sender::new(false),
            live: watch::Sender::new(None),
            gate: watch::Sender::new(role.gate()),
            parked_as: Mutex::new(parked_as),
            wanted: watch::Sender::new((*role != Role::Off).then_some(NoCopy::Now)),
            failed: watch::Sender::new(None),
            read_back: Arc::default(),
            arbitrate: Arc::default(),
            requests,
        };
        (Arc::new(seat), taken)
    }

    /// Notes that this process owns the stream, and takes the role that it has now.
    pub fn note_owned(&self, roles: Roles) {
        // What a turn under way has set stays.
        self.arbitrate.fetch_or(roles.arbitrated, Ordering::Relaxed);
        self.take_role(roles.of_stream(self.stream));
        self.owned.send_replace(Some(roles));
    }

    /// Waits until this process owns the stream, and returns what each stream was to do then. Cancel-safe.
    pub async fn owned(&self) -> Roles {
        let mut owned = self.owned.subscribe();
        let found = owned.wait_for(Option::is_some).await.map(|roles| roles.clone());
        found.ok().flatten().expect("the sender is ours, and it was waited for")
    }

    pub fn note_copied(&self) {
        self.copied.send_replace(true);
    }

    /// Waits until every table is copied. Cancel-safe.
    pub async fn copied(&self) {
        // The sender is ours.
        let _ = self.copied.subscribe().wait_for(|copied| *copied).await;
    }

    /// Notes the pipeline that runs now; `None`: none does.
    pub fn note_live(&self, live: Option<Live>) {
        if let Some(live) = &live {
            live.handle.set(self.gate());
        }
        let handle = live.as_ref().map(|live| live.handle.clone());
        self.live.send_replace(live);
        if let Some(handle) = handle {
            // Whoever set the gate in between did not see the pipeline.
            handle.set(self.gate());
        }
    }

    /// Waits until a pipeline runs. Cancel-safe.
    pub async fn live(&self) -> Live {
        let mut live = self.live.subscribe();
        let found = live.wait_for(Option::is_some).await.map(|live| live.clone());
        found.ok().flatten().expect("the sender is ours, and it was waited for")
    }

    /// Waits until a pipeline runs whose target is a state that the source once had. Cancel-safe.
    pub async fn caught_up(&self) -> Live {
        loop {
            let live = self.live().await;
            match live.handle.applied(&live.caught_up_at).await {
                Ok(()) => return live,
                // It ended meanwhile: the next one is waited for.
                Err(_ended) => tokio::task::yield_now().await,
            }
        }
    }

    /// Returns how far the stream may go.
    pub fn gate(&self) -> Gate {
        self.gate.borrow().clone()
    }

    /// Returns whether the stream is to apply whatever it reads.
    pub fn flows(&self) -> bool {
        self.gate() == Gate::Open && self.wanted.borrow().is_some()
    }

    /// Says how far the stream may go from now on.
    pub fn set_gate(&self, gate: Gate) {
        self.gate.send_replace(gate.clone());
        if let Some(live) = &*self.live.borrow() {
            live.handle.set(gate);
        }
    }

    /// Has the stream run from now on, from there.
    pub fn want(&self, from: NoCopy) {
        self.failed.send_replace(None);
        self.wanted.send_if_modified(|wanted| wanted.replace(from).is_none());
    }

    /// Waits until the stream is to run, and returns from where. Cancel-safe.
    pub async fn wanted(&self) -> NoCopy {
        let mut wanted = self.wanted.subscribe();
        let found = wanted.wait_for(Option::is_some).await.map(|wanted| wanted.clone());
        found.ok().flatten().expect("the sender is ours, and it was waited for")
    }

    /// Notes why the stream, which was to be armed only, has ended. It does not run until it is wanted again.
    pub fn note_failed(&self, problem: &Problem) {
        self.wanted.send_replace(None);
        self.failed.send_replace(Some(format!("[{}] {}: {}", problem.code, problem.what, problem.why)));
    }

    /// Whatever ended it before is looked at anew.
    pub fn forget_failure(&self) {
        self.failed.send_replace(None);
    }

    /// Returns why the stream that was to be armed ended, if it did.
    pub fn failed(&self) -> Option<String> {
        self.failed.borrow().clone()
    }

    /// Returns whether a pipeline runs.
    pub fn is_live(&self) -> bool {
        self.live.borrow().is_some()
    }

    /// Lets the stream apply nothing from now on: its source is closed, or not open yet.
    pub fn park(&self, shown_as: StreamState) {
        *self.parked_as.lock().unwrap_or_else(PoisonError::into_inner) = shown_as;
        self.set_gate(Gate::Parked);
    }

    /// Takes the role that the migration gives the stream. A stream without one has been armed just now.
    pub fn take_role(&self, role: &Role) {
        match role {
            Role::Off => {}
            Role::Flows if self.gate() == Gate::Parked => self.set_gate(Gate::Open),
            Role::Flows => {}
            Role::Parked(shown_as) => self.park(*shown_as),
        }
    }

    /// Returns the state of a stream that applies nothing; `None` for one that does.
    pub fn at_rest(&self, gate: &Gate) -> Option<StreamState> {
        match gate {
            Gate::Open => None,
            Gate::Held | Gate::Until(_) => Some(StreamState::Held),
            Gate::Parked => Some(*self.parked_as.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// Returns what was received that changes rows and is not applied, of a stream that applies nothing.
    pub async fn breaches(&self) -> Result<Vec<Pending>, Problem> {
        let live = self.live().await;
        let queue = live.handle.queue().await?;
        Ok(queue.pending.into_iter().filter(|pending| pending.changes_rows).collect())
    }

    /// Returns up to where a stream that is parked has received what others have written on its closed side; `None`: nobody
    /// has, or it is not parked.
    pub async fn breached_until(&self) -> Result<Option<Position>, Problem> {
        if self.gate() != Gate::Parked || !self.is_live() {
            return Ok(None);
        }
        Ok(self.breaches().await?.pop().map(|last| last.position))
    }

    /// Gives up what a parked stream has received up to `position`, and returns how many transactions changed rows, once
    /// the checkpoint is past them. Where another one keeps it in front of them nothing is given up for good: none.
    pub async fn drop_breaches(&self, position: &Position) -> Result<u64, Problem> {
        let dropped = self.live().await.handle.drop_until(position).await?;
        loop {
            // An outage may have ended the pipeline that was asked.
            let live = self.live().await;
            if live.handle.progress().borrow().applied >= *position {
                return Ok(dropped.iter().filter(|pending| pending.changes_rows).count() as u64);
            }
            if live.handle.queue().await.is_ok_and(|queue| queue.pending.iter().any(|pending| pending.changes_rows)) {
                return Ok(0);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until everything up to `position` is durable at the target, through whatever outages. Cancel-safe.
    pub async fn applied(&self, position: &Position) -> Position {
        loop {
            let live = self.live().await;
            if live.handle.applied(position).await.is_ok() {
                return live.handle.progress().borrow().applied.clone();
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Keeps a pipeline's applier where it is, and lets it go when dropped.
#[derive(Debug)]
pub struct Hold<'a> {
    seat: &'a Seat,
    handle: Handle,
}

impl<'a> Hold<'a> {
    /// Holds the applier, with no COMMIT unanswered, and returns where it is.
    pub async fn take(seat: &'a Seat, live: &Live) -> Result<(Hold<'a>, Position), Problem> {
        // Made first, so that a dropped wait lets go, too.
        let hold = Hold { seat, handle: live.handle.clone() };
        let at = hold.handle.hold().await?;
        Ok((hold, at))
    }

    /// Lets the applier go no further than `limit`.
    pub fn at(seat: &'a Seat, live: &Live, limit: &Position) -> Hold<'a> {
        live.handle.set(Gate::Until(limit.clone()));
        Hold { seat, handle: live.handle.clone() }
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.handle.set(self.seat.gate());
    }
}
