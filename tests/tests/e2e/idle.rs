//! A source whose published tables are idle while the rest of the server is not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tidegate_testkit::wait::wait_until;
use tidegate_testkit::{Database, Migration, start_server, target_server};
use tidegate_throwaway::Server;

const RETAINED_BYTES_MAX: i64 = 64_000_000;
const WAL_BYTES: i64 = 2_000_000_000;
const WAL_WITHIN: Duration = Duration::from_secs(45);

fn behind(migration: &Migration, position: &str) -> i64 {
    let slot = migration.slot();
    migration.source.number(&format!(
        "SELECT (pg_current_wal_lsn() - {position})::bigint FROM pg_replication_slots WHERE slot_name = '{slot}'"
    ))
}

/// Writes WAL in another database, evenly, until enough was written.
fn make_noise(noise: &Database) {
    noise.sql("CREATE TABLE noise (body text)");
    let start = noise.sql("SELECT pg_current_wal_lsn()");
    let began = Instant::now();
    loop {
        noise.sql("INSERT INTO noise SELECT repeat('x', 1900) FROM generate_series(1, 4000); TRUNCATE noise");
        let written = noise.number(&format!("SELECT (pg_current_wal_lsn() - '{start}')::bigint"));
        if written >= WAL_BYTES {
            break;
        }
        let due = began + Duration::from_secs_f64(written as f64 / WAL_BYTES as f64 * WAL_WITHIN.as_secs_f64());
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    assert!(began.elapsed() < Duration::from_secs(60), "the noise took {:?}", began.elapsed());
}

#[test]
fn wal_written_elsewhere_is_let_go_and_nothing_is_acknowledged_before_it_is_durable() {
    let source = start_server(Server::builder().setting("max_wal_size", "4GB"));
    let migration = Migration::on(&source, &target_server(), "idle");
    migration.both("CREATE TABLE t (id int PRIMARY KEY)");
    migration.source.sql("INSERT INTO t VALUES (1)");
    let noise = Database::create(&source, "noise");
    let mut engine = migration.start_streaming();
    let done = AtomicBool::new(false);
    let slot = migration.slot();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            make_noise(&noise);
            done.store(true, Ordering::Relaxed);
        });
        let mut highest = 0;
        while !done.load(Ordering::Relaxed) {
            highest = behind(&migration, "confirmed_flush_lsn").max(highest);
            assert!(highest < RETAINED_BYTES_MAX, "{highest} bytes of WAL behind confirmed_flush_lsn");
            assert_acknowledged_is_durable(&migration, &slot);
            std::thread::sleep(Duration::from_millis(100));
        }
        println!("at most {highest} bytes of WAL were behind confirmed_flush_lsn");
    });
    wait_until("restart_lsn follows", Duration::from_secs(30), || {
        behind(&migration, "restart_lsn") < RETAINED_BYTES_MAX
    });
    engine.assert_running();
    engine.stop();
    // The slot stood still while nobody ran; the checkpoint and the slot still agree.
    noise.sql("INSERT INTO noise SELECT repeat('x', 1900) FROM generate_series(1, 25000)");
    let engine = migration.start_streaming();
    migration.source.sql("INSERT INTO t VALUES (2)");
    migration.drain();
    migration.assert_equal();
    engine.stop();
}

/// The slot is read first: the checkpoint can only have moved on since.
fn assert_acknowledged_is_durable(migration: &Migration, slot: &str) {
    let confirmed = migration
        .source
        .sql(&format!("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '{slot}'"));
    let durable = format!(
        "SELECT replace(position, 'postgres:',
        '')::pg_lsn >= '{confirmed}' FROM tidegate.checkpoint WHERE migration = '{}'",
        migration.name
    );
    assert!(migration.target.holds(&durable), "{confirmed} is acknowledged and not durable");
}

#[test]
fn an_idle_stream_moves_its_checkpoint_and_a_marker_arrives_at_once() {
    let migration = Migration::new("idle_drain").options(["--idle-checkpoint-every=60s"]);
    migration.both("CREATE TABLE t (id int PRIMARY KEY)");
    let engine = migration.start_streaming();
    for _ in 0..3 {
        let began = Instant::now();
        migration.drain();
        assert!(began.elapsed() < Duration::from_secs(10), "a drain of an idle stream took {:?}", began.elapsed());
    }
    engine.stop();
}
