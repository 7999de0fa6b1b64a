//! Sequences are part of what is compared: their definitions always, their values after a turn.

use serde_json::Value;
use tidegate_testkit::Migration;

fn sequences(migration: &Migration, code: i32) -> Value {
    let outcome = migration.run("verify", &["--json"]).expect_code(code);
    outcome.json()["sequences"].clone()
}

#[test]
fn values_that_would_come_again_after_a_turn_are_found() {
    let migration = Migration::to_cockroach("verify_sequence");
    migration.both("CREATE TABLE item (id INT8 PRIMARY KEY); CREATE SEQUENCE counted");
    let engine = migration.start_streaming();
    migration.source.sql("INSERT INTO item SELECT nextval('counted') FROM generate_series(1, 50)");
    let before = sequences(&migration, 0);
    assert_eq!((&before[0]["name"], &before[0]["verdict"]), (&"public.counted".into(), &"equal".into()), "{before}");
    migration.run("cutover", &["--yes"]).expect_code(0);
    sequences(&migration, 0);
    migration.target.sql("SELECT setval('counted', 5)");
    let after = sequences(&migration, 1);
    assert_eq!(after[0]["verdict"], "different", "{after}");
    migration.target.sql("SELECT setval('counted', 500)");
    sequences(&migration, 0);
    engine.stop();
}

#[test]
fn another_definition_is_found_before_a_turn() {
    let migration = Migration::new("verify_definition");
    migration.both("CREATE TABLE item (id SERIAL PRIMARY KEY)");
    migration.source.sql("CREATE SEQUENCE twos INCREMENT 2; CREATE SEQUENCE alone");
    migration.target.sql("CREATE SEQUENCE twos");
    let engine = migration.start_streaming();
    let found = sequences(&migration, 1);
    let verdicts: Vec<String> = found
        .as_array()
        .expect("sequences")
        .iter()
        .map(|one| {
            format!("{} {}", one["name"].as_str().unwrap_or_default(), one["verdict"].as_str().unwrap_or_default())
        })
        .collect();
    assert_eq!(verdicts, ["public.alone different", "public.item_id_seq equal", "public.twos different"]);
    migration.run("verify", &["--tables", "public.item"]).expect_code(0);
    engine.stop();
}
