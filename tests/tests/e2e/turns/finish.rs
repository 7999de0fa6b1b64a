//! Leaving: after `finish` a database looks as if it had never met Tidegate.

use std::time::Duration;

use tidegate_testkit::wait::{PATIENCE, wait_until};
use tidegate_testkit::{Database, Session};

/// Everything in a database that could have been left behind. Values of sequences are kept on purpose.
fn catalog(database: &Database) -> String {
    if database.cockroach().is_some() {
        return database.sql(
            "SELECT table_schema, table_name FROM information_schema.tables
              WHERE table_schema NOT IN ('pg_catalog', 'information_schema', 'crdb_internal', 'pg_extension')
              ORDER BY 1, 2",
        );
    }
    let parts = [
        "SELECT nspname, nspacl FROM pg_namespace WHERE nspname !~ '^pg_' ORDER BY 1",
        "SELECT n.nspname, c.relname, c.relkind, c.relacl, c.relreplident FROM pg_class c
          JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname !~ '^(pg_|information_schema)' ORDER BY 1, 2",
        "SELECT n.nspname, p.proname, p.proacl FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
          WHERE n.nspname !~ '^(pg_|information_schema)' ORDER BY 1, 2",
        "SELECT tgrelid::regclass, tgname, tgenabled FROM pg_trigger ORDER BY 1, 2",
        "SELECT conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint
          WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2",
        "SELECT pubname FROM pg_publication ORDER BY 1",
        "SELECT slot_name FROM pg_replication_slots WHERE database = current_database() ORDER BY 1",
        "SELECT roname FROM pg_replication_origin WHERE roname LIKE 'tidegate_' || current_database() || '%' ORDER BY 1",
        "SELECT setconfig FROM pg_db_role_setting
          WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1",
    ];
    parts.map(|sql| database.sql(sql)).join("\n--\n")
}

#[test]
fn nothing_is_left_behind_on_either_side() {
    let migration = super::turning("finish");
    let before = [&migration.source, &migration.target].map(catalog);
    let mut engine = migration.start_streaming();
    for turn in ["cutover", "failback", "cutover"] {
        migration.run(turn, &["--yes"]).expect_code(0);
    }
    migration.target.sql("INSERT INTO item VALUES (2000, 'last')");
    let plan = migration.run("finish", &["--plan-only"]).expect_code(0);
    for listed in ["fence triggers: ", "replication slot: ", "publication: ", "state schema: ", "kept on purpose"] {
        assert!(plan.says(listed), "{}", plan.stdout);
    }
    engine.assert_running();
    let asked = migration.run("finish", &[]).expect_code(2);
    assert!(asked.says("CF007"), "{}", asked.stderr);
    let removed = migration.run("finish", &["--yes", "--json"]).expect_code(0).json();
    assert!(removed["removed"]["source"].as_array().is_some_and(|removed| removed.len() >= 4), "{removed}");
    engine.wait(PATIENCE).expect_code(0);
    assert_eq!([&migration.source, &migration.target].map(catalog), before);
    assert_eq!(migration.source.sql("SELECT count(*) FROM item WHERE id = 2000"), "1", "it was drained first");
    migration.source.sql("INSERT INTO item VALUES (2001, 'no fence is left')");
    let again = migration.run("finish", &["--yes"]).expect_code(0);
    assert!(again.says("removed at the source: nothing") || again.says("to remove at the source: nothing"));
}

#[test]
fn a_finish_that_died_half_way_goes_on() {
    let migration = super::turning("finish_again");
    let before = [&migration.source, &migration.target].map(catalog);
    let mut engine = migration.start_streaming();
    migration.run("cutover", &["--yes"]).expect_code(0);
    // The fence's triggers cannot be removed while somebody reads.
    let mut reader = Session::open(&migration.source);
    reader.sql("BEGIN; SELECT count(*) FROM item");
    let mut dying = migration.begin("finish", &["--yes"]);
    engine.wait(PATIENCE).expect_code(0);
    wait_until("it waits for the reader", PATIENCE, || {
        migration.source.sql("SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'") != "0"
    });
    dying.kill9();
    let over = migration.start().wait(Duration::from_secs(30)).expect_code(1);
    assert!(over.says("ST008"), "{}", over.stderr);
    reader.sql("COMMIT");
    migration.run("finish", &["--yes"]).expect_code(0);
    assert_eq!([&migration.source, &migration.target].map(catalog), before);
}

#[test]
fn a_migration_is_not_finished_in_the_middle_of_a_turn() {
    let migration = super::turning("finish_turn");
    let mut engine = migration.again().environment("TIDEGATE_CRASH_AT", "marker:before").start_flowing();
    let mut turning = migration.again().environment("TIDEGATE_CRASH_AT", "marker:before").begin("cutover", &["--yes"]);
    wait_until("the engine died in the turn", PATIENCE, || engine.ended().is_some());
    turning.kill9();
    let refused = migration.run("finish", &["--yes"]).expect_code(1);
    assert!(refused.says("CT003"), "{}", refused.stderr);
    assert_eq!(migration.status()["phase"], "cutover");
    migration.run("cutover", &["--abort"]).expect_code(0);
    migration.run("finish", &["--yes"]).expect_code(0);
    migration.source.sql("INSERT INTO item VALUES (900, 'open')");
}
