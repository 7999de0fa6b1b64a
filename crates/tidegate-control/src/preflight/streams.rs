//! The stream that the turn drains, and the one that flows after it.

use super::Preflight;
use crate::observed::{Feed, StreamState};
use crate::refusal::Reason;

/// The least history that CockroachDB must still keep for the oldest position needed: time to notice and to restart.
const GC_WINDOW_LEFT_MIN_SECONDS: u64 = 600;

impl Preflight<'_> {
    pub(super) fn check_streams(&mut self) {
        self.check_drained();
        self.check_breaches();
        self.check_feed();
        self.check_gc_window();
        self.check_loops();
    }

    fn check_drained(&mut self) {
        let (stream, seen) = (self.observed.direction.drained(), &self.observed.drained);
        let next = format!("wait until tidegate status --name {} says \"streaming\"", self.observed.migration);
        let why = match seen.state {
            StreamState::Streaming | StreamState::Held => None,
            StreamState::Copying => Some("it is still copying".to_owned()),
            StreamState::CatchingUp => Some("it has not passed the point of its copy yet".to_owned()),
            StreamState::Armed | StreamState::Parked => Some("it does not flow in this phase".to_owned()),
            StreamState::Stopped => Some("it does not run; status says why".to_owned()),
        };
        if let Some(why) = why {
            self.refuse("CT004", format!("the {stream} stream is not ready to be drained"), why, next);
        } else if seen.lag_seconds > self.policy.budget_seconds as f64 {
            let why = format!(
                "it is {:.0} s behind, and draining that would take longer than the budget of {} s",
                seen.lag_seconds, self.policy.budget_seconds
            );
            self.refuse("CT004", format!("the {stream} stream is not ready to be drained"), why, next);
        }
    }

    fn check_breaches(&mut self) {
        let observed = self.observed;
        let Some(first) = observed.breaches.first() else { return };
        let opening = observed.direction.opening();
        let at = first.position.as_ref().map(|position| format!(" at {position}")).unwrap_or_default();
        let told_apart = observed.opening().says().is_none_or(|says| says.database.can_tell_own_changes());
        let reason = Reason::new(
            "CT015",
            format!("somebody else has written the {opening}, which is not open"),
            format!("{} changes, the first in \"{}\"{at}", observed.breaches.len(), first.table),
            "find the writer and stop it; tidegate verify --repair makes both sides equal and gives up what was written there",
        );
        // Where our own rows cannot be told apart this may be us: no reason to refuse.
        self.unless(!told_apart, reason);
    }

    fn check_feed(&mut self) {
        let armed = self.observed.direction.armed();
        let what = format!("the {armed} stream is not ready to flow after the turn");
        match &self.observed.feed {
            Feed::Impossible { why } => {
                let next = format!("repair that, then: {}", self.command());
                self.refuse("CT016", what, why.clone(), next);
            }
            Feed::Unarmed | Feed::Armed { first_resolved_seen: false } if self.fencing.is_some() => {
                let why = "its first resolved timestamp has not arrived; the wait would fall into the blocked time";
                self.refuse("CT016", what, why, "wait for it");
            }
            Feed::Unarmed | Feed::Armed { .. } => {}
        }
    }

    fn check_gc_window(&mut self) {
        let Some(left) = self.observed.gc_window_left_seconds else { return };
        if left < GC_WINDOW_LEFT_MIN_SECONDS {
            let what = format!("CockroachDB keeps the history that is needed for {left} s only");
            let why = format!("less than {GC_WINDOW_LEFT_MIN_SECONDS} s: after one restart it might be gone");
            let next = "raise gc.ttlseconds of the carried tables: ALTER TABLE .. CONFIGURE ZONE USING gc.ttlseconds";
            self.refuse("CT017", what, why, next);
        }
    }

    /// With both sides writable every stream must leave out what the other wrote.
    fn check_loops(&mut self) {
        let sides = [self.observed.closing().says(), self.observed.opening().says()];
        let blind = sides.into_iter().flatten().any(|says| !says.database.can_tell_own_changes());
        if self.policy.immediate && blind {
            let why = "CockroachDB before v24.1 cannot mark our changes, so they would come back for ever";
            let next = format!("turn with a fence: {}", self.command());
            self.refuse("CT020", "both directions at once cannot be had with this version", why, next);
        }
    }
}
