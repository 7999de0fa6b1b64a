//! What one side says: its `migration` row, its recorded turn, its fence.

use serde::{Deserialize, Serialize};

use crate::direction::Phase;
use crate::policy::FenceKind;
use crate::step::Step;
use crate::turning::{TurnId, Turning};

/// A side, or why it could not be read. A side that cannot be read is never taken for one that says nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SideSeen {
    /// It could not be read.
    Unreachable {
        /// The reason, for people.
        why: String,
    },
    /// It was read.
    Read(SideSays),
}

impl SideSeen {
    /// Returns what the side says, if it could be read.
    pub fn says(&self) -> Option<&SideSays> {
        match self {
            SideSeen::Unreachable { .. } => None,
            SideSeen::Read(says) => Some(says),
        }
    }
}

/// What one side's state tables and catalog say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SideSays {
    /// What kind of server it is.
    pub database: Database,
    /// Grows by one with every turn.
    pub generation: i64,
    /// The phase of the `migration` row.
    pub phase: Phase,
    /// The column `turning` of the `migration` row.
    pub turning: Option<Turning>,
    /// The newest recorded turn: the rows of `cutover_step`.
    pub turn: Option<RecordedTurn>,
    /// The fence that stands there, whole or in part.
    pub fence: Option<FenceSeen>,
}

impl SideSays {
    /// Returns whether a fence stops the application here.
    pub fn is_fenced(&self) -> bool {
        self.fence.as_ref().is_some_and(|fence| match fence.kind {
            FenceKind::Trigger => fence.opens_at > self.generation,
            FenceKind::Revoke | FenceKind::ReadOnly | FenceKind::Command => true,
        })
    }

    /// Returns whether the turn that led to its generation has opened it and closed nothing.
    pub fn opened_both(&self) -> bool {
        self.turn.as_ref().is_some_and(|turn| turn.id.to == self.generation && turn.is_immediate())
    }

    /// Returns the recorded turn if it is that attempt.
    pub fn recorded(&self, id: TurnId) -> Option<&RecordedTurn> {
        self.turn.as_ref().filter(|turn| turn.id == id)
    }
}

/// What kind of server a side is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Database {
    /// PostgreSQL, or something that speaks and replicates like it.
    Postgres,
    /// CockroachDB.
    Cockroach {
        /// Year and number of the release: `(24, 1)`.
        version: (u32, u32),
    },
}

impl Database {
    /// Returns whether what we applied can be told apart from what others wrote in this database's stream of changes
    /// (CockroachDB: `disable_changefeed_replication`, from v24.1 on).
    pub fn can_tell_own_changes(self) -> bool {
        match self {
            Database::Postgres => true,
            Database::Cockroach { version } => version >= (24, 1),
        }
    }

    /// Returns the fence that is put up where the policy names none.
    pub(crate) fn default_fence(self) -> FenceKind {
        match self {
            Database::Postgres => FenceKind::Trigger,
            Database::Cockroach { .. } => FenceKind::Revoke,
        }
    }
}

/// A fence that stands at a side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceSeen {
    /// What it is made of.
    pub kind: FenceKind,
    /// The generation from which on it lets everybody pass: by itself if it is made of triggers, otherwise by
    /// [`Step::GiveBack`].
    pub opens_at: i64,
    /// On how many tables it stands.
    pub tables: u64,
}

/// A recorded turn. All its steps are recorded when it begins, so what is recorded is the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedTurn {
    /// Which attempt.
    pub id: TurnId,
    /// Its steps, in order.
    pub steps: Vec<RecordedStep>,
}

impl RecordedTurn {
    /// Returns the first step that is not done.
    pub fn next(&self) -> Option<Step> {
        self.steps.iter().find(|recorded| recorded.state != StepState::Done).map(|recorded| recorded.step)
    }

    /// Returns whether a step is recorded as done.
    pub fn is_done(&self, step: Step) -> bool {
        self.steps.iter().any(|recorded| recorded.step == step && recorded.state == StepState::Done)
    }

    /// Returns whether the turn leaves both sides open.
    pub fn is_immediate(&self) -> bool {
        self.has(Step::FlowBothWays)
    }

    /// Returns whether a step belongs to the plan.
    pub fn has(&self, step: Step) -> bool {
        self.steps.iter().any(|recorded| recorded.step == step)
    }
}

/// A recorded step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedStep {
    /// Which step.
    pub step: Step,
    /// How far it is.
    pub state: StepState,
}

/// How far a recorded step is. One that has begun may have had its effect or not: every step can be done again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Not begun.
    Planned,
    /// Begun, and not known to be done.
    Begun,
    /// Done.
    Done,
}
