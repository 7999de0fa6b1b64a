//! Ways in which two sides may differ, or seem to, each in a table of its own; and what a comparison has to say of each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Migration;
use crate::database::Database;
use crate::wire::{Refused, Wire};

/// Tables of both kinds of servers.
const TABLES: &str = "
    CREATE TABLE d_missing (id INT8 PRIMARY KEY, v TEXT); CREATE TABLE d_extra (id INT8 PRIMARY KEY, v TEXT);
    CREATE TABLE d_swapped (id INT8 PRIMARY KEY, a TEXT, b TEXT); CREATE TABLE d_blob (id INT8 PRIMARY KEY, body BYTEA);
    CREATE TABLE d_ulp (id INT8 PRIMARY KEY, x FLOAT8); CREATE TABLE d_number (id INT8 PRIMARY KEY, n DECIMAL);
    CREATE TABLE d_bag (n INT8, t TEXT); CREATE TABLE d_scale (id INT8 PRIMARY KEY, n DECIMAL);
    CREATE TABLE d_json (id INT8 PRIMARY KEY, j JSONB)";

const ROWS: &str = "
    INSERT INTO d_missing SELECT i, 'v' FROM generate_series(1, 500) AS g (i);
    INSERT INTO d_extra SELECT i, 'v' FROM generate_series(1, 500) AS g (i);
    INSERT INTO d_swapped SELECT i, 'left', 'right' FROM generate_series(1, 500) AS g (i);
    INSERT INTO d_blob SELECT i, repeat('x', 1048576)::BYTEA FROM generate_series(1, 3) AS g (i);
    INSERT INTO d_ulp SELECT i, 0.1 FROM generate_series(1, 500) AS g (i);
    INSERT INTO d_number SELECT i, 12.5 FROM generate_series(1, 500) AS g (i);
    INSERT INTO d_bag SELECT i % 5, 'x' FROM generate_series(1, 500) AS g (i);
    INSERT INTO d_scale SELECT i, 1.0 FROM generate_series(1, 500) AS g (i);
    INSERT INTO d_json SELECT i, '{\"a\": 1, \"b\": [1, 2]}' FROM generate_series(1, 500) AS g (i)";

/// One kind of damage.
#[derive(Clone, Copy, Debug)]
pub struct Damage {
    /// The table that is damaged.
    pub table: &'static str,
    /// Damages it, at the target.
    pub sql: &'static str,
    /// How many rows are missing, extra and different.
    pub counts: [u64; 3],
    /// A column of the key, or of the row, and its value.
    pub key: (&'static str, &'static str),
    /// The columns that differ.
    pub columns: &'static [&'static str],
}

/// What differs in meaning.
pub const CORRUPTIONS: [Damage; 7] = [
    Damage {
        table: "public.d_missing",
        sql: "DELETE FROM d_missing WHERE id = 77",
        counts: [1, 0, 0],
        key: ("id", "77"),
        columns: &[],
    },
    Damage {
        table: "public.d_extra",
        sql: "INSERT INTO d_extra VALUES (9077, 'v')",
        counts: [0, 1, 0],
        key: ("id", "9077"),
        columns: &[],
    },
    Damage {
        table: "public.d_swapped",
        sql: "UPDATE d_swapped SET a = b, b = a WHERE id = 78",
        counts: [0, 0, 1],
        key: ("id", "78"),
        columns: &["a", "b"],
    },
    Damage {
        table: "public.d_blob",
        sql: "UPDATE d_blob SET body = (repeat('x', 600000) || 'y' || repeat('x', 448575))::BYTEA WHERE id = 2",
        counts: [0, 0, 1],
        key: ("id", "2"),
        columns: &["body"],
    },
    Damage {
        table: "public.d_ulp",
        sql: "UPDATE d_ulp SET x = 0.10000000000000002 WHERE id = 79",
        counts: [0, 0, 1],
        key: ("id", "79"),
        columns: &["x"],
    },
    Damage {
        table: "public.d_number",
        sql: "UPDATE d_number SET n = 12.50000001 WHERE id = 80",
        counts: [0, 0, 1],
        key: ("id", "80"),
        columns: &["n"],
    },
    Damage {
        table: "public.d_bag",
        sql: "INSERT INTO d_bag VALUES (6, 'kept')",
        counts: [0, 1, 0],
        key: ("n", "6"),
        columns: &[],
    },
];

/// What differs in the text alone.
const SEEMING: &str = "UPDATE d_scale SET n = 1.00 WHERE id = 81;
    UPDATE d_json SET j = '{\"b\": [1, 2], \"a\": 1}' WHERE id = 82";

/// Makes the tables on both sides and fills those of the source.
pub fn create(migration: &Migration) {
    migration.both(TABLES);
    for database in [&migration.source, &migration.target] {
        database.only_postgres("ALTER TABLE d_bag REPLICA IDENTITY FULL");
    }
    migration.source.sql(ROWS);
}

/// Damages the target in every way.
pub fn damage(target: &Database) {
    CORRUPTIONS.iter().for_each(|damage| drop(target.sql(damage.sql)));
    // A lost row: one of several that are alike, where the place of a row has another name on each kind of server.
    let place = if target.cockroach().is_some() { "rowid" } else { "ctid" };
    target.sql(&format!("DELETE FROM d_bag WHERE {place} = (SELECT min({place}) FROM d_bag WHERE n = 3)"));
    target.sql(SEEMING);
}

/// Fails the test unless a report names exactly what was damaged, and nothing in any other table.
#[track_caller]
pub fn assert_named(report: &Value) {
    let tables = report["tables"].as_array().expect("tables");
    for table in tables {
        let Some(damage) = CORRUPTIONS.iter().find(|damage| table["name"] == damage.table) else {
            assert_eq!(table["verdict"], "equal", "{table}");
            continue;
        };
        let is_bag = damage.table == "public.d_bag";
        let [missing, extra, different] = damage.counts;
        let missing = missing + u64::from(is_bag);
        let counts = json!([table["missing"], table["extra"], table["different"]]);
        assert_eq!(counts, json!([missing, extra, different]), "{table}");
        let (column, value) = damage.key;
        let keys = table["keys"].as_array().expect("keys");
        assert_eq!(keys.len() as u64, missing + extra + different, "{table}");
        let named = keys.iter().find(|key| key["key"][column] == value).unwrap_or_else(|| panic!("no key in {table}"));
        assert_eq!(named["columns"], json!(damage.columns), "{table}");
        assert!(!is_bag || keys.iter().any(|key| key["key"]["n"] == "3" && key["kind"] == "missing"), "{table}");
    }
    let differing = tables.iter().filter(|table| table["verdict"] == "different").count();
    assert_eq!(differing, CORRUPTIONS.len(), "{report}");
}

/// Writers of the tables that were damaged, of rows that were not.
#[derive(Debug)]
pub struct Scribblers {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Scribblers {
    /// Starts writing to the source; each pauses that long between transactions.
    pub fn start(source: &Database, number: u64, pause: Duration) -> Scribblers {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let start = |number: u64| {
            let (source, stop, written) = (source.clone(), Arc::clone(&stop), Arc::clone(&written));
            std::thread::spawn(move || {
                let session = Wire::connect(&source).expect("a session");
                let mut n = number * 1_000_000;
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    match session.run(&scribble(number, n)) {
                        Ok(_) => drop(written.fetch_add(1, Ordering::Relaxed)),
                        Err(Refused::Retry) => drop(session.run("ROLLBACK")),
                        Err(refused) => panic!("{refused:?}"),
                    }
                    std::thread::sleep(pause);
                }
            })
        };
        let threads = (1..=number).map(start).collect();
        Scribblers { stop, written, threads }
    }

    /// Returns how many transactions were committed so far.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Stops them, and returns how many transactions were committed.
    pub fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("a writer does not panic"));
        self.written.load(Ordering::Relaxed)
    }
}

/// A transaction that writes rows of the damaged tables, never those that the target lacks: an update of such a row
/// stops the stream.
fn scribble(writer: u64, n: u64) -> String {
    let id = 100 + writer * 100 + n % 100;
    let swapped = 78;
    format!(
        "BEGIN; UPDATE d_swapped SET a = 'a{n}' WHERE id IN ({id}, {swapped}); INSERT INTO d_missing VALUES ({n}, 'new');
         UPDATE d_number SET n = {n}.25 WHERE id = {id}; INSERT INTO d_bag VALUES ({n}, 'new');
         INSERT INTO d_extra VALUES ({n}, 'new'); DELETE FROM d_extra WHERE id = {n} - 5; COMMIT"
    )
}
