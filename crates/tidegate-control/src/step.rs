//! The steps of a turn and of its undoing.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One step. Every one may be done again: after a crash nobody knows whether it had its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Closing side, one transaction: `turning` from what was observed to `begun ID`, and all steps recorded as
    /// planned.
    Begin,
    /// The reader of the stream that flows after the turn runs, applies nothing, and has shown its first resolved
    /// timestamp.
    ArmFeed,
    /// Verify rounds until what is left fits the budget.
    VerifyRounds,
    /// The operator's command before the fence.
    OnFence,
    /// Closing side, group by group, each in one transaction that checks `turning = begun ID` first.
    Fence,
    /// A marker in the closing side's history after the last group; its position is recorded.
    Marker,
    /// The drained stream's checkpoint has passed the marker.
    Drain,
    /// The keys touched since the last round are equal.
    VerifyTouched,
    /// Sequences of the opening side are past every used value.
    Sequences,
    /// Closing side: `turning` from `begun ID` to `turning ID`. From here on the opening side must be asked, so
    /// the executor has a session there before it does this.
    RecordTurning,
    /// Opening side, one transaction: generation from g to g + 1 and `turning` from what was observed there to nothing,
    /// by compare-and-set; the recorded steps copied to it, with everything up to here done. Nothing else, so that it
    /// is short and sure. A fence of triggers reads the generation and ends with it.
    Turn,
    /// Opened side, where its fence does not read the generation: privileges given back, table by table, each in a
    /// transaction that checks generation g + 1 and that no turn has begun there.
    GiveBack,
    /// The operator's command once the other side is open.
    OnOpen,
    /// Closed side, one transaction: generation g + 1 and its phase, nothing under way.
    Follow,
    /// The streams change places: the drained one is parked, the armed one flows from the drained checkpoint's commit
    /// on.
    Park,
    /// Opened side, table by table, each in a transaction that checks generation g + 1 and that no turn has begun
    /// there.
    DropFenceTriggers,
    /// The certificate is written.
    Certificate,
    /// Opening side, one transaction: `turning` from what was observed there to `aborted ID`, at generation g, by
    /// compare-and-set: a refusal of an earlier attempt that arrives late must not cover up that of a later one.
    RefuseTurn,
    /// Closing side: `turning` from what was observed to `aborted ID`.
    RecordAbort,
    /// The operator's command when an attempt is undone.
    OnAbort,
    /// Closing side, table by table, each in a transaction that checks `turning = aborted ID` first.
    Unfence,
    /// Both sides writable: both streams flow, each leaving out what the other wrote.
    FlowBothWays,
    /// Conflicts between the two sides are reported.
    ConflictReport,
}

impl Step {
    /// Returns the stable name that `cutover_step` stores.
    pub fn name(self) -> &'static str {
        match self {
            Step::Begin => "begin",
            Step::ArmFeed => "arm_feed",
            Step::VerifyRounds => "verify_rounds",
            Step::OnFence => "on_fence",
            Step::Fence => "fence",
            Step::Marker => "marker",
            Step::Drain => "drain",
            Step::VerifyTouched => "verify_touched",
            Step::Sequences => "sequences",
            Step::RecordTurning => "record_turning",
            Step::Turn => "turn",
            Step::GiveBack => "give_back",
            Step::OnOpen => "on_open",
            Step::Follow => "follow",
            Step::Park => "park",
            Step::DropFenceTriggers => "drop_fence_triggers",
            Step::Certificate => "certificate",
            Step::RefuseTurn => "refuse_turn",
            Step::RecordAbort => "record_abort",
            Step::OnAbort => "on_abort",
            Step::Unfence => "unfence",
            Step::FlowBothWays => "flow_both_ways",
            Step::ConflictReport => "conflict_report",
        }
    }

    /// Returns the step of that name.
    pub fn named(name: &str) -> Option<Step> {
        ALL.into_iter().find(|step| step.name() == name)
    }

    /// Returns whether nothing can be written while the step runs.
    pub fn is_write_blocked(self) -> bool {
        match self {
            Step::OnFence
            | Step::Fence
            | Step::Marker
            | Step::Drain
            | Step::VerifyTouched
            | Step::Sequences
            | Step::RecordTurning
            | Step::Turn
            | Step::GiveBack
            | Step::OnOpen
            | Step::RefuseTurn
            | Step::RecordAbort
            | Step::OnAbort
            | Step::Unfence => true,
            Step::Begin
            | Step::ArmFeed
            | Step::VerifyRounds
            | Step::Follow
            | Step::Park
            | Step::DropFenceTriggers
            | Step::Certificate
            | Step::FlowBothWays
            | Step::ConflictReport => false,
        }
    }

    /// Returns what to do when the step fails for good.
    pub fn on_failure(self) -> OnFailure {
        match self {
            Step::Begin
            | Step::ArmFeed
            | Step::VerifyRounds
            | Step::OnFence
            | Step::Fence
            | Step::Marker
            | Step::Drain
            | Step::VerifyTouched
            | Step::Sequences
            | Step::RecordTurning => OnFailure::Abort,
            Step::Turn => OnFailure::Settle,
            Step::OnOpen | Step::OnAbort | Step::Certificate | Step::ConflictReport => OnFailure::Report,
            Step::GiveBack
            | Step::Follow
            | Step::Park
            | Step::DropFenceTriggers
            | Step::RefuseTurn
            | Step::RecordAbort
            | Step::Unfence
            | Step::FlowBothWays => OnFailure::Retry,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// All steps.
const ALL: [Step; 23] = [
    Step::Begin,
    Step::ArmFeed,
    Step::VerifyRounds,
    Step::OnFence,
    Step::Fence,
    Step::Marker,
    Step::Drain,
    Step::VerifyTouched,
    Step::Sequences,
    Step::RecordTurning,
    Step::Turn,
    Step::GiveBack,
    Step::OnOpen,
    Step::Follow,
    Step::Park,
    Step::DropFenceTriggers,
    Step::Certificate,
    Step::RefuseTurn,
    Step::RecordAbort,
    Step::OnAbort,
    Step::Unfence,
    Step::FlowBothWays,
    Step::ConflictReport,
];

/// What the executor does when a step fails for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Undo the attempt. When the step may have had its effect after all, observe first.
    Abort,
    /// Observe the opening side: it alone knows whether the turn happened.
    Settle,
    /// Try again, with the reason in `status`.
    Retry,
    /// Say so, record the step as done, and go on: undoing would do more harm.
    Report,
}

/// A step as the plan shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// Which step; stored under its name.
    pub step: Step,
    /// What it does here, in one line.
    pub text: String,
    /// Whether nothing can be written while it runs.
    pub write_blocked: bool,
    /// Whether the attempt can still be undone after it.
    pub undoable: bool,
    /// What happens when it fails for good.
    pub on_failure: OnFailure,
}

impl PlannedStep {
    pub(crate) fn new(step: Step, undoable: bool, text: impl Into<String>) -> PlannedStep {
        let (write_blocked, on_failure) = (step.is_write_blocked(), step.on_failure());
        PlannedStep { step, text: text.into(), write_blocked, undoable, on_failure }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_found_by_its_name_and_stored_under_it() {
        for step in ALL {
            assert_eq!(Step::named(step.name()), Some(step));
            assert_eq!(serde_json::to_string(&step).unwrap(), format!("\"{step}\""));
        }
        assert_eq!(Step::named("fences"), None);
    }
}
