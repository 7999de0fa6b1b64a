//! CockroachDB to PostgreSQL.

use tidegate_testkit::wait::{PATIENCE, wait_until};
use tidegate_testkit::{Cockroach, Engine, Migration, Proxy, target_server};

use super::zoo;

const TABLE: &str = "CREATE TABLE t (id INT8 PRIMARY KEY, n INT4, note TEXT)";

fn carries_the_zoo(topic: &str, options: &[&str]) {
    let migration = Migration::from_cockroach(topic);
    zoo::populate(&migration);
    let start = || -> Engine {
        let mut engine = migration.start_with(options);
        migration.wait_state(&mut engine, "streaming");
        engine
    };
    let mut engine = start();
    migration.drain();
    migration.assert_equal();
    zoo::change(&migration.source, 1);
    zoo::churn(&migration.source, 20);
    migration.drain();
    migration.assert_equal();
    engine.kill9();
    zoo::change(&migration.source, 2);
    let engine = start();
    zoo::change(&migration.source, 3);
    engine.stop();
    let engine = start();
    zoo::churn(&migration.source, 20);
    migration.drain();
    migration.assert_equal();
    engine.stop();
}

#[test]
fn every_type_and_shape_of_table_arrives_folded_and_across_restarts() {
    carries_the_zoo("from_crdb_zoo", &[]);
}

#[test]
fn every_type_and_shape_of_table_arrives_one_transaction_at_a_time() {
    carries_the_zoo("from_crdb_single", &["--batch-transactions-max=1"]);
}

#[test]
fn a_feed_that_repeats_reorders_and_breaks_off_loses_and_doubles_nothing() {
    let server = Cockroach::start();
    // A feed that never lives until its next resolved timestamp gets nowhere, as with a real server: so not too often.
    for (knob, value) in [("duplicates", "0.3"), ("reorder", "true"), ("drop_connections", "5000")] {
        server.knob(knob, value);
    }
    let migration = Migration::between(&server, &target_server(), "crdb_faults");
    zoo::populate(&migration);
    let engine = migration.start_streaming();
    for round in 1..4 {
        zoo::change(&migration.source, round);
        zoo::churn(&migration.source, 20);
    }
    migration.drain();
    migration.assert_equal();
    engine.stop();
}

#[test]
fn a_window_larger_than_memory_is_spooled_and_arrives() {
    let migration = Migration::from_cockroach("crdb_window").options(["--memory-budget=1MiB"]);
    migration.both(TABLE);
    let engine = migration.start_streaming();
    migration.source.sql(
        "INSERT INTO t SELECT i, i, repeat('x', 500) FROM generate_series(1, 20000) AS g (i);
         UPDATE t SET n = -n WHERE id % 2 = 0; DELETE FROM t WHERE id % 3 = 0",
    );
    migration.drain();
    assert_eq!(migration.target.number("SELECT count(*) FROM t"), 20_000 - 20_000 / 3);
    migration.assert_equal();
    engine.stop();
}

#[test]
fn rows_written_while_the_copy_reads_are_neither_lost_nor_doubled() {
    let proxy = Proxy::start(tidegate_testkit::cockroach_server().port());
    proxy.throttle(Some(300_000));
    let migration = Migration::from_cockroach("crdb_overlap").source_via(&proxy).options(["--copy-chunk-bytes=128KiB"]);
    migration.both(&format!("{TABLE}; CREATE TABLE log (n INT4)"));
    migration.source.sql("INSERT INTO t SELECT i, 0, repeat('x', 200) FROM generate_series(1, 8000) AS g (i)");
    let mut engine = migration.start();
    let copying = "SELECT count(*) > 0 FROM tidegate.copy_table WHERE state = 'copying'";
    wait_until("the copy is under way", PATIENCE, || {
        engine.assert_running();
        migration.target.try_sql(copying).is_ok_and(|answer| answer == "t")
    });
    migration.source.sql("UPDATE t SET n = 1 WHERE id % 5 = 0; INSERT INTO log VALUES (1), (1)");
    engine.kill9();
    migration.source.sql("DELETE FROM t WHERE id % 7 = 0; INSERT INTO log VALUES (2); UPDATE t SET n = 2 WHERE id = 5");
    proxy.throttle(None);
    let engine = migration.start_streaming();
    migration.drain();
    migration.assert_equal();
    engine.stop();
}

#[test]
fn tables_are_read_in_ranges_of_any_key_and_copied_again() {
    let migration = Migration::from_cockroach("crdb_ranges").options(["--copy-chunk-bytes=16KiB"]);
    migration.both(
        "CREATE TABLE t (a TEXT, at TIMESTAMPTZ, n INT4, note TEXT, PRIMARY KEY (at, a)); CREATE TABLE bag (n INT4);
         CREATE TABLE lone (id INT8 PRIMARY KEY)",
    );
    migration.source.sql(
        "INSERT INTO t SELECT 'k' || (i % 7)::TEXT, '2020-01-01'::TIMESTAMPTZ + (i / 7) * '1 second'::INTERVAL, i, 'x'
           FROM generate_series(1, 6000) AS g (i);
         INSERT INTO bag SELECT 1 FROM generate_series(1, 5000) AS g (i);
         INSERT INTO lone SELECT i FROM generate_series(1, 5000) AS g (i)",
    );
    let engine = migration.start_streaming();
    migration.drain();
    migration.assert_equal();
    engine.stop();
    migration.target.sql("DELETE FROM t WHERE n % 2 = 0; DELETE FROM bag");
    let mut engine = migration.start_with(&["--recopy=public.t", "--recopy=public.bag"]);
    migration.wait_state(&mut engine, "streaming");
    migration.source.sql("DELETE FROM t WHERE n % 1000 = 1; INSERT INTO lone VALUES (-1)");
    migration.drain();
    migration.assert_equal();
    engine.stop();
}

#[test]
fn an_idle_source_moves_the_checkpoint() {
    let migration = Migration::from_cockroach("crdb_idle").options(["--idle-checkpoint-every=200ms"]);
    migration.both(TABLE);
    let engine = migration.start_streaming();
    let position = || migration.target.sql("SELECT position FROM tidegate.checkpoint");
    let before = position();
    assert!(before.starts_with("cockroach:"), "{before}");
    wait_until("the checkpoint moves", PATIENCE, || position() != before);
    engine.stop();
}

#[test]
fn what_was_committed_while_the_engine_was_away_arrives() {
    let migration = Migration::from_cockroach("crdb_away");
    migration.both(TABLE);
    migration.start_streaming().stop();
    migration.source.sql("INSERT INTO t VALUES (1, 1, 'x'), (2, 2, 'y'); DELETE FROM t WHERE id = 1");
    // Without an engine the command does the work itself.
    migration.drain();
    migration.assert_equal();
    migration.source.sql("INSERT INTO t VALUES (3, 3, 'z')");
    let engine = migration.start_streaming();
    migration.drain();
    migration.assert_equal();
    engine.stop();
}
