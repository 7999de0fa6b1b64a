//! Undoing a turn that has not happened.
//!
//! It needs the closing side only, unless the turn may have been sent: so it works where the other side is gone for good,
//! and without the process that began the turn.

use std::time::Duration;

use serde_json::Value;
use tidegate_connect::Session;
use tidegate_control::{Direction, Observed, Policy, Side, SideSeen, Step, Turning, Undo, abort_steps};
use tidegate_model::Problem;
use tidegate_sql::fence;
use tidegate_sql::turn::{Book, StepState};
use tokio::time::Instant;
use tracing::info;

use super::super::{Ends, state_key};
use super::crash::{self, Moment};
use super::observing::{self, sides};
use super::resuming::recorded_hooks;
use super::{hook, refused};
use crate::config::Migration;

/// How long the removal of the fence's triggers may wait for locks. The fence lets everybody through before that.
const TAKE_DOWN_MAX: Duration = Duration::from_secs(60);

/// Undoes the attempt that is under way. Both sides are reached; what one of them cannot say is told as a refusal.
pub(super) async fn undo(
    ends: &Ends,
    migration: &Migration,
    direction: Direction,
    policy: &Policy,
) -> Result<(), Problem> {
    let observed = sides(ends, migration, direction).await;
    let undo = abort_steps(&observed, policy).map_err(refused)?;
    let session = |side| &observing::end(ends, side).session;
    let undoing = Undoing {
        migration,
        direction,
        policy,
        closing: session(direction.closing()),
        opening: Some(session(direction.opening())),
    };
    undoing.run(&observed, &undo).await
}

/// Undoes the attempt that is under way, by this process alone: the owner of the streams finds out by itself. The side
/// that was to be opened need not be reachable where the turn was never sent.
pub async fn abort(migration: &Migration, direction: Direction, policy: &Policy) -> Result<(), Problem> {
    let key = state_key(migration, direction.drained())?;
    let role = migration.name.application_name("abort");
    let settings = |side| match side {
        Side::Source => migration.source_settings(),
        Side::Target => migration.target_settings(),
    };
    let closing = Session::connect(&settings(direction.closing())?, &role).await?;
    let opening = Session::connect(&settings(direction.opening())?, &role).await;
    let closing_says = observing::side(&closing, &key.schema, &migration.name).await?;
    let opening_seen = match &opening {
        Ok(session) => SideSeen::Read(observing::side(session, &key.schema, &migration.name).await?),
        Err(problem) => SideSeen::Unreachable { why: format!("{}: {}", problem.what, problem.why) },
    };
    let (source, target) = match direction.closing() {
        Side::Source => (SideSeen::Read(closing_says), opening_seen),
        Side::Target => (opening_seen, SideSeen::Read(closing_says)),
    };
    let observed = observing::observed(migration, direction, source, target);
    let mut policy = policy.clone();
    if let Some(turning) = observed.closing().says().and_then(|says| says.turning) {
        let book = Book { session: &closing, schema: &key.schema, name: &migration.name };
        policy.hooks = policy.hooks.or(recorded_hooks(&book, turning.id()).await?);
    }
    let undo = abort_steps(&observed, &policy).map_err(refused)?;
    let undoing = Undoing { migration, direction, policy: &policy, closing: &closing, opening: opening.as_ref().ok() };
    undoing.run(&observed, &undo).await
}

struct Undoing<'a> {
    migration: &'a Migration,
    direction: Direction,
    policy: &'a Policy,
    closing: &'a Session,
    opening: Option<&'a Session>,
}

impl Undoing<'_> {
    async fn run(&self, observed: &Observed, undo: &Undo) -> Result<(), Problem> {
        let key = state_key(self.migration, self.direction.drained())?;
        let (stream, id) = (self.direction.drained(), undo.id.to_string());
        let closing = Book { session: self.closing, schema: &key.schema, name: &self.migration.name };
        let aborted = Turning::Aborted(undo.id).to_string();
        let text = |turning: Option<Turning>| turning.map(|turning| turning.to_string());
        let later: Vec<&str> = undo
            .steps
            .iter()
            .map(|planned| planned.step)
            .filter(|step| !matches!(step, Step::RefuseTurn | Step::RecordAbort))
            .map(Step::name)
            .collect();
        for planned in &undo.steps {
            info!(turn = %undo.id, step = %planned.step, "undoing");
            crash::at(planned.step, Moment::Before);
            match planned.step {
                Step::RefuseTurn => {
                    let opening = self.opening.ok_or_else(|| not_reached(self.direction))?;
                    let book = Book { session: opening, ..closing };
                    book.set(undo.id.from(), text(undo.opening_expects).as_deref(), &aborted).await?;
                }
                Step::RecordAbort => {
                    let expects = text(undo.expects);
                    closing.begin((stream, &id), undo.id.from(), expects.as_deref(), &aborted, &later, None).await?;
                }
                Step::OnAbort => {
                    let command = self.policy.hooks.on_abort.as_deref().unwrap_or("true");
                    let ran = hook::run(command, "on_abort", &self.migration.name, self.direction, undo.id).await;
                    // Undoing goes on whatever the command says; what it said is kept.
                    let detail = ran.unwrap_or_else(|problem| problem.why.into());
                    closing.step((stream, &id), planned.step.name(), StepState::Done, &detail).await?;
                }
                Step::Unfence => {
                    self.unfence(&id).await?;
                    closing.step((stream, &id), planned.step.name(), StepState::Done, &Value::Null).await?;
                }
                other => {
                    let why = format!("step {other} undoes nothing");
                    return Err(Problem::bug("CT099", "an undoing that cannot be done", why));
                }
            }
            crash::at(planned.step, Moment::After);
        }
        info!(turn = %undo.id, closing = %self.direction.closing(), seen = observed.closing().says().is_some(), "undone");
        Ok(())
    }

    /// Lets everybody write again: one write for triggers, then what is left of them is removed; and what was revoked or
    /// made read-only is given back.
    async fn unfence(&self, turn: &str) -> Result<(), Problem> {
        let key = state_key(self.migration, self.direction.drained())?;
        let (schema, name) = (&key.schema, &self.migration.name);
        fence::give_up(self.closing, schema, name, turn).await?;
        fence::give_back(self.closing, schema, name).await?;
        if self.closing.is_cockroach() {
            return Ok(());
        }
        // Whoever undoes need not know how the side was closed: what was not done is not undone.
        fence::make_writable(self.closing, schema, name).await?;
        let settings = match self.direction.closing() {
            Side::Source => self.migration.source_settings()?,
            Side::Target => self.migration.target_settings()?,
        };
        fence::take_down(&settings, name, Instant::now() + TAKE_DOWN_MAX, &mut |_| {}).await?;
        Ok(())
    }
}

fn not_reached(direction: Direction) -> Problem {
    let what = format!("the {} must be reached before the turn is undone", direction.opening());
    Problem::transient("CT031", what, "the turn may have been sent there", "make it reachable, and abort again")
}
