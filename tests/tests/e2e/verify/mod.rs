//! Equality is proved at one position while both sides are written, and what differs is named.

mod fences;
mod load;
mod repairs;
mod sequences;

use tidegate_testkit::Migration;
use tidegate_testkit::wait::{PATIENCE, wait_until};

const TABLES: &str = "CREATE TABLE item (id INT8 PRIMARY KEY, name TEXT, price DECIMAL(10, 2), body BYTEA);
    CREATE TABLE pair (a TEXT, b INT4, n INT4, PRIMARY KEY (a, b)); CREATE TABLE bag (n INT4, t TEXT)";
const ROWS: &str = "INSERT INTO item SELECT i, 'item ' || i::TEXT, i, '\\x00ff' FROM generate_series(1, 3000) AS g (i);
    INSERT INTO pair SELECT 'k' || (i % 7)::TEXT, i, i FROM generate_series(1, 500) AS g (i);
    INSERT INTO bag SELECT i % 5, 'x' FROM generate_series(1, 100) AS g (i)";

fn prepare(migration: &Migration) {
    migration.both(TABLES);
    for database in [&migration.source, &migration.target] {
        database.only_postgres("ALTER TABLE bag REPLICA IDENTITY FULL");
    }
    migration.source.sql(ROWS);
}

fn differences_are_named_and_equality_is_proved(migration: &Migration) {
    prepare(migration);
    let engine = migration.start_streaming();
    migration.source.sql("UPDATE item SET name = 'changed' WHERE id % 100 = 0; DELETE FROM bag WHERE n = 1");
    let equal = migration.run("verify", &["--json"]).expect_code(0);
    let report: serde_json::Value = serde_json::from_str(&equal.stdout).expect("a report");
    assert_eq!(report["verdict"], "equal", "{report}");
    assert_eq!(report["tables"].as_array().map(Vec::len), Some(3), "{report}");
    migration.target.sql(
        "DELETE FROM item WHERE id = 7; INSERT INTO item (id, name) VALUES (9001, 'extra');
         UPDATE pair SET n = n + 1 WHERE b = 12; INSERT INTO bag VALUES (2, 'y')",
    );
    let different = migration.run("verify", &["--json"]).expect_code(1);
    let report: serde_json::Value = serde_json::from_str(&different.stdout).expect("a report");
    let table = |name: &str| {
        let tables = report["tables"].as_array().expect("tables");
        tables.iter().find(|table| table["name"] == name).unwrap_or_else(|| panic!("no {name} in {report}")).clone()
    };
    let item = table("public.item");
    assert_eq!((&item["missing"], &item["extra"], &item["different"]), (&1.into(), &1.into(), &0.into()), "{item}");
    let pair = table("public.pair");
    assert_eq!(pair["keys"][0]["columns"], serde_json::json!(["n"]), "{pair}");
    assert_eq!(pair["keys"][0]["key"]["b"], "12", "{pair}");
    assert_eq!(table("public.bag")["extra"], 1, "{report}");
    engine.stop();
}

#[test]
fn differences_to_another_postgres_are_named() {
    differences_are_named_and_equality_is_proved(&Migration::new("verify_pg"));
}

#[test]
fn differences_to_cockroach_are_named() {
    differences_are_named_and_equality_is_proved(&Migration::to_cockroach("verify_to"));
}

#[test]
fn differences_from_cockroach_are_named() {
    differences_are_named_and_equality_is_proved(&Migration::from_cockroach("verify_from"));
}

#[test]
fn without_an_owner_the_command_runs_the_stream_itself() {
    let migration = Migration::new("verify_alone");
    prepare(&migration);
    migration.start_streaming().stop();
    migration.source.sql("UPDATE item SET price = price + 1");
    migration.run("verify", &[]).expect_code(0);
    assert_eq!(migration.state().as_deref(), Some("stopped"));
}

#[test]
fn what_was_found_equal_is_not_read_again_by_the_next_owner() {
    let migration = Migration::to_cockroach("verify_resume");
    prepare(&migration);
    let mut engine = migration.start_streaming();
    let mut verifying = migration.begin("verify", &["--json", "--rate", "500"]);
    let position = || migration.target.sql("SELECT position FROM tidegate.verify_run ORDER BY source_table LIMIT 1");
    wait_until("the first table is found equal", PATIENCE, || !position().is_empty());
    let first = position();
    engine.kill9();
    migration.source.sql("INSERT INTO bag VALUES (7, 'behind the first comparison')");
    let engine = migration.start_streaming();
    let report = verifying.wait(PATIENCE).expect_code(0).json();
    assert_eq!(report["tables"][0]["position"], first, "{report}");
    assert_ne!(report["tables"][1]["position"], first, "{report}");
    assert_eq!(report["tables"].as_array().map(Vec::len), Some(3), "{report}");
    engine.stop();
}
