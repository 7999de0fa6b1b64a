//! What somebody else does to the publication, or to the tables in it: no gap stays unseen.

use tidegate_testkit::Migration;
use tidegate_testkit::wait::PATIENCE;

const TABLES: &str = "
    CREATE TABLE t (id int PRIMARY KEY);
    CREATE TABLE part (id int PRIMARY KEY) PARTITION BY RANGE (id);
    CREATE TABLE low PARTITION OF part FOR VALUES FROM (0) TO (10);
    CREATE TABLE high PARTITION OF part FOR VALUES FROM (10) TO (20);";

fn streamed_once(topic: &str) -> Migration {
    let migration = Migration::new(topic);
    migration.both(TABLES);
    migration.source.sql("INSERT INTO t VALUES (1); INSERT INTO part VALUES (5), (15)");
    migration.start_streaming().stop();
    migration
}

/// Writes a row while the table is not published.
fn hide_a_row(migration: &Migration) {
    let publication = migration.slot();
    migration.source.sql(&format!("ALTER PUBLICATION {publication} DROP TABLE t"));
    migration.source.sql("INSERT INTO t VALUES (2)");
    migration.source.sql(&format!("ALTER PUBLICATION {publication} ADD TABLE t"));
}

#[test]
fn a_table_that_left_the_publication_for_a_while_is_refused_until_it_is_copied_again() {
    let migration = streamed_once("put_back");
    hide_a_row(&migration);
    let refused = migration.migrate_to_its_end(&[]).expect_code(1);
    assert_eq!(refused.error_code().as_deref(), Some("PG043"));
    migration.run("drain", &[]).expect_code(1);

    let mut engine = migration.start_with(&["--recopy", "public.t"]);
    migration.wait_state(&mut engine, "streaming");
    migration.drain();
    migration.assert_equal();
    // From here on the publication is as it should be.
    engine.stop();
    migration.start_streaming().stop();
}

#[test]
fn a_running_stream_stops_when_its_publication_left_out_a_table() {
    let migration = streamed_once("put_back_live");
    let mut engine = migration.start_streaming();
    hide_a_row(&migration);
    assert_eq!(engine.wait(PATIENCE).expect_code(3).error_code().as_deref(), Some("PG043"));
}

#[test]
fn a_dropped_partition_is_shown_and_stops_nothing() {
    let migration = streamed_once("dropped");
    let engine = migration.start_streaming();
    migration.source.sql("DROP TABLE low; INSERT INTO part VALUES (16)");
    migration.drain();
    engine.stop();
    let mut engine = migration.start_streaming();
    tidegate_testkit::wait::wait_until("the dropped table is shown", PATIENCE, || {
        migration.status()["streams"][0]["dropped"].as_array().is_some_and(|dropped| dropped.len() == 1)
    });
    migration.source.sql("INSERT INTO part VALUES (17)");
    migration.drain();
    engine.assert_running();
    assert_eq!(migration.target.number("SELECT count(*) FROM high"), 3);
    engine.stop();
}

#[test]
fn a_table_created_again_is_not_called_drained_until_it_is_copied_again() {
    let migration = streamed_once("replaced");
    migration.source.sql("DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (7)");
    migration.run("drain", &[]).expect_code(1);
    let mut engine = migration.start_with(&["--recopy", "public.t"]);
    migration.wait_state(&mut engine, "streaming");
    migration.source.sql("INSERT INTO t VALUES (8)");
    migration.drain();
    migration.assert_equal();
    engine.stop();
}

#[test]
fn a_table_that_appears_later_is_named_by_drain_and_joins_when_told() {
    let migration = streamed_once("later");
    migration.both("CREATE TABLE later (id int PRIMARY KEY)");
    migration.source.sql("INSERT INTO later VALUES (1)");
    let drained = migration.run("drain", &["--json"]).expect_code(0);
    assert_eq!(drained.json()["not_carried"], serde_json::json!(["public.later"]));

    let mut engine = migration.start_with(&["--recopy", "public.later"]);
    migration.wait_state(&mut engine, "streaming");
    migration.source.sql("INSERT INTO later VALUES (2)");
    migration.drain();
    migration.assert_equal();
    assert_eq!(migration.target.number("SELECT count(*) FROM later"), 2);
    engine.stop();
}
