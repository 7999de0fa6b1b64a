//! A workload that knows what must be there.
//!
//! Each writer numbers its transactions and notes which ones the source acknowledged. Whatever crashed in between: an
//! acknowledged one is in the target exactly once, one that was sent and not answered at most once, and each key holds
//! what its last transaction wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::database::Database;
use crate::random::Random;

/// The tables of the workload. The log has no key, so a transaction applied twice shows as a double row.
const SCHEMA: &str = "
    CREATE TABLE oracle_log (writer INT4 NOT NULL, n INT8 NOT NULL, key INT4 NOT NULL);
    CREATE TABLE oracle_key (writer INT4, key INT4, last INT8 NOT NULL, pad TEXT, PRIMARY KEY (writer, key));";

/// Makes the tables of the workload.
pub fn create_tables(database: &Database) {
    database.sql(SCHEMA);
    database.only_postgres("ALTER TABLE oracle_log REPLICA IDENTITY FULL");
}

const KEYS: u64 = 50;

/// Writers at work.
#[derive(Debug)]
pub struct Oracle {
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<BTreeSet<u64>>>,
}

/// What the writers know in the end.
#[derive(Debug)]
pub struct Acknowledged {
    by_writer: Vec<BTreeSet<u64>>,
}

impl Oracle {
    /// Starts writing; each writer pauses that long between transactions.
    pub fn start(source: &Database, writers: u32, pause: Duration, seed: u64) -> Oracle {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |writer: u32| {
            let writer = Writer {
                database: source.clone(),
                number: writer,
                pause,
                random: Random::seeded(seed ^ u64::from(writer)),
                stop: Arc::clone(&stop),
            };
            std::thread::spawn(move || writer.run())
        };
        let writers = (0..writers).map(start).collect();
        Oracle { stop, writers }
    }

    /// Stops writing.
    pub fn stop(self) -> Acknowledged {
        self.stop.store(true, Ordering::Relaxed);
        let join = |writer: JoinHandle<_>| writer.join().expect("a writer does not panic");
        Acknowledged { by_writer: self.writers.into_iter().map(join).collect() }
    }
}

struct Writer {
    database: Database,
    number: u32,
    pause: Duration,
    random: Random,
    stop: Arc<AtomicBool>,
}

impl Writer {
    fn run(mut self) -> BTreeSet<u64> {
        let mut acknowledged = BTreeSet::new();
        let mut n = 0;
        while !self.stop.load(Ordering::Relaxed) {
            // A session ends with its server; the number that was under way is never used again.
            self.session(&mut n, &mut acknowledged);
            std::thread::sleep(Duration::from_millis(50));
        }
        acknowledged
    }

    fn session(&mut self, n: &mut u64, acknowledged: &mut BTreeSet<u64>) -> Option<()> {
        let mut command = self.database.psql_command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut psql = command.spawn().ok()?;
        let mut stdin = psql.stdin.take()?;
        let mut lines = BufReader::new(psql.stdout.take()?).lines();
        while !self.stop.load(Ordering::Relaxed) {
            *n += 1;
            if stdin.write_all(self.transaction(*n).as_bytes()).is_err() {
                break;
            }
            // psql stops at the first error, so the line comes only after the COMMIT was answered.
            match lines.next() {
                Some(Ok(line)) if line == format!("done {n}") => acknowledged.insert(*n),
                _ => break,
            };
            std::thread::sleep(self.pause);
        }
        drop(stdin);
        psql.wait().ok().map(drop)
    }

    fn transaction(&mut self, n: u64) -> String {
        let (writer, key) = (self.number, self.random.below(KEYS));
        let pad = "x".repeat(self.random.below(4000) as usize);
        // Some updates leave a value untouched that may be stored out of line; some replace the row.
        let write = match self.random.below(3) {
            0 => format!("UPDATE oracle_key SET last = {n} WHERE writer = {writer} AND key = {key};"),
            1 => format!("DELETE FROM oracle_key WHERE writer = {writer} AND key = {key};"),
            _ => String::new(),
        };
        format!(
            "BEGIN; INSERT INTO oracle_log VALUES ({writer}, {n}, {key}); {write}
             INSERT INTO oracle_key VALUES ({writer}, {key}, {n}, '{pad}')
                 ON CONFLICT (writer, key) DO UPDATE SET last = excluded.last;
             COMMIT;\n\\echo done {n}\n"
        )
    }
}

impl Acknowledged {
    /// Returns how many transactions were acknowledged.
    pub fn count(&self) -> usize {
        self.by_writer.iter().map(BTreeSet::len).sum()
    }

    /// Checks a database against what the writers know; returns what is wrong.
    pub fn problems(&self, database: &Database) -> Vec<String> {
        let mut found = Vec::new();
        let mut times: BTreeMap<(usize, u64), u32> = BTreeMap::new();
        let mut last: BTreeMap<(usize, u64), u64> = BTreeMap::new();
        for line in database.sql("SELECT writer, n, key FROM oracle_log").lines() {
            let [writer, n, key] = numbers(line);
            *times.entry((writer as usize, n)).or_default() += 1;
            let newest = last.entry((writer as usize, key)).or_default();
            *newest = n.max(*newest);
        }
        for (writer, numbers) in self.by_writer.iter().enumerate() {
            let lost = numbers.iter().filter(|n| !times.contains_key(&(writer, **n)));
            found.extend(lost.map(|n| format!("writer {writer}: acknowledged transaction {n} is lost")));
        }
        let doubled = times.iter().filter(|(_, times)| **times > 1);
        found.extend(doubled.map(|((writer, n), times)| format!("writer {writer}: {n} is there {times} times")));
        for line in database.sql("SELECT writer, key, last FROM oracle_key").lines() {
            let [writer, key, value] = numbers(line);
            let newest = last.remove(&(writer as usize, key));
            if newest != Some(value) {
                found.push(format!("writer {writer}: key {key} holds {value} and not {newest:?}"));
            }
        }
        found.extend(last.keys().map(|(writer, key)| format!("writer {writer}: key {key} is lost")));
        found
    }
}

fn numbers(line: &str) -> [u64; 3] {
    let fields: Vec<u64> = line.split('|').map(|field| field.parse().expect("the columns are numbers")).collect();
    fields.try_into().expect("there are three columns")
}
