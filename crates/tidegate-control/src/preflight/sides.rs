//! What the two databases say of the migration.

use super::Preflight;
use crate::direction::{Direction, Phase, Side};
use crate::observed::Observed;
use crate::resume::{Next, resume};
use crate::side::{SideSays, SideSeen};
use crate::turning::Turning;

impl Preflight<'_> {
    pub(super) fn check_sides(&mut self) {
        let observed = self.observed;
        for side in [Side::Source, Side::Target] {
            if let SideSeen::Unreachable { why } = observed.side(side) {
                let next = format!("make the {side} reachable, then: {}", self.command());
                self.refuse("CT001", format!("the {side} cannot be read"), why.clone(), next);
            }
        }
        let (Some(closing), Some(opening)) = (observed.closing().says(), observed.opening().says()) else { return };
        let under_way = Direction::under_way(&observed.source, &observed.target);
        if let Some(other) = under_way.filter(|direction| *direction != observed.direction) {
            self.refuse_unfinished(other);
        } else if self.under_way(closing) {
            self.refuse_unfinished(observed.direction);
        } else if closing.generation != opening.generation || closing.phase != opening.phase {
            self.refuse_disagreement(closing, opening);
        } else if observed.both_open() {
            self.refuse_both_open();
        } else if closing.phase.open() != Some(observed.direction.closing()) {
            self.refuse_phase(closing.phase);
        } else if closing.is_fenced() && self.fencing.is_none() {
            self.refuse_fence();
        }
    }

    /// Whether another turn than the one that is about to fence is unfinished.
    fn under_way(&self, closing: &SideSays) -> bool {
        match self.fencing {
            Some(id) => closing.turning != Some(Turning::Begun(id)),
            None => resume(self.observed) != Next::Nothing,
        }
    }

    fn refuse_unfinished(&mut self, direction: Direction) {
        let why = match resume(&Observed { direction, ..self.observed.clone() }) {
            Next::Nothing => "it is not recorded there any more: somebody has aborted it".to_owned(),
            next => format!("what is left of it: {next}"),
        };
        let command = format!("tidegate {direction} --name {}", self.observed.migration);
        let next = format!("go on with {command}, or undo it with {command} --abort");
        self.refuse("CT003", format!("a {direction} of this migration is unfinished"), why, next);
    }

    fn refuse_disagreement(&mut self, closing: &SideSays, opening: &SideSays) {
        let direction = self.observed.direction;
        let why = format!(
            "the {} is at generation {} ({}), the {} at generation {} ({}); no turn explains that",
            direction.closing(),
            closing.generation,
            closing.phase,
            direction.opening(),
            opening.generation,
            opening.phase
        );
        let next = "find out which database was restored or exchanged; the higher generation is the truth";
        self.refuse("CT035", "the two databases do not belong to the same moment of this migration", why, next);
    }

    fn refuse_phase(&mut self, phase: Phase) {
        let (direction, name) = (self.observed.direction, &self.observed.migration);
        let why = match phase.open() {
            Some(open) => format!("the {open} is the open side (phase {phase}); {direction} would open it"),
            None => format!("its phase is {phase}"),
        };
        let next = format!("see tidegate status --name {name}");
        self.refuse("CT002", format!("{direction} does not fit the state of migration \"{name}\""), why, next);
    }

    fn refuse_both_open(&mut self) {
        let (direction, name) = (self.observed.direction, &self.observed.migration);
        let why = "an immediate turn has opened the second one and closed none, and the target is the truth since";
        let next = format!(
            "stop the writers of the source, then: tidegate drain --name {name}; tidegate verify --name {name}; tidegate \
             finish --name {name}"
        );
        self.refuse("CT025", format!("{direction} is not possible while both sides are open"), why, next);
    }

    fn refuse_fence(&mut self) {
        let side = self.observed.direction.closing();
        let why = "no recorded turn explains it, so nobody would take it down again";
        let next = format!("take it down: {} --abort", self.command());
        self.refuse("CT018", format!("a fence stands at the {side}, which is open"), why, next);
    }
}
