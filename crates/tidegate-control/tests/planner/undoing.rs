//! What may be undone, when, and how.

use insta::assert_snapshot;
use tidegate_control::*;

use crate::fixture::*;

fn steps(undo: &Undo) -> Vec<Step> {
    undo.steps.iter().map(|planned| planned.step).collect()
}

fn turning() -> Observed {
    let mut observed = prepared_to_fence();
    closing(&mut observed).turning = Some(Turning::Turning(ID));
    observed
}

fn refusal(observed: &Observed) -> Refusal {
    abort_steps(observed, &Policy::default()).unwrap_err()
}

#[test]
fn before_turning_the_closing_side_is_enough() {
    let observed = Observed { target: unreachable(), ..prepared_to_fence() };
    assert_eq!(abort_rule(&observed), AbortRule::Alone);
    let undo = abort_steps(&observed, &Policy::default()).unwrap();
    assert_eq!((undo.id, undo.expects), (ID, Some(Turning::Begun(ID))));
    assert_eq!(steps(&undo), [Step::RecordAbort, Step::Unfence]);
}

#[test]
fn with_turning_the_other_side_refuses_first() {
    assert_eq!(abort_rule(&turning()), AbortRule::AfterRefusal);
    let hooks = Hooks { on_abort: Some("./undo.sh".to_owned()), ..Hooks::default() };
    let undo = abort_steps(&turning(), &Policy { hooks, ..Policy::default() }).unwrap();
    assert_eq!(steps(&undo), [Step::RefuseTurn, Step::RecordAbort, Step::OnAbort, Step::Unfence]);
}

#[test]
fn with_turning_nothing_is_undone_unread() {
    let observed = Observed { target: unreachable(), ..turning() };
    assert_eq!((abort_rule(&observed), codes(&refusal(&observed))), (AbortRule::Unknown, vec!["CT031"]));
}

#[test]
fn after_the_turn_nothing_is_undone() {
    let mut observed = turning();
    let target = opening(&mut observed);
    target.generation = 2;
    target.turn = Some(recorded(&[Step::Turn]));
    assert_eq!((abort_rule(&observed), codes(&refusal(&observed))), (AbortRule::Never, vec!["CT030"]));
    assert_snapshot!(refusal(&observed));
}

#[test]
fn without_the_closing_side_nothing_is_undone() {
    assert_eq!(codes(&refusal(&Observed { source: unreachable(), ..prepared_to_fence() })), ["CT032"]);
}

#[test]
fn without_an_attempt_there_is_nothing_to_undo() {
    assert_eq!(abort_rule(&quiet()), AbortRule::NothingToAbort);
    assert_eq!(codes(&refusal(&quiet())), ["CT033"]);
}

#[test]
fn an_undoing_goes_on_where_it_stopped() {
    let mut observed = prepared_to_fence();
    let source = closing(&mut observed);
    source.turning = Some(Turning::Aborted(ID));
    source.fence = Some(FenceSeen { kind: FenceKind::Trigger, opens_at: 3, tables: 2 });
    let planned = |step| RecordedStep { step, state: StepState::Planned };
    source.turn.as_mut().unwrap().steps.extend([planned(Step::OnAbort), planned(Step::Unfence)]);
    assert_eq!(resume(&observed), Next::GoOnAborting { id: ID, step: Step::OnAbort });
    closing(&mut observed).turn.as_mut().unwrap().steps.iter_mut().for_each(|step| step.state = StepState::Done);
    assert_eq!(resume(&observed), Next::GoOnAborting { id: ID, step: Step::Unfence });
    closing(&mut observed).fence = None;
    assert_eq!(resume(&observed), Next::Nothing);
}

#[test]
fn a_fence_that_no_attempt_explains_is_taken_down_under_a_new_id() {
    let mut observed = quiet();
    closing(&mut observed).fence = Some(FenceSeen { kind: FenceKind::Trigger, opens_at: 3, tables: 2 });
    let undo = abort_steps(&observed, &Policy::default()).unwrap();
    assert_eq!((undo.id, undo.expects, steps(&undo)), (ID, None, vec![Step::RecordAbort, Step::Unfence]));
}

#[test]
fn a_spent_budget_undoes_only_before_turning() {
    let policy = Policy::default();
    assert!(when_over_budget(&prepared_to_fence(), &policy).is_some());
    assert_eq!(when_over_budget(&turning(), &policy), None);
    assert_eq!(when_over_budget(&quiet(), &policy), None);
    let reason = budget_exceeded(&prepared_to_fence(), &policy, "process 4711 (UPDATE t SET a = $1)");
    assert_eq!(reason.code, "CT036");
    assert_snapshot!(reason);
}
