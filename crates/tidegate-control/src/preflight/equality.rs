//! Whether both sides are equal, and whether everything is carried.

use super::{Preflight, listed};
use crate::observed::{Verdict, VerifySeen};
use crate::refusal::Reason;

/// The part of the budget that the comparison inside the block may take: the rest is for locks, draining and the turn.
const VERIFY_SHARE: u64 = 3;

impl Preflight<'_> {
    pub(super) fn check_equality(&mut self) {
        self.check_verdict();
        self.check_carried();
    }

    fn check_verdict(&mut self) {
        let name = &self.observed.migration;
        let what = "the two sides are not known to be equal";
        match self.observed.verify.verdict {
            Verdict::Equal => self.check_what_is_left(),
            Verdict::NotRun if self.fencing.is_none() => {}
            Verdict::NotRun => self.refuse("CT006", what, "no verify round has run", "run the verify rounds"),
            Verdict::Unknown => {
                let why = "a table could not be compared, or was compared without a fence";
                self.refuse("CT006", what, why, format!("see why: tidegate verify --name {name}"));
            }
            Verdict::Different => {
                let next = format!("see which rows, and repair them: tidegate verify --name {name} --repair");
                self.refuse("CT005", "the two sides differ", "the last verify found different rows", next);
            }
        }
    }

    fn check_what_is_left(&mut self) {
        let seconds = seconds_left(&self.observed.verify);
        if self.fencing.is_some() && seconds > self.policy.budget_seconds / VERIFY_SHARE {
            let why = format!(
                "comparing {} keys inside the block would take about {seconds} s of the budget of {} s",
                self.observed.verify.keys_left, self.policy.budget_seconds
            );
            let next = "wait for a quieter time, or give a larger --budget";
            self.refuse("CT006", "too much is left to verify", why, next);
        }
    }

    fn check_carried(&mut self) {
        let (observed, accept) = (self.observed, &self.policy.accept);
        if !observed.not_carried.is_empty() {
            let next = "carry them, or leave them out by name with --exclude";
            let what = format!("tables are not carried: {}", listed(&observed.not_carried));
            let reason = Reason::new("CT007", what, "their rows would be missing after the turn", next);
            self.unless(accept.not_carried, reason);
        }
        if observed.dead_letters > 0 {
            let reason = Reason::new(
                "CT008",
                format!("{} changes lie in the dead letter table", observed.dead_letters),
                "they are missing at the side that would be opened",
                format!("replay or discard them: tidegate dead-letter list --name {}", observed.migration),
            );
            self.unless(accept.dead_letters, reason);
        }
    }
}

/// How long the comparison of what is left takes, by the speed of the last round. Nothing left takes no time at any
/// speed.
fn seconds_left(verify: &VerifySeen) -> u64 {
    match verify.keys_per_second {
        Some(speed) if speed > 0 => verify.keys_left.div_ceil(speed),
        Some(_) | None if verify.keys_left == 0 => 0,
        Some(_) | None => u64::MAX,
    }
}
