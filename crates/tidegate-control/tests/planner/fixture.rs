//! A migration in which nothing is in the way, and its neighbours.

use tidegate_control::*;

pub const ID: TurnId = TurnId { to: 2, attempt: 1 };
pub const COCKROACH: Database = Database::Cockroach { version: (25, 4) };

pub fn side(database: Database) -> SideSays {
    SideSays { database, generation: 1, phase: Phase::Initial, turning: None, turn: None, fence: None }
}

/// PostgreSQL to CockroachDB, streaming, equal.
pub fn quiet() -> Observed {
    Observed {
        migration: "orders".to_owned(),
        direction: Direction::Cutover,
        source: SideSeen::Read(side(Database::Postgres)),
        target: SideSeen::Read(side(COCKROACH)),
        drained: StreamSeen {
            state: StreamState::Streaming,
            applied: Some("postgres:16/B374D848".parse().unwrap()),
            lag_seconds: 0.2,
        },
        feed: Feed::Unarmed,
        verify: VerifySeen { verdict: Verdict::NotRun, keys_left: 0, keys_per_second: None },
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
        gc_window_left_seconds: Some(14_400),
    }
}

/// The same migration after its cutover.
pub fn reversed() -> Observed {
    let after = |says: SideSays| SideSays { generation: 2, phase: Phase::Reversed, ..says };
    let fence = Some(FenceSeen { kind: FenceKind::Trigger, opens_at: 3, tables: 12 });
    Observed {
        direction: Direction::Failback,
        source: SideSeen::Read(SideSays { fence, ..after(side(Database::Postgres)) }),
        target: SideSeen::Read(after(side(COCKROACH))),
        ..quiet()
    }
}

/// The same migration, its feed armed and its rounds run, about to be fenced by attempt [`ID`].
pub fn prepared_to_fence() -> Observed {
    let mut observed = quiet();
    *closing(&mut observed) = begun(&[Step::Begin, Step::ArmFeed, Step::VerifyRounds]);
    observed.feed = Feed::Armed { first_resolved_seen: true };
    observed.verify = VerifySeen { verdict: Verdict::Equal, keys_left: 1000, keys_per_second: Some(50_000) };
    observed
}

/// The source while attempt [`ID`] has done these steps.
pub fn begun(done: &[Step]) -> SideSays {
    SideSays { turning: Some(Turning::Begun(ID)), turn: Some(recorded(done)), ..side(Database::Postgres) }
}

/// The record of attempt [`ID`].
pub fn recorded(done: &[Step]) -> RecordedTurn {
    let plan = plan(&quiet(), &Policy::default()).unwrap();
    let state = |step| if done.contains(&step) { StepState::Done } else { StepState::Planned };
    let steps = plan.steps.iter().map(|planned| RecordedStep { step: planned.step, state: state(planned.step) });
    RecordedTurn { id: ID, steps: steps.collect() }
}

pub fn closing(observed: &mut Observed) -> &mut SideSays {
    match &mut observed.source {
        SideSeen::Read(says) => says,
        SideSeen::Unreachable { .. } => panic!("the fixture's source can be read"),
    }
}

pub fn opening(observed: &mut Observed) -> &mut SideSays {
    match &mut observed.target {
        SideSeen::Read(says) => says,
        SideSeen::Unreachable { .. } => panic!("the fixture's target can be read"),
    }
}

pub fn unreachable() -> SideSeen {
    SideSeen::Unreachable { why: "connection refused".to_owned() }
}

pub fn codes(refusal: &Refusal) -> Vec<&'static str> {
    refusal.reasons.iter().map(|reason| reason.code).collect()
}
