//! The steps of a turn that opens one side and closes none.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use tidegate_control::{ConflictSeen, Side, Step};
use tidegate_model::Problem;
use tidegate_pipeline::Gate;
use tidegate_sql::conflicts::{Conflict, Place};
use tidegate_sql::turn::Recorded;
use tracing::info;

use super::{Turn, immediate_under_way};
use crate::engine::NoCopy;
use crate::engine::conflicting::conflicts;
use crate::engine::seat::Hold;

/// Tells whether a recorded turn leaves both sides open. What was recorded counts, not what whoever takes it up was asked.
pub(super) fn immediate(recorded: &Recorded) -> bool {
    recorded.steps.iter().any(|row| row.name == Step::FlowBothWays.name())
}

impl Turn<'_> {
    /// Tells whether the turn under way leaves both sides open.
    pub(super) async fn is_immediate(&self) -> Result<bool, Problem> {
        let recorded = self.book(self.direction().closing()).newest().await?;
        Ok(recorded.as_ref().is_some_and(immediate))
    }

    /// Refuses to go on, unasked, with an attempt that leaves both sides open.
    pub(super) async fn refuse_other_kind(&self) -> Result<(), Problem> {
        match self.is_immediate().await? && !self.policy().immediate {
            true => Err(immediate_under_way(self.direction())),
            false => Ok(()),
        }
    }

    /// From now on both streams judge their changes by the rows that they find. What the one that flows has under way was
    /// written before anybody could write to the other side.
    pub(super) async fn arbitrate(&self) -> Result<(), Problem> {
        let drained = self.conductor.seat(self.drained());
        for seat in [drained, self.conductor.seat(self.direction().armed())] {
            seat.arbitrate.store(true, Ordering::Relaxed);
        }
        let live = drained.live().await;
        let (hold, at) = Hold::take(drained, &live).await?;
        drop(hold);
        info!(from = %at, stream = %drained.stream, "changes are judged by the rows that they find");
        Ok(())
    }

    /// No attempt is under way any more that would open the other side, too.
    pub(super) fn arbitrate_no_more(&self) {
        for stream in [self.drained(), self.direction().armed()] {
            self.conductor.seat(stream).arbitrate.store(false, Ordering::Relaxed);
        }
    }

    /// The armed stream flows, too.
    pub(super) async fn flow_both_ways(&self) -> Result<Value, Problem> {
        // The turn may have been made by a process that is gone, behind the back of this one.
        self.arbitrate().await?;
        let (drained, armed) = (self.conductor.seat(self.drained()), self.conductor.seat(self.direction().armed()));
        for seat in [drained, armed] {
            seat.read_back.store(true, Ordering::Relaxed);
            seat.set_gate(Gate::Open);
        }
        armed.want(NoCopy::Now);
        Ok(Value::Null)
    }

    /// Tells of the rows that both sides have changed by now.
    pub(super) async fn conflict_report(&self) -> Result<Value, Problem> {
        let found: Vec<ConflictSeen> = conflicts(self.migration(), &self.ends).await?.iter().map(seen).collect();
        Ok(json!({ "conflicts": found }))
    }
}

fn seen(conflict: &Conflict) -> ConflictSeen {
    let places = |places: &[Place]| places.iter().map(|place| place.position.clone()).collect();
    ConflictSeen {
        table: conflict.table.clone(),
        key: conflict.key_text(),
        source: places(&conflict.source),
        target: places(&conflict.target),
        kept: Side::Target,
    }
}
