//! What is done about a step that failed.

use serde_json::json;
use tidegate_control::{OnFailure, Step, TurnId, Turning, when_over_budget};
use tidegate_model::{Class, Problem};
use tidegate_pipeline::Gate;
use tidegate_sql::turn::StepState;
use tokio::time::sleep;
use tracing::warn;

use super::{AGAIN, Failed, Turn, undoing};

/// What an undoing says that needs a side which does not answer.
const UNREACHED: [&str; 2] = ["CT031", "CT032"];

impl Turn<'_> {
    /// Does what the planner says of the step: tries again, undoes the attempt, or goes on.
    pub(super) async fn answer_failure(&mut self, id: TurnId, step: Step, failed: Failed) -> Result<(), Problem> {
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
            // Somebody else may be undoing it: that is told by whoever observes next.
            OnFailure::Abort if self.is_being_undone(id).await? => Ok(()),
            OnFailure::Abort => {
                if self.undo_or_wait().await? {
                    Err(problem)
                } else {
                    Ok(())
                }
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
        if !self.undo_or_wait().await? {
            return Ok(());
        }
        Err(tidegate_control::budget_exceeded(&observed, self.policy(), step.name()).into())
    }

    /// Undoes the attempt, and lets the drained stream flow again. Returns false where a database is away: nothing may be
    /// left closed for that, so whoever calls observes again and comes back.
    pub(super) async fn undo_or_wait(&mut self) -> Result<bool, Problem> {
        match undoing::undo(&self.ends, self.migration(), self.direction(), self.policy()).await {
            Ok(()) => {
                self.arbitrate_no_more();
                self.conductor.seat(self.direction().drained()).set_gate(Gate::Open);
                Ok(true)
            }
            Err(problem) if problem.class == Class::Transient || UNREACHED.contains(&problem.code) => {
                warn!(error = %problem.what, why = %problem.why, "a turn cannot be undone yet");
                self.say(&format!("undoing waits: {}: {}", problem.what, problem.why));
                sleep(AGAIN).await;
                self.reach_again().await;
                Ok(false)
            }
            Err(problem) => Err(problem),
        }
    }

    /// Returns whether the closing side says that the attempt is aborted.
    async fn is_being_undone(&self, id: TurnId) -> Result<bool, Problem> {
        let observed = self.observe_sides().await?;
        Ok(observed.closing().says().is_some_and(|says| says.turning == Some(Turning::Aborted(id))))
    }

    /// Returns whether the drained stream may flow again: its source is open, and is known to stay so.
    pub(super) async fn may_flow_again(&self) -> bool {
        let Ok(observed) = self.observe_sides().await else { return false };
        if observed.both_open() {
            // Nothing was held back, and both go on judging what they write.
            return false;
        }
        let Some(closing) = observed.closing().says() else { return false };
        let is_open = closing.phase.open() == Some(self.direction().closing());
        let may_have_turned = match observed.opening().says() {
            Some(opening) => opening.generation > closing.generation,
            // Only the opening side knows whether a turn that may have been sent has happened.
            None => matches!(closing.turning, Some(Turning::Turning(_))),
        };
        is_open && !may_have_turned
    }
}
