//! Two-phase commit at the source. Servers of their own: a slot waits for every transaction of its cluster.

use tidegate_testkit::wait::{PATIENCE, wait_until};
use tidegate_testkit::{Migration, Session, start_server, target_server};
use tidegate_throwaway::Server;

#[test]
fn a_transaction_prepared_before_and_committed_after_the_start_arrives_once() {
    let source = start_server(Server::builder());
    let migration = Migration::on(&source, &target_server(), "prepared");
    migration.both("CREATE TABLE t (id int PRIMARY KEY, n int)");
    migration.source.sql("INSERT INTO t VALUES (1, 1)");
    migration
        .source
        .sql("BEGIN; INSERT INTO t VALUES (2, 2); UPDATE t SET n = 5 WHERE id = 1; PREPARE TRANSACTION 'orphan_7'");
    let mut engine = migration.start();
    // The slot cannot be made before that transaction ends, and the user is told which one it is.
    wait_until("the engine names the prepared transaction", PATIENCE, || {
        engine.assert_running();
        engine.log().contains("orphan_7") || engine.stdout().contains("orphan_7")
    });
    migration.source.sql("COMMIT PREPARED 'orphan_7'");
    migration.wait_state(&mut engine, "streaming");
    migration
        .source
        .sql("BEGIN; INSERT INTO t VALUES (3, 3); PREPARE TRANSACTION 'second'; INSERT INTO t VALUES (4, 4)");
    migration.drain();
    engine.kill9();
    migration.source.sql("COMMIT PREPARED 'second'");
    migration.source.sql("BEGIN; INSERT INTO t VALUES (5, 5); PREPARE TRANSACTION 'third'; ROLLBACK PREPARED 'third'");
    let engine = migration.start_streaming();
    migration.drain();
    assert_eq!(migration.target.sql("SELECT id FROM t ORDER BY 1"), "1\n2\n3\n4");
    migration.assert_equal();
    engine.stop();
}

#[test]
fn a_start_killed_while_its_slot_waits_leaves_nothing_that_blocks_the_next() {
    let source = start_server(Server::builder());
    let migration = Migration::on(&source, &target_server(), "slot_waits");
    migration.both("CREATE TABLE t (id int PRIMARY KEY)");
    migration.source.sql("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'blocker'");
    let mut open = Session::open(&migration.source);
    let pid = open.sql("SELECT pg_backend_pid()");
    open.sql("BEGIN; INSERT INTO t VALUES (2)");
    for _ in 0..2 {
        let mut engine = migration.start();
        wait_until("the engine names what it waits for", PATIENCE, || {
            engine.assert_running();
            let told = engine.log() + &engine.stdout();
            told.contains("blocker") && told.contains(&pid)
        });
        engine.kill9();
    }
    let mut engine = migration.start();
    open.sql("COMMIT");
    migration.source.sql("COMMIT PREPARED 'blocker'");
    migration.wait_state(&mut engine, "streaming");
    migration.drain();
    migration.assert_equal();
    engine.stop();
}
