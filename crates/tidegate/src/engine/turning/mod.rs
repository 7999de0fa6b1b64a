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
mod hook;
mod observing;
mod performing;
mod rounds;
mod undoing;

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidegate_control::{
    Direction, Next, OnFailure, Plan, Policy, Refusal, Side, Step, TurnId, Turning, plan, resume, when_over_budget,
};
use tidegate_model::{Class, Problem, Stream};
use tidegate_pipeline::Gate;
use tidegate_sql::requests::Taken;
use tidegate_sql::state::{self, Part};
use tidegate_sql::turn::{Book, StepState};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::conductor::Conductor;
use super::{Ends, Flow};
use crate::config::Migration;
use crate::status::StreamState;
use rounds::Rounds;
pub use undoing::abort;

/// Between two looks at a side that cannot be read, and two attempts at a step.
const AGAIN: Duration = Duration::from_millis(500);

/// What is asked of a turn.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TurnRequest {
    pub direction: Direction,
    pub policy: Policy,
    /// Only plan, and change nothing.
    pub plan_only: bool,
    /// Who asks, for the certificate.
    pub asked_by: Option<String>,
}

/// Tells whether a turn was begun at some time.
pub async fn has_turned(flow: Flow<'_>) -> Result<bool, Problem> {
    let key = flow.key()?;
    for end in [&flow.ends.source, &flow.ends.target] {
        if state::is_installed(&end.session, &key.schema, Part::Common).await? {
            let book = Book { session: &end.session, schema: &key.schema, name: &key.migration };
            if book.newest().await?.is_some() {
                return Ok(true);
            }
        }
    }
    Ok(false)
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
    if done.is_err() && !turn.is_past().await {
        // Whatever was held back for the turn flows again.
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
    /// For how long nothing could be written.
    blocked: Option<Duration>,
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
            blocked: None,
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
        let observed = self.observe_all().await?;
        plan(&observed, self.policy()).map_err(refused)
    }

    /// Goes on until the turn is over, one way or the other.
    async fn run(&mut self) -> Result<Value, Problem> {
        let mut ours = None;
        loop {
            let observed = self.observe_sides().await?;
            match resume(&observed) {
                Next::Nothing => match ours {
                    Some(id) => return self.certified(id).await,
                    None => ours = Some(self.begin().await?),
                },
                Next::Continue { id, step } => {
                    ours = Some(id);
                    if let Err(failed) = self.step(id, step).await {
                        self.answer_failure(id, step, failed).await?;
                    }
                }
                Next::FinishFollowing { id, step } => {
                    ours = Some(id);
                    if let Err(failed) = self.step(id, step).await {
                        self.answer_failure(id, step, failed).await?;
                    }
                }
                Next::GoOnAborting { id, .. } => {
                    self.undo().await?;
                    return Err(was_aborted(self.direction(), id));
                }
                Next::Wait { side } => {
                    self.say(&format!("waiting: the {side} must be read first"));
                    sleep(AGAIN).await;
                    self.reach_again().await;
                }
            }
        }
    }

    /// Plans, and records the plan at the closing side.
    async fn begin(&mut self) -> Result<TurnId, Problem> {
        let plan = self.plan().await?;
        info!(turn = %plan.id, direction = %plan.direction, "turn planned");
        self.say(&plan.to_string());
        let steps: Vec<&str> = plan.steps.iter().map(|planned| planned.step.name()).collect();
        let expects = plan.expects.map(|turning| turning.to_string());
        let (id, turning) = (plan.id.to_string(), Turning::Begun(plan.id).to_string());
        let stream = self.direction().drained();
        let book = self.book(self.direction().closing());
        book.begin((stream, &id), plan.id.from(), expects.as_deref(), &turning, &steps).await?;
        book.step((stream, &id), Step::Begin.name(), StepState::Done, &Value::Null).await?;
        Ok(plan.id)
    }

    /// Does a step and records it.
    async fn step(&mut self, id: TurnId, step: Step) -> Result<(), Failed> {
        info!(turn = %id, %step, "step");
        self.say(&format!("{step}"));
        let at = self.recorded_at(step);
        let (stream, text) = (self.direction().drained(), id.to_string());
        // The turn itself is recorded where it happens, in its own transaction.
        if step != Step::Turn {
            let begun = self.book(at).step((stream, &text), step.name(), StepState::Begun, &Value::Null).await;
            begun.map_err(Failed::Problem)?;
        }
        let detail = match self.time_left(step) {
            Some(left) => timeout(left, self.perform(id, step)).await.map_err(|_elapsed| Failed::OverBudget)?,
            None => self.perform(id, step).await,
        };
        let detail = detail.map_err(Failed::Problem)?;
        if step != Step::Turn {
            let done = self.book(at).step((stream, &text), step.name(), StepState::Done, &detail).await;
            done.map_err(Failed::Problem)?;
        }
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
        Some(Duration::from_secs(self.policy().budget_seconds).saturating_sub(since.elapsed()))
    }

    async fn answer_failure(&mut self, id: TurnId, step: Step, failed: Failed) -> Result<(), Problem> {
        let problem = match failed {
            Failed::OverBudget => return self.give_up(step).await,
            Failed::Problem(problem) => problem,
        };
        let passes = problem.class == Class::Transient;
        warn!(turn = %id, %step, error = %problem.what, why = %problem.why, "a step failed");
        self.say(&format!("{step} failed: {}: {}", problem.what, problem.why));
        match step.on_failure() {
            // A database that went away may be back within the budget.
            OnFailure::Abort if passes && self.time_left(step).is_none_or(|left| !left.is_zero()) => {
                sleep(AGAIN).await;
                self.reach_again().await;
                Ok(())
            }
            OnFailure::Abort => {
                self.undo().await?;
                Err(problem)
            }
            OnFailure::Settle | OnFailure::Retry => {
                sleep(AGAIN).await;
                self.reach_again().await;
                Ok(())
            }
            OnFailure::Report => {
                let detail = json!({ "failed": problem.what, "why": problem.why });
                let (at, stream) = (self.recorded_at(step), self.direction().drained());
                self.book(at).step((stream, &id.to_string()), step.name(), StepState::Done, &detail).await
            }
        }
    }

    /// The budget is spent: undoes the attempt if that is still possible, and goes on otherwise.
    async fn give_up(&mut self, step: Step) -> Result<(), Problem> {
        let observed = self.observe_sides().await?;
        if when_over_budget(&observed, self.policy()).is_none() {
            return Ok(());
        }
        self.undo().await?;
        Err(tidegate_control::budget_exceeded(&observed, self.policy(), step.name()).into())
    }

    /// Undoes the attempt, and lets the drained stream flow again.
    async fn undo(&mut self) -> Result<(), Problem> {
        undoing::undo(&self.ends, self.migration(), self.direction(), self.policy()).await?;
        self.conductor.seat(self.direction().drained()).set_gate(Gate::Open);
        Ok(())
    }

    /// Returns whether the other side is open: then nothing is to be taken back.
    async fn is_past(&self) -> bool {
        let observed = self.observe_sides().await;
        observed.is_ok_and(|observed| {
            let generation = |side| observed.side(side).says().map_or(0, |says| says.generation);
            generation(self.direction().opening()) > generation(self.direction().closing())
        }) || self.conductor.seat(self.direction().drained()).at_rest(&Gate::Parked) == Some(StreamState::Parked)
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

fn was_aborted(direction: Direction, id: TurnId) -> Problem {
    Problem::definite(
        "CT098",
        format!("{direction} {id} was aborted"),
        "somebody asked for that while it ran, or before it was taken up again",
        format!("the {} is open; plan again: tidegate {direction} --plan-only", direction.closing()),
    )
}
