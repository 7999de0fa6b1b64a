//! The executor: it looks, asks the planner of the real program, and sends one transaction.

use tidegate_control::{
    Direction, Feed, FenceKind, FenceSeen, Next, Observed, Phase, Policy, RecordedStep, RecordedTurn, Rights, Side,
    SideSays, SideSeen, Step, StepState, StreamSeen, StreamState, TurnId, Verdict, VerifySeen, abort_steps, plan,
    resume,
};

use crate::config::{Config, Variant};
use crate::world::{Database, Op, Record, Request, TABLES, Wish, opened_by};

/// What a process does next.
pub enum Decision {
    /// Sends this and waits for the answer.
    Send(Request),
    /// Looks again: it waits for something.
    LookAgain,
    /// The command has ended.
    End,
}

/// Both sides as a process has seen them. `None`: could not be read.
pub struct View<'a> {
    pub source: Option<&'a Database>,
    pub target: Option<&'a Database>,
}

impl View<'_> {
    fn side(&self, side: Side) -> Option<&Database> {
        match side {
            Side::Source => self.source,
            Side::Target => self.target,
        }
    }

    /// Makes what the planner is given. An unfinished turn says itself which way it goes; a user who aborts although there
    /// is none asks for the wrong way.
    pub fn observed(&self, wish: Wish, config: &Config) -> Observed {
        let seen = |database: Option<&Database>| match database {
            None => SideSeen::Unreachable { why: String::new() },
            Some(database) => SideSeen::Read(says(database, config)),
        };
        let (source, target) = (seen(self.source), seen(self.target));
        let open = || opened_by(self.source.or(self.target).map_or(1, |database| database.generation));
        let closing = |open: Side| if wish == Wish::Abort { open.other() } else { open };
        let direction =
            Direction::under_way(&source, &target).unwrap_or_else(|| Direction::that_closes(closing(open())));
        observed(direction, source, target)
    }

    /// Decides as the real executor does.
    pub fn decide(&self, wish: Wish, config: &Config) -> Decision {
        let observed = self.observed(wish, config);
        let work = Work { view: self, observed: &observed, config };
        match (resume(&observed), wish) {
            (Next::Wait { .. }, _) => Decision::LookAgain,
            (Next::Nothing, Wish::Turn) => work.begin(),
            (Next::Continue { id, step }, Wish::Turn) => work.step(id, step),
            (Next::FinishFollowing { id, step }, Wish::Turn) => work.follow(id, step),
            (Next::Nothing | Next::FinishFollowing { .. }, Wish::Abort) => Decision::End,
            (Next::Continue { .. }, Wish::Abort) => work.abort(),
            (Next::GoOnAborting { id, step }, _) => work.undo(id, step),
        }
    }
}

/// One decision.
struct Work<'a> {
    view: &'a View<'a>,
    observed: &'a Observed,
    config: &'a Config,
}

impl Work<'_> {
    fn closing(&self) -> Side {
        self.observed.direction.closing()
    }

    fn to_closing(&self, id: TurnId, op: Op) -> Decision {
        Decision::Send(Request { to: self.closing(), id, op })
    }

    fn to_opening(&self, id: TurnId, op: Op) -> Decision {
        Decision::Send(Request { to: self.closing().other(), id, op })
    }

    fn begin(&self) -> Decision {
        let Ok(plan) = plan(self.observed, &Policy::default()) else { return Decision::End };
        if plan.id.to > self.config.generations || plan.id.attempt > self.config.attempts {
            return Decision::End;
        }
        let steps: Vec<Step> = plan.steps.iter().map(|planned| planned.step).collect();
        assert_eq!(steps, self.config.steps, "the plan of the model does not depend on the state");
        self.to_closing(plan.id, Op::Begin { expects: plan.expects })
    }

    fn step(&self, id: TurnId, step: Step) -> Decision {
        let Some(closing) = self.view.side(self.closing()) else { return Decision::LookAgain };
        match step {
            Step::Fence => match (0..TABLES).find(|table| closing.fence[*table] != Some(id.to + 1)) {
                Some(table) => self.to_closing(id, Op::Fence { table }),
                None => self.to_closing(id, Op::Mark(Step::Fence)),
            },
            Step::Marker => self.to_closing(id, Op::Marker),
            Step::Drain => self.drain(id, closing),
            Step::RecordTurning if self.config.variant == Variant::WithoutTurning => self.turn(id, closing),
            Step::RecordTurning => self.to_closing(id, Op::RecordTurning),
            Step::Turn => self.turn(id, closing),
            other => self.to_closing(id, Op::Mark(other)),
        }
    }

    fn drain(&self, id: TurnId, closing: &Database) -> Decision {
        let marker = closing.record.and_then(|record| record.marker);
        match self.view.side(self.closing().other()) {
            Some(opening) if marker.is_some_and(|rows| rows & !opening.rows == 0) => {
                self.to_closing(id, Op::Mark(Step::Drain))
            }
            Some(_) | None => Decision::LookAgain,
        }
    }

    fn turn(&self, id: TurnId, closing: &Database) -> Decision {
        let record = closing.record.expect("a turn that has begun is recorded");
        match self.view.side(self.closing().other()) {
            // One that an attempt as late as this has been refused at does not come by here.
            Some(opening) => self.to_opening(id, Op::Turn { record, expects: opening.turning }),
            None => Decision::LookAgain,
        }
    }

    fn follow(&self, id: TurnId, step: Step) -> Decision {
        let opened = self.view.side(self.closing().other());
        let closed = self.view.side(self.closing());
        match (step, opened, closed) {
            (Step::Follow, _, Some(closed)) if closed.generation < id.to => self.to_closing(id, Op::Follow),
            (Step::DropFenceTriggers | Step::GiveBack, Some(opened), _) => {
                match (0..TABLES).find(|table| opened.fence[*table].is_some()) {
                    Some(table) => self.to_opening(id, Op::DropFence { table }),
                    None => self.to_opening(id, Op::Mark(step)),
                }
            }
            _ => self.to_opening(id, Op::Mark(step)),
        }
    }

    fn abort(&self) -> Decision {
        let Ok(undo) = abort_steps(self.observed, &Policy::default()) else { return Decision::End };
        match undo.steps.first().expect("an undoing has steps").step {
            Step::RefuseTurn if self.config.variant == Variant::WithoutRefusal => {
                self.to_closing(undo.id, Op::RecordAbort { expects: undo.expects })
            }
            Step::RefuseTurn => self.to_opening(undo.id, Op::RefuseTurn { expects: undo.opening_expects }),
            Step::RecordAbort => self.to_closing(undo.id, Op::RecordAbort { expects: undo.expects }),
            step => self.undo(undo.id, step),
        }
    }

    fn undo(&self, id: TurnId, step: Step) -> Decision {
        let Some(closing) = self.view.side(self.closing()) else { return Decision::LookAgain };
        match step {
            Step::RecordAbort => self.to_closing(id, Op::RecordAbort { expects: closing.turning }),
            Step::Unfence => match (0..TABLES).find(|table| closing.fence[*table].is_some()) {
                Some(table) => self.to_closing(id, Op::Unfence { table }),
                None => self.to_closing(id, Op::Mark(Step::Unfence)),
            },
            other => self.to_closing(id, Op::Mark(other)),
        }
    }
}

fn says(database: &Database, config: &Config) -> SideSays {
    let fences = || database.fence.iter().flatten();
    SideSays {
        database: tidegate_control::Database::Postgres,
        generation: database.generation,
        phase: match opened_by(database.generation) {
            Side::Source => Phase::Initial,
            Side::Target => Phase::Reversed,
        },
        turning: database.turning,
        turn: database.record.map(|record| recorded(record, config)),
        fence: fences().max().map(|opens_at| FenceSeen {
            kind: if database.grants { FenceKind::Revoke } else { FenceKind::Trigger },
            opens_at: *opens_at,
            tables: fences().count() as u64,
        }),
    }
}

fn recorded(record: Record, config: &Config) -> RecordedTurn {
    let undoing: &[Step] = if record.aborting { &[Step::RecordAbort, Step::Unfence] } else { &[] };
    let state = |step| if record.is_done(step) { StepState::Done } else { StepState::Planned };
    let steps = config.steps.iter().chain(undoing);
    RecordedTurn { id: record.id, steps: steps.map(|&step| RecordedStep { step, state: state(step) }).collect() }
}

/// Nothing is in the way of a turn but what the two sides say.
pub fn observed(direction: Direction, source: SideSeen, target: SideSeen) -> Observed {
    Observed {
        migration: String::new(),
        direction,
        source,
        target,
        drained: StreamSeen { state: StreamState::Streaming, applied: None, lag_seconds: 0.0 },
        feed: Feed::Armed { first_resolved_seen: true },
        verify: VerifySeen { verdict: Verdict::Equal, keys_left: 0, keys_per_second: None },
        not_carried: Vec::new(),
        not_judged: Vec::new(),
        dead_letters: 0,
        prepared: Vec::new(),
        long_writers: Vec::new(),
        rights: Rights {
            no_lock: Vec::new(),
            no_trigger: Vec::new(),
            no_revoke: Vec::new(),
            unrevocable_roles: Vec::new(),
            sessions_of_our_role: Vec::new(),
            may_keep_state: true,
        },
        breaches: Vec::new(),
        gc_window_left_seconds: None,
    }
}
