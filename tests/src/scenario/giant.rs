//! Transactions larger than memory, with a target that stands still in the middle.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_throwaway::Server;

use crate::database::start_server;
use crate::wait::wait_until;
use crate::{Database, Engine, Migration};

/// How large, and how little memory for it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Rows deleted in one transaction.
    pub rows_deleted: u64,
    /// Bytes inserted in one transaction.
    pub bytes_inserted: u64,
    /// The engine's memory budget, as the command line takes it.
    pub memory_budget: &'static str,
    /// How long the target stands still after each of the two was committed.
    pub target_pause: Duration,
    /// The most resident memory the engine may ever have had.
    pub resident_bytes_max: u64,
    /// How long the target may take to catch up.
    pub drain_timeout: &'static str,
}

/// What happened.
#[derive(Clone, Debug)]
pub struct Report {
    /// The most resident memory the engine ever had.
    pub resident_bytes: u64,
    /// How long the delete took to arrive, the pause included.
    pub delete_took: Duration,
    /// How long the insert took to arrive, the pause included.
    pub insert_took: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "the delete arrived {:.0?} after its commit, the insert {:.0?}",
            self.delete_took, self.insert_took
        )?;
        write!(f, "the engine's resident memory was never over {} MB", self.resident_bytes / 1_000_000)
    }
}

const ROW_BYTES: u64 = 2_000;

/// Runs the scenario.
///
/// # Panics
/// When memory was exceeded, the replication connection was lost, or the target differs in the end.
pub fn run(plan: &Plan) -> Report {
    let source = start_server(Server::builder().setting("wal_sender_timeout", "5s"));
    let target = start_server(Server::builder());
    let migration = Migration::on(&source, &target, "giant").options(["--memory-budget", plan.memory_budget]);
    migration.both(
        "CREATE TABLE doomed (id bigint PRIMARY KEY, note text);
         CREATE TABLE wide (id bigint PRIMARY KEY, body text)",
    );
    migration.source.sql(&format!(
        "INSERT INTO doomed SELECT i, 'row ' || i FROM generate_series(1, {}) i; VACUUM doomed",
        plan.rows_deleted
    ));
    let mut engine = migration.start_streaming();
    let sender = wait_for_sender(&migration);
    let delete_took = replicate(&migration, &mut engine, plan, "DELETE FROM doomed");
    // Text that no compression makes small.
    let insert = format!(
        "INSERT INTO wide SELECT i, (SELECT string_agg(md5(i::text || j::text), '') FROM generate_series(1, {}) j)
           FROM generate_series(1, {}) i",
        ROW_BYTES / 32,
        plan.bytes_inserted / ROW_BYTES
    );
    let insert_took = replicate(&migration, &mut engine, plan, &insert);
    assert_eq!(sender, wait_for_sender(&migration), "the server ended the replication connection");
    assert_same_content(&migration);
    let (_, resident_bytes) = engine.memory();
    assert!(
        resident_bytes < plan.resident_bytes_max,
        "resident memory rose to {resident_bytes} bytes, over {}",
        plan.resident_bytes_max
    );
    engine.stop();
    Report { resident_bytes, delete_took, insert_took }
}

/// Commits one giant transaction, halts the target for a while, and waits until it has arrived.
fn replicate(migration: &Migration, engine: &mut Engine, plan: &Plan, sql: &str) -> Duration {
    migration.source.sql(sql);
    let committed = Instant::now();
    let target = Arc::clone(migration.target.server());
    target.pause();
    std::thread::sleep(plan.target_pause);
    target.resume();
    engine.assert_running();
    migration.drain_for(plan.drain_timeout);
    committed.elapsed()
}

fn wait_for_sender(migration: &Migration) -> String {
    let query = format!("SELECT active_pid FROM pg_replication_slots WHERE slot_name = '{}'", migration.slot());
    let mut sender = String::new();
    wait_until("the slot is in use", Duration::from_secs(30), || {
        sender = migration.source.sql(&query);
        !sender.is_empty()
    });
    sender
}

/// Sums of hashes tell differing multisets apart without sorting gigabytes.
fn assert_same_content(migration: &Migration) {
    let digest = |database: &Database| {
        database.sql(
            "SELECT count(*) FROM doomed;
             SELECT count(*), coalesce(sum(hashtextextended(w::text, 0)::numeric), 0) FROM wide w",
        )
    };
    assert_eq!(digest(&migration.source), digest(&migration.target), "source and target differ");
}
