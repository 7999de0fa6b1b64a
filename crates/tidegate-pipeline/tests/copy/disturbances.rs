//! The copy while others write, rewrite, empty and end sessions.

use std::time::{Duration, Instant};

use tidegate_connect::Session;
use tidegate_model::Lsn;
use tidegate_pipeline::copy::CopyEnd;
use tidegate_throwaway::Server;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::bench::{Bench, Running, wait_for};

/// 4,000 accounts whose number and sum no transaction changes.
const ACCOUNTS: &str = "CREATE TABLE accounts (id int PRIMARY KEY, amount bigint NOT NULL, filler text)";
const ACCOUNTS_ROWS: &str = "INSERT INTO accounts SELECT g, 1000, repeat('x', 100) FROM generate_series(1, 4000) g";
const FIGURES: &str =
    "SELECT count(*) || ' ' || count(DISTINCT id % 100000) || ' ' || sum(amount) FROM public.accounts";

/// Each writer has its own accounts: writers that get in each other's way would break the sum themselves.
const WRITERS: u64 = 3;

/// Writes until cancelled: moves amounts, moves keys away and back, deletes and inserts again, one transaction each.
fn write(bench: &Bench, writer: u64, seed: u64, stop: CancellationToken) -> JoinHandle<u64> {
    let source = bench.source.clone();
    tokio::spawn(async move {
        let session = Session::connect(&source, "test writer").await.unwrap();
        let (mut state, mut written) = (seed | 1, 0);
        while !stop.is_cancelled() {
            // xorshift: enough to hit different rows in different orders.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let [a, b] = [state % 1333, state / 1333 % 1333].map(|row| row * WRITERS + writer + 1);
            let sql = match state % 3 {
                0 => format!(
                    "WITH d AS (UPDATE accounts SET amount = amount - 1 WHERE id % 100000 = {a} AND {a} <> {b} \
                                RETURNING 1) \
                     UPDATE accounts SET amount = amount + 1 WHERE id % 100000 = {b} AND EXISTS (SELECT FROM d)"
                ),
                1 => format!("UPDATE accounts SET id = (id + 100000) % 200000 WHERE id % 100000 = {a}"),
                _ => format!(
                    "WITH d AS (DELETE FROM accounts WHERE id % 100000 = {a} RETURNING *) \
                     INSERT INTO accounts SELECT (id + 100000) % 200000, amount, filler FROM d"
                ),
            };
            let sql = sql.replace("accounts", "public.accounts");
            match session.batch_execute(&sql).await {
                Ok(()) => written += 1,
                Err(error) => panic!("writer {writer}: {error}"),
            }
        }
        written
    })
}

struct Writers {
    stop: CancellationToken,
    tasks: Vec<JoinHandle<u64>>,
}

impl Writers {
    fn start(bench: &Bench) -> Self {
        let seed = std::process::id() as u64 * 7919;
        println!("writers' seed {seed}");
        let stop = CancellationToken::new();
        let tasks = (0..WRITERS).map(|writer| write(bench, writer, seed + writer * 104_729, stop.clone())).collect();
        Writers { stop, tasks }
    }

    async fn end(self) -> u64 {
        self.stop.cancel();
        let mut written = 0;
        for task in self.tasks {
            written += task.await.unwrap();
        }
        written
    }
}

/// Starts a copy that has written a chunk of the accounts and gets no further until the session is dropped.
async fn start_and_stall(bench: &Bench) -> (Running, Session) {
    let held = bench.hold_target("accounts", "NEW.id % 100000 BETWEEN 1000 AND 99999").await;
    let running = bench.start().await;
    bench.until_chunks("accounts", 1).await;
    (running, held)
}

/// Runs a statement at the source and returns how long it took.
async fn timed(bench: &Bench, sql: &str) -> Duration {
    let session = Session::connect(&bench.source, "test ddl").await.unwrap();
    let before = Instant::now();
    session.batch_execute(sql).await.unwrap();
    before.elapsed()
}

#[tokio::test]
async fn keys_moved_deleted_and_inserted_again_are_there_once() {
    let bench = Bench::new(ACCOUNTS, ACCOUNTS_ROWS).await;
    let writers = Writers::start(&bench);
    for round in 1..=5 {
        let first = if round == 1 { Some(bench.make_slot().await) } else { None };
        bench.start_with(first).await.end().await.unwrap();
        assert_eq!(bench.ask::<String>(FIGURES).await, "4000 4000 4000000", "round {round}");
        assert_eq!(bench.copies("accounts").await, round);
        bench.recopy("accounts").await;
    }
    assert!(writers.end().await > 100, "the writers wrote");
}

#[tokio::test]
async fn rewrites_in_the_middle_wait_no_longer_than_they_have_to_and_lose_nothing() {
    for ddl in ["VACUUM (FULL) public.accounts", "CLUSTER public.accounts USING accounts_pkey"] {
        let bench = Bench::new(ACCOUNTS, ACCOUNTS_ROWS).await;
        let writers = Writers::start(&bench);
        let (running, held) = start_and_stall(&bench).await;
        let waited = timed(&bench, ddl).await;
        drop(held);
        running.end().await.unwrap();
        println!("{ddl} took {waited:?}");
        // A second for us to let go, one in which waiting locks are looked for, and slack for a busy machine.
        assert!(waited < Duration::from_secs(10), "{ddl} took {waited:?}");
        assert_eq!(bench.ask::<String>(FIGURES).await, "4000 4000 4000000", "{ddl}");
        assert!(writers.end().await > 0);
    }
}

#[tokio::test]
async fn one_who_waits_for_a_chunk_of_ours_waits_no_longer_either() {
    let bench = Bench::new(ACCOUNTS, ACCOUNTS_ROWS).await;
    // A chunk that cannot be written stays open at the source: its COPY holds the lock, not only the guard.
    let held = bench.hold_target("accounts", "true").await;
    let running = bench.start().await;
    let reading =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'tidegate/%/copy-%' AND datname = $1";
    let database = bench.source.database().to_owned();
    wait_for("guard and readers", async || {
        bench.source_session.query_one(reading, &[&database]).await.unwrap().get::<_, i64>(0) >= 2
    })
    .await;
    let waited = timed(&bench, "VACUUM (FULL) public.accounts").await;
    assert!(waited < Duration::from_secs(10), "waited {waited:?}");
    drop(held);
    running.end().await.unwrap();
    bench.assert_equal("accounts").await;
}

#[tokio::test]
async fn a_table_emptied_in_the_middle_is_copied_as_it_is_after() {
    let bench = Bench::new(ACCOUNTS, ACCOUNTS_ROWS).await;
    let (running, held) = start_and_stall(&bench).await;
    let waited = timed(&bench, "TRUNCATE public.accounts; INSERT INTO public.accounts VALUES (1, 2, 'after')").await;
    assert!(waited < Duration::from_secs(10), "waited {waited:?}");
    drop(held);
    running.end().await.unwrap();
    bench.assert_equal("accounts").await;
    assert_eq!(bench.ask::<i64>("SELECT count(*) FROM public.accounts").await, 1);
}

#[tokio::test]
async fn a_snapshot_whose_session_ends_costs_only_unfinished_tables() {
    let schema = format!("{ACCOUNTS}; CREATE TABLE small (id int)");
    let rows = format!("{ACCOUNTS_ROWS}; INSERT INTO small VALUES (1)");
    let bench = Bench::new(&schema, &rows).await;
    let (running, held) = start_and_stall(&bench).await;
    bench.until_state("small", "copied").await;
    for role in ["copy-keeper", "copy-guard", "copy-read"] {
        let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1";
        let application = bench.name.application_name(role);
        bench.source_session.query_one(sql, &[&application]).await.unwrap();
    }
    // Written after the first snapshot: what is read again is read at a new point.
    bench.source_session.batch_execute("INSERT INTO public.accounts VALUES (5000, 0, 'new')").await.unwrap();
    drop(held);
    let CopyEnd::Copied(routes) = running.end().await.unwrap() else { panic!("stopped") };
    bench.assert_equal("accounts").await;
    assert_eq!((bench.copies("accounts").await, bench.copies("small").await), (2, 1));
    assert!(routes[0].from > routes[1].from, "accounts has the later point");
}

#[tokio::test]
async fn servers_that_crash_cost_only_unfinished_tables() {
    let server = Server::builder().start().unwrap();
    let schema = format!("{ACCOUNTS}; CREATE TABLE small (id int)");
    let rows = format!("{ACCOUNTS_ROWS}; INSERT INTO small VALUES (1)");
    let mut bench = Bench::on(&server, &schema, &rows).await;
    let (running, held) = start_and_stall(&bench).await;
    bench.until_state("small", "copied").await;
    for _ in 0..3 {
        server.kill9();
        server.start().unwrap();
    }
    drop(held);
    running.end().await.unwrap();
    bench.reconnect().await;
    bench.assert_equal("accounts").await;
    bench.assert_equal("small").await;
    assert!(bench.copies("accounts").await >= 2);
    assert_eq!(bench.copies("small").await, 1);
}

#[tokio::test]
async fn a_copy_that_is_killed_goes_on_and_reads_no_finished_table_again() {
    let schema = format!("{ACCOUNTS}; CREATE TABLE small (id int)");
    let rows = format!("{ACCOUNTS_ROWS}; INSERT INTO small VALUES (1)");
    let bench = Bench::new(&schema, &rows).await;
    let writers = Writers::start(&bench);
    let (running, held) = start_and_stall(&bench).await;
    bench.until_state("small", "copied").await;
    running.task.abort();
    drop(held);
    bench.start_with(None).await.end().await.unwrap();
    assert_eq!(bench.ask::<String>(FIGURES).await, "4000 4000 4000000");
    assert_eq!((bench.copies("accounts").await, bench.copies("small").await), (2, 1));
    writers.end().await;
    // No temporary slot stays behind to hold back WAL.
    let slots = "SELECT count(*) FROM pg_replication_slots WHERE temporary AND slot_name LIKE $1";
    let pattern = format!("{}%", bench.name.object_name());
    wait_for("the end of temporary slots", async || {
        bench.source_session.query_one(slots, &[&pattern]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
}

#[tokio::test]
async fn a_changed_column_stops_the_copy_until_the_table_is_copied_again() {
    let bench = Bench::new(ACCOUNTS, ACCOUNTS_ROWS).await;
    let (running, held) = start_and_stall(&bench).await;
    let alter = "ALTER TABLE public.accounts ALTER amount TYPE numeric";
    let waited = timed(&bench, alter).await;
    assert!(waited < Duration::from_secs(10), "waited {waited:?}");
    drop(held);
    let problem = running.end().await.unwrap_err();
    assert_eq!(problem.code, "CP002");
    assert!(problem.why.contains("\"amount\"") && problem.next.contains("--recopy public.accounts"), "{problem}");

    bench.target_session.batch_execute(alter).await.unwrap();
    bench.recopy("accounts").await;
    bench.start_with(None).await.end().await.unwrap();
    bench.assert_equal("accounts").await;
}

#[tokio::test]
async fn a_worker_holds_nothing_on_tables_it_has_left() {
    let schema = format!("{ACCOUNTS}; CREATE TABLE small (id int)");
    let rows = format!("{ACCOUNTS_ROWS}; INSERT INTO small VALUES (1)");
    let bench = Bench::new(&schema, &rows).await;
    let (running, held) = start_and_stall(&bench).await;
    bench.until_state("small", "copied").await;
    let waited = timed(&bench, "VACUUM (FULL) public.small").await;
    assert!(waited < Duration::from_millis(900), "less than the time after which we let go: {waited:?}");
    drop(held);
    let CopyEnd::Copied(routes) = running.end().await.unwrap() else { panic!("stopped") };
    assert!(routes.iter().all(|route| route.from.lsn() > Some(Lsn(0))));
}
