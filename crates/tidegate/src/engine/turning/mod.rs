//! Turns a migration round: executes what the planner decides, one recorded step after another.
//!
//! ```text
//!   observe both sides --> resume(): what now? --> do the step, record it --> observe again
//!        |                     nothing: plan() and begin
//!        |                     wait: a side must be read first
//!        +-- a step that fails: undo the attempt, settle it, try again or report, as the planner says of the step
//! ```
//!
//! Nothing is remembered here that is not in the databases, but for what only matters while a turn runs: what the verify
//! rounds found, and since when nothing can be written.

mod certifying;
mod crash;
mod failing;
mod hook;
mod immediate;
mod observing;
mod performing;
mod resuming;
mod rounds;
mod undoing;

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidegate_control::{
    Direction, Next, Observed, OnFailure, Plan, Policy, Refusal, Side, Step, TurnId, Turning, plan, resume,
};
use tidegate_model::{Class, Problem, Stream};
use tidegate_pipeline::Gate;
use tidegate_sql::requests::Taken;
use tidegate_sql::state::{self, Part};
use tidegate_sql::turn::{Book, Recorded, StepState};
use tokio::time::{sleep, timeout};
use tracing::info;

use super::conductor::Conductor;
use super::roles::Turns;
use super::{Ends, Flow};
use crate::config::Migration;
use crash::Moment;
use rounds::Rounds;
pub use undoing::abort;

/// How long a fence whose time is spent may take to say so.
const FENCE_GRACE: Duration = Duration::from_secs(5);
/// Between two looks at a side that cannot be read, and two attempts at a step.
const AGAIN: Duration = Duration::from_millis(500);

/// What the record of a turn says that opened one side and closed none.
const IMMEDIATE: &str = "immediate";

/// What is asked of a turn.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TurnRequest {
    pub direction: Direction,
    pub policy: Policy,
    /// Only plan, and change nothing.
    pub plan_only: bool,
    /// When, by the clock of the side that the turn opens: since 1970, in seconds.
    #[serde(default)]
    pub asked_at: Option<f64>,
    /// Who asks, for the certificate.
    pub asked_by: Option<String>,
}

/// Returns what the turns of a migration have left behind. The side that the last one opened knows of it.
pub async fn turns(flow: Flow<'_>) -> Result<Turns, Problem> {
    let key = flow.key()?;
    let (mut newest, mut turns) = (0, Turns::default());
    // A turn to an odd generation opens the source, one to an even generation the target.
    for (end, parity) in [(&flow.ends.source, 1), (&flow.ends.target, 0)] {
        if !state::is_installed(&end.session, &key.schema, Part::Common).await? {
            continue;
        }
        let book = Book { session: &end.session, schema: &key.schema, name: &key.migration };
        turns.begun |= !book.turns().await?.is_empty();
        let row = state::read_migration(&end.session, &key.schema, &key.migration).await?;
        let Some(row) = row.filter(|row| row.generation > newest && row.generation % 2 == parity) else { continue };
        let turned = book.turned().await?;
        let led = book.recorded(turned["turn"].as_str().unwrap_or_default()).await?;
        newest = row.generation;
        turns.both_open = turned[IMMEDIATE] == true;
        turns.unparked = led.is_some_and(|led| is_unparked(&led));
    }
    Ok(turns)
}

/// Tells whether the streams of a turn have still to change places.
fn is_unparked(recorded: &Recorded) -> bool {
    recorded.steps.iter().any(|row| row.name == Step::Park.name() && row.state != StepState::Done)
}

/// Returns which turn has begun and not ended.
pub async fn unfinished(migration: &Migration, ends: &Ends) -> Result<Option<Direction>, Problem> {
    for end in [&ends.source, &ends.target] {
        if !state::is_installed(&end.session, &ends.schema, Part::Common).await? {
            return Ok(None);
        }
    }
    let observed = observing::sides(ends, migration, Direction::Cutover).await;
    Ok(Direction::under_way(&observed.source, &observed.target))
}

/// Tells whether the last turn was that of this direction, and the time by the clock of the side that it opens.
pub async fn standing(migration: &Migration, ends: &Ends, direction: Direction) -> Result<(bool, f64), Problem> {
    let observed = observing::sides(ends, migration, direction).await;
    let opening = &observing::end(ends, direction.opening()).session;
    let now = Book { session: opening, schema: &ends.schema, name: &migration.name }.now().await?;
    Ok((resuming::is_turned(&observed), now))
}

/// Does what a request asks for, and returns the plan or the certificate.
pub async fn run(conductor: &Conductor, taken: &Taken) -> Result<Value, Problem> {
    let request: TurnRequest = serde_json::from_value(taken.request.arguments.clone()).map_err(|error| {
        Problem::definite("ST015", "a turn that cannot be read", error.to_string(), "ask with a matching program")
    })?;
    let (plan_only, direction) = (request.plan_only, request.direction);
    let mut turn = Turn::new(conductor, taken, request).await?;
    if plan_only {
        let plan = turn.plan().await?;
        return Ok(json!({ "plan": plan, "text": plan.to_string() }));
    }
    let done = turn.run().await;
    if done.is_err() && turn.may_flow_again().await {
        // Whatever was held back for the turn flows again, as it did before.
        turn.arbitrate_no_more();
        conductor.seat(direction.drained()).set_gate(Gate::Open);
    }
    done
}

/// A turn under way in this process.
struct Turn<'a> {
    conductor: &'a Conductor,
    taken: &'a Taken,
    request: TurnRequest,
    ends: Ends,
    rounds: Rounds,
    /// Since when nothing can be written.
    blocked_since: Option<Instant>,
    /// How long of that went by waiting for a resolved timestamp.
    resolved_wait: Duration,
}

/// Why a step was not done.
enum Failed {
    /// The budget was spent while it waited.
    OverBudget,
    Problem(Problem),
}

impl<'a> Turn<'a> {
    async fn new(conductor: &'a Conductor, taken: &'a Taken, request: TurnRequest) -> Result<Turn<'a>, Problem> {
        let ends = Ends::connect(&conductor.migration).await?;
        let key = super::state_key(&conductor.migration, Stream::Forward)?;
        // An older program may have begun the migration.
        for end in [&ends.source, &ends.target] {
            state::install(&end.session, &key.schema, Part::Common).await?;
        }
        Ok(Turn {
            conductor,
            taken,
            request,
            ends,
            rounds: Rounds::default(),
            blocked_since: None,
            resolved_wait: Duration::ZERO,
        })
    }

    fn direction(&self) -> Direction {
        self.request.direction
    }

    fn policy(&self) -> &Policy {
        &self.request.policy
    }

    fn migration(&self) -> &'a Migration {
        &self.conductor.migration
    }

    async fn plan(&self) -> Result<Plan, Problem> {
        // What was in its way may have been mended since; arming it tells.
        self.conductor.seat(self.direction().armed()).forget_failure();
        let observed = self.observe_all().await?;
        let plan = plan(&observed, self.policy()).map_err(refused)?;
        self.refuse_flowing(self.conductor.seat(self.direction().armed()))?;
        Ok(plan)
    }

    /// Goes on until the turn is over, one way or the other.
    async fn run(&mut self) -> Result<Value, Problem> {
        let mut ours: Option<TurnId> = None;
        loop {
            let observed = self.observe_sides().await?;
            if let Some(other) = Direction::under_way(&observed.source, &observed.target)
                && other != self.direction()
            {
                return Err(other_under_way(other));
            }
            match resume(&observed) {
                Next::Nothing => match ours {
                    Some(id) if generation(&observed) >= id.to => return self.certified(id).await,
                    Some(id) => return Err(was_aborted(self.direction(), id)),
                    None => match self.made().await? {
                        Some(id) => ours = Some(id),
                        None => match self.stands_already(&observed).await? {
                            Some(id) => return self.certified(id).await,
                            None => ours = Some(self.begin().await?),
                        },
                    },
                },
                Next::Continue { id, step } => {
                    let taking_up = async {
                        if ours != Some(id) {
                            self.refuse_other_kind().await?;
                        }
                        self.recall(&mut ours, id).await
                    };
                    if let Err(problem) = taking_up.await {
                        self.wait_out(problem).await?;
                        continue;
                    }
                    let ready = self.take_up(step).await.map_err(Failed::Problem);
                    let done = match ready {
                        Ok(()) => self.step(id, step).await,
                        Err(failed) => Err(failed),
                    };
                    if let Err(failed) = done {
                        self.answer_failure(id, step, failed).await?;
                    }
                }
                Next::FinishFollowing { id, step } => {
                    if let Err(problem) = self.recall(&mut ours, id).await {
                        self.wait_out(problem).await?;
                        continue;
                    }
                    if let Err(failed) = self.step(id, step).await {
                        self.answer_failure(id, step, failed).await?;
                    }
                }
                Next::GoOnAborting { id, .. } => {
                    if let Err(problem) = self.recall(&mut ours, id).await {
                        self.wait_out(problem).await?;
                        continue;
                    }
                    if self.undo_or_wait().await? {
                        return Err(was_aborted(self.direction(), id));
                    }
                }
                Next::Wait { side } => {
                    self.say(&format!("waiting: the {side} must be read first"));
                    sleep(AGAIN).await;
                    self.reach_again().await;
                }
            }
        }
    }

    /// Waits where a database that went away may be back; whatever will not pass is returned.
    async fn wait_out(&mut self, problem: Problem) -> Result<(), Problem> {
        if problem.class != Class::Transient {
            return Err(problem);
        }
        sleep(AGAIN).await;
        self.reach_again().await;
        Ok(())
    }

    /// Plans, and records the plan at the closing side.
    async fn begin(&mut self) -> Result<TurnId, Problem> {
        self.refuse_late().await?;
        let plan = self.plan().await?;
        info!(turn = %plan.id, direction = %plan.direction, "turn planned");
        self.say(&plan.to_string());
        let steps: Vec<&str> = plan.steps.iter().map(|planned| planned.step.name()).collect();
        let expects = plan.expects.map(|turning| turning.to_string());
        let (id, turning) = (plan.id.to_string(), Turning::Begun(plan.id).to_string());
        let stream = self.direction().drained();
        let book = self.book(self.direction().closing());
        let policy = self.policy();
        let detail =
            json!({ "request": self.taken.request.id, "hooks": policy.hooks, "accepted": policy.accept.codes() });
        let begun = book.begin((stream, &id), plan.id.from(), expects.as_deref(), &turning, &steps, Some(&detail));
        begun.await?;
        Ok(plan.id)
    }

    /// Does a step and records it.
    async fn step(&mut self, id: TurnId, step: Step) -> Result<(), Failed> {
        info!(turn = %id, %step, "step");
        self.say(&format!("{step}"));
        let at = self.recorded_at(step);
        let (stream, text) = (self.direction().drained(), id.to_string());
        crash::at(step, Moment::Before);
        // The turn itself is recorded where it happens, in its own transaction.
        if step != Step::Turn {
            let begun = self.book(at).step((stream, &text), step.name(), StepState::Begun, &Value::Null).await;
            begun.map_err(Failed::Problem)?;
        }
        let left = self.time_left(step);
        let performing = Box::pin(crash::inside(step, self.perform(id, step)));
        let detail = match left {
            Some(left) => timeout(left, performing).await.map_err(|_elapsed| Failed::OverBudget)?,
            None => performing.await,
        };
        let detail = detail.map_err(Failed::Problem)?;
        crash::at(step, Moment::After);
        if step != Step::Turn {
            let done = self.book(at).step((stream, &text), step.name(), StepState::Done, &detail).await;
            done.map_err(Failed::Problem)?;
        }
        crash::at(step, Moment::Done);
        Ok(())
    }

    /// Returns the side that records a step: the one that closes, and from the turn on the one that was opened.
    fn recorded_at(&self, step: Step) -> Side {
        let direction = self.direction();
        match step {
            Step::Turn
            | Step::GiveBack
            | Step::OnOpen
            | Step::Follow
            | Step::Park
            | Step::DropFenceTriggers
            | Step::Certificate
            | Step::FlowBothWays
            | Step::ConflictReport => direction.opening(),
            _ => direction.closing(),
        }
    }

    /// Returns what is left of the budget for a step that can still be undone; `None`: no limit.
    fn time_left(&self, step: Step) -> Option<Duration> {
        let since = self.blocked_since?;
        if !step.is_write_blocked() || step.on_failure() != OnFailure::Abort {
            return None;
        }
        let left = Duration::from_secs(self.policy().budget_seconds).saturating_sub(since.elapsed());
        // The fence watches the time by itself, and says who was in its way.
        Some(if step == Step::Fence { left + FENCE_GRACE } else { left })
    }

    fn book(&self, side: Side) -> Book<'_> {
        let end = self.end(side);
        Book { session: &end.session, schema: &self.ends.schema, name: &self.migration().name }
    }

    fn end(&self, side: Side) -> &super::ends::End {
        match side {
            Side::Source => &self.ends.source,
            Side::Target => &self.ends.target,
        }
    }

    /// The flow of a stream over the sessions of the turn.
    fn flow(&self, stream: Stream) -> Flow<'_> {
        Flow { migration: self.migration(), ends: &self.ends, stream }
    }

    /// Connects again, as far as both sides answer.
    async fn reach_again(&mut self) {
        if let Ok(ends) = Ends::connect(self.migration()).await {
            self.ends = ends;
        }
    }

    /// Tells whoever asked.
    fn say(&self, text: &str) {
        self.taken.progress(json!({ "said": text }));
    }
}

/// Returns the generation that the migration has reached.
fn generation(observed: &Observed) -> i64 {
    let sides = [observed.closing().says(), observed.opening().says()];
    sides.into_iter().flatten().map(|says| says.generation).max().unwrap_or(0)
}

fn refused(refusal: Refusal) -> Problem {
    let reasons = refusal.reasons;
    let Some(first) = reasons.first() else {
        return Problem::bug("CT099", "a turn was refused without a reason", "the planner gave none");
    };
    if reasons.len() == 1 {
        return first.clone().into();
    }
    let all = |part: fn(&tidegate_control::Reason) -> &String| {
        let numbered = |reason: &tidegate_control::Reason| format!("[{}] {}", reason.code, part(reason));
        reasons.iter().map(numbered).collect::<Vec<_>>().join("; ")
    };
    Problem::definite(first.code, all(|reason| &reason.what), all(|reason| &reason.why), all(|reason| &reason.next))
}

fn immediate_under_way(direction: Direction) -> Problem {
    Problem::definite(
        "CT003",
        format!("an immediate {direction} of this migration is unfinished"),
        "it leaves both sides open, which was not asked for now",
        format!("let it go on: tidegate {direction} --immediate; or undo it: tidegate {direction} --abort"),
    )
}

fn other_under_way(other: Direction) -> Problem {
    Problem::definite(
        "CT003",
        format!("a {other} of this migration is unfinished"),
        "there is one turn at a time",
        format!("let it go on: tidegate {other}; or undo it, if that is still possible: tidegate {other} --abort"),
    )
}

fn was_aborted(direction: Direction, id: TurnId) -> Problem {
    Problem::definite(
        "CT098",
        format!("{direction} {id} was aborted"),
        "somebody asked for that while it ran, or before it was taken up again",
        format!("the {} is open; plan again: tidegate {direction} --plan-only", direction.closing()),
    )
}
