//! Runs a migration: prepare, copy, stream. What `migrate` is, and what `drain` does when nobody else runs it.
//!
//! ```text
//!   Ends (two sessions) --> Flow (one direction) --> Before (what both databases know) --> preflight --> ownership
//!        nothing is written up to here, and every refusal comes from here                                  |
//!                                                                                                          v
//!                                         Run: start point --> copy --> stream, until told to stop
//! ```
//!
//! What differs by the kind of database that is read is behind [`Upstream`]: [`Postgres`] and [`Cockroach`].

mod before;
mod board;
mod cockroach;
mod copying;
mod display;
mod ends;
mod owned;
mod postgres;
mod preflight;
mod run;
mod streaming;
mod upstream;
mod way_back;

use std::time::Duration;

use serde_json::json;
use tidegate_model::{Position, Problem, Stream, TableName};
use tidegate_sql::state::{self, OwnerConfig, Ownership, Part, Side, StateKey, Waiting};
use tidegate_sql::triggers;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::config::Migration;
use crate::output::Failure;
use crate::status::{StreamState, StreamStatus};
pub use before::Before;
use board::Board;
pub use cockroach::Cockroach;
pub use display::line;
pub use ends::{Ends, Flow};
use owned::Owned;
pub use postgres::Postgres;
pub use preflight::{Preflight, Verdict, run as preflight};
use run::Run;
pub use upstream::Upstream;
pub use way_back::told;

/// How long the target may take to note that its owner has stopped, and why.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// A start with the target's tables as they are.
#[derive(Debug, Clone, PartialEq)]
pub enum NoCopy {
    /// They hold everything up to this position.
    At(Position),
    /// They hold everything up to the moment at which the stream is made.
    Now,
}

/// What is asked of a run beyond going on.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// Do not wait for an owner that seems to be alive.
    pub take_over: bool,
    /// Take the target's tables as they are.
    pub no_copy: Option<NoCopy>,
    /// Tables to empty and copy again.
    pub recopy: Vec<TableName>,
    /// Make the start point again and copy everything again.
    pub recreate_slot: bool,
    /// Forget where the reverse stream is and begin it anew from now.
    pub restart_reverse: bool,
    /// Put aside what changes rows of the target by itself.
    pub set_aside_triggers: bool,
    /// Restore that, and end.
    pub restore_triggers: bool,
    /// End when everything up to this position is durable at the target.
    pub until: Option<Position>,
    /// Stream in both directions at once.
    pub both: bool,
}

impl Wishes {
    /// Returns what is still to be done once a start point is there.
    fn that_last(self) -> Wishes {
        Wishes { no_copy: None, recopy: Vec::new(), recreate_slot: false, restart_reverse: false, ..self }
    }
}

/// How a run ended when nothing was wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// Where the target is; `None` before a start point is known.
    pub applied: Option<Position>,
}

/// Does `$work` with the upstream of a flow, which of either kind it is.
macro_rules! with_upstream {
    ($flow:expr, $upstream:ident => $work:expr) => {
        if $flow.from().session.is_cockroach() {
            let $upstream = $crate::engine::Cockroach($flow);
            $work
        } else {
            let $upstream = $crate::engine::Postgres($flow);
            $work
        }
    };
}
pub(crate) use with_upstream;

/// The name of a stream's rows in the state tables.
pub fn state_key(migration: &Migration, stream: Stream) -> Result<StateKey, Problem> {
    let schema = migration.state_schema.parse().map_err(|error: tidegate_model::InvalidName| {
        Problem::definite("CF001", error.to_string(), "it is the state schema's name", "choose another --state-schema")
    })?;
    Ok(StateKey { schema, migration: migration.name.clone(), stream })
}

/// Runs a migration until `stop` is cancelled or a wish says that it is over.
pub async fn run(migration: &Migration, wishes: Wishes, stop: &CancellationToken) -> Result<Ended, Failure> {
    state_key(migration, Stream::Forward).map_err(Failure::unknown)?;
    let ends = Ends::connect(migration).await.map_err(Failure::at_start)?;
    let forward = Flow { migration, ends: &ends, stream: Stream::Forward };
    if wishes.restore_triggers {
        return restore_triggers(forward, &wishes, stop).await;
    }
    let reverse = Flow { stream: Stream::Reverse, ..forward };
    let before = Before::read(reverse).await.map_err(Failure::at_start)?;
    way_back::verify(migration, &wishes, &before).map_err(Failure::refused)?;
    let turned_on = before.checkpoint.is_some();
    if wishes.both || turned_on {
        return Box::pin(run_both(forward, reverse, wishes, stop)).await;
    }
    run_alone(forward, wishes, stop).await
}

/// Runs one stream only.
pub async fn run_alone(flow: Flow<'_>, wishes: Wishes, stop: &CancellationToken) -> Result<Ended, Failure> {
    let board = Board::new(StreamStatus::new(flow.stream.as_str(), StreamState::Copying));
    let showing = tokio::spawn(display::show(vec![board.subscribe()]));
    let ended = run_flow(flow, &wishes, &board, &watch::Sender::new(false), stop).await;
    showing.abort();
    ended
}

/// Runs both streams. The reverse one begins when the forward one has copied its tables: from then on what is written at
/// the target comes back.
async fn run_both(
    forward: Flow<'_>,
    reverse: Flow<'_>,
    wishes: Wishes,
    stop: &CancellationToken,
) -> Result<Ended, Failure> {
    if forward.from().session.is_cockroach() == forward.to().session.is_cockroach() {
        return Err(Failure::refused(both_needs_cockroach()));
    }
    let forward_wishes = Wishes { both: true, ..wishes };
    let reverse_wishes =
        Wishes { take_over: forward_wishes.take_over, no_copy: Some(NoCopy::Now), both: true, ..Wishes::default() };
    // Refusals of the reverse stream are told before anything is copied.
    let restart = forward_wishes.restart_reverse;
    let first_wishes = Wishes { recreate_slot: restart, ..reverse_wishes.clone() };
    let known = with_upstream!(reverse, upstream => ready(reverse, &upstream, &first_wishes).await);
    let known = known.map_err(|failure| failure.told(reverse.stream))?;
    if restart {
        with_upstream!(forward, upstream => ready(forward, &upstream, &forward_wishes).await?);
        way_back::forget(reverse, &known.before, &reverse_wishes, stop).await?;
    }
    let boards =
        [forward, reverse].map(|flow| Board::new(StreamStatus::new(flow.stream.as_str(), StreamState::Copying)));
    let showing = tokio::spawn(display::show(boards.iter().map(Board::subscribe).collect()));
    let (copied, mut is_copied) = watch::channel(false);
    let stop = stop.child_token();
    let there = async {
        let ended = run_flow(forward, &forward_wishes, &boards[0], &copied, &stop).await;
        stop.cancel();
        ended
    };
    let back = async {
        tokio::select! {
            () = stop.cancelled() => return Ok(Ended { applied: None }),
            _ = is_copied.wait_for(|copied| *copied) => {}
        }
        let ended = run_flow(reverse, &reverse_wishes, &boards[1], &watch::Sender::new(false), &stop).await;
        stop.cancel();
        ended
    };
    let (there, back) = tokio::join!(there, back);
    showing.abort();
    back.and(there)
}

/// Runs one direction until `stop` is cancelled or a wish says that it is over. A database that goes away once the stream
/// is owned is waited for, whatever was under way.
async fn run_flow(
    flow: Flow<'_>,
    wishes: &Wishes,
    board: &Board,
    copied: &watch::Sender<bool>,
    stop: &CancellationToken,
) -> Result<Ended, Failure> {
    let ready = with_upstream!(flow, upstream => ready(flow, &upstream, wishes).await);
    let ready = ready.map_err(|failure| failure.told(flow.stream))?;
    let ownership = install_and_take(flow, &ready.before, wishes, stop).await;
    let Some(ownership) = ownership.map_err(Failure::at_start)? else {
        return Ok(Ended { applied: ready.before.position() });
    };
    board.beat(ownership.status());
    let owned = Owned { ownership: &ownership, board, copied, stop };
    let result = tokio::select! {
        result = Box::pin(owned.run(flow, wishes, ready)) => result,
        displaced = ownership.displaced() => Err(displaced),
    };
    let result = result.map_err(|problem| way_back::told(flow.stream, problem));
    board.change(|status| status.state = StreamState::Stopped);
    // A target that does not answer keeps nobody from stopping: the next owner finds this one gone.
    match timeout(RELEASE_TIMEOUT, ownership.release(result.as_ref().err())).await {
        Ok(Ok(())) => {}
        Ok(Err(problem)) => info!(error = %problem.what, "the stream could not be given back in order"),
        Err(_elapsed) => info!("the stream could not be given back in order: the target does not answer"),
    }
    result.map_err(Failure::stopped)
}

/// What every start looks at first.
#[derive(Debug)]
struct Ready {
    before: Before,
    preflight: Preflight,
}

/// Finds every reason not to start. Writes nothing.
async fn ready<U: Upstream>(flow: Flow<'_>, upstream: &U, wishes: &Wishes) -> Result<Ready, Failure> {
    let before = Before::read(flow).await.map_err(Failure::at_start)?;
    upstream.verify(&before, wishes).await.map_err(Failure::at_start)?;
    before.verify(flow.migration, wishes).map_err(Failure::at_start)?;
    let preflight = preflight(flow, upstream, &before, wishes).await.map_err(Failure::at_start)?;
    preflight.pass(&flow.migration.name)?;
    Ok(Ready { before, preflight })
}

/// Restores what was put aside at the target. Needs no slot: the source may be gone already.
async fn restore_triggers(flow: Flow<'_>, wishes: &Wishes, stop: &CancellationToken) -> Result<Ended, Failure> {
    let before = Before::read(flow).await.map_err(Failure::at_start)?;
    if before.checkpoint.is_none() {
        let what = format!("migration \"{}\" has put nothing aside", flow.migration.name);
        let next = "check --target, --name and --state-schema";
        return Err(Failure::refused(Problem::definite("MI015", what, "the target knows no such migration", next)));
    }
    let ownership = install_and_take(flow, &before, wishes, stop).await.map_err(Failure::at_start)?;
    let Some(ownership) = ownership else { return Ok(Ended { applied: before.position() }) };
    let result = triggers::bring_back(&flow.to().session, ownership.lease()).await;
    let released = ownership.release(result.as_ref().err()).await;
    result.and(released).map_err(Failure::refused)?;
    Ok(Ended { applied: before.position() })
}

/// Makes the state tables on both sides and becomes the owner; `None` if told to stop while waiting for another owner.
async fn install_and_take(
    flow: Flow<'_>,
    before: &Before,
    wishes: &Wishes,
    stop: &CancellationToken,
) -> Result<Option<Ownership>, Problem> {
    let (key, migration, ends) = (flow.key()?, flow.migration, flow.ends);
    state::install(&flow.to().session, &key.schema, Part::Stream).await?;
    state::install(&flow.from().session, &key.schema, Part::Common).await?;
    let settings = before.pair.settings(json!({ "tables": migration.tables, "exclude": migration.exclude }));
    for (end, side) in [(&ends.target, Side::Target), (&ends.source, Side::Source)] {
        state::write_migration(&end.session, &key.schema, &migration.name, side, &settings).await?;
    }
    let config = OwnerConfig { settings: flow.to().settings.clone(), key, take_over: wishes.take_over };
    let mut said = None;
    let waiting = |why: &Waiting| {
        let text = said_of(why);
        if said.as_ref() != Some(&text) {
            info!(waiting_for = %text, "not the owner yet");
            said = Some(text);
        }
    };
    stop.run_until_cancelled(state::take(&config, waiting)).await.transpose()
}

fn both_needs_cockroach() -> Problem {
    Problem::definite(
        "MI017",
        "both directions at once are not possible between these databases",
        "--direction both goes between PostgreSQL and CockroachDB",
        "leave out --direction",
    )
}

/// Says who or what a newcomer waits for, without what changes every time.
fn said_of(waiting: &Waiting) -> String {
    match waiting {
        Waiting::Owner { host, pid, .. } => {
            format!("process {pid} on {host} owns the stream and is alive; --take-over does not wait for it")
        }
        Waiting::Newcomer { backend_pid } => {
            format!("another process is taking the stream over (backend {backend_pid})")
        }
        Waiting::UnnamedTransaction => "a transaction at the target holds the checkpoint".to_owned(),
        Waiting::Transaction { backend_pid, application_name } => format!(
            "a transaction of \"{application_name}\" at the target holds the checkpoint (backend {backend_pid}); \
             SELECT pg_terminate_backend({backend_pid}) ends it"
        ),
    }
}
