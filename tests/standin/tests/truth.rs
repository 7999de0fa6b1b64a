//! The stand-in tells the truth: what a changefeed has said up to a resolved timestamp is what the tables hold AS OF
//! SYSTEM TIME of that timestamp, whatever 8 writers do meanwhile.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use tidegate_standin::{Standin, StandinOptions};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

const WRITERS: u64 = 8;
const CHECKERS: usize = 3;
const COMPARED_MIN: usize = 1000;
const ACCOUNTS: u64 = 60;
const OPENING: i64 = 1000;
const LIMIT: Duration = Duration::from_secs(120);

/// (nanoseconds, logical counter)
type Time = (u64, u32);

fn time(text: &str) -> Time {
    let (wall, logical) = text.split_once('.').expect("a timestamp has a point");
    assert_eq!(logical.len(), 10, "{text}");
    (wall.parse().unwrap(), logical.parse().unwrap())
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A digest of a set of rows that does not depend on their order and can be kept up row by row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Digest {
    rows: u64,
    sum: u64,
    balance: i64,
}

impl Digest {
    fn change(&mut self, row: &str, balance: i64, come: bool) {
        let hash = row
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        if come {
            self.rows += 1;
            self.sum = self.sum.wrapping_add(hash);
            self.balance += balance;
        } else {
            self.rows -= 1;
            self.sum = self.sum.wrapping_sub(hash);
            self.balance -= balance;
        }
    }
}

/// What a feed has said.
#[derive(Default)]
struct Told {
    rows: BTreeMap<(String, String), (String, i64)>,
    waiting: BTreeMap<(Time, String, String), Option<(String, i64)>>,
    seen: HashSet<(Time, String, String)>,
    newest: BTreeMap<(String, String), Time>,
    digest: Digest,
    resolved: Time,
    repeats: u64,
}

impl Told {
    fn row(&mut self, table: &str, key: &str, value: &str) {
        let value: serde_json::Value = serde_json::from_str(value).unwrap();
        let at = time(value["updated"].as_str().unwrap());
        let id = (at, table.to_owned(), key.to_owned());
        if !self.seen.insert(id.clone()) {
            self.repeats += 1;
            return;
        }
        assert!(at > self.resolved, "{table} {key} at {at:?} came first after resolved {:?}", self.resolved);
        let newest = self.newest.insert((table.to_owned(), key.to_owned()), at);
        assert!(newest.is_none_or(|newest| newest < at), "{table} {key}: {at:?} came first after {newest:?}");
        let after = &value["after"];
        let row = (!after.is_null()).then(|| {
            let field = |name: &str| after[name].as_str().map_or_else(|| after[name].to_string(), str::to_owned);
            match table {
                "account" => (
                    format!("a|{}|{}|{}", field("id"), field("owner"), field("balance")),
                    after["balance"].as_i64().unwrap(),
                ),
                _ => (format!("t|{}|{}|{}", field("id"), field("place"), field("amount")), 0),
            }
        });
        self.waiting.insert(id, row);
    }

    fn resolve(&mut self, at: Time) -> Digest {
        assert!(at > self.resolved, "resolved went from {:?} to {at:?}", self.resolved);
        self.resolved = at;
        let later = self.waiting.split_off(&((at.0, at.1 + 1), String::new(), String::new()));
        for ((_, table, key), row) in std::mem::replace(&mut self.waiting, later) {
            let key = (table, key);
            let before = match row.clone() {
                Some(row) => self.rows.insert(key, row),
                None => self.rows.remove(&key),
            };
            if let Some((text, balance)) = before {
                self.digest.change(&text, balance, false);
            }
            if let Some((text, balance)) = row {
                self.digest.change(&text, balance, true);
            }
        }
        self.digest
    }
}

/// One writer: until it is told to stop.
async fn write(url: String, seed: u64, stop: Arc<AtomicBool>, counts: Arc<[AtomicU64; 2]>) {
    let mut random = fastrand::Rng::with_seed(seed);
    let client = connect(&url).await;
    while !stop.load(Ordering::Relaxed) {
        let done = client.batch_execute(&transaction(&mut random)).await;
        match done {
            Ok(()) => drop(counts[0].fetch_add(1, Ordering::Relaxed)),
            Err(error) => {
                let code = error.as_db_error().map(|error| error.code().code().to_owned());
                assert!(matches!(code.as_deref(), Some("40001" | "23505")), "a writer failed: {error:?}");
                counts[1].fetch_add(1, Ordering::Relaxed);
                client.batch_execute("ROLLBACK").await.unwrap();
            }
        }
        // Bursts and pauses.
        if random.u8(..) < 100 {
            tokio::time::sleep(Duration::from_millis(random.u64(1..40))).await;
        }
    }
}

fn transaction(random: &mut fastrand::Rng) -> String {
    let (from, to) = (random.u64(1..=ACCOUNTS), random.u64(1..=ACCOUNTS));
    let (a, b, amount) = (random.u64(1..200), random.u64(1..200), random.i64(1..50));
    let note = ["x", "it''s", "\\", "é\"", ""][random.usize(..5)];
    match random.u8(..9) {
        0..=3 => format!(
            "BEGIN; UPDATE account SET balance = balance - {amount} WHERE id = {from}; \
             UPDATE account SET balance = balance + {amount} WHERE id = {to}; \
             UPSERT INTO thing (id, place, amount) VALUES ({a}, '{note}', {amount}); COMMIT"
        ),
        4 => {
            format!("UPSERT INTO thing (id, place, amount) VALUES ({a}, 'u', {amount}), ({}, 'v', {amount})", a + 1000)
        }
        5 => format!("BEGIN; DELETE FROM thing WHERE id = {a}; DELETE FROM thing WHERE id = {b}; COMMIT"),
        // Keys move, also onto the place of another row that goes in the same transaction.
        6 => format!("BEGIN; DELETE FROM thing WHERE id = {b}; UPDATE thing SET id = {b} WHERE id = {a}; COMMIT"),
        7 => format!(
            "BEGIN; INSERT INTO thing (id, place, amount) VALUES ({}, 'short', 1); DELETE FROM thing WHERE id = {}; \
             UPDATE account SET owner = '{note}{a}' WHERE id = {from}; COMMIT",
            a + 5000,
            a + 5000
        ),
        _ => format!(
            "BEGIN; UPSERT INTO thing (id, place, amount) VALUES ({a}, 'kept', 1); SAVEPOINT s; \
             UPDATE account SET balance = balance + 1 WHERE id = {from}; ROLLBACK TO SAVEPOINT s; \
             UPDATE thing SET amount = amount + 1 WHERE id >= {a} AND id < {}; COMMIT",
            a + 3
        ),
    }
}

/// Reads the tables AS OF SYSTEM TIME and digests them.
async fn at(client: &Client, at: Time) -> Digest {
    let mut digest = Digest::default();
    let at = format!("{}.{:010}", at.0, at.1);
    for (letter, columns, table) in [("a", "id, owner, balance", "account"), ("t", "id, place, amount", "thing")] {
        let sql = format!("SELECT {columns} FROM {table} AS OF SYSTEM TIME '{at}'");
        for message in client.simple_query(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")) {
            if let SimpleQueryMessage::Row(row) = message {
                let field = |index| row.get(index).unwrap_or("null");
                let balance = if letter == "a" { field(2).parse().unwrap() } else { 0 };
                digest.change(&format!("{letter}|{}|{}|{}", field(0), field(1), field(2)), balance, true);
            }
        }
    }
    digest
}

fn unhex(text: &str) -> String {
    let digits = text.strip_prefix("\\x").expect("bytes are in hex");
    let bytes = (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap());
    String::from_utf8(bytes.collect()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_feed_said_up_to_a_resolved_timestamp_is_what_the_tables_held_at_it() {
    let seed =
        std::env::var("TIDEGATE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}");
    let standin = tokio::task::spawn_blocking(|| {
        let standin = Standin::start(StandinOptions { shapes: None, ..StandinOptions::default() })?;
        standin.create_database("truth")?;
        anyhow::Ok(standin)
    });
    let standin = standin.await.unwrap().unwrap();
    let url = standin.url("truth").replace("cockroach://", "postgres://");
    let client = connect(&url).await;
    for sql in [
        "SET CLUSTER SETTING kv.rangefeed.enabled = true",
        "SET CLUSTER SETTING standin.resolved_lag = '8ms'",
        "SET CLUSTER SETTING standin.duplicates = 0.05",
        "SET CLUSTER SETTING standin.reorder = true",
        "CREATE TABLE account (id INT8 PRIMARY KEY, owner STRING, balance INT8 NOT NULL)",
        "CREATE TABLE thing (id INT8 PRIMARY KEY, place STRING, amount INT8)",
    ] {
        client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
    let fill = format!("INSERT INTO account SELECT i, 'owner', {OPENING} FROM generate_series(1, {ACCOUNTS}) AS g (i)");
    client.simple_query(&fill).await.unwrap();

    let stop = Arc::new(AtomicBool::new(false));
    let counts = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| tokio::spawn(write(url.clone(), seed ^ number, stop.clone(), counts.clone())))
        .collect();
    let (give, take) = tokio::sync::mpsc::channel::<(Time, Digest)>(16);
    let take = Arc::new(tokio::sync::Mutex::new(take));
    let mut checkers = Vec::new();
    for _ in 0..CHECKERS {
        let (client, take) = (connect(&url).await, take.clone());
        checkers.push(tokio::spawn(async move {
            let mut compared = 0;
            loop {
                let next = take.lock().await.recv().await;
                let Some((resolved, said)) = next else { return compared };
                let held = self::at(&client, resolved).await;
                assert_eq!(said, held, "the feed (left) and AS OF SYSTEM TIME (right) differ at {resolved:?}");
                assert_eq!(held.balance, OPENING * i64::try_from(ACCOUNTS).unwrap(), "half a transfer at {resolved:?}");
                compared += 1;
            }
        }));
    }

    let feed = connect(&url).await;
    let sql = "CREATE CHANGEFEED FOR TABLE account, thing \
               WITH updated, resolved = '10ms', min_checkpoint_frequency = '0', initial_scan = 'yes'";
    let mut messages = std::pin::pin!(feed.simple_query_raw(sql).await.unwrap());
    let mut told = Told::default();
    let (began, mut given) = (Instant::now(), 0);
    while given < COMPARED_MIN {
        assert!(began.elapsed() < LIMIT, "only {given} resolved timestamps were compared in {LIMIT:?}");
        let message = tokio::time::timeout(LIMIT, messages.try_next()).await.expect("the feed fell silent");
        let Some(SimpleQueryMessage::Row(row)) = message.unwrap() else { continue };
        let value = unhex(row.get(2).unwrap());
        if let Some(table) = row.get(0) {
            told.row(table, &unhex(row.get(1).unwrap()), &value);
            continue;
        }
        let resolved = value.strip_prefix("{\"resolved\":\"").and_then(|text| text.strip_suffix("\"}")).unwrap();
        let said = told.resolve(time(resolved));
        if give.send((told.resolved, said)).await.is_err() {
            break;
        }
        given += 1;
    }
    drop(give);
    let mut compared = 0;
    for checker in checkers {
        compared += checker.await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    let [committed, refused] = [0, 1].map(|index| counts[index].load(Ordering::Relaxed));
    println!(
        "{compared} resolved timestamps, {} versions, {} repeats, {committed} transactions, {refused} refused, {:?}",
        told.seen.len(),
        told.repeats,
        began.elapsed()
    );
    assert!(compared >= COMPARED_MIN && committed > 500 && told.repeats > 0);
    let logical = told.seen.iter().filter(|((_, logical), ..)| *logical > 0).count();
    assert!(logical > 0, "no timestamp had a logical counter");
}
