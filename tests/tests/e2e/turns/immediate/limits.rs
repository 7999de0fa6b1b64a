//! What an immediate cutover refuses, what constraints do to it, and how it ends.

use std::collections::BTreeSet;

use tidegate_testkit::Migration;
use tidegate_testkit::wait::{PATIENCE, wait_until};

use super::{IMMEDIATE, both_open, both_stream, keys, migration, settled};

#[test]
fn what_the_targets_constraints_refuse_of_the_sources_changes_is_a_conflict() {
    let migration = Migration::to_cockroach("turn_immediate_keys");
    let parent = "CREATE TABLE parent (id INT8 PRIMARY KEY, mail TEXT UNIQUE)";
    let child = "CREATE TABLE child (id INT8 PRIMARY KEY, parent INT8 NOT NULL REFERENCES parent (id)";
    migration.source.sql(&format!(
        "{parent}; {child} ON DELETE CASCADE);
         ALTER TABLE parent REPLICA IDENTITY FULL; ALTER TABLE child REPLICA IDENTITY FULL;
         INSERT INTO parent SELECT i, 'mail ' || i FROM generate_series(1, 9) AS g (i);
         INSERT INTO child SELECT i, i FROM generate_series(1, 9) AS g (i)"
    ));
    migration.target.sql(&format!("{parent}; {child})"));
    both_open(&migration);
    // Nobody else: the cascade removes the parent first, and a value is freed and taken in one transaction.
    migration.source.sql("DELETE FROM parent WHERE id = 1");
    migration.source.sql(
        "BEGIN; UPDATE parent SET mail = 'x' WHERE id = 2; UPDATE parent SET mail = 'mail 2' WHERE id = 3; COMMIT",
    );
    migration.target.sql(
        "BEGIN; UPDATE parent SET mail = 'y' WHERE id = 4; UPDATE parent SET mail = 'mail 4' WHERE id = 5; COMMIT",
    );
    // Of both: a child of a parent that goes, a child of one that has gone, a value that both take.
    migration.source.sql("DELETE FROM parent WHERE id = 6");
    migration.target.sql("INSERT INTO child VALUES (60, 6)");
    migration.source.sql("INSERT INTO child VALUES (70, 7)");
    migration.target.sql("BEGIN; DELETE FROM child WHERE id = 7; DELETE FROM parent WHERE id = 7; COMMIT");
    migration.source.sql("INSERT INTO parent VALUES (80, 'same')");
    let mut engine = migration.start();
    let told = settled(&migration, &mut engine);
    let known: BTreeSet<String> = ["public.parent 6", "public.child 70"].map(str::to_owned).into();
    assert_eq!(keys(&told), known, "{told:#?}");
    assert_eq!(migration.target.sql("SELECT count(*) FROM parent WHERE mail IN ('x', 'y', 'same')"), "3");
    assert_eq!(migration.target.sql("SELECT count(*) FROM child WHERE id IN (6, 60)"), "1");
    migration.assert_equal();
    engine.stop();
}

#[test]
fn what_cannot_be_judged_is_refused_beforehand() {
    let migration = super::super::turning("turn_immediate_refused");
    let engine = migration.start_streaming();
    let loud = migration.run("cutover", &["--yes", "--immediate"]).expect_code(1);
    assert!(loud.says("CT021") && loud.says("CT024"), "{}", loud.stderr);
    let refused = migration.run("cutover", &IMMEDIATE).expect_code(1);
    assert!(refused.says("CT024") && refused.says("public.item"), "{}", refused.stderr);
    assert_eq!(migration.status()["phase"], "initial");
    // Nothing of it stays: a turn with a fence goes as ever.
    migration.run("cutover", &["--yes"]).expect_code(0);
    let refused = migration.run("failback", &IMMEDIATE).expect_code(1);
    assert!(refused.says("CT023"), "{}", refused.stderr);
    engine.stop();
}

/// Whoever asks for a turn with a fence gets one, or is told that there is another kind to go on with.
#[test]
fn a_turn_with_a_fence_does_not_go_on_with_one_without() {
    let migration = migration("turn_immediate_kinds");
    let dying = migration.again().environment("TIDEGATE_CRASH_AT", "verify_rounds:done");
    let mut engine = dying.start_streaming();
    let mut asking = dying.begin("cutover", &IMMEDIATE);
    wait_until("the engine dies", PATIENCE, || engine.ended().is_some());
    asking.kill9();
    let refused = migration.run("cutover", &["--yes"]).expect_code(1);
    assert!(refused.says("CT003") && refused.says("immediate"), "{}", refused.stderr);
    assert_eq!(migration.target.sql("SELECT generation FROM tidegate.migration"), "1");
    migration.run("cutover", &["--abort"]).expect_code(0);
    migration.run("cutover", &["--yes"]).expect_code(0);
    migration.source.try_sql("INSERT INTO item (id) VALUES (1000)").expect_err("the source is closed");
}

#[test]
fn while_both_sides_are_open_nothing_turns_and_finish_ends_it() {
    let migration = migration("turn_immediate_ends");
    let mut engine = migration.start_streaming();
    migration.run("cutover", &IMMEDIATE).expect_code(0);
    both_stream(&migration, &mut engine);
    let refused = migration.run("failback", &["--yes"]).expect_code(1);
    assert!(refused.says("CT025"), "{}", refused.stderr);
    migration.source.sql("UPDATE item SET name = 'from the source' WHERE id = 7");
    migration.target.sql("UPDATE item SET name = 'from the target' WHERE id = 8");
    migration.run("finish", &["--yes"]).expect_code(0);
    engine.wait(PATIENCE).expect_code(0);
    migration.assert_equal();
    assert_eq!(conflict_tables(&migration), 0);
}

fn conflict_tables(migration: &Migration) -> i64 {
    [&migration.source, &migration.target]
        .map(|database| database.number("SELECT count(*) FROM pg_catalog.pg_class WHERE relname = 'conflict'"))
        .iter()
        .sum()
}

#[test]
fn both_sides_hand_out_different_values_also_of_a_sequence_that_nobody_has_used() {
    let migration = Migration::to_cockroach("turn_immediate_sequence");
    migration.both("CREATE TABLE item (id INT8 PRIMARY KEY, name TEXT); CREATE SEQUENCE unused");
    migration.source.sql("ALTER TABLE item REPLICA IDENTITY FULL");
    both_open(&migration);
    let next = |database: &tidegate_testkit::Database| database.number("SELECT nextval('unused')");
    assert_eq!(next(&migration.source), 1);
    assert!(next(&migration.target) > 1000, "the margin of a turn lies between them");
}
