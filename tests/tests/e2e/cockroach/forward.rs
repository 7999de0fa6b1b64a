//! PostgreSQL to CockroachDB.

use tidegate_testkit::wait::{PATIENCE, wait_until};
use tidegate_testkit::{Engine, Fault, Migration, Proxy, Session, cockroach_server};

use super::zoo;

const TABLE: &str = "CREATE TABLE t (id INT8 PRIMARY KEY, n INT4, note TEXT)";

/// Migrates the zoo with changes before, during and after restarts.
fn carries_the_zoo(topic: &str, options: &[&str]) {
    let migration = Migration::to_cockroach(topic);
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
    carries_the_zoo("crdb_zoo", &[]);
}

#[test]
fn every_type_and_shape_of_table_arrives_one_transaction_at_a_time() {
    carries_the_zoo("crdb_zoo_single", &["--batch-transactions-max=1"]);
}

#[test]
fn changes_that_pile_up_are_folded_into_what_cockroach_accepts() {
    let proxy = Proxy::start(cockroach_server().port());
    let migration = Migration::to_cockroach("crdb_piled").target_via(&proxy);
    zoo::populate(&migration);
    let engine = migration.start_streaming();
    for round in 1..4 {
        proxy.pause();
        zoo::change(&migration.source, round);
        zoo::churn(&migration.source, 10);
        proxy.resume();
        migration.drain();
        migration.assert_equal();
    }
    engine.stop();
}

#[test]
fn truncate_arrives_as_delete_when_told_to() {
    let migration = Migration::to_cockroach("crdb_truncate").options(["--truncate-as=delete"]);
    migration.both(TABLE);
    migration.source.sql("INSERT INTO t SELECT i, i, 'x' FROM generate_series(1, 500) i");
    let engine = migration.start_streaming();
    migration.source.sql("BEGIN; TRUNCATE t; INSERT INTO t VALUES (1000, 1, 'after'); COMMIT");
    migration.drain();
    migration.assert_equal();
    engine.stop();
}

#[test]
fn a_table_of_more_rows_than_a_commit_may_have_is_copied_in_pieces_and_copied_again() {
    let migration = Migration::to_cockroach("crdb_pieces");
    migration.both("CREATE TABLE t (a TEXT, b INT8, n INT4, PRIMARY KEY (a, b)); CREATE TABLE bag (n INT4)");
    migration.source.sql(
        "ALTER TABLE bag REPLICA IDENTITY FULL; INSERT INTO bag SELECT 1 FROM generate_series(1, 21000);
         INSERT INTO t SELECT 'k' || i % 7, i, i FROM generate_series(1, 50000) i",
    );
    let engine = migration.start_streaming();
    migration.source.sql("UPDATE t SET n = -1 WHERE b % 100 = 0");
    migration.drain();
    migration.assert_equal();
    engine.stop();
    migration.target.sql("UPDATE t SET n = 7 WHERE b < 100; DELETE FROM t WHERE b > 49000; DELETE FROM bag");
    let mut engine = migration.start_with(&["--recopy=public.t", "--recopy=public.bag"]);
    migration.wait_state(&mut engine, "streaming");
    migration.source.sql("DELETE FROM t WHERE b % 1000 = 1");
    migration.drain();
    migration.assert_equal();
    engine.stop();
}

#[test]
fn a_commit_whose_answer_was_lost_is_applied_once() {
    let proxy = Proxy::start(cockroach_server().port());
    let migration = Migration::to_cockroach("crdb_lost").target_via(&proxy);
    migration.both("CREATE TABLE log (n INT4)");
    migration.source.sql("ALTER TABLE log REPLICA IDENTITY FULL");
    let engine = migration.start_streaming();
    for (round, fault) in [Fault::LoseCommitAnswer, Fault::CutBeforeCommit].into_iter().cycle().take(6).enumerate() {
        let struck = proxy.sprung();
        proxy.arm(fault, "apply", 0);
        migration.source.sql(&format!("INSERT INTO log VALUES ({round})"));
        proxy.wait_sprung(struck + 1);
    }
    migration.drain();
    migration.assert_equal();
    engine.stop();
}

#[test]
fn a_second_engine_waits_for_the_first_one_to_go() {
    let migration = Migration::to_cockroach("crdb_owner");
    migration.both(TABLE);
    let mut first = migration.start_streaming();
    migration.source.sql("INSERT INTO t VALUES (1, 1, 'x')");
    let mut second = migration.start_with(&["--take-over"]);
    // Displaced by the other one.
    assert_eq!(first.wait(PATIENCE).code, Some(3), "{}", first.log());
    migration.wait_state(&mut second, "streaming");
    migration.source.sql("INSERT INTO t VALUES (2, 1, 'x')");
    migration.drain();
    migration.assert_equal();
    second.kill9();
    // Its process is gone, and this is its host: nothing to wait for.
    let third = migration.start_streaming();
    migration.source.sql("INSERT INTO t VALUES (3, 1, 'x')");
    migration.drain();
    migration.assert_equal();
    third.stop();
}

#[test]
fn rows_that_were_there_before_are_refused_and_kept() {
    let migration = Migration::to_cockroach("crdb_filled");
    migration.both(TABLE);
    migration.source.sql("INSERT INTO t VALUES (1, 1, 'source')");
    migration.target.sql("INSERT INTO t VALUES (2, 2, 'target')");
    let refused = migration.migrate_to_its_end(&[]).expect_code(1);
    assert!(refused.error_code().is_some(), "{}", refused.stderr);
    assert_eq!(migration.target.sql("SELECT id FROM t"), "2");
}

#[test]
fn foreign_keys_are_enforced_again_once_the_stream_runs() {
    let migration = Migration::to_cockroach("crdb_keys_back");
    migration.both(
        "CREATE TABLE parent (id INT8 PRIMARY KEY);
         CREATE TABLE child (id INT8 PRIMARY KEY, parent INT8,
            CONSTRAINT child_parent FOREIGN KEY (parent) REFERENCES parent (id))",
    );
    migration.source.sql("INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1, 1)");
    let engine = migration.start_streaming();
    let refused = migration.target.try_sql("INSERT INTO child VALUES (2, 99)").expect_err("there is no parent 99");
    assert!(refused.to_string().contains("child_parent"), "{refused}");
    engine.stop();
}

#[test]
fn a_long_transaction_at_the_source_holds_nothing_up() {
    let migration = Migration::to_cockroach("crdb_long");
    migration.both(TABLE);
    let engine = migration.start_streaming();
    let mut open = Session::open(&migration.source);
    open.sql("BEGIN; INSERT INTO t VALUES (1, 1, 'begins first')");
    migration.source.sql("INSERT INTO t VALUES (2, 2, 'commits first')");
    wait_until("the later one is there", PATIENCE, || migration.target.sql("SELECT id FROM t") == "2");
    open.sql("COMMIT");
    migration.drain();
    migration.assert_equal();
    engine.stop();
}
