//! Every refusal, alone and together.

use insta::assert_snapshot;
use tidegate_control::*;

use crate::fixture::*;

/// Plans what `change` makes of a quiet migration, expecting exactly these codes.
#[track_caller]
fn refused(expected: &[&str], policy: &Policy, change: impl FnOnce(&mut Observed)) {
    let mut observed = quiet();
    change(&mut observed);
    let refusal = plan(&observed, policy).expect_err("it was planned");
    assert_eq!(codes(&refusal), expected, "{refusal}");
}

/// Accepts it by its code, expecting the warning instead.
#[track_caller]
fn accepted(code: &str, change: impl Fn(&mut Observed)) {
    refused(&[code], &Policy::default(), &change);
    let (mut observed, mut policy) = (quiet(), Policy::default());
    change(&mut observed);
    assert!(policy.accept.add(code));
    let plan = plan(&observed, &policy).unwrap();
    assert_eq!(plan.warnings.iter().map(|warning| warning.code).collect::<Vec<_>>(), [code]);
}

#[test]
fn a_side_that_cannot_be_read() {
    refused(&["CT001"], &Policy::default(), |observed| observed.source = unreachable());
    refused(&["CT001"], &Policy::default(), |observed| observed.target = unreachable());
}

#[test]
fn a_direction_that_does_not_fit() {
    refused(&["CT002"], &Policy::default(), |observed| observed.direction = Direction::Failback);
    refused(&["CT002"], &Policy::default(), |observed| {
        closing(observed).phase = Phase::Final;
        opening(observed).phase = Phase::Final;
    });
}

#[test]
fn another_turn_that_is_unfinished() {
    refused(&["CT003"], &Policy::default(), |observed| *closing(observed) = begun(&[Step::Begin]));
    refused(&["CT003"], &Policy::default(), |observed| {
        *closing(observed) = begun(&[Step::Begin]);
        observed.direction = Direction::Failback;
    });
    let mut overtaken = prepared_to_fence();
    closing(&mut overtaken).turning = Some(Turning::Aborted(ID));
    let refusal = ready_to_fence(&overtaken, &Policy::default(), ID).unwrap_err();
    assert_eq!(codes(&refusal), ["CT003"]);
}

#[test]
fn a_stream_that_cannot_be_drained_in_time() {
    let states = [StreamState::Copying, StreamState::CatchingUp, StreamState::Parked, StreamState::Stopped];
    for state in states {
        refused(&["CT004"], &Policy::default(), |observed| observed.drained.state = state);
    }
    refused(&["CT004"], &Policy::default(), |observed| observed.drained.lag_seconds = 31.0);
}

#[test]
fn sides_that_are_not_known_to_be_equal() {
    refused(&["CT005"], &Policy::default(), |observed| observed.verify.verdict = Verdict::Different);
    refused(&["CT006"], &Policy::default(), |observed| observed.verify.verdict = Verdict::Unknown);
}

#[test]
fn too_much_left_to_verify_in_the_block() {
    for (keys_left, keys_per_second) in [(1_000_000, Some(50_000)), (1, None), (1, Some(0))] {
        let mut observed = prepared_to_fence();
        observed.verify = VerifySeen { verdict: Verdict::Equal, keys_left, keys_per_second };
        let refusal = ready_to_fence(&observed, &Policy::default(), ID).unwrap_err();
        assert_eq!(codes(&refusal), ["CT006"]);
    }
}

#[test]
fn what_is_accepted_becomes_a_warning() {
    accepted("CT007", |o| o.not_carried = vec!["public.late".to_owned()]);
    accepted("CT008", |o| o.dead_letters = 3);
    let prepared = PreparedTransaction { gid: "p1".to_owned(), age_seconds: 90.0 };
    accepted("CT009", |o| o.prepared = vec![prepared.clone()]);
    let writer = LongWriter { pid: 4711, age_seconds: 90.0, query: "UPDATE t SET a = $1".to_owned() };
    accepted("CT010", |o| o.long_writers = vec![writer.clone()]);
}

#[test]
fn not_everything_can_be_accepted() {
    let mut accept = Accept::default();
    assert!(!accept.add("CT005") && !accept.add("CT015") && accept == Accept::default());
    assert!(accept.add("CT013") && accept.add("CT021"));
}

#[test]
fn a_young_writer_is_a_warning_only() {
    let mut observed = quiet();
    observed.long_writers = vec![LongWriter { pid: 1, age_seconds: 5.0, query: "SELECT 1".to_owned() }];
    assert_eq!(plan(&observed, &Policy::default()).unwrap().warnings[0].code, "CT010");
}

#[test]
fn a_fence_that_cannot_be_put_up() {
    let tables = || vec!["public.t".to_owned()];
    let revoke = Policy { fence: Some(FenceKind::Revoke), ..Policy::default() };
    let read_only = Policy { fence: Some(FenceKind::ReadOnly), ..Policy::default() };
    refused(&["CT011"], &Policy::default(), |o| o.rights.no_trigger = tables());
    refused(&["CT011"], &revoke, |o| o.rights.no_lock = tables());
    refused(&["CT012"], &revoke, |o| o.rights.no_revoke = tables());
    refused(&["CT013"], &revoke, |o| o.rights.unrevocable_roles = vec!["postgres".to_owned()]);
    refused(&["CT013"], &read_only, |o| o.rights.unrevocable_roles = vec!["postgres".to_owned()]);
    refused(&["CT014"], &revoke, |o| o.rights.sessions_of_our_role = vec!["shop".to_owned()]);
    refused(&["CT022"], &Policy::default(), |o| o.rights.may_keep_state = false);
}

#[test]
fn triggers_stop_every_role() {
    let mut observed = quiet();
    observed.rights.unrevocable_roles = vec!["postgres".to_owned()];
    observed.rights.sessions_of_our_role = vec!["shop".to_owned()];
    assert!(plan(&observed, &Policy::default()).unwrap().warnings.is_empty());
}

#[test]
fn roles_that_cannot_be_revoked_may_be_accepted() {
    let mut observed = reversed();
    observed.rights.unrevocable_roles = vec!["root".to_owned(), "admin".to_owned()];
    assert_eq!(codes(&plan(&observed, &Policy::default()).unwrap_err()), ["CT013"]);
    let accept = Accept { unrevocable_roles: true, ..Accept::default() };
    assert!(plan(&observed, &Policy { accept, ..Policy::default() }).is_ok());
}

#[test]
fn changes_that_may_be_our_own_are_a_warning_only() {
    let mut observed = quiet();
    opening(&mut observed).database = Database::Cockroach { version: (23, 2) };
    observed.breaches = vec![Breach { table: "public.t".to_owned(), position: None }];
    assert_eq!(plan(&observed, &Policy::default()).unwrap().warnings[0].code, "CT015");
}

#[test]
fn a_feed_that_cannot_run_or_has_shown_nothing() {
    let why = "kv.rangefeed.enabled is off".to_owned();
    refused(&["CT016"], &Policy::default(), |o| o.feed = Feed::Impossible { why });
    for feed in [Feed::Unarmed, Feed::Armed { first_resolved_seen: false }] {
        let refusal = ready_to_fence(&Observed { feed, ..prepared_to_fence() }, &Policy::default(), ID).unwrap_err();
        assert_eq!(codes(&refusal), ["CT016"]);
    }
}

#[test]
fn history_that_is_about_to_be_collected() {
    refused(&["CT017"], &Policy::default(), |o| o.gc_window_left_seconds = Some(599));
}

#[test]
fn a_fence_that_no_turn_explains() {
    refused(&["CT018"], &Policy::default(), |o| {
        closing(o).fence = Some(FenceSeen { kind: FenceKind::Trigger, opens_at: 3, tables: 1 })
    });
}

#[test]
fn a_policy_that_contradicts_itself() {
    let command = Policy { fence: Some(FenceKind::Command), ..Policy::default() };
    refused(&["CT019"], &command, |_| ());
    refused(&["CT019", "CT019"], &Policy { budget_seconds: 0, fence_lock_timeout_ms: 0, ..Policy::default() }, |o| {
        o.drained.lag_seconds = 0.0;
    });
    let accept = Accept { both_writable: true, ..Accept::default() };
    let both = Policy { immediate: true, fence: Some(FenceKind::Trigger), accept, ..Policy::default() };
    refused(&["CT019"], &both, |_| ());
    for fence in [FenceKind::Trigger, FenceKind::ReadOnly] {
        let policy = Policy { fence: Some(fence), ..Policy::default() };
        assert_eq!(codes(&plan(&reversed(), &policy).unwrap_err()), ["CT019"]);
    }
}

#[test]
fn an_immediate_turn_needs_consent_and_marked_changes() {
    let immediate = Policy { immediate: true, ..Policy::default() };
    refused(&["CT021"], &immediate, |_| ());
    refused(&["CT020", "CT021"], &immediate, |o| opening(o).database = Database::Cockroach { version: (23, 2) });
}

#[test]
fn an_immediate_turn_needs_rows_before_and_a_cockroach_to_be_the_truth() {
    let accept = Accept { both_writable: true, ..Accept::default() };
    let immediate = Policy { immediate: true, accept, ..Policy::default() };
    refused(&["CT024"], &immediate, |o| o.not_judged = vec!["public.t".to_owned()]);
    refused(&["CT023"], &immediate, |o| opening(o).database = Database::Postgres);
    assert_eq!(codes(&plan(&reversed(), &immediate).unwrap_err()), ["CT023"]);
    // A turn with a fence asks for none of that.
    let mut observed = quiet();
    observed.not_judged = vec!["public.t".to_owned()];
    assert!(plan(&observed, &Policy::default()).is_ok());
}

#[test]
fn nothing_turns_while_both_sides_are_open() {
    let steps = [Step::Turn, Step::FlowBothWays].map(|step| RecordedStep { step, state: StepState::Done });
    let turn = Some(RecordedTurn { id: ID, steps: steps.to_vec() });
    for direction in [Direction::Cutover, Direction::Failback] {
        let mut observed = Observed { direction, ..reversed() };
        let SideSeen::Read(target) = &mut observed.target else { panic!("it can be read") };
        target.turn.clone_from(&turn);
        assert_eq!(codes(&plan(&observed, &Policy::default()).unwrap_err()), ["CT025"]);
    }
}

#[test]
fn two_databases_that_do_not_belong_together() {
    refused(&["CT035"], &Policy::default(), |o| opening(o).generation = 4);
}

#[test]
fn every_reason_is_given_at_once() {
    let mut observed = quiet();
    observed.target = unreachable();
    observed.drained.state = StreamState::CatchingUp;
    observed.verify.verdict = Verdict::Different;
    observed.not_carried = (1..=7).map(|n| format!("public.t{n}")).collect();
    observed.prepared = vec![PreparedTransaction { gid: "p1".to_owned(), age_seconds: 90.0 }];
    observed.rights.no_lock = vec!["public.t".to_owned()];
    assert_snapshot!(plan(&observed, &Policy::default()).unwrap_err());
}
