//! The copy, while the source is written, its tables are rewritten, and things die.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tidegate_testkit::random::{Random, seed};
use tidegate_testkit::wait::{PATIENCE, wait_until};
use tidegate_testkit::{Database, Engine, Migration, Proxy, source_server};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, n int, body text)";
const ROWS: &str = "INSERT INTO t SELECT i, 0, repeat(md5(i::text), 20) FROM generate_series(1, 20000) i";

/// Slow enough that there is a middle to do something in.
const SLOW_BYTES_PER_SECOND: u64 = 1_500_000;

fn slow_migration(topic: &str) -> (Proxy, Migration) {
    let proxy = Proxy::start(source_server().port());
    proxy.throttle(Some(SLOW_BYTES_PER_SECOND));
    let migration =
        Migration::new(topic).source_via(&proxy).options(["--copy-chunk-bytes=256KiB", "--copy-lock-yield=1s"]);
    (proxy, migration)
}

fn wait_for_the_middle_of_the_copy(migration: &Migration, engine: &mut Engine, table: &str) {
    wait_until(&format!("some of {table} is copied"), PATIENCE, || {
        engine.assert_running();
        let query = format!("SELECT count(*) FROM {table}");
        migration.target.try_sql(&query).is_ok_and(|count| count != "0")
    });
}

fn finish(migration: &Migration, mut engine: Engine, proxy: &Proxy) {
    proxy.throttle(None);
    migration.wait_state(&mut engine, "streaming");
    migration.drain();
    migration.assert_equal();
    engine.stop();
}

/// Moves, deletes and re-inserts random keys until told to stop.
fn write_randomly(database: &Database, seed: u64, stop: &AtomicBool) {
    let mut random = Random::seeded(seed);
    while !stop.load(Ordering::Relaxed) {
        let mut script = String::new();
        for _ in 0..20 {
            let (id, new) = (random.below(20_000) + 1, random.below(20_000) + 20_001);
            script.push_str(&match random.below(5) {
                0 => format!("UPDATE t SET n = n + 1 WHERE id = {id};"),
                1 => {
                    format!("UPDATE t SET id = {new} WHERE id = {id} AND NOT EXISTS (SELECT FROM t WHERE id = {new});")
                }
                2 => format!("DELETE FROM t WHERE id = {id};"),
                3 => format!("INSERT INTO t VALUES ({id}, -1, 'again') ON CONFLICT DO NOTHING;"),
                _ => format!(
                    "BEGIN; DELETE FROM t WHERE id = {id}; INSERT INTO t VALUES ({id}, -2, 'anew');
                    UPDATE t SET n = -3 WHERE id = {id}; COMMIT;"
                ),
            });
        }
        database.sql(&script);
    }
}

#[test]
fn keys_moved_deleted_and_inserted_again_while_copying_end_equal() {
    let seed = seed();
    let (proxy, migration) = slow_migration("copy_writes");
    migration.both(TABLE);
    migration.source.sql(ROWS);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| write_randomly(&migration.source, seed, &stop));
        let mut engine = migration.start();
        wait_for_the_middle_of_the_copy(&migration, &mut engine, "t");
        std::thread::sleep(Duration::from_millis(1500));
        proxy.throttle(None);
        migration.wait_state(&mut engine, "streaming");
        stop.store(true, Ordering::Relaxed);
        engine.assert_running();
        migration.drain();
        engine.stop();
    });
    migration.assert_equal();
}

/// Does something that needs a stronger lock in the middle of the copy, and checks that it did not wait long for us.
fn survives_in_the_middle(topic: &str, command: &str) {
    let (proxy, migration) = slow_migration(topic);
    migration.both(TABLE);
    migration.source.sql(ROWS);
    let mut engine = migration.start();
    wait_for_the_middle_of_the_copy(&migration, &mut engine, "t");
    let began = Instant::now();
    migration.source.sql(command);
    let waited = began.elapsed();
    // The lock is looked for each second and let go after copy_lock_yield, which is a second here.
    assert!(waited < Duration::from_secs(6), "{command} waited {waited:?}");
    migration.source.sql("INSERT INTO t VALUES (900001, 1, 'after')");
    finish(&migration, engine, &proxy);
}

#[test]
fn vacuum_full_in_the_middle_of_the_copy_loses_and_doubles_nothing() {
    survives_in_the_middle("vacuum_full", "VACUUM FULL t");
}

#[test]
fn cluster_in_the_middle_of_the_copy_loses_and_doubles_nothing() {
    survives_in_the_middle("cluster", "CLUSTER t USING t_pkey");
}

#[test]
fn truncate_in_the_middle_of_the_copy_leaves_nothing_behind() {
    survives_in_the_middle("truncate", "TRUNCATE t");
}

#[test]
fn a_terminated_snapshot_is_replaced() {
    let (proxy, migration) = slow_migration("snapshot_gone");
    migration.both(TABLE);
    migration.source.sql(ROWS);
    let mut engine = migration.start();
    wait_for_the_middle_of_the_copy(&migration, &mut engine, "t");
    let ended = migration.source.number(&format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'tidegate/{}/%'",
        migration.name
    ));
    assert!(ended > 0, "no session of the engine was there to end");
    migration.source.sql("UPDATE t SET n = 5 WHERE id < 100; DELETE FROM t WHERE id > 19900");
    finish(&migration, engine, &proxy);
}

#[test]
fn a_copy_killed_in_the_middle_reads_finished_tables_only_once() {
    let (proxy, migration) = slow_migration("copy_killed");
    migration.both(TABLE);
    migration.both("CREATE TABLE small (id int PRIMARY KEY, n int)");
    migration.source.sql(ROWS);
    migration.source.sql("INSERT INTO small SELECT i, i FROM generate_series(1, 50) i");
    let copied = "SELECT count(*) FROM tidegate.copy_table WHERE state = 'copied' AND source_table LIKE '%small%'";
    for _ in 0..3 {
        let mut engine = migration.start();
        wait_until("the small table is finished", PATIENCE, || {
            engine.assert_running();
            migration.target.try_sql(copied).is_ok_and(|count| count == "1")
        });
        wait_for_the_middle_of_the_copy(&migration, &mut engine, "t");
        engine.kill9();
        migration.source.sql("UPDATE small SET n = n + 1; UPDATE t SET n = n + 1 WHERE id % 1000 = 0");
    }
    let engine = migration.start();
    finish(&migration, engine, &proxy);
    let copies = "SELECT copies FROM tidegate.copy_table WHERE source_table LIKE ";
    assert_eq!(migration.target.number(&format!("{copies}'%small%'")), 1, "a finished table was read again");
    assert!(migration.target.number(&format!("{copies}'%.t%'")) > 1, "the copy was not interrupted");
}

#[test]
fn a_type_changed_in_the_middle_of_the_copy_stops_it_and_recopy_repairs_it() {
    let (proxy, migration) = slow_migration("alter_type");
    migration.both(TABLE);
    migration.source.sql(ROWS);
    let mut engine = migration.start();
    wait_for_the_middle_of_the_copy(&migration, &mut engine, "t");
    migration.source.sql("ALTER TABLE t ALTER n TYPE bigint; INSERT INTO t VALUES (50000, 3000000000, 'large')");
    proxy.throttle(None);
    let stopped = engine.wait(PATIENCE).expect_code(3);
    assert!(stopped.error_code().is_some() && stopped.says("public.t"), "{}", stopped.stderr);
    drop(engine);
    migration.target.sql("ALTER TABLE t ALTER n TYPE bigint");
    let mut engine = migration.start_with(&["--recopy", "public.t"]);
    migration.wait_state(&mut engine, "streaming");
    migration.source.sql("UPDATE t SET n = n + 1");
    migration.drain();
    migration.assert_equal();
    engine.stop();
}

#[test]
fn columns_of_other_types_are_copied_through_text() {
    let migration = Migration::new("copy_types");
    migration.source.sql("CREATE TABLE t (id int PRIMARY KEY, n int, v varchar(10), d numeric(6,2))");
    migration.target.sql("CREATE TABLE t (id bigint PRIMARY KEY, n numeric, v text, d numeric(8,2))");
    migration.source.sql("INSERT INTO t SELECT i, i, 'v' || i, i / 7.0 FROM generate_series(1, 500) i");
    let engine = migration.start_streaming();
    migration.source.sql("UPDATE t SET n = 5, v = 'x' WHERE id = 1; INSERT INTO t VALUES (1000, NULL, NULL, 1)");
    migration.drain();
    migration.assert_equal();
    engine.stop();
}

#[test]
fn imported_data_are_taken_as_they_are_from_their_position_on() {
    let migration = Migration::new("no_copy");
    migration.both(TABLE);
    let slot = migration.slot();
    migration.source.sql("INSERT INTO t VALUES (1, 1, 'imported')");
    migration.source.sql(&format!("CREATE PUBLICATION {slot} FOR TABLE t"));
    let start =
        migration.source.sql(&format!("SELECT lsn FROM pg_create_logical_replication_slot('{slot}', 'pgoutput')"));
    migration.target.sql("INSERT INTO t VALUES (1, 1, 'imported')");
    migration.source.sql("INSERT INTO t VALUES (2, 2, 'later'); UPDATE t SET n = 5 WHERE id = 1");
    let mut engine = migration.start_with(&["--no-copy", "--start-at", &start]);
    migration.wait_state(&mut engine, "streaming");
    migration.drain();
    migration.assert_equal();
    engine.stop();
    // Started again without the options, it goes on.
    migration.source.sql("INSERT INTO t VALUES (3, 3, 'after')");
    let engine = migration.start_streaming();
    migration.drain();
    migration.assert_equal();
    engine.stop();
}

#[test]
fn a_start_that_the_slot_does_not_reach_back_to_is_refused() {
    let migration = Migration::new("no_copy_gap");
    migration.both(TABLE);
    let before = migration.source.sql("SELECT pg_current_wal_lsn()");
    migration.source.sql("INSERT INTO t VALUES (1, 1, 'missed')");
    let slot = migration.slot();
    migration.source.sql(&format!("CREATE PUBLICATION {slot} FOR TABLE t"));
    migration.source.sql(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"));
    let refused = migration.migrate_to_its_end(&["--no-copy", "--start-at", &before]).expect_code(1);
    assert!(refused.says(&slot), "{}", refused.stderr);
}
