//! The reverse stream of a migration that runs both ways: what it forbids, how it is repaired, how its end is told.

use tidegate_testkit::wait::{PATIENCE, wait_until};
use tidegate_testkit::{Engine, Migration};

const TABLES: &str = "CREATE TABLE t (id INT8 PRIMARY KEY, n INT8); CREATE TABLE u (id INT8 PRIMARY KEY)";

fn both_streaming(migration: &Migration, engine: &mut Engine) {
    wait_until("both streams run", PATIENCE, || {
        engine.assert_running();
        migration.states() == ["streaming", "streaming"]
    });
}

fn started(topic: &str) -> (Migration, Engine) {
    let migration = Migration::to_cockroach(topic);
    migration.both(TABLES);
    migration.source.sql("INSERT INTO t VALUES (1, 1), (2, 2)");
    let mut engine = migration.start_with(&["--direction=both"]);
    both_streaming(&migration, &mut engine);
    (migration, engine)
}

#[test]
fn tables_that_the_way_back_reads_are_not_emptied_unless_it_begins_anew() {
    let (migration, engine) = started("crdb_back_recopy");
    engine.stop();
    migration.target.sql("INSERT INTO t VALUES (3, 3)");
    for flag in ["--recopy=public.t", "--recreate-slot"] {
        let refused = migration.migrate_to_its_end(&[flag]).expect_code(1);
        assert_eq!(refused.error_code().as_deref(), Some("MI030"), "{}", refused.stderr);
        assert!(refused.says("--restart-reverse"), "{}", refused.stderr);
    }
    assert_eq!(migration.target.number("SELECT count(*) FROM t"), 3);

    // Given up: the row that only the target has.
    let mut engine = migration.start_with(&["--recopy=public.t", "--restart-reverse"]);
    both_streaming(&migration, &mut engine);
    migration.target.sql("INSERT INTO t VALUES (4, 4); UPDATE t SET n = 20 WHERE id = 2");
    migration.source.sql("INSERT INTO t VALUES (5, 5)");
    wait_until("both sides are equal", PATIENCE, || {
        let rows = "SELECT id, n FROM t ORDER BY id";
        let expected = "1|1\n2|20\n4|4\n5|5";
        migration.source.sql(rows) == expected && migration.target.sql(rows) == expected
    });
    engine.stop();
    let mut engine = migration.start_with(&["--recreate-slot", "--restart-reverse"]);
    both_streaming(&migration, &mut engine);
    migration.assert_equal();
    engine.stop();
}

#[test]
fn a_reverse_stream_that_stopped_says_what_repairs_it_and_is_repaired_by_that() {
    let (migration, mut engine) = started("crdb_back_stopped");
    migration.target.sql("TRUNCATE u");
    let stopped = engine.wait(PATIENCE).expect_code(3);
    assert_eq!(stopped.error_code().as_deref(), Some("CR023"), "{}", stopped.stderr);
    assert!(stopped.says("at the target") && stopped.says("--restart-reverse"), "{}", stopped.stderr);
    let error = stopped.stderr.split("error[").nth(1).unwrap_or_default();
    assert!(!error.contains("--recreate-slot") && !error.contains("--recopy"), "{error}");
    let told = migration.status()["error"]["next"].to_string();
    assert!(told.contains("--restart-reverse"), "{told}");

    let mut engine = migration.start_with(&["--restart-reverse"]);
    both_streaming(&migration, &mut engine);
    migration.target.sql("INSERT INTO u VALUES (7)");
    wait_until("the row came back", PATIENCE, || migration.source.sql("SELECT id FROM u") == "7");
    engine.stop();
}

#[test]
fn what_the_target_cannot_hold_exactly_is_not_written_back() {
    let migration = Migration::to_cockroach("crdb_back_lossy");
    // JSON keeps its text at the source, and only its meaning at the target.
    migration.source.sql("CREATE TABLE t (id INT8 PRIMARY KEY, doc JSON, n INT8)");
    migration.target.sql("CREATE TABLE t (id INT8 PRIMARY KEY, doc JSONB, n INT8)");
    let document = r#"{"b":1,   "a":1.50, "a":2}"#;
    migration.source.sql(&format!("INSERT INTO t VALUES (1, '{document}', 1), (2, '{document}', 2)"));
    let mut engine = migration.start_with(&["--direction=both"]);
    both_streaming(&migration, &mut engine);
    migration.target.sql("UPDATE t SET n = 10 WHERE id = 1");
    migration.target.sql(r#"UPDATE t SET doc = '{"c": 3}' WHERE id = 2"#);
    wait_until("the updates came back", PATIENCE, || {
        migration.source.sql("SELECT count(*) FROM t WHERE n = 10 OR doc::TEXT LIKE '%c%'") == "2"
    });
    assert_eq!(migration.source.sql("SELECT doc FROM t WHERE id = 1"), document);
    assert_eq!(migration.source.sql("SELECT n FROM t WHERE id = 2"), "2");
    engine.stop();
}

#[test]
fn a_reverse_stream_that_reads_postgres_begins_anew_too() {
    let migration = Migration::from_cockroach("crdb_back_postgres");
    migration.both(TABLES);
    migration.source.sql("INSERT INTO t VALUES (1, 1)");
    let mut engine = migration.start_with(&["--direction=both"]);
    both_streaming(&migration, &mut engine);
    engine.stop();
    // Given up.
    migration.target.sql("INSERT INTO t VALUES (2, 2)");
    let mut engine = migration.start_with(&["--restart-reverse"]);
    both_streaming(&migration, &mut engine);
    migration.target.sql("INSERT INTO t VALUES (3, 3)");
    wait_until("the row came back", PATIENCE, || migration.source.sql("SELECT id FROM t ORDER BY id") == "1\n3");
    engine.stop();
}

#[test]
fn a_reverse_stream_that_never_was_cannot_begin_anew() {
    let migration = Migration::to_cockroach("crdb_back_none");
    migration.both(TABLES);
    let refused = migration.migrate_to_its_end(&["--restart-reverse"]).expect_code(1);
    assert_eq!(refused.error_code().as_deref(), Some("MI031"), "{}", refused.stderr);
}
