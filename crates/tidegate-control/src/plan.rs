//! The plan of a turn.

use std::fmt;

use serde::Serialize;

use crate::direction::{Direction, Side};
use crate::observed::Observed;
use crate::policy::{FenceKind, Policy};
use crate::preflight::Preflight;
use crate::refusal::{Reason, Refusal};
use crate::side::{Database, SideSays};
use crate::step::{PlannedStep, Step};
use crate::turning::{TurnId, Turning};

/// What will be done, in order. Shown before anything is done; recorded as a whole by its first step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Which turn and attempt.
    pub id: TurnId,
    /// Which way.
    pub direction: Direction,
    /// Whether both sides will be writable.
    pub immediate: bool,
    /// What `turning` of the closing side must still say when the plan begins.
    pub expects: Option<Turning>,
    /// What the operator should know, accepted refusals among it.
    pub warnings: Vec<Reason>,
    /// The steps.
    pub steps: Vec<PlannedStep>,
}

impl Plan {
    /// Refuses the plan (CT034) if the closing side has moved on since it was made. The first step checks the same by
    /// compare-and-set; this only says it sooner.
    pub fn check(&self, observed: &Observed) -> Result<(), Reason> {
        let says = observed.closing().says().map(|says| (says.generation, says.turning));
        if says == Some((self.id.from(), self.expects)) {
            return Ok(());
        }
        Err(Reason::new(
            "CT034",
            format!("the plan of {} {} is out of date", self.direction, self.id),
            match says {
                None => format!("the {} cannot be read any more", self.direction.closing()),
                Some((generation, turning)) => format!(
                    "it was made for generation {}; the {} is at generation {generation}{}",
                    self.id.from(),
                    self.direction.closing(),
                    turning.map(|turning| format!(" and says \"{turning}\"")).unwrap_or_default()
                ),
            },
            format!("plan again: tidegate {} --name {}", self.direction, observed.migration),
        ))
    }
}

/// Plans a turn, or says everything that is in its way. Pure: the same input gives the same plan.
pub fn plan(observed: &Observed, policy: &Policy) -> Result<Plan, Refusal> {
    let preflight = Preflight::before_plan(observed, policy);
    let warnings = preflight.verdict()?;
    let closing = observed.closing().says().expect("preflight refuses a closing side that cannot be read");
    let opening = observed.opening().says().expect("preflight refuses an opening side that cannot be read");
    let draft = Draft { observed, policy, closing, opening };
    Ok(Plan {
        id: next_attempt(closing, Some(opening)),
        direction: observed.direction,
        immediate: policy.immediate,
        expects: closing.turning,
        warnings,
        steps: if policy.immediate { draft.immediate() } else { draft.consistent() },
    })
}

/// Returns an id that no earlier attempt had. Aborted attempts stay written until the turn succeeds.
pub(crate) fn next_attempt(closing: &SideSays, opening: Option<&SideSays>) -> TurnId {
    let to = closing.generation + 1;
    let used = [closing.turning, opening.and_then(|says| says.turning)]
        .into_iter()
        .flatten()
        .map(Turning::id)
        .filter(|id| id.to == to);
    TurnId { to, attempt: used.map(|id| id.attempt).max().unwrap_or(0) + 1 }
}

/// What the texts of the steps are made of.
struct Draft<'a> {
    observed: &'a Observed,
    policy: &'a Policy,
    closing: &'a SideSays,
    opening: &'a SideSays,
}

impl Draft<'_> {
    /// One writable database at any time.
    fn consistent(&self) -> Vec<PlannedStep> {
        let direction = self.observed.direction;
        let (closing, opening, drained) = (direction.closing(), direction.opening(), direction.drained());
        let before = |step, text: String| PlannedStep::new(step, true, text);
        let after = |step, text: String| PlannedStep::new(step, false, text);
        let hook = |command: &Option<String>| command.as_ref().map(|command| format!("run: {command}"));
        let mut steps = self.preparation();
        steps.extend(hook(&self.policy.hooks.on_fence).map(|text| before(Step::OnFence, text)));
        steps.extend([
            before(Step::Fence, self.fence_text()),
            before(Step::Marker, self.marker_text()),
            before(Step::Drain, format!("wait until the {drained} stream's checkpoint has passed the marker")),
            before(Step::VerifyTouched, "compare the rows touched since the last round".to_owned()),
            before(Step::Sequences, self.sequences_text()),
            before(Step::RecordTurning, format!("record at the {closing} that the turn is about to be sent")),
            after(Step::Turn, self.turn_text()),
        ]);
        let opens_by_itself = self.opening.fence.as_ref().map(|fence| fence.kind == FenceKind::Trigger);
        if opens_by_itself == Some(false) {
            steps.push(after(Step::GiveBack, format!("give back at the {opening} what its fence took away")));
        }
        steps.extend(hook(&self.policy.hooks.on_open).map(|text| after(Step::OnOpen, text)));
        steps.extend([
            after(Step::Follow, self.follow_text()),
            after(Step::Park, format!("park the {drained} stream; let the {} stream flow", direction.armed())),
        ]);
        if opens_by_itself == Some(true) {
            let text = format!("remove what is left of the {opening}'s fence, table by table");
            steps.push(after(Step::DropFenceTriggers, text));
        }
        steps.push(after(Step::Certificate, "write the certificate".to_owned()));
        steps
    }

    /// Both databases writable: louder, and without a fence there is nothing to drain or to prove.
    fn immediate(&self) -> Vec<PlannedStep> {
        let direction = self.observed.direction;
        let (closing, opening) = (direction.closing(), direction.opening());
        let steps = [
            (Step::Sequences, self.sequences_text()),
            (Step::RecordTurning, format!("record at the {closing} that the turn is about to be sent")),
            (Step::Turn, format!("{}; THE {} STAYS WRITABLE TOO", self.turn_text(), shouted(closing))),
            (Step::FlowBothWays, "let both streams flow, each without what the other wrote".to_owned()),
        ];
        let on_open = self.policy.hooks.on_open.as_ref().map(|command| (Step::OnOpen, format!("run: {command}")));
        let last = [
            (Step::Follow, self.follow_text()),
            (Step::ConflictReport, format!("report conflicts; where both changed a row the {opening} wins")),
            (Step::Certificate, "write the certificate, which proves no equality".to_owned()),
        ];
        let later = steps.into_iter().chain(on_open).chain(last).map(|(step, text)| {
            let undoable = matches!(step, Step::Sequences | Step::RecordTurning);
            PlannedStep { write_blocked: false, ..PlannedStep::new(step, undoable, text) }
        });
        self.preparation().into_iter().chain(later).collect()
    }

    /// What happens while the application goes on writing.
    fn preparation(&self) -> Vec<PlannedStep> {
        let direction = self.observed.direction;
        let (closing, opening, armed) = (direction.closing(), direction.opening(), direction.armed());
        let steps = [
            (Step::Begin, format!("record this plan at the {closing}")),
            (Step::ArmFeed, format!("read the {opening}'s changes for the {armed} stream, applying nothing yet")),
            (Step::VerifyRounds, "compare both sides until what is left fits the budget".to_owned()),
        ];
        steps.into_iter().map(|(step, text)| PlannedStep::new(step, true, text)).collect()
    }

    fn fence_text(&self) -> String {
        let closing = self.observed.direction.closing();
        let (group, wait) = (self.policy.fence_group_tables, self.policy.fence_lock_timeout_ms);
        let locks = match self.closing.database {
            Database::Postgres => format!(", {group} tables at a time, each lock tried for {wait} ms"),
            Database::Cockroach { .. } => String::new(),
        };
        match self.policy.fence.unwrap_or(self.closing.database.default_fence()) {
            FenceKind::Trigger => format!("close the {closing} with triggers{locks}"),
            FenceKind::Revoke => format!("close the {closing} by revoking write privileges{locks}"),
            FenceKind::ReadOnly => format!("close the {closing} by making it read-only{locks}"),
            FenceKind::Command => format!("wait for writers of the {closing}, which on_fence has closed{locks}"),
        }
    }

    fn marker_text(&self) -> String {
        let closing = self.observed.direction.closing();
        match self.closing.database {
            Database::Postgres => format!("write a marker into the {closing}'s log"),
            Database::Cockroach { .. } => {
                format!("wait for the {closing}'s resolved timestamp to pass the last revoke")
            }
        }
    }

    fn sequences_text(&self) -> String {
        let opening = self.observed.direction.opening();
        format!("set the {opening}'s sequences past every used value, by {} at least", self.policy.sequence_margin)
    }

    fn turn_text(&self) -> String {
        let opening = self.observed.direction.opening();
        format!("open the {opening}: generation {} in one transaction", self.closing.generation + 1)
    }

    fn follow_text(&self) -> String {
        let closing = self.observed.direction.closing();
        format!("bring the {closing} to generation {}", self.closing.generation + 1)
    }
}

/// A side where nobody may read past it.
pub(crate) fn shouted(side: Side) -> String {
    side.to_string().to_uppercase()
}

impl fmt::Display for Plan {
    /// The plan as the operator sees it: `|` marks the time in which nothing can be written, `*` what cannot be undone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.id.from(), self.id.to);
        let kind = if self.immediate { "IMMEDIATE " } else { "" };
        writeln!(f, "{kind}{} {}: generation {from} -> {to}", self.direction, self.id)?;
        for warning in &self.warnings {
            writeln!(f, "warning[{}]: {}: {}", warning.code, warning.what, warning.why)?;
        }
        for step in &self.steps {
            let blocked = if step.write_blocked { '|' } else { ' ' };
            let undo = if step.undoable { ' ' } else { '*' };
            writeln!(f, " {blocked}{undo} {:<20} {}", step.step, step.text)?;
        }
        write!(f, "| nothing can be written meanwhile   * not undone by --abort")
    }
}
