//! One transaction that CockroachDB cannot take in one piece, with the engine killed in the middle of its parts.

use std::fmt;
use std::time::{Duration, Instant};

use tidegate_throwaway::Server;

use crate::cockroach::Cockroach;
use crate::database::start_server;
use crate::wait::wait_until;
use crate::{Engine, Migration, compare};

/// How large, and how often it is interrupted.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Rows that the transaction inserts. It also changes and deletes some of them.
    pub rows: u64,
    /// What the engine takes for a giant, and so the size of a part, as the command line takes it.
    pub giant_transaction_bytes: &'static str,
    /// Kills of the engine between two parts or in the middle of one.
    pub kills: u32,
}

/// What happened.
#[derive(Clone, Debug)]
pub struct Report {
    /// The checkpoint after each kill: the commit, and how many changes of it were there.
    pub interrupted_at: Vec<String>,
    /// Rows compared.
    pub rows: u64,
    /// From the commit to the arrival, kills included.
    pub took: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the engine was killed when the checkpoint stood at {}", self.interrupted_at.join(", "))?;
        write!(f, "{} rows compared, source and target are equal {:.0?} after the commit", self.rows, self.took)
    }
}

const LIMIT: Duration = Duration::from_secs(300);

/// Runs the scenario.
///
/// # Panics
/// When source and target differ in the end, or when the transaction was not applied in parts.
pub fn run(plan: &Plan) -> Report {
    let source = start_server(Server::builder());
    let target = Cockroach::start();
    let size = format!("--giant-transaction-bytes={}", plan.giant_transaction_bytes);
    let migration = Migration::between(&source, &target, "giant").options([&*size, "--memory-budget=64MiB"]);
    migration.both("CREATE TABLE wide (id INT8 PRIMARY KEY, n INT8 NOT NULL, note TEXT NOT NULL)");
    let mut engine = migration.start_streaming();
    migration.source.sql(&format!(
        "BEGIN;
         INSERT INTO wide SELECT i, i, md5(i::text) FROM generate_series(1, {}) i;
         UPDATE wide SET n = -n WHERE id % 100 = 0;
         DELETE FROM wide WHERE id % 1000 = 1;
         COMMIT",
        plan.rows
    ));
    let committed = Instant::now();
    let mut interrupted_at = Vec::new();
    let mut stood_at = String::new();
    for _ in 0..plan.kills {
        stood_at = wait_for_part(&migration, &mut engine, &stood_at);
        engine.kill9();
        // What was on its way to the server when the engine died may still arrive.
        interrupted_at.push(position(&migration));
        let there = migration.target.number("SELECT count(*) FROM wide");
        assert!(
            there > 0 && there < plan.rows.cast_signed(),
            "{there} rows are there in the middle of the transaction"
        );
        engine = migration.start();
    }
    migration.wait_state_for(&mut engine, "streaming", LIMIT);
    migration.drain_for("900s");
    let took = committed.elapsed();
    migration.assert_equal();
    let rows = compare::row_count(&migration.target);
    assert_eq!(rows, plan.rows - plan.rows / 1000);
    engine.stop();
    Report { interrupted_at, rows, took }
}

fn position(migration: &Migration) -> String {
    migration.target.sql("SELECT position FROM tidegate.checkpoint")
}

/// Waits until another part is there; returns the checkpoint.
fn wait_for_part(migration: &Migration, engine: &mut Engine, before: &str) -> String {
    let mut stands = String::new();
    wait_until("the checkpoint shows a part of the transaction", LIMIT, || {
        engine.assert_running();
        stands = position(migration);
        stands.contains('#') && stands != before
    });
    stands
}
