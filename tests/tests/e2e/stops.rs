//! What stops a running stream: at the exact place, with exit code 3, and the target is left consistent.

use tidegate_testkit::wait::PATIENCE;
use tidegate_testkit::{Engine, Migration};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, n int, body text)";
/// Stored out of line, so that updates of other columns do not send it.
const ROWS: &str = "ALTER TABLE t ALTER body SET STORAGE EXTERNAL;
    INSERT INTO t SELECT i, 0, repeat(md5(i::text), 200) FROM generate_series(1, 5) i";

fn started(topic: &str) -> (Migration, Engine) {
    let migration = Migration::new(topic);
    migration.both(TABLE);
    migration.source.sql(ROWS);
    let engine = migration.start_streaming();
    (migration, engine)
}

#[test]
fn an_update_of_a_row_missing_at_the_target_names_its_key_and_inserts_nothing() {
    let (migration, mut engine) = started("missing_row");
    migration.target.sql("DELETE FROM t WHERE id = 3");
    migration
        .source
        .sql("UPDATE t SET n = 1 WHERE id = 1; UPDATE t SET n = 1 WHERE id = 3; UPDATE t SET n = 1 WHERE id = 5");
    let stopped = engine.wait(PATIENCE).expect_code(3);
    assert!(stopped.says("public.t") && stopped.says("id") && stopped.says("3"), "{}", stopped.stderr);
    assert_eq!(migration.target.sql("SELECT id, n FROM t ORDER BY id"), "1|1\n2|0\n4|0\n5|0");
    let status = migration.run("status", &["--json"]).expect_code(1).json();
    assert!(status["error"]["code"].is_string() && status["error"]["next"].is_string(), "{status}");
    // Put right by hand, it goes on.
    migration.target.sql("INSERT INTO t SELECT 3, 0, repeat(md5('3'), 200)");
    let engine = migration.start_streaming();
    migration.drain();
    migration.assert_equal();
    engine.stop();
}

#[test]
fn a_delete_of_a_row_missing_at_the_target_stops_the_stream() {
    let (migration, mut engine) = started("missing_delete");
    migration.target.sql("DELETE FROM t WHERE id = 2");
    migration.source.sql("DELETE FROM t WHERE id = 2");
    engine.wait(PATIENCE).expect_code(3);
}

#[test]
fn an_insert_that_the_target_already_has_stops_the_stream_and_changes_nothing() {
    let (migration, mut engine) = started("extra_row");
    migration.target.sql("INSERT INTO t VALUES (9, 99, 'not ours')");
    migration.source.sql("BEGIN; INSERT INTO t VALUES (8, 8, 'x'), (9, 9, 'x'); COMMIT");
    let stopped = engine.wait(PATIENCE).expect_code(3);
    assert!(stopped.says("public.t"), "{}", stopped.stderr);
    assert_eq!(migration.target.sql("SELECT n FROM t WHERE id IN (8, 9)"), "99");
}

#[test]
fn a_row_that_the_targets_constraint_refuses_stops_at_that_row() {
    let (migration, mut engine) = started("constraint");
    migration.target.sql("ALTER TABLE t ADD CHECK (n < 100)");
    migration
        .source
        .sql("UPDATE t SET n = 5 WHERE id = 1; UPDATE t SET n = 500 WHERE id = 2; UPDATE t SET n = 7 WHERE id = 3");
    let stopped = engine.wait(PATIENCE).expect_code(3);
    assert!(stopped.says("t_n_check") || stopped.says("check constraint"), "{}", stopped.stderr);
    // Everything before it is there, nothing after it.
    assert_eq!(migration.target.sql("SELECT n FROM t WHERE id <= 3 ORDER BY id"), "5\n0\n0");
}

#[test]
fn a_changed_table_definition_stops_the_stream_before_the_first_row_of_it() {
    let (migration, mut engine) = started("definition");
    migration.source.sql(
        "INSERT INTO t VALUES (20, 1, 'before'); ALTER TABLE t ADD extra int; INSERT INTO t VALUES (21, 1, 'after', 1)",
    );
    let stopped = engine.wait(PATIENCE).expect_code(3);
    assert!(stopped.says("extra"), "{}", stopped.stderr);
    assert_eq!(migration.target.sql("SELECT id FROM t WHERE id >= 20"), "20");
}
