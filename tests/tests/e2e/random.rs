//! Random transactions over tables with unique values and foreign keys.

use tidegate_testkit::random::{Random, seed};
use tidegate_testkit::{Migration, Proxy, target_server};

const TABLES: &str = "
    CREATE TABLE parent (id int PRIMARY KEY, code int UNIQUE, body text);
    CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE, n int,
    slot int UNIQUE);
    CREATE TABLE bag (a int, b text);
    ALTER TABLE parent ALTER body SET STORAGE EXTERNAL;
    ALTER TABLE bag REPLICA IDENTITY FULL";

/// Returns one statement. It may fail at the source, by a key that is taken for instance: then it did nothing.
fn statement(random: &mut Random) -> String {
    let (a, b, c) = (random.below(12), random.below(12), random.below(12));
    match random.below(14) {
        0 | 1 => format!("INSERT INTO parent VALUES ({a}, {b}, repeat('{c}', {}))", 100 + 3000 * (c % 2)),
        2 => format!("UPDATE parent SET code = {b} WHERE id = {a}"),
        3 => format!("UPDATE parent SET id = {b} WHERE id = {a}"),
        4 => format!("UPDATE parent SET body = repeat('{c}', 3000) WHERE id = {a}"),
        5 => format!("DELETE FROM parent WHERE id = {a}"),
        6 | 7 => format!("INSERT INTO child VALUES ({a}, {b}, 0, {c})"),
        8 => format!("UPDATE child SET parent = {b}, n = n + 1 WHERE id = {a}"),
        9 => format!("UPDATE child SET id = {b}, slot = NULL WHERE id = {a}"),
        10 => format!("UPDATE child SET slot = {b} WHERE id = {a}"),
        11 => format!("INSERT INTO bag SELECT {a}, '{b}' FROM generate_series(1, {})", 1 + c % 3),
        12 => format!("UPDATE bag SET b = '{b}' WHERE ctid = (SELECT min(ctid) FROM bag WHERE a = {a})"),
        _ => format!("DELETE FROM bag WHERE ctid = (SELECT max(ctid) FROM bag WHERE a = {a})"),
    }
}

fn transactions(random: &mut Random, count: u32) -> String {
    // A statement that fails does not end the script, and ends no transaction: psql rolls back to before it.
    let mut script = String::from("\\set ON_ERROR_STOP off\n\\set ON_ERROR_ROLLBACK on\n\\set VERBOSITY terse\n");
    for _ in 0..count {
        script.push_str("BEGIN;\n");
        for _ in 0..=random.below(8) {
            script.push_str(&format!("{};\n", statement(random)));
        }
        script.push_str(if random.below(10) == 0 { "ROLLBACK;\n" } else { "COMMIT;\n" });
    }
    script
}

fn random_transactions_arrive(topic: &str, options: &[&str]) {
    let mut random = Random::seeded(seed());
    let proxy = Proxy::start(target_server().port());
    let migration = Migration::new(topic).target_via(&proxy);
    migration.both(TABLES);
    let mut engine = migration.start_with(options);
    migration.wait_state(&mut engine, "streaming");
    for _ in 0..4 {
        proxy.pause();
        migration.source.sql(&transactions(&mut random, 150));
        proxy.resume();
        engine.assert_running();
        migration.drain();
        migration.assert_equal();
    }
    engine.stop();
}

#[test]
fn random_transactions_arrive_folded() {
    random_transactions_arrive("random_folded", &[]);
}

#[test]
fn random_transactions_arrive_in_small_batches() {
    random_transactions_arrive("random_small", &["--batch-transactions-max=4"]);
}
