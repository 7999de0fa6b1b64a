//! Both directions at once between the same two databases, with writers on both sides.
//!
//! The writers of the two sides write disjoint rows. In the end both sides are equal, and each has changed as often as
//! its own writers and the other side's writers changed it together: a change that came back to where it was made would
//! be counted there once more. The engine writes each transaction by itself, so that nothing is folded away.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate_throwaway::Server;

use crate::cockroach::Cockroach;
use crate::database::{Database, start_server};
use crate::transfers::{self, Transfers};
use crate::wait::{PATIENCE, wait_until};
use crate::wire::Wire;
use crate::{Engine, Migration, compare};

/// How long and how much.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How long both sides are written. The engine is killed after a third of it and stopped after two thirds.
    pub lasts: Duration,
    /// Clients on each side.
    pub clients: u32,
    /// Transactions per second on each side.
    pub rate: u32,
    /// Decides what is written.
    pub seed: u64,
}

/// What one side saw.
#[derive(Clone, Copy, Debug)]
pub struct Volume {
    /// Rows that its own writers changed.
    pub own: u64,
    /// Rows that the other side's writers changed.
    pub other: u64,
    /// Rows that were changed there in all.
    pub changed: u64,
}

impl Volume {
    /// Returns how many changes were there too often.
    pub fn echoes(self) -> i64 {
        self.changed.cast_signed() - (self.own + self.other).cast_signed()
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub struct Report {
    /// In PostgreSQL.
    pub postgres: Volume,
    /// In CockroachDB.
    pub cockroach: Volume,
    /// Rows compared.
    pub rows: u64,
    /// How long all of it took.
    pub took: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, volume) in [("PostgreSQL", self.postgres), ("CockroachDB", self.cockroach)] {
            let Volume { own, other, changed } = volume;
            let echoes = volume.echoes();
            writeln!(f, "{name}: {own} rows changed here and {other} there, {changed} changes seen: {echoes} echoes")?;
        }
        write!(f, "{} rows compared, both sides are equal; took {:.0?}", self.rows, self.took)
    }
}

const TABLES: [&str; 5] = ["account", "transfer", "transfer_line", "ballast", "marker"];
const COUNTING_SLOT: &str = "echo_count";
/// Markers sent over each way. The second of them runs behind what the first could have brought back.
const MARKERS: u32 = 2;

/// Runs the scenario.
///
/// # Panics
/// When the two sides differ in the end or a change came back.
pub fn run(plan: &Plan) -> Report {
    let started = Instant::now();
    let (source, target) = (start_server(Server::builder()), Cockroach::start());
    let migration =
        Migration::between(&source, &target, "both").options(["--direction=both", "--batch-transactions-max=1"]);
    let plans = plans(plan);
    for database in [&migration.source, &migration.target] {
        transfers::create_tables(database);
        database.sql("CREATE TABLE marker (id INT4 PRIMARY KEY)");
    }
    // The copy carries the accounts of both sides over.
    for side in &plans {
        transfers::fill(&migration.source, side);
    }
    let mut engine = migration.start();
    wait_both_streaming(&migration, &mut engine);
    let (postgres, cockroach) = (PostgresCount::begin(&migration.source), CockroachCount::begin(&migration.target));

    let at_source = Transfers::start(&migration.source, &plans[0]);
    let at_target = Transfers::start(&migration.target, &plans[1]);
    std::thread::sleep(plan.lasts / 3);
    engine.assert_running();
    engine.kill9();
    let mut engine = migration.start();
    std::thread::sleep(plan.lasts / 3);
    wait_both_streaming(&migration, &mut engine);
    engine.stop();
    let mut engine = migration.start();
    std::thread::sleep(plan.lasts / 3);
    engine.assert_running();
    let (at_source, at_target) = (at_source.stop(), at_target.stop());
    assert_eq!((at_source.unknown, at_target.unknown), (0, 0), "no server was killed, so every answer came");

    wait_both_streaming(&migration, &mut engine);
    send_markers(&migration, &mut engine);
    migration.drain();
    migration.assert_equal();
    let rows = compare::row_count(&migration.target);
    let (own, other) = (at_source.rows_written + u64::from(MARKERS), at_target.rows_written + u64::from(MARKERS));
    let postgres = Volume { own, other, changed: postgres.end(&migration.source) };
    let cockroach = Volume { own: other, other: own, changed: cockroach.end(&migration.target) };
    engine.stop();
    let total = plans.iter().map(transfers::Plan::total).sum();
    for database in [&migration.source, &migration.target] {
        let problems: Vec<String> = [&at_source, &at_target].iter().flat_map(|m| m.problems(database, total)).collect();
        assert!(problems.is_empty(), "in {}:\n{}", database.url(), problems.join("\n"));
    }
    let report = Report { postgres, cockroach, rows, took: started.elapsed() };
    assert_eq!((postgres.echoes(), cockroach.echoes()), (0, 0), "{report}");
    report
}

/// Even rows belong to the source's writers, odd ones to the target's.
fn plans(plan: &Plan) -> [transfers::Plan; 2] {
    [0, 1].map(|side| transfers::Plan {
        first_client: side * plan.clients,
        stride: 2,
        offset: side,
        ballast: 1_000,
        ..transfers::Plan::new(plan.clients, plan.rate, plan.seed)
    })
}

fn wait_both_streaming(migration: &Migration, engine: &mut Engine) {
    wait_until("both streams are streaming", PATIENCE, || {
        engine.assert_running();
        migration.states() == ["streaming", "streaming"]
    });
}

/// Streams keep the order, so what went out before a marker has arrived before it.
fn send_markers(migration: &Migration, engine: &mut Engine) {
    let (source, target) = (&migration.source, &migration.target);
    for round in 0..MARKERS {
        for (from, to, marker) in [(source, target, 2 * round), (target, source, 2 * round + 1)] {
            from.sql(&format!("INSERT INTO marker VALUES ({marker})"));
            wait_until("the marker is on the other side", PATIENCE, || {
                engine.assert_running();
                to.number(&format!("SELECT count(*) FROM marker WHERE id = {marker}")) == 1
            });
        }
    }
}

/// Counts every change of a committed transaction by a replication slot of its own.
struct PostgresCount;

impl PostgresCount {
    fn begin(database: &Database) -> PostgresCount {
        database.sql(&format!("SELECT pg_create_logical_replication_slot('{COUNTING_SLOT}', 'test_decoding')"));
        PostgresCount
    }

    fn end(self, database: &Database) -> u64 {
        let count = database.number(&format!(
            "SELECT count(*) FROM pg_logical_slot_get_changes('{COUNTING_SLOT}', NULL, NULL)
              WHERE data LIKE 'table public.%'"
        ));
        database.sql(&format!("SELECT pg_drop_replication_slot('{COUNTING_SLOT}')"));
        count.cast_unsigned()
    }
}

/// Counts every change by a changefeed of its own, which also carries what the engine hides from feeds.
struct CockroachCount {
    cursor: String,
}

impl CockroachCount {
    fn begin(database: &Database) -> CockroachCount {
        CockroachCount { cursor: database.sql("SELECT cluster_logical_timestamp()") }
    }

    fn end(self, database: &Database) -> u64 {
        let now = database.sql("SELECT cluster_logical_timestamp()");
        let wall: u64 = now.split('.').next().and_then(|wall| wall.parse().ok()).expect("nanoseconds come first");
        // Some time ahead, because a feed may not end in its past.
        let end = wall + 2_000_000_000;
        let feed = format!(
            "EXPERIMENTAL CHANGEFEED FOR {} WITH updated, cursor = '{}', end_time = '{end}',
                ignore_disable_changefeed_replication",
            TABLES.join(", "),
            self.cursor
        );
        let session = Wire::connect(database).expect("a session for the count");
        let rows = session.rows(&feed).expect("a feed that ends");
        let changes: BTreeSet<_> = rows.iter().filter_map(|row| change(row)).collect();
        changes.len() as u64
    }
}

/// Returns what tells one change from a repetition of it: table, key and time. `None` for a resolved timestamp.
fn change(row: &[Option<String>]) -> Option<(String, String, String)> {
    let [Some(table), Some(key), Some(value)] = row else { return None };
    let value: Value = serde_json::from_slice(&unhex(value)).expect("a row is JSON");
    let updated = value["updated"].as_str().expect("a row says when").to_owned();
    Some((table.clone(), key.clone(), updated))
}

/// Reads the text form of bytes.
fn unhex(text: &str) -> Vec<u8> {
    let digits = text.strip_prefix("\\x").expect("bytes are printed as hex");
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).expect("hex is ASCII");
        u8::from_str_radix(pair, 16).expect("hex digits come in pairs")
    };
    digits.as_bytes().chunks(2).map(byte).collect()
}
