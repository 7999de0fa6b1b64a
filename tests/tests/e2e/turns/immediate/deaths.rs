//! Whatever dies or is lost, in the turn or behind it: each conflict is told once.

use std::collections::BTreeSet;

use tidegate_testkit::wait::{PATIENCE, wait_until};
use tidegate_testkit::{Database, Fault, Migration, Proxy, cockroach_server, source_server};

use super::{IMMEDIATE, assert_kept, both_open, both_stream, keys, migration, seed, settled};

#[test]
fn a_process_that_is_killed_among_conflicts_tells_each_of_them_once() {
    let migration = migration("turn_immediate_killed").options(["--batch-transactions-max=1"]);
    both_open(&migration);
    let ten = seed(&migration);
    let recorded = || -> u64 {
        let count = |database: &Database| database.number("SELECT count(*) FROM tidegate.conflict");
        count(&migration.source).unsigned_abs() + count(&migration.target).unsigned_abs()
    };
    for conflicts in [1, 6, 12] {
        let mut engine = migration.start();
        wait_until("some conflicts are recorded", PATIENCE, || {
            engine.assert_running();
            recorded() >= conflicts
        });
        engine.kill9();
    }
    let mut engine = migration.start();
    assert_eq!(keys(&settled(&migration, &mut engine)), ten);
    assert_kept(&migration);
    assert_seen_once(&migration);
    engine.stop();
}

/// A row that each side has changed once was seen once by each stream.
fn assert_seen_once(migration: &Migration) {
    for database in [&migration.source, &migration.target] {
        assert_eq!(database.number("SELECT count(*) FROM tidegate.conflict WHERE row_key = '{\"id\":\"1\"}'"), 1);
    }
}

#[test]
fn a_commit_whose_answer_is_lost_tells_no_conflict_twice() {
    let (at_source, at_target) = (Proxy::start(source_server().port()), Proxy::start(cockroach_server().port()));
    let migration = migration("turn_immediate_lost").source_via(&at_source).target_via(&at_target);
    both_open(&migration);
    let ten = seed(&migration);
    at_source.arm(Fault::LoseCommitAnswer, "apply", 0);
    at_target.arm(Fault::LoseCommitAnswer, "apply", 0);
    let mut engine = migration.start();
    at_source.wait_sprung(1);
    at_target.wait_sprung(1);
    assert_eq!(keys(&settled(&migration, &mut engine)), ten);
    assert_kept(&migration);
    assert_seen_once(&migration);
    engine.stop();
}

/// Has the process die at a point of the turn, asks for the same turn again, and lets both sides change a row then.
fn dies_at(at: &str) {
    let migration = migration("turn_immediate_dies");
    let dying = migration.again().environment("TIDEGATE_CRASH_AT", at);
    let mut engine = dying.start_streaming();
    let mut asking = dying.begin("cutover", &IMMEDIATE);
    wait_until(&format!("the engine dies at {at}"), PATIENCE, || engine.ended().is_some());
    asking.kill9();
    let mut engine = migration.start_flowing();
    if migration.run("cutover", &IMMEDIATE).code != Some(0) {
        // It was undone, and nothing of it is left.
        migration.run("cutover", &IMMEDIATE).expect_code(0);
    }
    both_stream(&migration, &mut engine);
    engine.kill9();
    migration.source.sql("UPDATE item SET name = 'source' WHERE id = 1");
    migration.target.sql("UPDATE item SET name = 'target' WHERE id = 1");
    let mut engine = migration.start();
    let told = settled(&migration, &mut engine);
    assert_eq!(keys(&told), BTreeSet::from(["public.item 1".to_owned()]), "after {at}");
    migration.assert_equal();
    engine.stop();
}

#[test]
fn a_process_that_dies_before_the_other_side_is_open_leaves_a_turn_that_can_be_made() {
    ["arm_feed:inside", "verify_rounds:done", "record_turning:after", "turn:before"].iter().for_each(|at| dies_at(at));
}

#[test]
fn a_process_that_dies_once_both_sides_are_open_judges_changes_when_it_comes_back() {
    [
        "turn:inside",
        "turn:after",
        "flow_both_ways:before",
        "flow_both_ways:after",
        "follow:before",
        "conflict_report:after",
    ]
    .iter()
    .for_each(|at| dies_at(at));
}
