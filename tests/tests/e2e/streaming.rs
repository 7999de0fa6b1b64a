//! Transactions that the source sends before they are committed, and transactions that overlap.

use tidegate_testkit::wait::{PATIENCE, wait_until};
use tidegate_testkit::{Migration, Session};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, body text)";

fn rows(from: u32, until: u32) -> String {
    format!("INSERT INTO t SELECT i, repeat(md5(i::text), 40) FROM generate_series({from}, {until}) i")
}

#[test]
fn a_savepoint_rolled_back_in_a_streamed_transaction_leaves_505_rows() {
    let migration = Migration::new("savepoint");
    migration.both(TABLE);
    let engine = migration.start_streaming();
    let streamed = "SELECT sum(stream_txns) FROM pg_stat_replication_slots WHERE slot_name = '";
    migration.source.sql(&format!(
        "BEGIN; {}; SAVEPOINT a; {}; ROLLBACK TO a; {}; COMMIT",
        rows(1, 500),
        rows(501, 1000),
        rows(2001, 2005)
    ));
    migration.drain();
    assert_eq!(migration.target.number("SELECT count(*) FROM t"), 505);
    migration.assert_equal();
    engine.stop();
    // Otherwise this tested something else.
    wait_until("the server counts a streamed transaction", PATIENCE, || {
        migration.source.number(&format!("{streamed}{}'", migration.slot())) >= 1
    });
}

#[test]
fn nested_savepoints_of_a_streamed_transaction_roll_back_exactly_their_own_rows() {
    let migration = Migration::new("nested");
    migration.both(TABLE);
    let engine = migration.start_streaming();
    migration.source.sql(&format!(
        "BEGIN; {}; SAVEPOINT a; {}; SAVEPOINT b; {}; RELEASE b; SAVEPOINT c; {}; ROLLBACK TO c; {}; RELEASE a;
         SAVEPOINT d; {}; SAVEPOINT e; {}; ROLLBACK TO d; UPDATE t SET body = 'u' WHERE id % 10 = 0; COMMIT",
        rows(1, 300),
        rows(301, 600),
        rows(601, 900),
        rows(901, 1200),
        rows(1201, 1500),
        rows(1501, 1800),
        rows(1801, 2100)
    ));
    migration.drain();
    assert_eq!(migration.target.number("SELECT count(*) FROM t"), 1200);
    migration.assert_equal();
    engine.stop();
}

#[test]
fn interleaved_streamed_transactions_arrive_in_commit_order() {
    let migration = Migration::new("interleaved");
    migration.both(TABLE);
    let engine = migration.start_streaming();
    let mut first = Session::open(&migration.source);
    let mut second = Session::open(&migration.source);
    let mut rolled_back = Session::open(&migration.source);
    for session in [&mut first, &mut second, &mut rolled_back] {
        session.sql("BEGIN");
    }
    for round in 0..5 {
        first.sql(&rows(round * 100, round * 100 + 99));
        second.sql(&rows(10_000 + round * 100, 10_000 + round * 100 + 99));
        rolled_back.sql(&rows(20_000 + round * 100, 20_000 + round * 100 + 99));
    }
    migration.source.sql("INSERT INTO t VALUES (-1, 'commits first')");
    second.sql("COMMIT");
    migration.source.sql("UPDATE t SET body = 'second is there' WHERE id = 10000");
    rolled_back.sql("ROLLBACK");
    first.sql("COMMIT");
    migration.drain();
    assert_eq!(migration.target.number("SELECT count(*) FROM t"), 1001);
    migration.assert_equal();
    engine.stop();
}

#[test]
fn a_transaction_that_spans_the_commit_of_another_is_neither_lost_nor_repeated_by_a_restart() {
    let migration = Migration::new("spanning");
    migration.both(TABLE);
    let mut engine = migration.start_streaming();
    let mut spanning = Session::open(&migration.source);
    spanning.sql("BEGIN; INSERT INTO t VALUES (1, 'begins first')");
    migration.source.sql("INSERT INTO t VALUES (2, 'begins later, commits first')");
    migration.drain();
    // The restart resumes after a commit that is later than the begin of the open transaction.
    engine.kill9();
    spanning.sql("INSERT INTO t VALUES (3, 'after the other commit')");
    spanning.sql("COMMIT");
    let engine = migration.start_streaming();
    migration.drain();
    assert_eq!(migration.target.sql("SELECT id FROM t ORDER BY id"), "1\n2\n3");
    migration.assert_equal();
    engine.stop();
}

#[test]
fn a_spooled_transaction_survives_a_kill_of_the_engine() {
    let migration = Migration::new("spooled").options(["--memory-budget=1MiB", "--batch-bytes-max=256KiB"]);
    migration.both(TABLE);
    let mut engine = migration.start_streaming();
    let mut writer = Session::open(&migration.source);
    writer.sql("BEGIN");
    writer.sql(&rows(1, 4000));
    engine.kill9();
    writer.sql(&rows(4001, 6000));
    writer.sql("COMMIT");
    let engine = migration.start_streaming();
    migration.drain();
    assert_eq!(migration.target.number("SELECT count(*) FROM t"), 6000);
    migration.assert_equal();
    engine.stop();
}
