//! Undoing an attempt, as long as that is possible.

use serde::Serialize;

use crate::direction::Direction;
use crate::observed::Observed;
use crate::plan::next_attempt;
use crate::policy::Policy;
use crate::refusal::{Reason, Refusal};
use crate::resume::{Next, resume};
use crate::side::SideSays;
use crate::step::{PlannedStep, Step};
use crate::turning::{TurnId, Turning};

/// How an attempt is undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Undo {
    /// The attempt. For a fence that no attempt explains: an id that none has had.
    pub id: TurnId,
    /// What `turning` of the closing side must still say when `record_abort` replaces it.
    pub expects: Option<Turning>,
    /// What `turning` of the opening side must still say when `refuse_turn` replaces it.
    pub opening_expects: Option<Turning>,
    /// The steps. `record_abort` records the ones after it as planned, in its own transaction.
    pub steps: Vec<PlannedStep>,
}

/// Whether an attempt can be undone, by what is written at the two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AbortRule {
    /// No attempt is unfinished.
    NothingToAbort,
    /// The turn has not been sent: the closing side alone is enough.
    Alone,
    /// The turn may have been sent and has not happened: the opening side must first refuse it for ever.
    AfterRefusal,
    /// The turn may have been sent, and the only side that knows cannot be read.
    Unknown,
    /// The other side is open.
    Never,
}

/// Says whether the attempt that is under way can be undone.
pub fn abort_rule(observed: &Observed) -> AbortRule {
    match resume(observed) {
        Next::Nothing if is_stray_fence(observed) => AbortRule::Alone,
        Next::Nothing => AbortRule::NothingToAbort,
        Next::Continue { step: Step::Turn, .. } => AbortRule::AfterRefusal,
        Next::Continue { .. } | Next::GoOnAborting { .. } => AbortRule::Alone,
        Next::FinishFollowing { .. } => AbortRule::Never,
        Next::Wait { .. } => AbortRule::Unknown,
    }
}

/// A fence on the open side that no attempt explains.
fn is_stray_fence(observed: &Observed) -> bool {
    let is_open = |says: &SideSays| says.phase.open() == Some(observed.direction.closing());
    let level = |says: &SideSays| observed.opening().says().is_some_and(|other| other.generation == says.generation);
    observed.closing().says().is_some_and(|says| says.is_fenced() && is_open(says) && level(says))
}

/// Returns how to undo the attempt, or why it cannot be undone. The first step decides: once it is written, the attempt
/// never turns. Of the policy only the hook `on_abort` is used.
pub fn abort_steps(observed: &Observed, policy: &Policy) -> Result<Undo, Refusal> {
    let Some(closing) = observed.closing().says() else {
        return Err(closing_side_unreachable(observed).into());
    };
    match abort_rule(observed) {
        AbortRule::NothingToAbort => Err(nothing_to_abort(observed).into()),
        AbortRule::Unknown => Err(opening_side_unreachable(observed).into()),
        AbortRule::Never => Err(has_turned(observed).into()),
        AbortRule::Alone => Ok(undo(observed, closing, policy, false)),
        AbortRule::AfterRefusal => Ok(undo(observed, closing, policy, true)),
    }
}

/// Returns how to undo the attempt because its budget is spent; `None` when it has to go on: from `turning` on the turn
/// is one transaction away, and giving up would take longer than going through.
pub fn when_over_budget(observed: &Observed, policy: &Policy) -> Option<Undo> {
    let turning = observed.closing().says()?.turning;
    matches!(turning, Some(Turning::Begun(_))).then(|| abort_steps(observed, policy).ok())?
}

fn undo(observed: &Observed, closing: &SideSays, policy: &Policy, refuse_first: bool) -> Undo {
    let (from, to) = (observed.direction.closing(), observed.direction.opening());
    let id = undone(closing).unwrap_or_else(|| next_attempt(closing, observed.opening().says()));
    let recorded = closing.turning == Some(Turning::Aborted(id));
    let refuse = refuse_first.then(|| (Step::RefuseTurn, format!("make the {to} refuse this turn for ever")));
    let record = (!recorded).then(|| (Step::RecordAbort, format!("record at the {from} that the turn is aborted")));
    let hook = policy.hooks.on_abort.as_ref().filter(|_| !hook_has_run(closing, id));
    let hook = hook.map(|command| (Step::OnAbort, format!("run: {command}")));
    let unfence = (Step::Unfence, format!("open the {from} again, table by table"));
    let steps = refuse.into_iter().chain(record).chain(hook).chain([unfence]);
    let steps = steps.map(|(step, text)| PlannedStep::new(step, false, text)).collect();
    let opening_expects = observed.opening().says().and_then(|says| says.turning);
    Undo { id, expects: closing.turning, opening_expects, steps }
}

/// Returns the attempt that this side's `turning` speaks of, if it leads on from its generation.
fn undone(closing: &SideSays) -> Option<TurnId> {
    closing.turning.map(Turning::id).filter(|id| id.to == closing.generation + 1)
}

fn hook_has_run(closing: &SideSays, id: TurnId) -> bool {
    closing.recorded(id).is_some_and(|turn| turn.is_done(Step::OnAbort))
}

fn has_turned(observed: &Observed) -> Reason {
    let opening = observed.direction.opening();
    let back = match observed.direction {
        Direction::Cutover => Direction::Failback,
        Direction::Failback => Direction::Cutover,
    };
    Reason::new(
        "CT030",
        "the turn has happened and cannot be aborted",
        format!("the {opening} is open and may have been written"),
        format!(
            "let it finish: tidegate {} --name {m}; then turn back: tidegate {back} --name {m}",
            observed.direction,
            m = observed.migration
        ),
    )
}

fn opening_side_unreachable(observed: &Observed) -> Reason {
    let (closing, opening) = (observed.direction.closing(), observed.direction.opening());
    Reason::new(
        "CT031",
        format!("the {opening} must be read before anything is undone"),
        format!("the turn may have been sent; if the {opening} is open, unfencing the {closing} would open both"),
        format!(
            "make the {opening} reachable, then: tidegate {} --name {} --abort",
            observed.direction, observed.migration
        ),
    )
}

fn closing_side_unreachable(observed: &Observed) -> Reason {
    let closing = observed.direction.closing();
    Reason::new(
        "CT032",
        format!("the {closing} cannot be reached, so nothing can be undone there"),
        "that is where the fence stands and where the turn is recorded",
        format!("make it reachable, then: tidegate {} --name {} --abort", observed.direction, observed.migration),
    )
}

fn nothing_to_abort(observed: &Observed) -> Reason {
    Reason::new(
        "CT033",
        format!("there is no {} to abort", observed.direction),
        "no turn of this migration is unfinished",
        format!("see tidegate status --name {}", observed.migration),
    )
}

/// Tells the operator that an attempt was undone because nothing could be written for longer than the budget.
/// `waited_for`: what it was waiting for, with the pid and statement of who was in the way.
pub fn budget_exceeded(observed: &Observed, policy: &Policy, waited_for: &str) -> Reason {
    Reason::new(
        "CT036",
        format!("{} was given up: its budget of {} s is spent", observed.direction, policy.budget_seconds),
        format!("it was waiting for {waited_for}; the {} is open again", observed.direction.closing()),
        format!("try again in a quieter moment: tidegate {} --name {}", observed.direction, observed.migration),
    )
}
