//! What is refused, before anything is written, each with a code of its own.

use std::collections::BTreeMap;
use std::sync::Mutex;

use tidegate_testkit::{Database, Migration, source_server, start_server, target_server};
use tidegate_throwaway::Server;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, n int)";

/// Codes seen, with the refusal that had each.
static CODES: Mutex<BTreeMap<String, &'static str>> = Mutex::new(BTreeMap::new());

/// A migration that has streamed and was stopped.
fn stopped_migration(topic: &str) -> Migration {
    stopped_on(Migration::new(topic))
}

fn stopped_on(migration: Migration) -> Migration {
    migration.both(TABLE);
    migration.source.sql("INSERT INTO t VALUES (1, 1)");
    let engine = migration.start_streaming();
    migration.drain();
    engine.stop();
    migration
}

/// Everything that a refused start must leave alone.
fn traces(migration: &Migration) -> String {
    let state = "SELECT count(*) FROM t; SELECT * FROM tidegate.checkpoint ORDER BY 1, 2, 3;
                 SELECT migration, stream, epoch FROM tidegate.owner ORDER BY 1, 2;
                 SELECT migration, stream, source_table, state, copies FROM tidegate.copy_table ORDER BY 1, 2, 3";
    let objects = "SELECT slot_name,
    confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name LIKE '%' || current_database() ORDER BY 1;
                   SELECT pubname FROM pg_publication ORDER BY 1";
    format!("{}\n{}", migration.target.sql(state), migration.source.sql(objects))
}

/// Starts `migrate`, expects it to refuse, to write nothing, and to have a code that no other refusal has.
#[track_caller]
fn assert_refused(migration: &Migration, refused: &Migration, what: &'static str, says: &str) {
    let before = traces(migration);
    let outcome = refused.migrate_to_its_end(&[]).expect_code(1);
    assert!(outcome.says(says), "no word of {says:?}:\n{}", outcome.stderr);
    let code = outcome.error_code().unwrap_or_else(|| panic!("no code:\n{}", outcome.stderr));
    assert_eq!(before, traces(migration), "the refused start left traces");
    let other = CODES.lock().unwrap().insert(code.clone(), what);
    assert!(other.is_none_or(|other| other == what), "{what} and {other:?} share the code {code}");
}

#[test]
fn a_slot_that_was_dropped_is_refused() {
    let migration = stopped_migration("slot_dropped");
    migration.source.sql(&format!("SELECT pg_drop_replication_slot('{}')", migration.slot()));
    assert_refused(&migration, &migration, "slot dropped", "--recreate-slot");
    // The command that the refusal names repairs it.
    migration.source.sql("INSERT INTO t VALUES (2, 2)");
    let mut engine = migration.start_with(&["--recreate-slot"]);
    migration.wait_state(&mut engine, "streaming");
    migration.source.sql("INSERT INTO t VALUES (3, 3)");
    migration.drain();
    migration.assert_equal();
    engine.stop();
}

#[test]
fn a_slot_that_was_made_again_is_refused() {
    let migration = stopped_migration("slot_recreated");
    let slot = migration.slot();
    migration.source.sql(&format!("SELECT pg_drop_replication_slot('{slot}'); INSERT INTO t VALUES (2, 2)"));
    migration.source.sql(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"));
    assert_refused(&migration, &migration, "slot recreated", "--recreate-slot");
}

#[test]
fn a_slot_that_the_server_invalidated_is_refused() {
    let source = start_server(
        Server::builder()
            .setting("max_slot_wal_keep_size", "16MB")
            .setting("max_wal_size", "64MB")
            .setting("min_wal_size", "32MB"),
    );
    let migration = stopped_on(Migration::on(&source, &target_server(), "slot_lost"));
    migration.source.sql("CREATE TABLE noise (t text)");
    for _ in 0..12 {
        migration.source.sql(
            "INSERT INTO noise SELECT repeat('x', 1000) FROM generate_series(1, 20000);
        SELECT pg_switch_wal(); CHECKPOINT",
        );
    }
    let lost = format!("SELECT wal_status = 'lost' FROM pg_replication_slots WHERE slot_name = '{}'", migration.slot());
    assert!(migration.source.holds(&lost), "the server kept the WAL");
    migration.source.sql("DROP TABLE noise");
    assert_refused(&migration, &migration, "slot lost", "--recreate-slot");
}

#[test]
fn another_cluster_with_a_slot_of_the_same_name_is_refused() {
    let migration = stopped_migration("other_cluster");
    let elsewhere = Database::create(&target_server(), &format!("{}_x", migration.name));
    elsewhere.sql(TABLE);
    let (slot, url) = (migration.slot(), elsewhere.url());
    elsewhere.sql(&format!(
        "CREATE PUBLICATION {slot} FOR TABLE t; SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"
    ));
    let migration = migration.source_url(&url);
    assert_refused(&migration, &migration, "other cluster", "system identifier");
    elsewhere.discard();
}

#[test]
fn the_same_name_from_another_database_of_the_cluster_is_refused() {
    let migration = stopped_migration("other_database");
    let elsewhere = Database::create(&source_server(), &format!("{}_x", migration.name));
    elsewhere.sql(TABLE);
    let migration = migration.source_url(&elsewhere.url());
    assert_refused(&migration, &migration, "other database", "database");
    elsewhere.discard();
}

#[test]
fn a_target_table_of_another_migration_is_refused() {
    let owner = stopped_migration("table_owner");
    let other = Migration::new("table_taker").target_url(&owner.target.url());
    other.source.sql(TABLE);
    other.source.sql("INSERT INTO t VALUES (9, 9)");
    assert_refused(&owner, &other, "table of another migration", &owner.name);
    let slots = format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}'", other.slot());
    assert_eq!(other.source.number(&slots), 0, "the refused migration made a slot");
    assert_eq!(
        other.source.number("SELECT count(*) FROM pg_publication"),
        0,
        "the refused migration made a publication"
    );
}

#[test]
fn a_slot_with_two_phase_is_refused() {
    let migration = stopped_migration("two_phase");
    let slot = migration.slot();
    migration.source.sql(&format!("SELECT pg_drop_replication_slot('{slot}')"));
    migration.source.sql(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput', false, true)"));
    assert_refused(&migration, &migration, "two-phase slot", "two_phase");
}

#[test]
fn a_target_table_that_holds_rows_is_refused_and_untouched() {
    let migration = Migration::new("holds_rows");
    migration.both(TABLE);
    migration.source.sql("INSERT INTO t VALUES (1, 1)");
    migration.target.sql("INSERT INTO t VALUES (7, 7)");
    let outcome = migration.migrate_to_its_end(&[]).expect_code(1);
    assert!(outcome.says("public.t"), "{}", outcome.stderr);
    assert_eq!(migration.target.sql("TABLE t"), "7|7");
    let slots = format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}'", migration.slot());
    assert_eq!(migration.source.number(&slots), 0, "the refused migration made a slot");
}

#[test]
fn a_table_whose_updates_cannot_be_replicated_is_refused() {
    let migration = Migration::new("no_identity");
    migration.both("CREATE TABLE t (id int PRIMARY KEY, n int); ALTER TABLE t REPLICA IDENTITY NOTHING");
    let outcome = migration.migrate_to_its_end(&[]).expect_code(1);
    assert!(outcome.says("REPLICA IDENTITY"), "{}", outcome.stderr);
    // Publishing such a table would make the application's own updates fail.
    assert_eq!(migration.source.number("SELECT count(*) FROM pg_publication"), 0);
}

#[test]
fn a_promoted_standby_that_lacks_what_the_target_holds_is_refused_with_the_range() {
    let primary = start_server(Server::builder());
    let migration = stopped_on(Migration::on(&primary, &target_server(), "timeline"));
    let standby = start_server_of(&primary);
    tidegate_testkit::wait::wait_until("the standby caught up", tidegate_testkit::wait::PATIENCE, || {
        standby.psql(&migration.name, "SELECT count(*) FROM t").is_ok_and(|count| count == "1")
    });
    // The primary goes on alone: the target gets commits that the standby will never have.
    standby.stop(tidegate_throwaway::StopMode::Fast).unwrap();
    let engine = migration.start_streaming();
    migration.source.sql("INSERT INTO t SELECT i, i FROM generate_series(10, 500) i");
    migration.drain();
    engine.stop();
    primary.kill9();
    standby.start().unwrap();
    standby.promote().unwrap();
    let slot = migration.slot();
    standby.psql(&migration.name, &format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")).unwrap();
    let moved = standby.url(&migration.name);
    let migration = migration.source_url(&moved);
    let before = migration.target.sql("SELECT count(*) FROM t; SELECT position FROM tidegate.checkpoint");
    let outcome = migration.migrate_to_its_end(&[]).expect_code(1);
    assert!(outcome.says("timeline"), "{}", outcome.stderr);
    assert_eq!(before, migration.target.sql("SELECT count(*) FROM t; SELECT position FROM tidegate.checkpoint"));
}

fn start_server_of(primary: &Server) -> Server {
    Server::builder().start_standby_of(primary).unwrap_or_else(|error| panic!("{error:#}"))
}
