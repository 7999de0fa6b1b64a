//! What a transaction of a turn does at a database: the preconditions that the real statements must check.

use tidegate_control::{Step, TurnId, Turning};

use crate::config::Variant;
use crate::world::{Database, Op, Record, Request};

impl Database {
    /// Executes a request as one transaction. One whose precondition does not hold changes nothing.
    pub fn execute(&mut self, request: Request, variant: Variant) {
        let id = request.id;
        match request.op {
            Op::Begin { expects } => self.begin(id, expects, variant),
            Op::Mark(step) => self.mark(id, step),
            Op::Fence { table } => {
                if self.turning == Some(Turning::Begun(id)) {
                    self.fence[table] = Some(id.to + 1);
                }
            }
            Op::Marker => self.write_marker(id),
            Op::RecordTurning => {
                if self.turning == Some(Turning::Begun(id)) {
                    self.turning = Some(Turning::Turning(id));
                    self.mark(id, Step::RecordTurning);
                }
            }
            Op::Turn { record, expects } => self.turn(id, record, expects),
            Op::Follow => {
                let turning = matches!(self.turning, Some(Turning::Begun(own) | Turning::Turning(own)) if own == id);
                if self.generation == id.from() && turning {
                    self.generation = id.to;
                    self.turning = None;
                }
            }
            Op::DropFence { table } => {
                let opened = self.generation == id.to && self.turning.is_none();
                if opened || variant == Variant::UncheckedDrop {
                    self.fence[table] = None;
                }
            }
            Op::RefuseTurn { expects } => {
                if self.generation == id.from() && (self.turning == expects || variant == Variant::UncheckedRefusal) {
                    self.turning = Some(Turning::Aborted(id));
                }
            }
            Op::RecordAbort { expects } => self.record_abort(id, expects),
            Op::Unfence { table } => {
                if self.turning == Some(Turning::Aborted(id)) || variant == Variant::UncheckedUnfence {
                    self.fence[table] = None;
                }
            }
        }
    }

    fn begin(&mut self, id: TurnId, expects: Option<Turning>, variant: Variant) {
        if self.generation == id.from() && self.turning == expects {
            self.turning = Some(Turning::Begun(id));
            let mut record = Record { id, done: 0, aborting: false, marker: None };
            variant.steps_without_effect().for_each(|step| record.mark(step));
            self.record = Some(record);
        }
    }

    fn mark(&mut self, id: TurnId, step: Step) {
        if let Some(record) = self.record.as_mut().filter(|record| record.id == id) {
            record.mark(step);
        }
    }

    fn write_marker(&mut self, id: TurnId) {
        if self.turning == Some(Turning::Begun(id)) {
            let rows = self.rows;
            if let Some(record) = self.record.as_mut() {
                record.marker = Some(rows);
                record.mark(Step::Marker);
            }
        }
    }

    fn turn(&mut self, id: TurnId, mut record: Record, expects: Option<Turning>) {
        if self.generation == id.from() && self.turning == expects {
            self.generation = id.to;
            self.turning = None;
            record.mark(Step::RecordTurning);
            record.mark(Step::Turn);
            self.record = Some(record);
        }
    }

    fn record_abort(&mut self, id: TurnId, expects: Option<Turning>) {
        if self.generation == id.from() && self.turning == expects {
            self.turning = Some(Turning::Aborted(id));
            if let Some(record) = self.record.as_mut().filter(|record| record.id == id) {
                record.aborting = true;
                record.mark(Step::RecordAbort);
            }
        }
    }
}
