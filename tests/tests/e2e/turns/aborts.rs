//! Undoing a turn: possible until it was sent, and never after.

use tidegate_testkit::wait::{PATIENCE, wait_until};
use tidegate_testkit::{Cockroach, Engine, Migration, source_server};

/// A migration to a CockroachDB of its own, which the test kills.
fn to_mortal(topic: &str) -> (std::sync::Arc<Cockroach>, Migration) {
    let server = Cockroach::start();
    let migration = super::with_tables(Migration::between(&source_server(), &server, topic));
    (server, migration)
}

fn crashing(migration: &Migration, at: &str) -> (Migration, Engine) {
    let crashing = migration.again().environment("TIDEGATE_CRASH_AT", at);
    let engine = crashing.start_flowing();
    (crashing, engine)
}

#[test]
fn the_source_is_unfenced_alone_where_the_target_died_before_the_turn() {
    let (target, migration) = to_mortal("turn_alone");
    let (_crashing, mut engine) = crashing(&migration, "marker:before");
    let mut turning = migration.again().environment("TIDEGATE_CRASH_AT", "marker:before").begin("cutover", &["--yes"]);
    wait_until("the engine died behind the fence", PATIENCE, || engine.ended().is_some());
    turning.kill9();
    assert!(migration.source.try_sql("INSERT INTO item VALUES (100, 'refused')").is_err());
    target.kill9();
    migration.run("cutover", &["--abort"]).expect_code(0);
    migration.source.sql("INSERT INTO item VALUES (101, 'open again')");
    let nothing = migration.run("cutover", &["--abort"]).expect_code(1);
    assert!(nothing.says("CT033"), "{}", nothing.stderr);
    target.start_again();
    let engine = migration.start_streaming();
    migration.drain();
    migration.assert_equal();
    migration.run("cutover", &["--yes"]).expect_code(0);
    engine.stop();
}

#[test]
fn nothing_is_unfenced_alone_once_the_turn_may_have_been_sent() {
    let (target, migration) = to_mortal("turn_sent");
    let (_crashing, mut engine) = crashing(&migration, "turn:after");
    let mut turning = migration.again().environment("TIDEGATE_CRASH_AT", "turn:after").begin("cutover", &["--yes"]);
    wait_until("the engine died behind the turn", PATIENCE, || engine.ended().is_some());
    turning.kill9();
    target.kill9();
    let unknown = migration.run("cutover", &["--abort"]).expect_code(1);
    assert!(unknown.says("CT031"), "{}", unknown.stderr);
    assert!(migration.source.try_sql("INSERT INTO item VALUES (100, 'refused')").is_err());
    target.start_again();
    let never = migration.run("cutover", &["--abort"]).expect_code(1);
    assert!(never.says("CT030"), "{}", never.stderr);
    migration.target.sql("INSERT INTO item VALUES (102, 'the target is open')");
    let engine = migration.start();
    migration.run("cutover", &["--yes"]).expect_code(0);
    migration.run("verify", &[]).expect_code(0);
    assert_eq!(migration.source.sql("SELECT count(*) FROM item WHERE id = 102"), "1");
    engine.stop();
}

#[test]
fn a_turn_that_was_recorded_and_not_sent_is_refused_at_the_target_first() {
    let (_target, migration) = to_mortal("turn_refuse");
    let (_crashing, mut engine) = crashing(&migration, "turn:before");
    let mut turning = migration.again().environment("TIDEGATE_CRASH_AT", "turn:before").begin("cutover", &["--yes"]);
    wait_until("the engine died before the turn", PATIENCE, || engine.ended().is_some());
    turning.kill9();
    migration.run("cutover", &["--abort"]).expect_code(0);
    assert!(migration.target.sql("SELECT turning FROM tidegate.migration").starts_with("aborted 2.1"));
    migration.source.sql("INSERT INTO item VALUES (103, 'open again')");
    let engine = migration.start_streaming();
    migration.drain();
    migration.assert_equal();
    engine.stop();
}

#[test]
fn an_abort_reaches_a_turn_that_runs() {
    let migration = super::turning("turn_abort");
    let mut engine = migration.start_streaming();
    let mut turning = migration.begin("cutover", &["--yes", "--on-fence", "sleep 5"]);
    turning.wait_for_log("on_fence", PATIENCE);
    wait_until("the hook runs", PATIENCE, || {
        migration.source.sql("SELECT state FROM tidegate.cutover_step WHERE step = 'on_fence'") == "begun"
    });
    migration.run("cutover", &["--abort"]).expect_code(0);
    let told = turning.wait(PATIENCE).expect_code(1);
    assert!(told.says("aborted"), "{}", told.stderr);
    migration.source.sql("INSERT INTO item VALUES (104, 'open')");
    engine.assert_running();
    migration.drain();
    migration.assert_equal();
    engine.stop();
}

#[test]
fn an_abort_runs_the_command_that_the_turn_was_begun_with() {
    let migration = super::turning("turn_abort_hook");
    let (_crashing, mut engine) = crashing(&migration, "marker:before");
    let dying = migration.again().environment("TIDEGATE_CRASH_AT", "marker:before");
    let mut turning = dying.begin("cutover", &["--yes", "--on-abort", "echo as it was begun"]);
    wait_until("the engine died behind the fence", PATIENCE, || engine.ended().is_some());
    turning.kill9();
    migration.run("cutover", &["--abort"]).expect_code(0);
    let said = migration.source.sql("SELECT detail->>'printed' FROM tidegate.cutover_step WHERE step = 'on_abort'");
    assert_eq!(said.trim(), "as it was begun");
    migration.source.sql("INSERT INTO item VALUES (105, 'open again')");
}
