//! What a changefeed can do to its reader: fall silent, change its schema, end, or leave its history behind.

use tidegate_testkit::wait::{PATIENCE, wait_until};
use tidegate_testkit::{Cockroach, Migration, Proxy, cockroach_server, target_server};

const TABLE: &str = "CREATE TABLE t (id INT8 PRIMARY KEY, n INT4)";

fn with_rows(topic: &str) -> Migration {
    let migration = Migration::from_cockroach(topic);
    migration.both(TABLE);
    migration.source.sql("INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)");
    migration
}

/// Returns what `status` says about the stream.
fn stream(migration: &Migration) -> serde_json::Value {
    migration.try_status().unwrap_or_default()["streams"][0].clone()
}

#[test]
fn missing_resolved_timestamps_show_in_status_and_the_stream_recovers() {
    let server = Cockroach::start();
    if !server.is_standin() {
        println!("only the stand-in can be told to fall silent");
        return;
    }
    let migration = Migration::between(&server, &target_server(), "crdb_silent").options(["--resolved-silence-max=3s"]);
    migration.both(TABLE);
    let engine = migration.start_streaming();
    server.knob("delay_resolved", "'1h'");
    migration.source.sql("INSERT INTO t VALUES (1, 1)");
    wait_until("status says what it waits for", PATIENCE, || {
        stream(&migration)["waiting_for"].as_str().is_some_and(|why| why.contains("resolved"))
    });
    assert_eq!(migration.target.number("SELECT count(*) FROM t"), 0, "a row came before its resolved timestamp");
    server.knob("delay_resolved", "'0s'");
    migration.drain();
    migration.assert_equal();
    wait_until("status waits for nothing", PATIENCE, || stream(&migration)["waiting_for"].is_null());
    engine.stop();
}

#[test]
fn a_checkpoint_that_ages_past_half_the_gc_window_is_an_alarm_and_past_it_a_stop() {
    let proxies = [Proxy::start(cockroach_server().port()), Proxy::start(target_server().port())];
    let migration = Migration::from_cockroach("crdb_gc").source_via(&proxies[0]).target_via(&proxies[1]);
    migration.both(TABLE);
    let mut engine = migration.start_streaming();
    // Too short for a start to be allowed. A session made anew asks again how long it is.
    migration.source.sql("ALTER TABLE t CONFIGURE ZONE USING gc.ttlseconds = 12");
    proxies[1].pause();
    proxies[0].cut();
    migration.source.sql("INSERT INTO t VALUES (1, 1)");
    engine.wait_for_log("half of the gc window is used", PATIENCE);
    engine.assert_running();
    let stopped = engine.wait(PATIENCE).expect_code(3);
    assert_eq!(stopped.error_code().as_deref(), Some("CR011"), "{}", stopped.stderr);
    assert!(stopped.says("gc.ttlseconds") && stopped.says("tidegate migrate --name"), "{}", stopped.stderr);
    proxies[1].resume();
}

#[test]
fn a_start_behind_the_gc_threshold_is_refused_with_the_repair() {
    let server = Cockroach::start();
    if !server.is_standin() {
        println!("only the stand-in can be told to forget at once");
        return;
    }
    let migration = Migration::between(&server, &target_server(), "crdb_gc_start");
    migration.both(TABLE);
    migration.start_streaming().stop();
    migration.source.sql("INSERT INTO t VALUES (1, 1)");
    let now = migration.source.sql("SELECT cluster_logical_timestamp()");
    server.knob("gc_threshold", &format!("'{now}'"));
    let refused = migration.migrate_to_its_end(&[]);
    assert!(refused.code == Some(1) || refused.code == Some(3), "{refused:?}");
    assert!(refused.says("gc.ttlseconds"), "{}", refused.stderr);
    assert_eq!(migration.target.number("SELECT count(*) FROM t"), 0);
}

#[test]
fn a_backfill_with_another_set_of_columns_stops_the_stream_and_a_new_copy_repairs_it() {
    let migration = with_rows("crdb_backfill");
    let mut engine = migration.start_streaming();
    migration.source.sql("UPDATE t SET n = 20 WHERE id = 2; DELETE FROM t WHERE id = 3");
    migration.drain();
    migration.source.sql("ALTER TABLE t ADD COLUMN extra INT4 DEFAULT 7");
    migration.source.sql("INSERT INTO t (id, n) VALUES (4, 4)");
    let stopped = engine.wait(PATIENCE).expect_code(3);
    assert!(stopped.error_code().is_some() && stopped.says("public.t"), "{}", stopped.stderr);
    // Nothing of the backfill was written.
    assert_eq!(migration.target.sql("SELECT id, n FROM t ORDER BY id"), "1|1\n2|20");
    migration.target.sql("ALTER TABLE t ADD COLUMN extra INT4");
    let mut engine = migration.start_with(&["--recopy=public.t"]);
    migration.wait_state(&mut engine, "streaming");
    migration.source.sql("UPDATE t SET extra = 8 WHERE id = 1");
    migration.drain();
    migration.assert_equal();
    engine.stop();
}

#[test]
fn a_truncated_or_dropped_table_ends_the_stream_with_instructions() {
    for (topic, statement) in [("crdb_truncated", "TRUNCATE t"), ("crdb_dropped", "DROP TABLE t")] {
        let migration = with_rows(topic);
        migration.both("CREATE TABLE other (id INT8 PRIMARY KEY)");
        let mut engine = migration.start_streaming();
        migration.source.sql(statement);
        let stopped = engine.wait(PATIENCE).expect_code(3);
        assert!(
            stopped.error_code().is_some() && stopped.says("\"t\"") || stopped.says("public.t"),
            "{}",
            stopped.stderr
        );
        assert_eq!(migration.target.number("SELECT count(*) FROM t"), 3, "nothing was changed at the target");
    }
}

#[test]
fn a_table_that_was_exchanged_for_another_of_its_name_stops_the_stream_running_or_not() {
    for (topic, running) in [("crdb_swap_running", true), ("crdb_swap_stopped", false)] {
        let migration = with_rows(topic);
        let engine = migration.start_streaming();
        migration.drain();
        let swap = format!("ALTER TABLE t RENAME TO t_old; {TABLE}; INSERT INTO t VALUES (1, 100), (9, 9)");
        let stopped = if running {
            migration.source.sql(&swap);
            let mut engine = engine;
            engine.wait(PATIENCE)
        } else {
            engine.stop();
            migration.source.sql(&swap);
            migration.migrate_to_its_end(&[])
        };
        let stopped = stopped.expect_code(3);
        assert_eq!(stopped.error_code().as_deref(), Some("CR041"), "{}", stopped.stderr);
        assert!(stopped.says("public.t_old") && stopped.says("--recreate-slot"), "{}", stopped.stderr);
        assert_eq!(migration.target.sql("SELECT id, n FROM t ORDER BY id"), "1|1\n2|2\n3|3");
        // The repair that was named.
        let mut engine = migration.start_with(&["--recreate-slot", "--exclude=public.t_old"]);
        migration.wait_state(&mut engine, "streaming");
        migration.drain();
        assert_eq!(migration.target.sql("SELECT id, n FROM t ORDER BY id"), "1|100\n9|9");
        engine.stop();
    }
}

#[test]
fn a_table_that_was_dropped_while_stopped_is_told_and_one_that_was_made_again_is_refused() {
    let migration = with_rows("crdb_drop_stopped");
    migration.both("CREATE TABLE other (id INT8 PRIMARY KEY); CREATE TABLE third (id INT8 PRIMARY KEY)");
    migration.start_streaming().stop();
    migration.source.sql("DROP TABLE other");
    let engine = migration.start_streaming();
    wait_until("status names the dropped table", PATIENCE, || {
        stream(&migration)["dropped"] == serde_json::json!(["public.other"])
    });
    migration.source.sql("INSERT INTO t VALUES (4, 4)");
    migration.drain();
    assert_eq!(migration.target.number("SELECT count(*) FROM t"), 4);
    engine.stop();

    migration.source.sql(&format!("DROP TABLE t; {TABLE}"));
    let stopped = migration.migrate_to_its_end(&[]).expect_code(3);
    assert_eq!(stopped.error_code().as_deref(), Some("CR041"), "{}", stopped.stderr);
    migration.both("CREATE TABLE unrelated (id INT8 PRIMARY KEY)");
    migration.source.sql("DROP TABLE t; DROP TABLE third");
    let stopped = migration.migrate_to_its_end(&[]);
    assert_eq!(stopped.error_code().as_deref(), Some("CR043"), "{}", stopped.stderr);
    assert_eq!(migration.target.number("SELECT count(*) FROM t"), 4, "nothing was changed at the target");
}

#[test]
fn a_column_that_got_another_type_stops_the_stream_running_or_not() {
    for (topic, running) in [("crdb_retype_running", true), ("crdb_retype_stopped", false)] {
        let migration = with_rows(topic);
        let engine = migration.start_streaming();
        migration.drain();
        let retype = "ALTER TABLE t ALTER COLUMN n TYPE INT8 USING (n * 10)";
        let stopped = if running {
            migration.source.sql(retype);
            let mut engine = engine;
            engine.wait(PATIENCE)
        } else {
            engine.stop();
            migration.source.sql(retype);
            migration.migrate_to_its_end(&[])
        };
        let stopped = stopped.expect_code(3);
        let code = stopped.error_code().unwrap_or_default();
        assert!(["CR042", "CR108"].contains(&&*code), "{}", stopped.stderr);
        assert!(stopped.says("public.t") && stopped.says("--recopy"), "{}", stopped.stderr);
        migration.target.sql("ALTER TABLE t ALTER COLUMN n TYPE INT8");
        let mut engine = migration.start_with(&["--recopy=public.t"]);
        migration.wait_state(&mut engine, "streaming");
        migration.drain();
        migration.assert_equal();
        engine.stop();
    }
}

#[test]
fn what_an_applier_hides_from_feeds_does_not_come_back() {
    let migration = with_rows("crdb_hidden");
    let engine = migration.start_streaming();
    migration.source.sql("SET disable_changefeed_replication = true; INSERT INTO t VALUES (10, 1)");
    migration.source.sql("INSERT INTO t VALUES (11, 1)");
    migration.drain();
    assert_eq!(migration.target.sql("SELECT id FROM t WHERE id >= 10"), "11");
    engine.stop();
}
