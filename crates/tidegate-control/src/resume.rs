//! What to do now: after a crash, after a lost answer, or between two steps of a turn that runs without either.

use std::fmt;

use serde::Serialize;

use crate::direction::{Direction, Side};
use crate::observed::Observed;
use crate::side::{SideSays, SideSeen};
use crate::step::Step;
use crate::turning::{TurnId, Turning};

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Next {
    /// No turn is unfinished.
    Nothing,
    /// The other side is not open yet: do this step, or abort.
    Continue {
        /// The attempt.
        id: TurnId,
        /// The first step that is not recorded as done.
        step: Step,
    },
    /// The other side is open: only forward.
    FinishFollowing {
        /// The attempt.
        id: TurnId,
        /// The first step that is not recorded as done.
        step: Step,
    },
    /// The attempt is being undone: do this step.
    GoOnAborting {
        /// The attempt.
        id: TurnId,
        /// The first step of the undoing that is not recorded as done.
        step: Step,
    },
    /// Nothing may be opened or unfenced before this side has been read.
    Wait {
        /// The side that could not be read.
        side: Side,
    },
}

impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Next::Nothing => write!(f, "nothing"),
            Next::Continue { id, step } => write!(f, "turn {id} goes on with {step}"),
            Next::FinishFollowing { id, step } => write!(f, "turn {id} has happened; {step} is left"),
            Next::GoOnAborting { id, step } => write!(f, "turn {id} is being aborted; {step} is left"),
            Next::Wait { side } => write!(f, "the {side} must be read first"),
        }
    }
}

/// Decides what to do now from what both sides say. Trusts nothing that is not written at one of them.
pub fn resume(observed: &Observed) -> Next {
    let (closing, opening) = (observed.closing().says(), observed.opening().says());
    match (closing, opening) {
        (Some(closing), _) if speaks_of_an_attempt(observed.direction, closing) => {
            closing_side_speaks(observed.direction, closing, opening)
        }
        // Having opened is final: what is left can be told from the opened side alone.
        (closing, Some(opening)) => after_the_turn(observed.direction, closing, opening),
        (Some(_), None) => Next::Nothing,
        (None, None) => Next::Wait { side: observed.direction.closing() },
    }
}

/// Whether a side's `turning` is that of an attempt to close it. At a side that is not open it is the refusal of an attempt
/// to open it, and taking that for an attempt to close it would take its fence down.
fn speaks_of_an_attempt(direction: Direction, closing: &SideSays) -> bool {
    let leads_on = closing.turning.is_some_and(|turning| turning.id().to == closing.generation + 1);
    leads_on && closing.phase.open() == Some(direction.closing())
}

/// The closing side is still at g and says how far an attempt is.
fn closing_side_speaks(direction: Direction, closing: &SideSays, opening: Option<&SideSays>) -> Next {
    match closing.turning {
        None => Next::Nothing,
        Some(Turning::Begun(id)) => begun(closing, id),
        Some(Turning::Turning(id)) => match opening {
            None => Next::Wait { side: direction.opening() },
            Some(opening) if opening.generation >= id.to => after_the_turn(direction, Some(closing), opening),
            Some(opening) if opening.turning == Some(Turning::Aborted(id)) => {
                Next::GoOnAborting { id, step: Step::RecordAbort }
            }
            Some(_) => Next::Continue { id, step: Step::Turn },
        },
        Some(Turning::Aborted(id)) => match undoing_left(closing, id) {
            Some(step) => Next::GoOnAborting { id, step },
            None => Next::Nothing,
        },
    }
}

/// The turn has not been sent.
fn begun(closing: &SideSays, id: TurnId) -> Next {
    match closing.recorded(id) {
        // The record and the word are one transaction. Where it is lost nobody knows whether the fence is up.
        None => Next::GoOnAborting { id, step: Step::RecordAbort },
        // Whatever the record says, nothing is sent before the word says so.
        Some(turn) => {
            let step = turn.next().filter(|step| *step != Step::Turn).unwrap_or(Step::RecordTurning);
            Next::Continue { id, step }
        }
    }
}

/// Returns what is left of undoing an attempt. A fence that stands there although its removal is recorded is removed
/// again.
fn undoing_left(closing: &SideSays, id: TurnId) -> Option<Step> {
    let turn = closing.recorded(id);
    let hook = turn.is_some_and(|turn| turn.has(Step::OnAbort) && !turn.is_done(Step::OnAbort));
    let unfenced = turn.is_some_and(|turn| turn.is_done(Step::Unfence)) && !closing.is_fenced();
    match (hook, unfenced) {
        (true, _) => Some(Step::OnAbort),
        (false, false) => Some(Step::Unfence),
        (false, true) => None,
    }
}

/// The opened side says what is left of the turn that opened it.
fn after_the_turn(direction: Direction, closing: Option<&SideSays>, opening: &SideSays) -> Next {
    let opened = opening.turn.as_ref().filter(|turn| turn.id.to == opening.generation && turn.is_done(Step::Turn));
    let Some(turn) = opened else {
        // Without the closing side nobody knows whether an attempt has begun there.
        return if closing.is_some() { Next::Nothing } else { Next::Wait { side: direction.closing() } };
    };
    match turn.next() {
        None => Next::Nothing,
        Some(Step::Follow | Step::Park | Step::FlowBothWays) if closing.is_none() => {
            Next::Wait { side: direction.closing() }
        }
        Some(step) => Next::FinishFollowing { id: turn.id, step },
    }
}

impl Direction {
    /// Returns which turn is unfinished; `None` when none is, or when no side that could be read tells of one.
    pub fn under_way(source: &SideSeen, target: &SideSeen) -> Option<Direction> {
        let sides = [(Side::Source, source.says()), (Side::Target, target.says())];
        // An attempt is recorded at the side that it closes, and outdates the turn that opened that side.
        let begun = |says: &SideSays| says.turning.is_some_and(|turning| is_unfinished_here(says, turning));
        let opened = |says: &SideSays| {
            let turn = says.turn.as_ref().filter(|turn| turn.id.to == says.generation && turn.is_done(Step::Turn));
            turn.is_some_and(|turn| turn.next().is_some())
        };
        let opened = sides.iter().find(|(_, says)| says.is_some_and(opened));
        let begun = sides.iter().find(|(_, says)| says.is_some_and(begun));
        match (opened, begun) {
            (Some((side, _)), _) => Some(Direction::that_closes(side.other())),
            (None, Some((side, _))) => Some(Direction::that_closes(*side)),
            (None, None) => None,
        }
    }
}

/// Whether an attempt that this side closes is unfinished. At the side that was to be opened there is no record of it.
fn is_unfinished_here(says: &SideSays, turning: Turning) -> bool {
    let id = turning.id();
    let unfinished = match turning {
        Turning::Begun(_) | Turning::Turning(_) => true,
        Turning::Aborted(_) => says.recorded(id).is_some() && undoing_left(says, id).is_some(),
    };
    id.to == says.generation + 1 && unfinished
}
