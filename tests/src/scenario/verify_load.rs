//! Comparisons under load: many fences, and long comparisons while one side is written all the time.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate_throwaway::Server;

use crate::database::{Database, start_server, target_server};
use crate::random::Random;
use crate::transfers::{self, Transfers};
use crate::wait::{PATIENCE, wait_until};
use crate::wire::{Refused, Wire};
use crate::{Engine, Migration, Session};

/// Each of two clients updates ten rows at a time and then pauses: some 600 rows a second together, which an applier
/// keeps up with. One that lags lets nobody take a fence.
const PAUSE: Duration = Duration::from_millis(32);
/// How many rows one statement makes at first.
const FILL_ROWS: u64 = 100_000;

/// How many fences, and under which load.
#[derive(Clone, Debug)]
pub struct FencePlan {
    /// Fences to take.
    pub count: usize,
    /// Transactions per second that the clients try to make.
    pub rate: u32,
    /// Decides what is written.
    pub seed: u64,
}

/// What the fences were like.
#[derive(Clone, Debug)]
pub struct Fences {
    /// For how long the applier was held, each time, in milliseconds.
    pub held_ms: Vec<u64>,
    /// Comparisons that found a difference: there was none.
    pub different: usize,
    /// Transactions per second that the clients made.
    pub rate: f64,
}

impl Fences {
    /// Returns the median of the time held, in milliseconds.
    pub fn median_ms(&self) -> u64 {
        let mut sorted = self.held_ms.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Fences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, longest) = (self.held_ms.len(), self.held_ms.iter().max().copied().unwrap_or_default());
        let (median, different, rate) = (self.median_ms(), self.different, self.rate);
        write!(
            f,
            "{count} fences at {rate:.0} transactions/s: held {median} ms at the median, {longest} ms at most; "
        )?;
        write!(f, "{different} false differences")
    }
}

/// Takes fences while clients write, transactions stay open for up to five seconds, and a prepared one all the time.
pub fn fences(plan: &FencePlan) -> Fences {
    let source = start_server(Server::builder());
    let migration = Migration::on(&source, &target_server(), "fences");
    let work = transfers::Plan::new(4, plan.rate, plan.seed);
    for database in [&migration.source, &migration.target] {
        transfers::create_tables(database);
        database.sql("CREATE TABLE slow (id INT8 PRIMARY KEY)");
    }
    transfers::fill(&migration.source, &work);
    let engine = migration.start_streaming();
    let mut prepared = Session::open(&migration.source);
    prepared.sql("BEGIN; INSERT INTO slow VALUES (-1); PREPARE TRANSACTION 'fences'");
    let slow = Slow::start(&migration.source, plan.seed);
    let (began, working) = (Instant::now(), Transfers::start(&migration.source, &work));
    let compare = || migration.run("verify", &["--json"]);
    let different = (0..plan.count).filter(|_| compare().code != Some(0)).count();
    let made = working.stop();
    let rate = made.count() as f64 / began.elapsed().as_secs_f64();
    slow.stop();
    prepared.sql("COMMIT PREPARED 'fences'");
    migration.drain();
    migration.assert_equal();
    let held_ms = held_ms(&engine);
    engine.stop();
    Fences { held_ms, different, rate }
}

/// Reads from the log for how long the applier was held.
fn held_ms(engine: &Engine) -> Vec<u64> {
    let log = engine.log();
    let taken = log.lines().filter(|line| line.contains("fence taken"));
    taken.filter_map(|line| line.split("held_ms=").nth(1)?.split_whitespace().next()?.parse().ok()).collect()
}

/// A client whose transactions stay open for up to five seconds.
struct Slow {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Slow {
    fn start(database: &Database, seed: u64) -> Slow {
        let (database, stop) = (database.clone(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut session, mut random) = (Session::open(&database), Random::seeded(seed));
            for id in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let open = random.time_below(Duration::from_secs(5)).as_secs_f64();
                session.sql(&format!("BEGIN; INSERT INTO slow VALUES ({id}); SELECT pg_sleep({open}); COMMIT"));
            }
        });
        Slow { stop, thread }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the client does not panic");
    }
}

/// How large, and how long.
#[derive(Clone, Debug)]
pub struct LongPlan {
    /// Rows of the table.
    pub rows: u64,
    /// How long it is written and compared.
    pub lasts: Duration,
    /// Whether a cutover follows, while it is written.
    pub turns: bool,
    /// Decides what is written.
    pub seed: u64,
}

/// The comparison inside the block of a turn, while nothing can be written.
#[derive(Clone, Debug)]
pub struct Block {
    /// Rows that it compared: those touched since the last round before the fence.
    pub rows: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// What comparisons under load came to.
#[derive(Clone, Debug)]
pub struct Long {
    /// How many there were.
    pub comparisons: usize,
    /// Rows that they compared.
    pub compared: u64,
    /// Rows that were written meanwhile, per second.
    pub rows_per_second: f64,
    /// How long it took.
    pub took: Duration,
    /// The last one, of the cutover behind them.
    pub block: Option<Block>,
}

impl fmt::Display for Long {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Long { comparisons, compared, rows_per_second, took, block } = self;
        let seconds = took.as_secs();
        write!(
            f,
            "{comparisons} comparisons of {compared} rows in {seconds} s, {rows_per_second:.0} rows/s written: "
        )?;
        write!(f, "no false difference")?;
        match block {
            Some(Block { rows, took_ms }) => {
                write!(f, "; then {rows} rows in {took_ms} ms inside the block of a cutover")
            }
            None => Ok(()),
        }
    }
}

/// Compares a large table again and again while its rows are written at random, and then turns if that is planned.
///
/// # Panics
/// If a comparison finds a difference: there is none.
pub fn long(migration: &Migration, plan: &LongPlan) -> Long {
    migration.both("CREATE TABLE big (id INT8 PRIMARY KEY, n INT8 NOT NULL, t TEXT NOT NULL)");
    for first in (1..=plan.rows).step_by(FILL_ROWS as usize) {
        let last = (first + FILL_ROWS - 1).min(plan.rows);
        migration
            .source
            .sql(&format!("INSERT INTO big SELECT i, 0, 'row' FROM generate_series({first}, {last}) AS g (i)"));
    }
    let mut engine = migration.start();
    migration.wait_state_for(&mut engine, "streaming", PATIENCE + Duration::from_millis(plan.rows / 5));
    let writers = Writers::start(&migration.source, plan);
    let began = Instant::now();
    let (mut comparisons, mut compared) = (0, 0);
    while comparisons == 0 || began.elapsed() < plan.lasts {
        let report: Value = migration.run("verify", &["--json"]).expect_code(0).json();
        comparisons += 1;
        compared += report["tables"][0]["compared"].as_u64().unwrap_or_default();
    }
    let took = began.elapsed();
    let rows_per_second = writers.written() as f64 / took.as_secs_f64();
    // The fence ends the writers, or they are told to end.
    let block = plan.turns.then(|| block(migration, PATIENCE + took));
    writers.stop();
    engine.assert_running();
    engine.stop();
    Long { comparisons, compared, rows_per_second, took, block }
}

/// Turns, and returns what was compared inside the block.
fn block(migration: &Migration, limit: Duration) -> Block {
    let certificate = migration.begin("cutover", &["--yes", "--json"]).wait(limit).expect_code(0).json();
    let steps = certificate["steps"].as_array().expect("a certificate has steps");
    let step = steps.iter().find(|step| step["step"] == "verify_touched").expect("it was compared in the block");
    let number = |value: &Value| value.as_u64().expect("a number");
    Block { rows: number(&certificate["tables"][0]["compared_in_block"]), took_ms: number(&step["took_ms"]) }
}

/// Clients that update rows chosen at random, ten in a transaction.
struct Writers {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    fn start(database: &Database, plan: &LongPlan) -> Writers {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let start = |number: u64| {
            let (database, stop, written) = (database.clone(), Arc::clone(&stop), Arc::clone(&written));
            let (rows, mut random) = (plan.rows, Random::seeded(plan.seed ^ (number << 32)));
            std::thread::spawn(move || {
                let session = Wire::connect(&database).expect("a session");
                while !stop.load(Ordering::Relaxed) {
                    let ids: Vec<String> = (0..10).map(|_| (1 + random.below(rows)).to_string()).collect();
                    let sql = format!("UPDATE big SET n = n + 1 WHERE id IN ({})", ids.join(", "));
                    match session.run(&sql) {
                        Ok(rows) => drop(written.fetch_add(rows, Ordering::Relaxed)),
                        Err(Refused::Retry) => {}
                        // A turn has closed this side.
                        Err(Refused::Sql(code, _)) if code == "25006" => return,
                        Err(refused) => panic!("{refused:?}"),
                    }
                    std::thread::sleep(PAUSE);
                }
            })
        };
        let threads: Vec<JoinHandle<()>> = (1..=2).map(start).collect();
        wait_until("something is written", PATIENCE, || written.load(Ordering::Relaxed) > 0);
        Writers { stop, written, threads }
    }

    /// Returns how many rows they have written by now.
    fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("a writer does not panic"));
    }
}
