//! What is decided after a crash, from every state that the two sides can be left in.

use tidegate_control::*;

use crate::fixture::*;

const UP_TO_TURN: [Step; 11] = [
    Step::Begin,
    Step::ArmFeed,
    Step::VerifyRounds,
    Step::Fence,
    Step::Marker,
    Step::Drain,
    Step::VerifyTouched,
    Step::Sequences,
    Step::RecordTurning,
    Step::Turn,
    Step::OnOpen,
];

fn with(source: SideSays) -> Observed {
    Observed { source: SideSeen::Read(source), ..quiet() }
}

fn turning() -> SideSays {
    SideSays { turning: Some(Turning::Turning(ID)), ..begun(&UP_TO_TURN[..9]) }
}

/// The target, opened, with these steps done.
fn opened(done: &[Step]) -> SideSays {
    SideSays { generation: 2, phase: Phase::Reversed, turn: Some(recorded(done)), ..side(COCKROACH) }
}

#[test]
fn an_attempt_goes_on_at_its_first_step_that_is_not_done() {
    for n in 1..9 {
        let next = resume(&with(begun(&UP_TO_TURN[..n])));
        assert_eq!(next, Next::Continue { id: ID, step: UP_TO_TURN[n] });
    }
}

#[test]
fn a_step_that_had_begun_is_done_again() {
    let mut says = begun(&UP_TO_TURN[..3]);
    says.turn.as_mut().unwrap().steps[3].state = StepState::Begun;
    assert_eq!(resume(&with(says)), Next::Continue { id: ID, step: Step::Fence });
}

#[test]
fn with_turning_recorded_the_other_side_decides() {
    let observed = with(turning());
    assert_eq!(resume(&observed), Next::Continue { id: ID, step: Step::Turn });
    let blind = Observed { target: unreachable(), ..observed.clone() };
    assert_eq!(resume(&blind), Next::Wait { side: Side::Target });
    let mut refused = observed.clone();
    opening(&mut refused).turning = Some(Turning::Aborted(ID));
    assert_eq!(resume(&refused), Next::GoOnAborting { id: ID, step: Step::RecordAbort });
    let mut turned = observed;
    *opening(&mut turned) = opened(&UP_TO_TURN);
    assert_eq!(resume(&turned), Next::FinishFollowing { id: ID, step: Step::Follow });
}

#[test]
fn what_follows_the_turn_goes_on_while_the_closed_side_is_away() {
    let away = |done: &[Step]| Observed { source: unreachable(), target: SideSeen::Read(opened(done)), ..quiet() };
    assert_eq!(resume(&away(&UP_TO_TURN)), Next::Wait { side: Side::Source });
    let followed = [&UP_TO_TURN[..], &[Step::Follow, Step::Park]].concat();
    assert_eq!(resume(&away(&followed)), Next::FinishFollowing { id: ID, step: Step::Certificate });
}

#[test]
fn a_finished_turn_leaves_nothing() {
    let all = [&UP_TO_TURN[..], &[Step::Follow, Step::Park, Step::Certificate]].concat();
    let source = SideSays { generation: 2, phase: Phase::Reversed, ..side(Database::Postgres) };
    let observed = Observed { target: SideSeen::Read(opened(&all)), ..with(source) };
    assert_eq!(resume(&observed), Next::Nothing);
    assert_eq!(Direction::under_way(&observed.source, &observed.target), None);
}

#[test]
fn the_direction_is_found_without_being_told() {
    let quiet = quiet();
    assert_eq!(Direction::under_way(&quiet.source, &quiet.target), None);
    let begun = SideSeen::Read(begun(&[Step::Begin]));
    assert_eq!(Direction::under_way(&begun, &quiet.target), Some(Direction::Cutover));
    assert_eq!(Direction::under_way(&begun, &unreachable()), Some(Direction::Cutover));
    let opened = SideSeen::Read(opened(&UP_TO_TURN));
    assert_eq!(Direction::under_way(&unreachable(), &opened), Some(Direction::Cutover));
    let failback = TurnId { to: 3, attempt: 1 };
    let mut target = side(COCKROACH);
    target.generation = 2;
    target.phase = Phase::Reversed;
    target.turning = Some(Turning::Begun(failback));
    target.turn = Some(RecordedTurn { id: failback, ..recorded(&[]) });
    assert_eq!(Direction::under_way(&reversed().source, &SideSeen::Read(target)), Some(Direction::Failback));
}

#[test]
fn a_refusal_at_the_side_that_was_not_opened_is_no_attempt_of_its_own() {
    let mut observed = quiet();
    opening(&mut observed).turning = Some(Turning::Aborted(ID));
    assert_eq!(Direction::under_way(&observed.source, &observed.target), None);
    assert_eq!(resume(&observed), Next::Nothing);
}

#[test]
fn two_sides_that_cannot_be_read_are_waited_for() {
    let observed = Observed { source: unreachable(), target: unreachable(), ..quiet() };
    assert_eq!(resume(&observed), Next::Wait { side: Side::Source });
    let observed = Observed { source: unreachable(), ..quiet() };
    assert_eq!(resume(&observed), Next::Wait { side: Side::Source });
}

#[test]
fn an_immediate_turn_is_resumed_like_any_other() {
    let policy =
        Policy { immediate: true, accept: Accept { both_writable: true, ..Accept::default() }, ..Policy::default() };
    let plan = plan(&quiet(), &policy).unwrap();
    let before_flow =
        |step| matches!(step, Step::Turn | Step::RecordTurning | Step::Sequences) || UP_TO_TURN[..3].contains(&step);
    let state = |step| if before_flow(step) { StepState::Done } else { StepState::Planned };
    let steps = plan.steps.iter().map(|planned| RecordedStep { step: planned.step, state: state(planned.step) });
    let target = SideSays { turn: Some(RecordedTurn { id: ID, steps: steps.collect() }), ..opened(&[]) };
    let observed = Observed { target: SideSeen::Read(target), ..with(turning()) };
    assert_eq!(resume(&observed), Next::FinishFollowing { id: ID, step: Step::FlowBothWays });
    assert_eq!(resume(&Observed { source: unreachable(), ..observed }), Next::Wait { side: Side::Source });
}

#[test]
fn a_refusal_is_not_taken_for_an_undone_attempt_in_the_other_direction() {
    let mut observed = Observed { direction: Direction::Failback, ..quiet() };
    let target = opening(&mut observed);
    target.turning = Some(Turning::Aborted(ID));
    target.fence = Some(FenceSeen { kind: FenceKind::Trigger, opens_at: 2, tables: 1 });
    assert_eq!((resume(&observed), abort_rule(&observed)), (Next::Nothing, AbortRule::NothingToAbort));
}

#[test]
fn an_attempt_whose_record_is_lost_is_undone() {
    let observed = with(SideSays { turn: None, ..begun(&[]) });
    assert_eq!(resume(&observed), Next::GoOnAborting { id: ID, step: Step::RecordAbort });
    assert_eq!(Direction::under_way(&observed.source, &observed.target), Some(Direction::Cutover));
}

#[test]
fn nothing_is_sent_before_turning_is_recorded() {
    let observed = with(begun(&UP_TO_TURN[..9]));
    assert_eq!(resume(&observed), Next::Continue { id: ID, step: Step::RecordTurning });
}
