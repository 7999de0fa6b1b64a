//! Options of `migrate` that change how it runs.

use std::time::Duration;

use nix::sys::signal::Signal;
use tidegate_testkit::wait::{PATIENCE, wait_until};
use tidegate_testkit::{Engine, Migration, Proxy, source_server};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, body text)";

fn wide_rows(from: u32, until: u32) -> String {
    format!("INSERT INTO t SELECT i, repeat(md5(i::text), 60) FROM generate_series({from}, {until}) i")
}

#[test]
fn a_transaction_past_the_spools_cap_stops_the_stream_and_a_larger_cap_repairs_it() {
    let migration = Migration::new("spool_cap");
    migration.both(TABLE);
    let mut engine = migration.start_with(&["--memory-budget=1MiB", "--spool-bytes-max=2MiB"]);
    migration.wait_state(&mut engine, "streaming");
    migration.source.sql(&format!("INSERT INTO t VALUES (0, 'before'); {}", wide_rows(1, 5000)));
    let stopped = engine.wait(PATIENCE).expect_code(3);
    assert!(stopped.error_code().is_some() && stopped.says("spool"), "{}", stopped.stderr);
    assert_eq!(migration.target.number("SELECT count(*) FROM t"), 1);
    let mut engine = migration.start_with(&["--memory-budget=1MiB", "--spool-bytes-max=1GiB"]);
    migration.wait_state(&mut engine, "streaming");
    migration.drain();
    migration.assert_equal();
    engine.stop();
}

#[test]
fn nothing_is_left_in_the_spool_directory_by_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let migration = Migration::new("spool_dir").options(["--memory-budget=1MiB", "--spool-dir", path]);
    migration.both(TABLE);
    let mut engine = migration.start_streaming();
    let mut writer = tidegate_testkit::Session::open(&migration.source);
    writer.sql("BEGIN");
    writer.sql(&wide_rows(1, 5000));
    let spooled = || format!("/proc/{}/fd", engine.pid());
    wait_until("something is spooled there", PATIENCE, || {
        let files = std::fs::read_dir(spooled()).into_iter().flatten().flatten();
        files.filter_map(|file| std::fs::read_link(file.path()).ok()).any(|file| file.starts_with(path))
    });
    engine.kill9();
    assert_eq!(std::fs::read_dir(path).unwrap().count(), 0, "a kill left files");
    writer.sql("COMMIT");
    let engine = migration.start_streaming();
    migration.drain();
    migration.assert_equal();
    engine.stop();
}

#[test]
fn a_heartbeat_moves_a_source_that_nobody_writes_to() {
    let migration = Migration::new("heartbeat");
    migration.both(TABLE);
    let mut engine = migration.start_with(&["--heartbeat-every=200ms", "--idle-checkpoint-every=200ms"]);
    migration.wait_state(&mut engine, "streaming");
    let confirmed = || {
        let slot = migration.slot();
        migration
            .source
            .sql(&format!("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '{slot}'"))
    };
    let before = confirmed();
    let written = format!("SELECT pg_current_wal_lsn() > '{before}'::pg_lsn + 100");
    wait_until("the heartbeat is written", PATIENCE, || migration.source.holds(&written));
    wait_until("it is acknowledged", PATIENCE, || {
        migration.source.holds(&format!("SELECT '{}'::pg_lsn > '{before}'", confirmed()))
    });
    engine.stop();
}

#[test]
fn log_lines_can_be_json() {
    let migration = Migration::new("json_log");
    migration.both(TABLE);
    let mut engine = migration.start_with(&["--log-format=json"]);
    migration.wait_state(&mut engine, "streaming");
    let stopped = engine.stop();
    let json = stopped.stderr.lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()).count();
    assert!(json > 3, "{}", stopped.stderr);
}

#[test]
fn a_stop_in_the_middle_of_the_copy_is_clean_and_the_next_start_goes_on() {
    let proxy = Proxy::start(source_server().port());
    proxy.throttle(Some(1_000_000));
    let migration = Migration::new("stop_copy").source_via(&proxy).options(["--copy-chunk-bytes=256KiB"]);
    migration.both(TABLE);
    migration.source.sql(&wide_rows(1, 6000));
    let mut engine = migration.start();
    wait_until("some of it is copied", PATIENCE, || {
        engine.assert_running();
        migration.target.try_sql("SELECT count(*) FROM t").is_ok_and(|count| count != "0")
    });
    engine.stop();
    proxy.throttle(None);
    migration.source.sql("DELETE FROM t WHERE id % 7 = 0");
    let engine = migration.start_streaming();
    migration.drain();
    migration.assert_equal();
    engine.stop();
}

#[test]
fn a_file_runs_a_migration_and_status_can_watch_it() {
    let migration = Migration::new("from_file");
    migration.both(TABLE);
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let text = format!(
        "[[migration]]\nname = \"{}\"\nsource = \"{}\"\ntarget = \"{}\"\n\
         [migration.pipeline]\nbatch_transactions_max = 7\n",
        migration.name,
        migration.source.url(),
        migration.target.url()
    );
    std::fs::write(file.path(), text).unwrap();
    let arguments = |command: &[&str]| -> Vec<String> {
        let both = command.iter().copied().chain(["-c", path]);
        both.map(str::to_owned).collect()
    };
    let mut engine = Engine::start(&arguments(&["migrate"]), &[]);
    migration.wait_state(&mut engine, "streaming");
    migration.source.sql(&wide_rows(1, 100));
    Engine::start(&arguments(&["drain"]), &[]).wait(PATIENCE).expect_code(0);
    migration.assert_equal();
    let mut watch = Engine::start(&arguments(&["status", "--watch", "--json"]), &[]);
    wait_until("status was shown more than once", PATIENCE, || watch.stdout().matches("\"streaming\"").count() > 1);
    watch.signal(Signal::SIGINT);
    watch.wait(Duration::from_secs(10));
    engine.stop();
}
