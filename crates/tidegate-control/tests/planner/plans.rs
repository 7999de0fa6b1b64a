//! Plans as the operator reads them.

use insta::assert_snapshot;
use tidegate_control::*;

use crate::fixture::*;

#[test]
fn cutover_closes_opens_and_follows() {
    assert_snapshot!(plan(&quiet(), &Policy::default()).unwrap());
}

#[test]
fn failback_is_the_same_with_the_sides_exchanged() {
    assert_snapshot!(plan(&reversed(), &Policy::default()).unwrap());
}

#[test]
fn hooks_stand_where_they_run() {
    let command = |name: &str| Some(format!("./{name}.sh"));
    let hooks = Hooks { on_fence: command("pause"), on_open: command("resume"), on_abort: command("undo") };
    let policy = Policy { hooks, fence: Some(FenceKind::Command), ..Policy::default() };
    assert_snapshot!(plan(&quiet(), &policy).unwrap());
}

#[test]
fn an_immediate_plan_is_loud_and_has_no_fence() {
    let accept = Accept { both_writable: true, ..Accept::default() };
    let plan = plan(&quiet(), &Policy { immediate: true, accept, ..Policy::default() }).unwrap();
    assert!(plan.steps.iter().all(|step| step.step != Step::Fence && !step.write_blocked));
    assert_snapshot!(plan);
}

#[test]
fn what_a_fence_took_away_is_given_back_while_nobody_can_write_anyway() {
    let mut observed = quiet();
    opening(&mut observed).fence = Some(FenceSeen { kind: FenceKind::Revoke, opens_at: 2, tables: 12 });
    assert_snapshot!(plan(&observed, &Policy::default()).unwrap());
}

#[test]
fn nothing_is_undone_from_the_turn_on() {
    for observed in [quiet(), reversed()] {
        let plan = plan(&observed, &Policy::default()).unwrap();
        let turn = plan.steps.iter().position(|step| step.step == Step::Turn).unwrap();
        assert!(plan.steps[..turn].iter().all(|step| step.undoable));
        assert!(plan.steps[turn..].iter().all(|step| !step.undoable && step.on_failure != OnFailure::Abort));
    }
}

#[test]
fn an_attempt_never_has_the_id_of_an_undone_one() {
    let mut observed = quiet();
    let mut turn = recorded(&[]);
    turn.steps.push(RecordedStep { step: Step::Unfence, state: StepState::Done });
    let aborted = Some(Turning::Aborted(ID));
    *closing(&mut observed) = SideSays { turning: aborted, turn: Some(turn), ..side(Database::Postgres) };
    let plan = plan(&observed, &Policy::default()).unwrap();
    assert_eq!((plan.id.to_string(), plan.expects), ("2.2".to_owned(), aborted));
}

#[test]
fn a_fence_that_has_ended_is_no_obstacle() {
    let mut observed = quiet();
    closing(&mut observed).fence = Some(FenceSeen { kind: FenceKind::Trigger, opens_at: 1, tables: 3 });
    assert!(plan(&observed, &Policy::default()).is_ok());
}

#[test]
fn a_plan_is_refused_once_the_generation_has_moved_on() {
    let plan = plan(&quiet(), &Policy::default()).unwrap();
    assert_eq!(plan.check(&quiet()), Ok(()));
    for stale in [reversed(), prepared_to_fence(), Observed { source: unreachable(), ..quiet() }] {
        let stale = Observed { direction: Direction::Cutover, ..stale };
        assert_eq!(plan.check(&stale).unwrap_err().code, "CT034");
    }
}

#[test]
fn a_prepared_attempt_may_fence() {
    assert_eq!(ready_to_fence(&prepared_to_fence(), &Policy::default(), ID), Ok(()));
}

#[test]
fn what_is_observed_survives_its_json() {
    for observed in [quiet(), reversed(), prepared_to_fence()] {
        let json = serde_json::to_string(&observed).unwrap();
        assert_eq!(serde_json::from_str::<Observed>(&json).unwrap(), observed);
    }
}
