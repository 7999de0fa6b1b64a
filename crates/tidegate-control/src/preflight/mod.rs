//! Everything that can be in the way of a turn. Each check looks at one thing and adds its reasons; none stops the
//! others.

mod equality;
mod policy;
mod rights;
mod sides;
mod streams;
mod writers;

use crate::observed::Observed;
use crate::policy::Policy;
use crate::refusal::{Reason, Refusal};
use crate::turning::TurnId;

/// The checks before a plan, and once more before its fence.
pub(crate) struct Preflight<'a> {
    observed: &'a Observed,
    policy: &'a Policy,
    /// The attempt that is about to fence; `None` while planning, when its first steps are still to come.
    fencing: Option<TurnId>,
    reasons: Vec<Reason>,
    warnings: Vec<Reason>,
}

impl<'a> Preflight<'a> {
    /// Checks what a plan needs.
    pub(crate) fn before_plan(observed: &'a Observed, policy: &'a Policy) -> Self {
        Preflight { observed, policy, fencing: None, reasons: Vec::new(), warnings: Vec::new() }.checked()
    }

    /// Checks what a fence needs.
    pub(crate) fn before_fence(observed: &'a Observed, policy: &'a Policy, id: TurnId) -> Self {
        Preflight { observed, policy, fencing: Some(id), reasons: Vec::new(), warnings: Vec::new() }.checked()
    }

    fn checked(mut self) -> Self {
        self.check_sides();
        self.check_streams();
        self.check_equality();
        self.check_writers();
        self.check_rights();
        self.check_policy();
        self
    }

    /// Returns the warnings, or every reason against.
    pub(crate) fn verdict(mut self) -> Result<Vec<Reason>, Refusal> {
        self.reasons.sort_by_key(|reason| reason.code);
        self.warnings.sort_by_key(|reason| reason.code);
        if self.reasons.is_empty() { Ok(self.warnings) } else { Err(Refusal { reasons: self.reasons }) }
    }

    fn refuse(&mut self, code: &'static str, what: impl Into<String>, why: impl Into<String>, next: impl Into<String>) {
        self.reasons.push(Reason::new(code, what, why, next));
    }

    fn warn(&mut self, code: &'static str, what: impl Into<String>, why: impl Into<String>, next: impl Into<String>) {
        self.warnings.push(Reason::new(code, what, why, next));
    }

    /// A warning where the operator has accepted it, else a reason against that says how to accept it.
    fn unless(&mut self, accepted: bool, reason: Reason) {
        if accepted {
            self.warnings.push(reason);
        } else {
            let next = format!("{}, or take it as it is: --accept {}", reason.next, reason.code);
            self.reasons.push(Reason { next, ..reason });
        }
    }

    /// The command of this turn, for `next`.
    fn command(&self) -> String {
        format!("tidegate {} --name {}", self.observed.direction, self.observed.migration)
    }
}

/// Names the first few of many.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names.iter().take(SHOWN).map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}
