//! Staying the owner: signs of life, and noticing that another process took over.

use std::time::Duration;

use serde_json::Value;
use tidegate_connect::{Session, Settings};
use tidegate_model::Problem;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Lease;
use super::checkpoint::{CheckpointRow, displaced};
use super::owner::{Myself, beat, stopped};
use super::ownership::{end_lock_holder, try_lock};

/// How often an owner gives a sign of life.
const BEAT_EVERY: Duration = Duration::from_secs(2);
/// A sign of life that takes longer was sent over a dead connection.
const BEAT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest pause between two attempts to reach the target again.
const RECONNECT_EVERY_MAX: Duration = Duration::from_secs(5);

/// The ownership of a stream. Dropping it without [`Ownership::release`] looks like a crash to the next owner, which
/// then takes over at once.
#[derive(Debug)]
pub struct Ownership {
    lease: Lease,
    start: CheckpointRow,
    status: watch::Sender<Value>,
    displaced: watch::Receiver<bool>,
    stop: CancellationToken,
    keeper: JoinHandle<Keeper>,
}

impl Ownership {
    pub(super) fn begin(
        settings: Settings,
        lease: Lease,
        start: CheckpointRow,
        myself: Myself,
        session: Session,
    ) -> Self {
        let (status, statuses) = watch::channel(Value::Object(serde_json::Map::new()));
        let (displacing, displaced) = watch::channel(false);
        let stop = CancellationToken::new();
        let session = Some(session);
        let keeper = Keeper { settings, lease: lease.clone(), myself, session, locked: false, statuses };
        let keeper = tokio::spawn(keeper.run(stop.clone(), displacing));
        Ownership { lease, start, status, displaced, stop, keeper }
    }

    /// Returns the right to write, for the sessions of this owner.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Returns where the stream was when it was taken.
    pub fn start(&self) -> &CheckpointRow {
        &self.start
    }

    /// Returns where to say what `status` shows. It is written with the next sign of life.
    pub fn status(&self) -> watch::Sender<Value> {
        self.status.clone()
    }

    /// Waits until another process has taken the stream over, and returns the problem to stop with. Cancel-safe.
    pub async fn displaced(&self) -> Problem {
        let mut displaced_now = self.displaced.clone();
        match displaced_now.wait_for(|displaced| *displaced).await {
            Ok(_) => displaced(&self.lease),
            // The keeper ends without a word only when it is told to stop.
            Err(_closed) => std::future::pending().await,
        }
    }

    /// Gives the stream back, with the problem that stopped it, if one did. Fails where the target cannot be reached or
    /// another process owns the stream already; nothing is lost then.
    pub async fn release(mut self, error: Option<&Problem>) -> Result<(), Problem> {
        self.stop.cancel();
        let keeper = (&mut self.keeper).await.map_err(|error| {
            Problem::bug("ST012", "the task that keeps the ownership of the stream broke", error.to_string())
        })?;
        let session = match keeper.session {
            Some(session) if !session.is_closed() => session,
            _ => keeper.connect().await?,
        };
        let status = self.status.borrow().clone();
        if stopped(&session, &self.lease, &keeper.myself, &status, error).await? {
            return Ok(());
        }
        Err(displaced(&self.lease))
    }
}

impl Drop for Ownership {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

#[derive(Debug)]
struct Keeper {
    settings: Settings,
    lease: Lease,
    myself: Myself,
    session: Option<Session>,
    /// Whether this session holds the advisory lock. Only the epoch decides who writes; the lock only spares a newcomer
    /// the wait after a crash.
    locked: bool,
    statuses: watch::Receiver<Value>,
}

impl Keeper {
    /// Beats until told to stop or displaced; gives itself back, so that the last word goes over the same session.
    async fn run(mut self, stop: CancellationToken, displacing: watch::Sender<bool>) -> Keeper {
        let mut ticks = interval(BEAT_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return self,
                _ = ticks.tick() => {}
            }
            let still_ours = tokio::select! {
                () = stop.cancelled() => return self,
                still_ours = self.beat_until_heard() => still_ours,
            };
            if !still_ours {
                // The receiver may be gone already; then nobody needs to know.
                let _ = displacing.send(true);
                return self;
            }
        }
    }

    /// Gives one sign of life, for as long as it takes to reach the target.
    async fn beat_until_heard(&mut self) -> bool {
        let mut pause = Duration::from_millis(100);
        loop {
            match timeout(BEAT_TIMEOUT, self.beat_once()).await {
                Ok(Ok(still_ours)) => return still_ours,
                Ok(Err(problem)) => warn!(error = %problem.why, "no sign of life could be given"),
                Err(_elapsed) => warn!("the target does not answer a sign of life"),
            }
            // A session that failed once is not trusted again: it may be half open.
            (self.session, self.locked) = (None, false);
            sleep(pause).await;
            pause = (pause * 2).min(RECONNECT_EVERY_MAX);
        }
    }

    async fn beat_once(&mut self) -> Result<bool, Problem> {
        if self.session.as_ref().is_none_or(|session| session.is_closed()) {
            self.locked = false;
            self.session = Some(self.connect().await?);
        }
        let session = self.session.as_ref().expect("it was made just now");
        let status = self.statuses.borrow().clone();
        if !beat(session, &self.lease, &self.myself, &status).await? {
            return Ok(false);
        }
        if !self.locked && !session.is_cockroach() {
            // Taking the lock twice in one session is harmless: both go when the session ends.
            self.locked = try_lock(session, &self.lease.key).await?;
            if !self.locked {
                end_lock_holder(session, &self.lease.key).await?;
            }
        }
        Ok(true)
    }

    async fn connect(&self) -> Result<Session, Problem> {
        Session::connect(&self.settings, &self.lease.key.migration.application_name("owner")).await
    }
}
