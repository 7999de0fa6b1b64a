//! A turn closes one side and opens the other, and loses no write.

mod aborts;
mod finish;
mod immediate;
mod restarts;
mod scenarios;
mod writers;

use tidegate_testkit::Migration;

const TABLES: &str = "CREATE TABLE item (id INT8 PRIMARY KEY, name TEXT); CREATE TABLE bag (n INT4)";

fn turning(topic: &str) -> Migration {
    with_tables(Migration::to_cockroach(topic))
}

fn with_tables(migration: Migration) -> Migration {
    migration.both(TABLES);
    migration.source.only_postgres("ALTER TABLE bag REPLICA IDENTITY FULL");
    migration
        .source
        .sql("INSERT INTO item SELECT i, 'item' FROM generate_series(1, 100) AS g (i); INSERT INTO bag VALUES (1)");
    migration
}

#[test]
fn cutover_and_failback_close_one_side_and_open_the_other() {
    let migration = turning("turn_round");
    let mut engine = migration.start_streaming();
    migration.source.sql("UPDATE item SET name = 'before' WHERE id <= 10");
    let early = migration.run("failback", &["--yes"]).expect_code(1);
    assert!(early.says("CT002"), "{}", early.stderr);
    let plan = migration.run("cutover", &["--plan-only"]).expect_code(0);
    assert!(plan.says("open the target"), "{}", plan.stdout);
    let turned = migration.run("cutover", &["--yes"]).expect_code(0);
    assert!(turned.says("certificate of cutover 2.1"), "{}", turned.stdout);
    engine.assert_running();
    let refused = migration.source.try_sql("INSERT INTO item VALUES (1000, 'late')").expect_err("the source is closed");
    assert!(refused.to_string().contains("application has moved"), "{refused}");
    migration.target.sql("INSERT INTO item VALUES (2000, 'at the target'); UPDATE bag SET n = 2");
    migration.run("verify", &[]).expect_code(0);
    let back = migration.run("failback", &["--yes"]).expect_code(0);
    assert!(back.says("certificate of failback 3.1"), "{}", back.stdout);
    assert_eq!(migration.source.sql("SELECT name FROM item WHERE id = 2000"), "at the target");
    migration.source.sql("INSERT INTO item VALUES (3000, 'at the source again')");
    migration.run("verify", &[]).expect_code(0);
    engine.assert_running();
    migration.assert_equal();
    engine.stop();
}
