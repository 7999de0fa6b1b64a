//! Commands with CockroachDB on one end.

use tidegate_testkit::{Cockroach, Database, Migration, cockroach_server, source_server, target_server};

const TABLE: &str = "CREATE TABLE t (id INT8 PRIMARY KEY, n INT4)";

#[test]
fn check_finds_nothing_critical_in_a_plain_migration_and_writes_nothing() {
    for migration in [Migration::to_cockroach("crdb_check_to"), Migration::from_cockroach("crdb_check_from")] {
        migration.both(TABLE);
        let found = migration.run("check", &["--json"]).expect_code(0).json();
        assert!(found["findings"].is_array(), "{found}");
        for database in [&migration.source, &migration.target] {
            let schemas = "SELECT count(*) FROM information_schema.schemata WHERE schema_name = 'tidegate'";
            assert_eq!(database.number(schemas), 0);
        }
    }
}

#[test]
fn check_names_rangefeeds_that_are_off_with_the_statement_that_turns_them_on() {
    let server = Cockroach::start();
    if !server.can_be_killed() {
        println!("settings of a cluster that others use are left alone");
        return;
    }
    let migration = Migration::between(&server, &target_server(), "crdb_rangefeeds");
    migration.both(TABLE);
    server.run("SET CLUSTER SETTING kv.rangefeed.enabled = false");
    let found = migration.run("check", &["--json"]).expect_code(1).json();
    let fixes: Vec<&str> = critical(&found).filter_map(|finding| finding["fix"].as_str()).collect();
    assert!(fixes.iter().any(|fix| fix.contains("kv.rangefeed.enabled")), "{found}");
    migration.migrate_to_its_end(&[]).expect_code(1);
}

#[test]
fn check_names_what_would_change_rows_of_the_target_by_itself() {
    let migration = Migration::to_cockroach("crdb_cascade");
    let tables = |action: &str| {
        format!(
            "CREATE TABLE parent (id INT8 PRIMARY KEY);
             CREATE TABLE child (id INT8 PRIMARY KEY, parent INT8,
                CONSTRAINT child_parent FOREIGN KEY (parent) REFERENCES parent (id) {action})"
        )
    };
    migration.source.sql(&tables(""));
    migration.target.sql(&tables("ON DELETE CASCADE"));
    let found = migration.run("check", &["--json"]).expect_code(1).json();
    assert!(critical(&found).any(|finding| finding.to_string().contains("child_parent")), "{found}");
}

#[test]
fn check_names_constraints_that_cockroach_cannot_defer() {
    let migration = Migration::to_cockroach("crdb_deferrable");
    migration.source.sql("CREATE TABLE t (id INT8 PRIMARY KEY, n INT8, CONSTRAINT t_n UNIQUE (n) DEFERRABLE)");
    migration.target.sql("CREATE TABLE t (id INT8 PRIMARY KEY, n INT8 UNIQUE)");
    let found = migration.run("check", &["--json"]).expect_code(0).json();
    let finding = found["findings"].as_array().into_iter().flatten().find(|finding| finding["code"] == "CK025");
    let finding = finding.unwrap_or_else(|| panic!("nothing is said of it: {found}"));
    assert!(finding["severity"] == "warning" && finding["subject"] == "public.t", "{finding}");
    assert!(finding["what"].as_str().is_some_and(|what| what.contains("t_n")), "{finding}");
}

#[test]
fn check_names_tables_and_columns_that_the_target_lacks() {
    let migration = Migration::to_cockroach("crdb_lacks");
    migration
        .source
        .sql("CREATE TABLE missing (id INT8 PRIMARY KEY); CREATE TABLE narrow (id INT8 PRIMARY KEY, b INT4)");
    migration.target.sql("CREATE TABLE narrow (id INT8 PRIMARY KEY)");
    let outcome = migration.run("check", &[]).expect_code(1);
    for expected in ["missing", "narrow"] {
        assert!(outcome.says(expected), "no word of {expected}:\n{}\n{}", outcome.stdout, outcome.stderr);
    }
}

fn critical(found: &serde_json::Value) -> impl Iterator<Item = &serde_json::Value> {
    found["findings"].as_array().into_iter().flatten().filter(|finding| finding["severity"] == "critical")
}

#[test]
fn status_has_the_same_keys_in_both_directions() {
    for (migration, tag) in [
        (Migration::to_cockroach("crdb_status_to"), "postgres:"),
        (Migration::from_cockroach("crdb_status_from"), "cockroach:"),
    ] {
        migration.both(TABLE);
        migration.source.sql("INSERT INTO t VALUES (1, 1)");
        let engine = migration.start_streaming();
        migration.drain();
        let status = migration.run("status", &["--json"]).expect_code(0).json();
        let stream = &status["streams"][0];
        for key in [
            "source_position",
            "received_position",
            "applied_position",
            "source_lag_bytes",
            "source_lag_seconds",
            "apply_lag_seconds",
            "retained_wal_bytes",
            "waiting_for",
            "dead_letters",
        ] {
            assert!(stream.get(key).is_some(), "no {key} in {stream}");
        }
        assert_eq!(stream["stream"], "forward");
        assert!(stream["applied_position"].as_str().is_some_and(|position| position.contains(tag)), "{stream}");
        assert_eq!((stream["tables"]["total"].as_i64(), stream["tables"]["copied"].as_i64()), (Some(1), Some(1)));
        engine.stop();
        let stopped = migration.run("status", &["--json"]).expect_code(0).json();
        assert_eq!(stopped["streams"][0]["state"], "stopped");
    }
}

#[test]
fn status_of_a_stopped_stream_says_how_long_the_source_still_keeps_its_history() {
    let migration = Migration::from_cockroach("crdb_status_history");
    migration.both(TABLE);
    migration.start_streaming().stop();
    let left = || {
        let status = migration.run("status", &["--json"]).expect_code(0).json();
        status["streams"][0]["history_seconds_left"].as_f64().unwrap_or_else(|| panic!("nothing is left: {status}"))
    };
    let before = left();
    migration.source.sql("ALTER TABLE t CONFIGURE ZONE USING gc.ttlseconds = 60");
    assert!(before > 3_000.0 && left() <= 60.0, "{before} and {}", left());
}

#[test]
fn cockroach_to_cockroach_is_refused() {
    let server = cockroach_server();
    let migration = Migration::between(&server, &server, "crdb_crdb");
    migration.source.sql(TABLE);
    for command in ["check", "migrate"] {
        let refused = migration.run(command, &[]);
        assert!(refused.code == Some(1) || refused.code == Some(2), "{command}: {refused:?}");
        assert!(refused.says("CockroachDB"), "{command}: {}", refused.stderr);
    }
}

#[test]
fn the_servers_own_answer_decides_and_not_the_scheme_of_the_url() {
    let migration = Migration::to_cockroach("crdb_scheme");
    migration.both(TABLE);
    let (source, target) = (migration.source.url(), migration.target.url());
    let migration = migration
        .source_url(&source.replace("postgres://", "cockroachdb://"))
        .target_url(&target.replace("cockroach://", "postgresql://"));
    let engine = migration.start_streaming();
    migration.source.sql("INSERT INTO t VALUES (1, 1)");
    migration.drain();
    migration.assert_equal();
    engine.stop();
}

#[test]
fn an_unreachable_cockroach_at_the_start_exits_2() {
    let nobody = "cockroach://root@127.0.0.1:1/defaultdb";
    let migration = Migration::new("crdb_nobody").target_url(nobody);
    for command in ["check", "migrate"] {
        migration.run(command, &["--connect-timeout=2s"]).expect_code(2);
    }
}

#[test]
fn one_server_holds_several_migrations() {
    let shared = Database::create(&cockroach_server(), "crdb_shared");
    let first = Migration::between(&source_server(), &cockroach_server(), "crdb_one").target_url(&shared.url());
    let second = Migration::between(&source_server(), &cockroach_server(), "crdb_two").target_url(&shared.url());
    first.source.sql("CREATE TABLE one (id INT8 PRIMARY KEY); INSERT INTO one VALUES (1)");
    second.source.sql("CREATE TABLE two (id INT8 PRIMARY KEY); INSERT INTO two VALUES (2)");
    shared.sql("CREATE TABLE one (id INT8 PRIMARY KEY); CREATE TABLE two (id INT8 PRIMARY KEY)");
    let (one, two) = (first.start_streaming(), second.start_streaming());
    first.source.sql("INSERT INTO one VALUES (10)");
    second.source.sql("INSERT INTO two VALUES (20)");
    first.drain();
    second.drain();
    assert_eq!(shared.sql("SELECT id FROM one ORDER BY id; SELECT id FROM two ORDER BY id"), "1\n10\n2\n20");
    one.stop();
    two.stop();
    shared.discard();
}
