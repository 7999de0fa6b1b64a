//! An immediate cutover: both sides are open, of two changes of one row the target's stays, and every such row is told.

mod deaths;
mod limits;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate_testkit::wait::{PATIENCE, wait_until};
use tidegate_testkit::wire::Wire;
use tidegate_testkit::{Database, Engine, Migration};

const TABLES: &str = "
    CREATE TABLE item (id INT8 PRIMARY KEY, name TEXT, amount NUMERIC, doc JSONB);
    CREATE TABLE pair (a INT4, b TEXT, v TEXT, PRIMARY KEY (a, b));
    CREATE TABLE tag (code TEXT PRIMARY KEY, v TEXT)";
const IDENTITIES: &str = "ALTER TABLE item REPLICA IDENTITY FULL; ALTER TABLE pair REPLICA IDENTITY FULL;
    ALTER TABLE tag REPLICA IDENTITY FULL";
const ROWS: &str = "
    INSERT INTO item SELECT i, 'item ' || i, 1.5, '{\"b\": 1.0, \"a\": [1, 2]}' FROM generate_series(1, 50) AS g (i);
    INSERT INTO pair SELECT i, 'y', 'pair' FROM generate_series(1, 10) AS g (i);
    INSERT INTO tag VALUES ('a \"quoted\" ü', 'tag'), ('plain', 'tag')";
const IMMEDIATE: [&str; 4] = ["--yes", "--immediate", "--accept", "CT021"];

/// A migration whose tables tell the row before each change.
fn migration(topic: &str) -> Migration {
    let migration = Migration::to_cockroach(topic);
    migration.both(TABLES);
    migration.source.sql(IDENTITIES);
    migration.source.sql(ROWS);
    migration
}

fn both_stream(migration: &Migration, engine: &mut Engine) {
    wait_until("both streams are streaming", PATIENCE, || {
        engine.assert_running();
        migration.states() == ["streaming", "streaming"]
    });
}

/// Opens both sides, and ends the process: what is written from here on to both sides meets when it runs again.
fn both_open(migration: &Migration) {
    let mut engine = migration.start_streaming();
    migration.run("cutover", &IMMEDIATE).expect_code(0);
    both_stream(migration, &mut engine);
    migration.drain();
    engine.kill9();
}

/// Waits until both sides have everything, and every row that collided was looked at again.
fn settled(migration: &Migration, engine: &mut Engine) -> Vec<Value> {
    both_stream(migration, engine);
    migration.drain();
    wait_until("conflicts are settled", PATIENCE, || {
        engine.assert_running();
        conflicts(migration).iter().all(|conflict| conflict["settled"] == true)
    });
    conflicts(migration)
}

fn conflicts(migration: &Migration) -> Vec<Value> {
    let status = migration.run("status", &["--conflicts", "--json"]).json();
    status["conflicts"].as_array().cloned().expect("conflicts were asked for")
}

/// Table and key of each conflict.
fn keys(conflicts: &[Value]) -> BTreeSet<String> {
    let key = |conflict: &Value| {
        let key = conflict["key"].as_object().expect("a key has columns");
        let values: Vec<&str> = key.values().filter_map(Value::as_str).collect();
        format!("{} {}", conflict["table"].as_str().unwrap_or_default(), values.join("/"))
    };
    conflicts.iter().map(key).collect()
}

/// Changes of ten rows by both sides, and of others by one of them, and the keys of the ten.
fn seed(migration: &Migration) -> BTreeSet<String> {
    // One statement a transaction, but for rows that are changed more than once in one.
    for sql in [
        "UPDATE item SET name = 'source' WHERE id = 1",
        "UPDATE item SET amount = 2 WHERE id = 2",
        "DELETE FROM item WHERE id = 3",
        "BEGIN; UPDATE item SET name = 's1' WHERE id = 4; UPDATE item SET name = 's2' WHERE id = 4;
         DELETE FROM item WHERE id = 4; INSERT INTO item VALUES (4, 's3', 0, '{}'); COMMIT",
        "UPDATE item SET id = 1005 WHERE id = 5",
        "INSERT INTO item VALUES (1000, 'source', 1, '{}')",
        "UPDATE pair SET v = 'source' WHERE a = 1",
        "DELETE FROM pair WHERE a = 2",
        "UPDATE tag SET v = 'source' WHERE code = 'a \"quoted\" ü'",
        "INSERT INTO tag VALUES ('new', 'source')",
        // Nobody else changes these.
        "UPDATE item SET name = 'alone' WHERE id BETWEEN 10 AND 19",
        "UPDATE item SET doc = '{\"a\": [1, 2], \"b\": 1.00, \"c\": null}' WHERE id = 10",
        "INSERT INTO item VALUES (2000, 'alone', 1, '{}')",
        "DELETE FROM pair WHERE a = 9",
        // What the other side makes of these is the same in other words.
        "UPDATE item SET amount = 1.50 WHERE id = 30",
        "UPDATE item SET doc = '{\"a\": [1, 2], \"b\": 1.00}' WHERE id = 31",
    ] {
        migration.source.sql(sql);
    }
    for sql in [
        "UPDATE item SET name = 'target' WHERE id = 1",
        "DELETE FROM item WHERE id = 2",
        "UPDATE item SET name = 'target' WHERE id = 3",
        "UPDATE item SET name = 'target' WHERE id = 4",
        "UPDATE item SET name = 'target' WHERE id = 5",
        "INSERT INTO item VALUES (1000, 'target', 2, NULL)",
        "UPDATE pair SET v = 'target' WHERE a = 1",
        "UPDATE pair SET v = 'target' WHERE a = 2",
        "UPDATE tag SET v = 'target' WHERE code = 'a \"quoted\" ü'",
        "INSERT INTO tag VALUES ('new', 'target')",
        "UPDATE item SET name = 'alone', amount = 3.5 WHERE id BETWEEN 20 AND 29",
        "INSERT INTO item VALUES (3000, 'alone', 1, '{}')",
        "DELETE FROM pair WHERE a = 10",
        "UPDATE item SET amount = 1.500 WHERE id = 30",
        "UPDATE item SET doc = '{\"b\": 1.000, \"a\": [1, 2]}' WHERE id = 31",
    ] {
        migration.target.sql(sql);
    }
    let items = [1, 2, 3, 4, 5, 1000].map(|id| format!("public.item {id}"));
    let others = ["public.pair 1/y", "public.pair 2/y", "public.tag a \"quoted\" ü", "public.tag new"];
    items.into_iter().chain(others.map(str::to_owned)).collect()
}

fn assert_kept(migration: &Migration) {
    let target = |sql| migration.target.sql(sql);
    assert_eq!(target("SELECT count(*) FROM item WHERE id IN (1, 3, 4, 5, 1000) AND name = 'target'"), "5");
    assert_eq!(target("SELECT count(*) FROM item WHERE id = 2"), "0");
    assert_eq!(target("SELECT count(*) FROM pair WHERE v = 'target'"), "2");
    assert_eq!(target("SELECT count(*) FROM tag WHERE v = 'target'"), "2");
    assert_eq!(target("SELECT count(*) FROM item WHERE id IN (1005, 2000) OR name = 'alone'"), "23");
    // Of what means the same each side has the other's words. One more change of them is no conflict either.
    migration.source.sql("UPDATE item SET amount = 1, doc = '{}' WHERE id IN (30, 31)");
    migration.drain();
    assert_eq!(keys(&conflicts(migration)).len(), 10);
    migration.assert_equal();
}

#[test]
fn exactly_the_ten_rows_that_both_sides_changed_are_told_and_both_end_with_the_targets() {
    let migration = migration("turn_immediate");
    both_open(&migration);
    let ten = seed(&migration);
    let mut engine = migration.start();
    let told = settled(&migration, &mut engine);
    assert_eq!(keys(&told), ten);
    for conflict in &told {
        assert_eq!(conflict["kept"], "target", "{conflict}");
        for side in ["source", "target"] {
            assert!(conflict[side].as_array().is_some_and(|places| !places.is_empty()), "{conflict}");
        }
    }
    assert_kept(&migration);
    migration.run("verify", &[]).expect_code(0);
    let shown = migration.run("status", &["--conflicts"]).expect_code(0);
    assert_eq!(shown.stdout.matches("  conflict: ").count(), 10, "{}", shown.stdout);
    // The certificate is shown again to whoever asks again, and says what it does not prove.
    let certificate = migration.run("cutover", &IMMEDIATE).expect_code(0);
    assert!(certificate.says("IMMEDIATE"), "{}", certificate.stdout);
    engine.stop();
}

#[test]
fn a_row_that_was_changed_and_changed_back_is_the_same_on_both_sides_in_the_end() {
    let migration = migration("turn_immediate_back");
    both_open(&migration);
    let change = |database: &Database, id: u32, names: &[&str]| {
        for name in names {
            database.sql(&format!("UPDATE item SET name = '{name}' WHERE id = {id}"));
        }
    };
    let (source, target) = (&migration.source, &migration.target);
    // The source's change finds what it expects, although the target was there in between.
    change(source, 1, &["source"]);
    change(target, 1, &["target", "item 1"]);
    // Both go the same way, and one goes on.
    change(source, 2, &["paid", "sent"]);
    change(target, 2, &["paid"]);
    change(source, 3, &["paid", "item 3"]);
    change(target, 3, &["paid"]);
    // A row comes and goes at the target while the source has one of that key.
    source.sql("INSERT INTO tag VALUES ('guest', 'source')");
    target.sql("INSERT INTO tag VALUES ('guest', 'target')");
    target.sql("DELETE FROM tag WHERE code = 'guest'");
    let mut engine = migration.start();
    let told = settled(&migration, &mut engine);
    let known: BTreeSet<String> =
        ["public.item 1", "public.item 2", "public.item 3", "public.tag guest"].map(str::to_owned).into();
    assert_eq!(keys(&told), known);
    migration.assert_equal();
    engine.stop();
}

/// Writes few rows over and over, with few values: what one side does is often what the other one has just done.
fn scribble(database: &Database, seed: u64, until: Instant) {
    let session = Wire::connect(database).expect("a session for the writer");
    let mut state = seed;
    let mut number = |below: u64| {
        // Numbers of a linear congruential generator, the upper bits of which are good enough here.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    while Instant::now() < until {
        let (id, value) = (number(6), number(3));
        let sql = match number(6) {
            0 => format!("DELETE FROM pair WHERE a = {id}"),
            1 | 2 => format!("INSERT INTO pair VALUES ({id}, 'r', '{value}') ON CONFLICT (a, b) DO NOTHING"),
            _ => format!("UPDATE pair SET v = '{value}' WHERE a = {id} AND b = 'r'"),
        };
        // CockroachDB ends transactions that collide.
        let _ = session.run(&sql);
    }
}

#[test]
fn whatever_both_sides_write_to_the_same_rows_they_are_equal_in_the_end() {
    let migration = migration("turn_immediate_random");
    both_open(&migration);
    let mut engine = migration.start();
    both_stream(&migration, &mut engine);
    for round in 0..2 {
        let until = Instant::now() + Duration::from_secs(2);
        std::thread::scope(|scope| {
            for (number, database) in [&migration.source, &migration.target].into_iter().enumerate() {
                let seed = 10 * round + number as u64 + 1;
                scope.spawn(move || scribble(database, seed, until));
            }
        });
        if round == 0 {
            engine.kill9();
            engine = migration.start();
        }
    }
    assert!(!settled(&migration, &mut engine).is_empty(), "writers of six rows never collided");
    migration.run("verify", &[]).expect_code(0);
    migration.assert_equal();
    engine.stop();
}
