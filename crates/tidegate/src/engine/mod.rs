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
mod conductor;
mod conflicting;
mod copying;
mod display;
mod ends;
mod fence;
mod owned;
mod postgres;
mod preflight;
mod repairing;
mod roles;
mod run;
mod seat;
mod sequences;
mod settling;
mod streaming;
mod turning;
mod upstream;
mod verifying;
mod way_back;
mod weakly;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tidegate_model::{Position, Problem, Stream, TableName};
use tidegate_sql::requests::{Answers, Taken};
use tidegate_sql::state::{self, OwnerConfig, Ownership, Part, Side, StateKey, Waiting};
use tidegate_sql::triggers;
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::Migration;
use crate::output::Failure;
use crate::status::StreamState;
pub use before::Before;
use board::Board;
pub use cockroach::Cockroach;
use conductor::Conductor;
pub use display::line;
pub use ends::{End, Ends, Flow};
use owned::Owned;
pub use postgres::Postgres;
pub use preflight::{Preflight, Verdict, run as preflight};
use roles::{Role, Roles};
use run::Run;
use seat::Seat;
pub use turning::{TurnRequest, abort as abort_turn, standing as turn_standing, unfinished as unfinished_turn};
pub use upstream::Upstream;
pub use verifying::VerifyWishes;
pub use way_back::told;

/// How often it is looked again whether source and target fit together, before it is said that they do not.
const LOOKS_MAX: u32 = 5;
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
    /// Which requests are answered meanwhile.
    pub answers: Answers,
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
    let standing = Standing::read(forward, reverse, &wishes).await.map_err(Failure::at_start)?;
    let across = forward.from().session.is_cockroach() != forward.to().session.is_cockroach();
    if standing.roles.reverse == Role::Flows && !across {
        return Err(Failure::refused(both_needs_cockroach()));
    }
    Box::pin(run_streams(forward, reverse, wishes, &standing, stop)).await
}

/// Returns the streams that apply what they read.
pub async fn flowing_streams(migration: &Migration, ends: &Ends) -> Result<Vec<Stream>, Problem> {
    let forward = Flow { migration, ends, stream: Stream::Forward };
    let reverse = Flow { stream: Stream::Reverse, ..forward };
    let roles = Standing::read(forward, reverse, &Wishes::default()).await?.roles;
    let flows = [(Stream::Forward, roles.forward), (Stream::Reverse, roles.reverse)];
    Ok(flows.into_iter().filter(|(_, role)| *role == Role::Flows).map(|(stream, _)| stream).collect())
}

/// Where a migration stands when a process begins to run it.
#[derive(Debug)]
struct Standing {
    roles: Roles,
    /// The reverse stream has begun at some time.
    reverse_begun: bool,
}

impl Standing {
    async fn read(forward: Flow<'_>, reverse: Flow<'_>, wishes: &Wishes) -> Result<Standing, Problem> {
        let before = Before::read(reverse).await?;
        way_back::verify(forward.migration, wishes, &before)?;
        let reverse_begun = before.checkpoint.is_some();
        let mut roles = Roles::of(&before.pair, reverse_begun, turning::turns(forward).await?);
        if wishes.both && roles.reverse == Role::Off {
            roles.reverse = Role::Flows;
        }
        Ok(Standing { roles, reverse_begun })
    }
}

/// Runs one stream only.
pub async fn run_alone(flow: Flow<'_>, wishes: Wishes, stop: &CancellationToken) -> Result<Ended, Failure> {
    let stop = stop.child_token();
    let crew =
        Crew::new(flow.migration, &Roles { forward: Role::Flows, reverse: Role::Flows, arbitrated: false }, &stop);
    let seat = crew.seat(flow.stream);
    let showing = tokio::spawn(display::show(vec![seat.board.subscribe()]));
    let conducting = tokio::spawn(crew.conduct());
    let ended = run_flow(flow, &wishes, &seat, &stop).await;
    showing.abort();
    conducting.abort();
    ended
}

/// Runs the streams that are to run. A reverse one that was not there before begins when the forward one has copied its
/// tables: from then on what is written at the target comes back; or when a turn arms it.
async fn run_streams(
    forward: Flow<'_>,
    reverse: Flow<'_>,
    wishes: Wishes,
    standing: &Standing,
    stop: &CancellationToken,
) -> Result<Ended, Failure> {
    let both = standing.roles.reverse == Role::Flows;
    let forward_wishes = Wishes { both, ..wishes };
    let reverse_wishes = Wishes {
        take_over: forward_wishes.take_over,
        no_copy: Some(NoCopy::Now),
        both: true,
        answers: forward_wishes.answers.clone(),
        ..Wishes::default()
    };
    let restart = forward_wishes.restart_reverse;
    if restart || (both && !standing.reverse_begun) {
        // Refusals of the reverse stream are told before anything is copied.
        let first_wishes = Wishes { recreate_slot: restart, ..reverse_wishes.clone() };
        let known = with_upstream!(reverse, upstream => ready(reverse, &upstream, &first_wishes).await);
        let known = known.map_err(|failure| failure.told(reverse.stream))?;
        if restart {
            with_upstream!(forward, upstream => ready(forward, &upstream, &forward_wishes).await?);
            way_back::forget(reverse, &known.before, &reverse_wishes, stop).await?;
        }
    }
    let stop = stop.child_token();
    let crew = Crew::new(forward.migration, &standing.roles, &stop);
    let [there, back] = [forward, reverse].map(|flow| crew.seat(flow.stream));
    there.read_back.store(standing.roles.reverse != Role::Off, Ordering::Relaxed);
    let showing = tokio::spawn(display::show(vec![there.board.subscribe(), back.board.subscribe()]));
    let conducting = tokio::spawn(crew.conduct());
    let flowing = async {
        let ended = run_flow(forward, &forward_wishes, &there, &stop).await;
        stop.cancel();
        ended
    };
    let returning = async {
        // In this order everywhere: two processes with a stream each would wait for each other for ever.
        let Some(roles) = stop.run_until_cancelled(there.owned()).await else {
            return Ok(Ended { applied: None });
        };
        if roles.reverse != Role::Off {
            back.take_role(&roles.reverse);
            back.want(NoCopy::Now);
        }
        let begins = restart || !standing.reverse_begun;
        if begins && both && stop.run_until_cancelled(there.copied()).await.is_none() {
            return Ok(Ended { applied: None });
        }
        let ended = run_wanted(reverse, &reverse_wishes, &back, &stop).await;
        stop.cancel();
        ended
    };
    let (flowed, returned) = tokio::join!(flowing, returning);
    showing.abort();
    conducting.abort();
    returned.and(flowed)
}

/// Runs a stream whenever it is wanted. One that is only armed takes nothing down with it when it fails: whoever armed
/// it is told.
async fn run_wanted(flow: Flow<'_>, wishes: &Wishes, seat: &Seat, stop: &CancellationToken) -> Result<Ended, Failure> {
    loop {
        let Some(from) = stop.run_until_cancelled(seat.wanted()).await else { return Ok(Ended { applied: None }) };
        let wishes = Wishes { no_copy: Some(from), ..wishes.clone() };
        match run_flow(flow, &wishes, seat, stop).await {
            Err(failure) if seat.at_rest(&seat.gate()) == Some(StreamState::Armed) => {
                warn!(error = %failure.problem.what, why = %failure.problem.why, "an armed stream ended");
                seat.note_failed(&failure.problem);
            }
            ended => return ended,
        }
    }
}

/// The seats of both streams, and whoever does what is asked of them.
struct Crew {
    conductor: Arc<Conductor>,
    taken: [mpsc::Receiver<Taken>; 2],
}

impl Crew {
    fn new(migration: &Migration, roles: &Roles, stop: &CancellationToken) -> Crew {
        let (forward, there) = Seat::new(Stream::Forward, &roles.forward);
        let (reverse, back) = Seat::new(Stream::Reverse, &roles.reverse);
        let (migration, stop) = (migration.clone(), stop.clone());
        let conductor = Conductor { migration, forward, reverse, baton: Mutex::default(), stop };
        Crew { conductor: Arc::new(conductor), taken: [there, back] }
    }

    fn seat(&self, stream: Stream) -> Arc<Seat> {
        Arc::clone(match stream {
            Stream::Forward => &self.conductor.forward,
            Stream::Reverse => &self.conductor.reverse,
        })
    }

    async fn conduct(self) {
        let [there, back] = self.taken;
        let settling = settling::settle(&self.conductor);
        tokio::select! {
            never = Arc::clone(&self.conductor).run(there, back) => match never {},
            never = settling => match never {},
        }
    }
}

/// Runs one direction until `stop` is cancelled or a wish says that it is over. A database that goes away once the stream
/// is owned is waited for, whatever was under way.
async fn run_flow(flow: Flow<'_>, wishes: &Wishes, seat: &Seat, stop: &CancellationToken) -> Result<Ended, Failure> {
    let ready = with_upstream!(flow, upstream => ready(flow, &upstream, wishes).await);
    let ready = ready.map_err(|failure| failure.told(flow.stream))?;
    let ownership = install_and_take(flow, &ready.before, wishes, stop).await;
    let Some(ownership) = ownership.map_err(Failure::at_start)? else {
        return Ok(Ended { applied: ready.before.position() });
    };
    seat.board.beat(ownership.status());
    let owned = Owned { ownership: &ownership, seat, stop };
    let result = tokio::select! {
        result = Box::pin(owned.run(flow, wishes, ready)) => result,
        displaced = ownership.displaced() => Err(displaced),
    };
    let result = result.map_err(|problem| way_back::told(flow.stream, problem));
    seat.note_live(None);
    seat.board.change(|status| status.state = StreamState::Stopped);
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

/// Reads what both databases know of a stream, and refuses what does not fit. Read while the stream runs, the two are
/// of different moments: the source may have let go of what the target had not noted yet. So a refusal is looked at again.
pub async fn known<U: Upstream>(flow: Flow<'_>, upstream: &U, wishes: &Wishes) -> Result<Before, Problem> {
    let mut looks = 1;
    loop {
        let before = Before::read(flow).await?;
        match upstream.verify(&before, wishes).await {
            Ok(()) => return Ok(before),
            Err(_) if looks < LOOKS_MAX => looks += 1,
            Err(problem) => return Err(problem),
        }
    }
}

/// Finds every reason not to start. Writes nothing.
async fn ready<U: Upstream>(flow: Flow<'_>, upstream: &U, wishes: &Wishes) -> Result<Ready, Failure> {
    let before = known(flow, upstream, wishes).await.map_err(Failure::at_start)?;
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
