//! Random transactions over tables with unique values and foreign keys, between every pair of kinds.

use tidegate_testkit::random::{Random, seed};
use tidegate_testkit::{Migration, Proxy};

/// Cascades work at the source: what they change there is changed at the target by the stream.
const TABLES: &str = "
    CREATE TABLE parent (id INT4 PRIMARY KEY, code INT4 UNIQUE, body TEXT);
    CREATE TABLE child (id INT4 PRIMARY KEY, parent INT4, n INT4, slot INT4 UNIQUE,
        CONSTRAINT child_parent FOREIGN KEY (parent) REFERENCES parent (id) {actions});
    CREATE TABLE bag (a INT4, b TEXT)";
const ACTIONS: &str = "ON DELETE CASCADE ON UPDATE CASCADE";

fn create_tables(migration: &Migration) {
    migration.source.sql(&TABLES.replace("{actions}", ACTIONS));
    // Nothing can keep CockroachDB from acting by itself while the stream writes.
    let acts = migration.target.cockroach().is_none();
    migration.target.sql(&TABLES.replace("{actions}", if acts { ACTIONS } else { "" }));
    migration
        .source
        .only_postgres("ALTER TABLE parent ALTER body SET STORAGE EXTERNAL; ALTER TABLE bag REPLICA IDENTITY FULL");
}

/// Returns one statement. It may fail at the source, by a key that is taken for instance: then it did nothing.
fn statement(random: &mut Random, migration: &Migration) -> String {
    // Where one of several equal rows is.
    let place = if migration.source.cockroach().is_some() { "rowid" } else { "ctid" };
    // The key of a row to which others refer cannot change on CockroachDB before they do, nor they before it.
    let key_changes = migration.target.cockroach().is_none();
    let (a, b, c) = (random.below(12), random.below(12), random.below(12));
    match random.below(14) {
        0 | 1 => format!("INSERT INTO parent VALUES ({a}, {b}, repeat('{c}', {}))", 100 + 3000 * (c % 2)),
        2 => format!("UPDATE parent SET code = {b} WHERE id = {a}"),
        3 if key_changes => format!("UPDATE parent SET id = {b} WHERE id = {a}"),
        3 => format!("UPDATE parent SET id = {b} WHERE id = {a} AND id NOT IN (SELECT parent FROM child)"),
        4 => format!("UPDATE parent SET body = repeat('{c}', 3000) WHERE id = {a}"),
        5 => format!("DELETE FROM parent WHERE id = {a}"),
        6 | 7 => format!("INSERT INTO child VALUES ({a}, {b}, 0, {c})"),
        8 => format!("UPDATE child SET parent = {b}, n = n + 1 WHERE id = {a}"),
        9 => format!("UPDATE child SET id = {b}, slot = NULL WHERE id = {a}"),
        10 => format!("UPDATE child SET slot = {b} WHERE id = {a}"),
        11 => format!("INSERT INTO bag SELECT {a}, '{b}' FROM generate_series(1, {}) AS g (i)", 1 + c % 3),
        12 => format!("UPDATE bag SET b = '{b}' WHERE {place} = (SELECT min({place}) FROM bag WHERE a = {a})"),
        _ => format!("DELETE FROM bag WHERE {place} = (SELECT max({place}) FROM bag WHERE a = {a})"),
    }
}

fn transactions(random: &mut Random, migration: &Migration, count: u32) -> String {
    // A statement that fails does not end the script, and ends no transaction: psql rolls back to before it.
    let mut script = String::from("\\set ON_ERROR_STOP off\n\\set ON_ERROR_ROLLBACK on\n\\set VERBOSITY terse\n");
    for _ in 0..count {
        script.push_str("BEGIN;\n");
        for _ in 0..=random.below(8) {
            script.push_str(&format!("{};\n", statement(random, migration)));
        }
        script.push_str(if random.below(10) == 0 { "ROLLBACK;\n" } else { "COMMIT;\n" });
    }
    script
}

fn random_transactions_arrive(migration: Migration, options: &[&str]) {
    let mut random = Random::seeded(seed());
    let proxy = Proxy::start(migration.target.host.port());
    let migration = migration.target_via(&proxy);
    create_tables(&migration);
    let mut engine = migration.start_with(options);
    migration.wait_state(&mut engine, "streaming");
    for _ in 0..4 {
        proxy.pause();
        migration.source.sql(&transactions(&mut random, &migration, 150));
        proxy.resume();
        engine.assert_running();
        migration.drain();
        migration.assert_equal();
    }
    engine.stop();
}

#[test]
fn random_transactions_arrive_folded() {
    random_transactions_arrive(Migration::new("random_folded"), &[]);
}

#[test]
fn random_transactions_arrive_in_small_batches() {
    random_transactions_arrive(Migration::new("random_small"), &["--batch-transactions-max=4"]);
}

#[test]
fn random_transactions_arrive_folded_at_cockroach() {
    random_transactions_arrive(Migration::to_cockroach("random_to_folded"), &[]);
}

#[test]
fn random_transactions_arrive_in_small_batches_at_cockroach() {
    random_transactions_arrive(Migration::to_cockroach("random_to_small"), &["--batch-transactions-max=4"]);
}

#[test]
fn random_transactions_arrive_folded_from_cockroach() {
    random_transactions_arrive(Migration::from_cockroach("random_from_folded"), &[]);
}

#[test]
fn random_transactions_arrive_in_small_batches_from_cockroach() {
    random_transactions_arrive(Migration::from_cockroach("random_from_small"), &["--batch-transactions-max=4"]);
}
