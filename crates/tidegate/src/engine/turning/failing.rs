//! What is done about a step that failed.

use serde_json::json;
use tidegate_control::{OnFailure, Step, TurnId, Turning, when_over_budget};
use tidegate_model::{Class, Problem};
use tidegate_pipeline::Gate;
use tidegate_sql::turn::StepState;
use tokio::time::sleep;
use tracing::warn;

use super::{AGAIN, Failed, Turn, resuming, undoing};

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
    pub(super) async fn undo(&mut self) -> Result<(), Problem> {
        undoing::undo(&self.ends, self.migration(), self.direction(), self.policy()).await?;
        self.conductor.seat(self.direction().drained()).set_gate(Gate::Open);
        Ok(())
    }

    /// Returns whether the closing side says that the attempt is aborted.
    async fn is_being_undone(&self, id: TurnId) -> Result<bool, Problem> {
        let observed = self.observe_sides().await?;
        Ok(observed.closing().says().is_some_and(|says| says.turning == Some(Turning::Aborted(id))))
    }

    /// Returns whether the other side is open: then nothing is to be taken back.
    pub(super) async fn is_past(&self) -> bool {
        let Ok(observed) = self.observe_sides().await else { return true };
        match (observed.closing().says(), observed.opening().says()) {
            (Some(closing), Some(opening)) => opening.generation > closing.generation || resuming::is_turned(&observed),
            // Only the opening side knows whether a turn that may have been sent has happened.
            (Some(closing), None) => matches!(closing.turning, Some(Turning::Turning(_))),
            (None, _) => true,
        }
    }
}
