//! Lost answers, failed commits, dead and doubled processes: nothing is skipped and nothing comes twice.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tidegate_testkit::random::{Random, seed};
use tidegate_testkit::wait::{PATIENCE, wait_until};
use tidegate_testkit::{Engine, Fault, Migration, Proxy, source_server, target_server};

/// `log` has no key, so that a row which comes twice shows.
const TABLES: &str = "CREATE TABLE log (n int); ALTER TABLE log REPLICA IDENTITY FULL;
    CREATE TABLE account (id int PRIMARY KEY, balance int)";
const ROWS: &str = "INSERT INTO account SELECT i, 0 FROM generate_series(1, 20) i";

/// Commits that many transactions at the source, numbered from `first`.
fn write(migration: &Migration, first: u32, count: u32) {
    let transaction = |n: u32| {
        format!(
            "BEGIN; INSERT INTO log VALUES ({n}); UPDATE account SET balance = balance + 1 WHERE id = {}; COMMIT;\n",
            n % 20 + 1
        )
    };
    migration.source.sql(&(first..first + count).map(transaction).collect::<String>());
}

fn migration_behind(proxy: &Proxy, topic: &str) -> Migration {
    let migration = Migration::new(topic).target_via(proxy).options(["--batch-transactions-max=5"]);
    migration.both(TABLES);
    migration.source.sql(ROWS);
    migration
}

/// Lets the fault strike the first, second, ... commit of a burst; the process goes on by itself each time.
fn survives_at_every_commit(fault: Fault, topic: &str) {
    let proxy = Proxy::start(target_server().port());
    let migration = migration_behind(&proxy, topic);
    let mut engine = migration.start_streaming();
    for round in 0..4 {
        proxy.arm(fault, "apply", round);
        write(&migration, round * 100, 60);
        proxy.wait_sprung(round + 1);
    }
    migration.drain();
    engine.assert_running();
    migration.assert_equal();
    engine.stop();
}

#[test]
fn a_commit_whose_answer_is_lost_is_not_applied_twice() {
    survives_at_every_commit(Fault::LoseCommitAnswer, "lost_answer");
}

#[test]
fn a_commit_that_never_arrived_is_not_skipped() {
    survives_at_every_commit(Fault::CutBeforeCommit, "lost_commit");
}

#[test]
fn batches_sent_behind_a_commit_that_fails_are_not_applied_without_it() {
    let proxy = Proxy::start(target_server().port());
    let migration = Migration::new("failed_commit")
        .target_via(&proxy)
        .options(["--batch-transactions-max=1", "--batches-in-flight-max=4"]);
    migration.both(TABLES);
    migration.source.sql(ROWS);
    let engine = migration.start_streaming();
    // Fails at COMMIT, and only the first time: a sequence is not rolled back.
    migration.target.sql(
        "CREATE SEQUENCE failures;
         CREATE FUNCTION fail_once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF NEW.n = 10 AND nextval('public.failures') = 1 THEN
                 RAISE EXCEPTION 'commit refused' USING ERRCODE = '40001';
             END IF;
             RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER fail_once AFTER INSERT ON log DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION fail_once();
         ALTER TABLE log ENABLE ALWAYS TRIGGER fail_once",
    );
    proxy.delay(Duration::from_millis(30));
    write(&migration, 0, 40);
    migration.drain();
    assert!(migration.target.number("SELECT last_value FROM failures") >= 2, "no commit failed");
    migration.assert_equal();
    engine.stop();
}

/// A connection whose client is dead finishes its batch after the next process has begun.
fn a_zombie_writes_nothing(fault: Fault, topic: &str) {
    let proxy = Proxy::start(target_server().port());
    let migration = migration_behind(&proxy, topic);
    let mut first = migration.start_streaming();
    proxy.arm(fault, "apply", 0);
    write(&migration, 0, 10);
    proxy.wait_sprung(1);
    first.kill9();
    let second_starts = migration.target.sql("SELECT clock_timestamp()");
    let mut second = migration.start();
    // A zombie that holds a lock on the checkpoint may have to end before the newcomer can go on.
    let deadline = Instant::now() + Duration::from_secs(8);
    while migration.state().as_deref() != Some("streaming") && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(100));
    }
    write(&migration, 100, 10);
    proxy.release();
    migration.wait_state(&mut second, "streaming");
    wait_until("the zombie is gone", PATIENCE, || {
        migration.target.number(&format!(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'tidegate/{}/apply%'
                AND backend_start < '{second_starts}'",
            migration.name
        )) == 0
    });
    write(&migration, 200, 10);
    migration.drain();
    migration.assert_equal();
    second.stop();
}

#[test]
fn a_zombie_that_begins_its_batch_after_the_restart_writes_nothing() {
    a_zombie_writes_nothing(Fault::HoldTransaction, "zombie_begin");
}

#[test]
fn a_zombie_that_commits_after_the_restart_repeats_nothing() {
    a_zombie_writes_nothing(Fault::HoldCommit, "zombie_commit");
}

#[test]
fn a_second_process_waits_and_takes_over_when_the_first_is_killed() {
    let migration = Migration::new("second");
    migration.both(TABLES);
    migration.source.sql(ROWS);
    let mut first = migration.start_streaming();
    let mut second = migration.start();
    second.wait_for_log("own", PATIENCE);
    write(&migration, 0, 20);
    migration.drain();
    first.assert_running();
    second.assert_running();
    first.kill9();
    write(&migration, 100, 20);
    migration.wait_state(&mut second, "streaming");
    migration.drain();
    migration.assert_equal();
    second.stop();
}

#[test]
fn two_processes_started_at_once_copy_and_stream_every_row_once() {
    let migration = Migration::new("at_once");
    migration.both(TABLES);
    migration.source.sql(ROWS);
    let mut engines = [migration.start(), migration.start()];
    wait_until("one of them streams", PATIENCE, || migration.state().as_deref() == Some("streaming"));
    write(&migration, 0, 20);
    migration.drain();
    migration.assert_equal();
    let running = engines.iter_mut().filter_map(|engine| engine.ended().is_none().then_some(())).count();
    assert!(running >= 1, "both ended");
}

#[test]
fn a_displaced_owner_exits_3_and_writes_nothing_more() {
    let migration = Migration::new("displaced");
    migration.both(TABLES);
    migration.source.sql(ROWS);
    let mut first = migration.start_streaming();
    write(&migration, 0, 20);
    // It cannot notice anything while it is halted.
    first.signal(Signal::SIGSTOP);
    let mut second: Engine = migration.start_with(&["--take-over"]);
    wait_until("the second one is the owner", PATIENCE, || {
        second.assert_running();
        migration.target.number("SELECT epoch FROM tidegate.checkpoint") > 1
    });
    write(&migration, 100, 20);
    first.signal(Signal::SIGCONT);
    let ended = first.wait(PATIENCE).expect_code(3);
    assert!(ended.error_code().is_some(), "{}", ended.stderr);
    migration.wait_state(&mut second, "streaming");
    migration.drain();
    migration.assert_equal();
    second.stop();
}

#[test]
fn connections_cut_again_and_again_lose_nothing() {
    let mut random = Random::seeded(seed());
    let (source_proxy, target_proxy) = (Proxy::start(source_server().port()), Proxy::start(target_server().port()));
    let migration = Migration::new("cut")
        .source_via(&source_proxy)
        .target_via(&target_proxy)
        .options(["--batch-transactions-max=10"]);
    migration.both(TABLES);
    migration.source.sql(ROWS);
    let mut engine = migration.start_streaming();
    for round in 0..12 {
        write(&migration, round * 100, 50);
        std::thread::sleep(random.time_below(Duration::from_millis(200)));
        match random.below(3) {
            0 => source_proxy.cut(),
            1 => target_proxy.cut(),
            _ => {
                source_proxy.cut();
                target_proxy.cut();
            }
        }
    }
    engine.assert_running();
    migration.drain();
    migration.assert_equal();
    engine.stop();
}

#[test]
fn a_clean_stop_is_followed_by_a_clean_start() {
    let migration = Migration::new("stop");
    migration.both(TABLES);
    migration.source.sql(ROWS);
    for round in 0..3 {
        let engine = migration.start_streaming();
        write(&migration, round * 100, 30);
        let stopped = engine.stop();
        assert_eq!(stopped.error_code(), None, "{}", stopped.stderr);
        assert_eq!(migration.state().as_deref(), Some("stopped"));
        write(&migration, round * 100 + 50, 30);
    }
    let engine = migration.start_streaming();
    migration.drain();
    migration.assert_equal();
    engine.stop();
}

#[test]
fn a_start_whose_databases_go_away_is_taken_up_again() {
    let mut random = Random::seeded(seed());
    let (source_proxy, target_proxy) = (Proxy::start(source_server().port()), Proxy::start(target_server().port()));
    let migration = Migration::new("cut_start").source_via(&source_proxy).target_via(&target_proxy);
    migration.both(TABLES);
    migration.source.sql(ROWS);
    // Slow answers make a start long enough to be hit anywhere.
    let slow = |delay| [&source_proxy, &target_proxy].map(|proxy| proxy.delay(delay));
    slow(Duration::from_millis(5));
    let mut engine = migration.start();
    let interrupted = |engine: &Engine| engine.log().matches("interrupted, to be tried again").count();
    engine.wait_for_log("stream taken", PATIENCE);
    for round in 1..=4 {
        wait_until("a start is interrupted once more", PATIENCE, || {
            std::thread::sleep(random.time_below(Duration::from_millis(150)));
            if random.below(2) == 0 { &source_proxy } else { &target_proxy }.cut();
            engine.assert_running();
            interrupted(&engine) >= round || migration.state().as_deref() == Some("streaming")
        });
    }
    assert!(interrupted(&engine) > 0, "no start was interrupted:\n{}", engine.log());
    slow(Duration::ZERO);
    migration.wait_state(&mut engine, "streaming");
    write(&migration, 0, 20);
    migration.drain();
    migration.assert_equal();
    engine.stop();
}
