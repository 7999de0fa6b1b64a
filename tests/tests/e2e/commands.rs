//! Options, exit codes and JSON keys: scripts depend on them.

use std::time::{Duration, Instant};

use tidegate_testkit::wait::{PATIENCE, wait_until};
use tidegate_testkit::{Migration, Proxy, program, source_server, target_server};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, n int)";
/// Nobody listens there: the port is reserved.
const NOBODY: &str = "postgres://postgres@127.0.0.1:1/postgres";

fn with_table(topic: &str) -> Migration {
    let migration = Migration::new(topic);
    migration.both(TABLE);
    migration.source.sql("INSERT INTO t VALUES (1, 1)");
    migration
}

#[test]
fn check_exits_0_without_critical_findings_and_writes_nothing() {
    let migration = with_table("check_good");
    let found = migration.run("check", &["--json"]).expect_code(0).json();
    assert!(found["findings"].is_array(), "{found}");
    assert_eq!(migration.target.number("SELECT count(*) FROM pg_namespace WHERE nspname = 'tidegate'"), 0);
    assert_eq!(migration.source.number("SELECT count(*) FROM pg_publication"), 0);
}

#[test]
fn check_exits_1_and_gives_the_fix_of_every_critical_finding() {
    let migration = Migration::new("check_bad");
    migration.source.sql(
        "CREATE TABLE missing (id int PRIMARY KEY); CREATE TABLE narrow (id int PRIMARY KEY, a int, b int);
         CREATE TABLE keyless (a int); CREATE TABLE triggered (id int PRIMARY KEY)",
    );
    migration.target.sql(
        "CREATE TABLE narrow (id int PRIMARY KEY, a int); CREATE TABLE keyless (a int);
        CREATE TABLE triggered (id int PRIMARY KEY);
         CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
         CREATE TRIGGER always BEFORE INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION f();
         ALTER TABLE triggered ENABLE ALWAYS TRIGGER always",
    );
    let outcome = migration.run("check", &[]).expect_code(1);
    for expected in ["missing", "narrow", "keyless", "REPLICA IDENTITY", "always"] {
        assert!(outcome.says(expected), "no word of {expected}:\n{}\n{}", outcome.stdout, outcome.stderr);
    }
    let found = migration.run("check", &["--json"]).expect_code(1).json();
    let critical = found["findings"].as_array().unwrap().iter().filter(|finding| finding["severity"] == "critical");
    assert!(critical.clone().count() >= 4, "{found}");
    for finding in critical {
        assert!(finding["code"].is_string() && finding["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "{finding}");
    }
}

#[test]
fn check_names_the_grants_that_a_plain_role_lacks() {
    let migration = with_table("check_grants");
    let role = format!("{}_r", migration.name);
    migration.source.sql(&format!("CREATE ROLE {role} LOGIN PASSWORD 'secret-word'"));
    let url = source_server().url_as(&role, "secret-word", &migration.name);
    let migration = migration.source_url(&url);
    let outcome = migration.run("check", &[]);
    assert_eq!(outcome.code, Some(1), "{}\n{}", outcome.stdout, outcome.stderr);
    assert!(outcome.says("REPLICATION") && outcome.says("GRANT SELECT"), "{}\n{}", outcome.stdout, outcome.stderr);
    assert!(!outcome.says("secret-word"), "a password was shown");
    migration.source.sql(&format!("DROP ROLE {role}"));
}

#[test]
fn an_unreachable_database_at_the_start_exits_2_within_the_time_given() {
    for (source, target) in [(true, false), (false, true)] {
        let mut migration = Migration::new("unreachable");
        if source {
            migration = migration.source_url(NOBODY);
        }
        if target {
            migration = migration.target_url(NOBODY);
        }
        for command in ["check", "migrate", "status", "drain"] {
            let began = Instant::now();
            // `status` and `drain` need the source too: positions and markers are there.
            let outcome = migration.run(command, &["--connect-timeout=2s"]);
            if command == "status" && source {
                continue;
            }
            assert_eq!(outcome.code, Some(2), "{command}: {}\n{}", outcome.stdout, outcome.stderr);
            assert!(began.elapsed() < Duration::from_secs(10), "{command} took {:?}", began.elapsed());
        }
    }
}

#[test]
fn a_database_that_takes_connections_and_says_nothing_is_unreachable_too() {
    let proxy = Proxy::start(target_server().port());
    let migration = with_table("silent").target_via(&proxy);
    proxy.pause();
    let began = Instant::now();
    migration.run("check", &["--connect-timeout=2s"]).expect_code(2);
    assert!(began.elapsed() < Duration::from_secs(15), "it took {:?}", began.elapsed());
}

#[test]
fn bad_usage_exits_2() {
    let migration = with_table("usage");
    for arguments in [
        &["migrate"][..],
        &["no-such-command"],
        &["migrate", "--source", "postgres://h/d", "--target", "postgres://h/d", "--name", "Not-A-Name"],
        &["migrate", "--source", "mysql://h/d", "--target", "postgres://h/d"],
        &["migrate", "--source", NOBODY, "--target", NOBODY, "--no-copy"],
        &["migrate", "--source", NOBODY, "--target", NOBODY, "--batch-bytes-max=lots"],
        &["migrate", "-c", "/no/such/file.toml"],
    ] {
        let outcome = migration.run_bare(arguments).expect_code(2);
        assert!(!outcome.stderr.is_empty(), "{arguments:?} explained nothing");
    }
}

#[test]
fn status_tells_running_stopped_and_unknown_apart() {
    let migration = with_table("status");
    migration.run("status", &[]).expect_code(2);
    let engine = migration.start_streaming();
    let running = migration.run("status", &["--json"]).expect_code(0).json();
    assert_eq!(running["name"], migration.name.as_str());
    assert_eq!(running["phase"], "initial");
    assert_eq!(running["generation"].as_i64(), Some(running["generation"].as_i64().unwrap_or(-1)));
    assert!(running["error"].is_null(), "{running}");
    let stream = &running["streams"][0];
    assert_eq!(stream["stream"], "forward");
    assert_eq!(stream["state"], "streaming");
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
    assert_eq!((stream["tables"]["total"].as_i64(), stream["tables"]["copied"].as_i64()), (Some(1), Some(1)));
    engine.stop();
    let stopped = migration.run("status", &["--json"]).expect_code(0).json();
    assert_eq!(stopped["streams"][0]["state"], "stopped");
    migration.start_flowing().kill9();
    let killed = migration.run("status", &["--json"]).expect_code(1).json();
    assert_eq!((&killed["error"]["code"], &killed["streams"][0]["state"]), (&"MI032".into(), &"stopped".into()));
}

#[test]
fn a_reader_that_has_heard_enough_is_no_failure() {
    let migration = with_table("reader_gone");
    migration.start_streaming().stop();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = std::process::Command::new(program());
    command.args(["status", "--source", &migration.source.url(), "--target", &migration.target.url()]);
    let ended = command.args(["--name", &migration.name]).stdout(writer).output().unwrap();
    assert_eq!(ended.status.code(), Some(141), "{ended:?}");
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
}

#[test]
fn drain_waits_for_what_is_committed_and_gives_up_in_time() {
    let proxy = Proxy::start(target_server().port());
    let migration = with_table("drain");
    let behind = migration.again().target_via(&proxy);
    let engine = behind.start_streaming();
    migration.source.sql("INSERT INTO t SELECT i, i FROM generate_series(2, 500) i");
    migration.run("drain", &["--timeout=60s"]).expect_code(0);
    assert_eq!(migration.target.number("SELECT count(*) FROM t"), 500);
    // The engine cannot reach the target, the command can.
    proxy.pause();
    migration.source.sql("INSERT INTO t VALUES (1000, 1)");
    let began = Instant::now();
    migration.run("drain", &["--timeout=2s"]).expect_code(1);
    assert!(began.elapsed() < Duration::from_secs(12), "it took {:?}", began.elapsed());
    proxy.resume();
    migration.drain();
    migration.assert_equal();
    engine.stop();
}

#[test]
fn drain_without_a_running_engine_does_the_work_itself() {
    let migration = with_table("drain_alone");
    let engine = migration.start_streaming();
    engine.stop();
    migration.source.sql("INSERT INTO t SELECT i, i FROM generate_series(2, 100) i");
    migration.drain();
    migration.assert_equal();
    let engine = migration.start_streaming();
    migration.source.sql("INSERT INTO t VALUES (5000, 1)");
    migration.drain();
    migration.assert_equal();
    engine.stop();
}

#[test]
fn only_the_tables_asked_for_are_carried() {
    let migration = Migration::new("globs");
    migration.both(
        "CREATE SCHEMA app; CREATE TABLE app.a (id int PRIMARY KEY); CREATE TABLE app.b (id int PRIMARY KEY);
         CREATE TABLE app.tmp_c (id int PRIMARY KEY); CREATE TABLE other (id int PRIMARY KEY)",
    );
    for table in ["app.a", "app.b", "app.tmp_c", "other"] {
        migration.source.sql(&format!("INSERT INTO {table} VALUES (1)"));
    }
    let mut engine = migration.start_with(&["--tables=app.*", "--exclude=app.tmp_*"]);
    migration.wait_state(&mut engine, "streaming");
    for table in ["app.a", "app.b", "app.tmp_c", "other"] {
        migration.source.sql(&format!("INSERT INTO {table} VALUES (2)"));
    }
    migration.drain();
    let count = |table: &str| migration.target.number(&format!("SELECT count(*) FROM {table}"));
    assert_eq!(["app.a", "app.b", "app.tmp_c", "other"].map(count), [2, 2, 0, 0]);
    // A table that is made later and matches is told, not carried.
    migration.source.sql("CREATE TABLE app.later (id int PRIMARY KEY)");
    wait_until("status names the new table", PATIENCE, || {
        migration.run("status", &["--json"]).stdout.contains("app.later")
    });
    engine.stop();
}

#[test]
fn the_state_can_be_in_a_schema_of_another_name() {
    let migration = with_table("state_schema");
    let mut engine = migration.start_with(&["--state-schema=moving"]);
    wait_until("the state is there", PATIENCE, || {
        engine.assert_running();
        let status = migration.run("status", &["--json", "--state-schema=moving"]);
        status.stdout.contains("\"streaming\"")
    });
    assert_eq!(migration.target.number("SELECT count(*) FROM pg_namespace WHERE nspname = 'tidegate'"), 0);
    migration.source.sql("INSERT INTO t VALUES (2, 2)");
    migration.run("drain", &["--state-schema=moving"]).expect_code(0);
    assert_eq!(migration.target.number("SELECT count(*) FROM t"), 2);
    engine.stop();
}

#[test]
fn a_file_does_what_the_flags_do_and_its_problems_are_told_all_at_once() {
    let migration = with_table("file");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tidegate.toml");
    let file = path.to_str().unwrap();
    std::fs::write(
        &path,
        format!(
            "[[migration]]\nname = \"{}\"\nsource = \"{}\"\ntarget_env = \"TARGET_URL\"\ntables = [\"public.*\"]\n\
             [migration.pipeline]\nbatch_bytes_max = \"1MiB\"\n",
            migration.name,
            migration.source.url()
        ),
    )
    .unwrap();
    let target_url = migration.target.url();
    let migration = migration.environment("TARGET_URL", &target_url);
    migration.run_bare(&["config", "check", "-c", file]).expect_code(0);
    let shown = migration.run_bare(&["config", "show", "-c", file]).expect_code(0);
    assert!(shown.says("1MiB") && shown.says("***"), "{}", shown.stdout);
    assert!(!shown.says(migration.source.server().password()), "a password was shown");
    migration.run_bare(&["check", "-c", file]).expect_code(0);

    std::fs::write(
        &path,
        "[[migration]]\nname = \"Bad Name\"\nsource = \"postgres://a/b\"\ntarget = \"postgres://a/b\"\n\
         [migration.pipeline]\nbatch_bytes_max = \"0\"\nspool_dir = \"/no/such/directory\"\n",
    )
    .unwrap();
    let outcome = migration.run_bare(&["config", "check", "-c", file]);
    assert!(matches!(outcome.code, Some(1 | 2)), "{outcome:?}");
    for expected in ["Bad Name", "batch_bytes_max", "spool_dir"] {
        assert!(outcome.says(expected), "no word of {expected}:\n{}\n{}", outcome.stdout, outcome.stderr);
    }
    std::fs::write(&path, "[[migration]]\nname = \"a\"\nno_such_key = 1\n").unwrap();
    let outcome = migration.run_bare(&["config", "check", "-c", file]);
    assert!(matches!(outcome.code, Some(1 | 2)) && outcome.says("no_such_key"), "{outcome:?}");
}

#[test]
fn libpq_variables_complete_a_url() {
    let migration = with_table("libpq");
    let (source, target) = (&migration.source, &migration.target);
    let bare = |port: u16| format!("postgres://127.0.0.1:{port}/{}", migration.name);
    let (source_url, target_url) = (bare(source.server().port()), bare(target.server().port()));
    let passwords = tempfile::NamedTempFile::new().unwrap();
    let line = |port: u16, password: &str| format!("127.0.0.1:{port}:*:postgres:{password}\n");
    std::fs::write(
        passwords.path(),
        line(source.server().port(), source.server().password())
            + &line(target.server().port(), target.server().password()),
    )
    .unwrap();
    let passfile = passwords.path().to_str().unwrap().to_owned();
    let migration = migration
        .again()
        .source_url(&source_url)
        .target_url(&target_url)
        .environment("PGUSER", "postgres")
        .environment("PGPASSFILE", &passfile);
    migration.run("check", &[]).expect_code(0);
}

#[test]
fn the_wal_budget_warns_at_half_and_stops_at_the_whole() {
    let (proxy, migration) = budgeted("budget_stop");
    let mut engine = migration.start_with(&["--wal-budget=48MiB"]);
    migration.wait_state(&mut engine, "streaming");
    proxy.pause();
    write_wal(&migration, 30);
    engine.wait_for_log("wal", PATIENCE);
    engine.assert_running();
    write_wal(&migration, 30);
    let stopped = engine.wait(PATIENCE).expect_code(3);
    assert!(stopped.error_code().is_some() && stopped.says("wal"), "{}", stopped.stderr);
    // The slot is kept: with a larger budget it goes on.
    proxy.resume();
    let mut engine = migration.start_with(&["--wal-budget=4GiB"]);
    migration.wait_state(&mut engine, "streaming");
    migration.drain();
    migration.assert_equal();
    engine.stop();
}

#[test]
fn the_wal_budget_can_drop_the_slot_and_names_the_repair() {
    let (proxy, migration) = budgeted("budget_drop");
    let mut engine = migration.start_with(&["--wal-budget=24MiB", "--wal-budget-policy=drop-slot"]);
    migration.wait_state(&mut engine, "streaming");
    proxy.pause();
    write_wal(&migration, 40);
    let stopped = engine.wait(PATIENCE).expect_code(3);
    assert!(stopped.says("--recreate-slot"), "{}", stopped.stderr);
    let slots = format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}'", migration.slot());
    assert_eq!(migration.source.number(&slots), 0);
}

/// A target that can be put out of reach, so that the source must keep its WAL.
fn budgeted(topic: &str) -> (Proxy, Migration) {
    let proxy = Proxy::start(target_server().port());
    let migration = Migration::new(topic).target_via(&proxy);
    migration.both("CREATE TABLE t (id int PRIMARY KEY, body text)");
    (proxy, migration)
}

fn write_wal(migration: &Migration, megabytes: u32) {
    migration.source.sql(&format!(
        "INSERT INTO t SELECT coalesce((SELECT max(id) FROM t),
        0) + i, repeat('x', 1000) FROM generate_series(1, {megabytes} * 1000) i"
    ));
}

#[test]
fn migrate_shows_plain_lines_where_there_is_no_terminal() {
    let migration = with_table("plain");
    let engine = migration.start_streaming();
    migration.drain();
    let stopped = engine.stop();
    assert!(!stopped.stdout.contains('\u{1b}') && !stopped.stderr.contains('\u{1b}'), "terminal codes in a file");
    assert!(!stopped.says(migration.source.server().password()), "a password was shown");
}
