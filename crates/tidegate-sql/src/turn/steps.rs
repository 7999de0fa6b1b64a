//! The steps of a turn, as they are taken.
//!
//! They are recorded on the side that closes, which is reachable before the turn and after it, and copied to the other
//! side when it is opened: either database alone can tell how the turn went.

use serde_json::Value;
use tidegate_model::Stream;

/// How far a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepState {
    /// It belongs to the plan.
    Planned,
    /// It began, and may have had effects.
    Begun,
    /// It is done.
    Done,
}

impl StepState {
    /// Returns the word that the table uses.
    pub fn as_str(self) -> &'static str {
        match self {
            StepState::Planned => "planned",
            StepState::Begun => "begun",
            StepState::Done => "done",
        }
    }

    pub(super) fn of(text: &str) -> StepState {
        match text {
            "planned" => StepState::Planned,
            "done" => StepState::Done,
            _ => StepState::Begun,
        }
    }
}

/// A recorded step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepRow {
    /// Its name, unique in the turn.
    pub name: String,
    /// Its place in the turn.
    pub place: i32,
    /// How far it is.
    pub state: StepState,
    /// Since 1970, in seconds, by the clock of the database that recorded it; `None` before it began.
    pub began_at: Option<f64>,
    /// The same, once it has ended.
    pub ended_at: Option<f64>,
    /// What it found.
    pub detail: Value,
}

/// A recorded turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// The stream that it drains.
    pub stream: Stream,
    /// Its id.
    pub turn: String,
    /// Its steps, in order.
    pub steps: Vec<StepRow>,
}

impl Recorded {
    /// Returns what a step found; null where there is no such step.
    pub fn detail(&self, step: &str) -> &Value {
        self.steps.iter().find(|row| row.name == step).map_or(&Value::Null, |row| &row.detail)
    }
}
