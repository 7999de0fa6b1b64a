//! What the migration wrote itself is dropped, what others write is not, as a real server sends it.

use std::sync::LazyLock;

use tidegate_connect::Session;
use tidegate_model::{Event, Stream};
use tidegate_source_postgres::{PostgresSource, SourceConfig};
use tidegate_throwaway::Server;

use crate::fixture::{Fixture, take_rows, take_watermark, until};

/// Streams all but the smallest transactions.
static STREAMING: LazyLock<Server> =
    LazyLock::new(|| Server::builder().setting("logical_decoding_work_mem", "64kB").start().expect("a server starts"));

/// Enough rows for a transaction to be streamed in several blocks, and to be spooled.
const MANY: i32 = 20_000;

async fn start(fixture: &Fixture) -> PostgresSource {
    let config = SourceConfig { drop_own: true, memory_budget_bytes: 1 << 20, ..fixture.config() };
    PostgresSource::start(config, fixture.point.clone(), fixture.history.clone()).await.unwrap()
}

async fn session(fixture: &Fixture) -> Session {
    Session::connect(&fixture.settings, "test").await.unwrap()
}

/// A session under an origin of this name, which is made.
async fn under_origin(fixture: &Fixture, origin: &str) -> Session {
    let session = session(fixture).await;
    let sql = format!(
        "SELECT pg_replication_origin_create('{origin}'); SELECT pg_replication_origin_session_setup('{origin}')"
    );
    session.batch_execute(&sql).await.unwrap();
    session
}

fn message(fixture: &Fixture) -> String {
    let content = fixture.name.applied_message(Stream::Reverse, 1);
    format!("SELECT pg_logical_emit_message(true, 'tidegate', '{content}')")
}

fn rows(first: i32, count: i32) -> String {
    format!("INSERT INTO public.t SELECT g, repeat('x', 40) FROM generate_series({first}, {}) g", first + count - 1)
}

async fn write(session: &Session, statements: &[String]) {
    session.batch_execute(&format!("BEGIN; {}; COMMIT", statements.join("; "))).await.unwrap();
}

#[tokio::test]
async fn transactions_under_our_origins_are_dropped_and_those_of_others_are_not() {
    let fixture = Fixture::new(&STREAMING, "origin").await;
    let mut source = start(&fixture).await;
    let first = under_origin(&fixture, "tidegate_origin_1").await;
    let second = under_origin(&fixture, "tidegate_origin_2").await;
    let mut kept = Vec::new();
    for (number, name) in ["tidegate_other_1", "tidegate_origin_x", "tidegate_origin_2_1"].iter().enumerate() {
        let other = under_origin(&fixture, name).await;
        let base = number as i32 * 1_000_000;
        write(&first, &[rows(base, 3)]).await;
        write(&other, &[rows(base + 100_000, 2)]).await;
        write(&second, &[rows(base + 200_000, MANY)]).await;
        write(&other, &[rows(base + 300_000, MANY)]).await;
        fixture.execute(&rows(base + 400_000, 1)).await;
        kept.extend([(base + 100_000, 2), (base + 300_000, MANY), (base + 400_000, 1)]);
    }
    let kept: Vec<i32> = kept.iter().flat_map(|(first, count)| *first..first + count).collect();
    assert_eq!(take_rows(&mut source, kept.len()).await.0, kept);
    assert_eq!(source.received().borrow().dropped, 6);
    assert_eq!(source.spooled_bytes()(), 0);
}

#[tokio::test]
async fn transactions_that_begin_with_our_message_are_dropped_and_no_others() {
    let fixture = Fixture::new(&STREAMING, "message").await;
    let mut source = start(&fixture).await;
    let writer = session(&fixture).await;
    write(&writer, &[message(&fixture), rows(0, 3)]).await;
    write(&writer, &[message(&fixture), rows(100_000, MANY)]).await;
    // Behind a change; of another migration; rolled back with what it marked.
    write(&writer, &[rows(200_000, 1), message(&fixture), rows(200_001, 1)]).await;
    write(&writer, &[rows(300_000, MANY), message(&fixture)]).await;
    write(&writer, &[message(&fixture).replace("applied/message/", "applied/other/"), rows(400_000, 1)]).await;
    writer.batch_execute(&format!("BEGIN; {}; {}; ROLLBACK", message(&fixture), rows(600_000, MANY))).await.unwrap();
    write(&writer, &[rows(500_000, 1)]).await;
    let kept: Vec<i32> =
        [(200_000, 2), (300_000, MANY), (400_000, 1), (500_000, 1)].iter().flat_map(|(a, n)| *a..a + n).collect();
    assert_eq!(take_rows(&mut source, kept.len()).await.0, kept);
    assert_eq!(source.received().borrow().dropped, 2);
}

#[tokio::test]
async fn a_large_transaction_that_begins_with_truncate_is_known_by_its_message_only() {
    let fixture = Fixture::new(&STREAMING, "truncating").await;
    let mut source = start(&fixture).await;
    let writer = under_origin(&fixture, "tidegate_truncating_1").await;
    let truncate = "TRUNCATE public.t".to_owned();
    write(&writer, &[message(&fixture), truncate.clone(), rows(0, MANY)]).await;
    // Why the message is there: the server takes the origin of a large transaction from the first thing it decodes,
    // which here is that the catalog has changed.
    write(&writer, &[truncate, rows(0, MANY)]).await;
    loop {
        if let Event::Commit(transaction) = crate::fixture::next(&mut source).await.unwrap() {
            assert_eq!(transaction.changes.read().unwrap().count(), MANY as usize + 1);
            break;
        }
    }
    assert_eq!(source.received().borrow().dropped, 1);
}

#[tokio::test]
async fn what_a_subscription_writes_is_kept() {
    let fixture = Fixture::new(&STREAMING, "subscribed").await;
    STREAMING.create_database("publisher").unwrap();
    let publish = "CREATE TABLE public.t (id int PRIMARY KEY, v text); CREATE PUBLICATION p FOR TABLE public.t";
    STREAMING.psql("publisher", publish).unwrap();
    // Apart, and the subscription does not make it: in one cluster that would wait for itself.
    STREAMING.psql("publisher", "SELECT pg_create_logical_replication_slot('s', 'pgoutput')").unwrap();
    let connection = STREAMING.url("publisher");
    fixture
        .execute(&format!(
            "CREATE SUBSCRIPTION s CONNECTION '{connection}' PUBLICATION p \
             WITH (create_slot = false, slot_name = 's', copy_data = false)"
        ))
        .await;
    let mut source = start(&fixture).await;
    STREAMING.psql("publisher", &rows(0, 3)).unwrap();
    STREAMING.psql("publisher", &rows(10, MANY)).unwrap();
    let kept: Vec<i32> = (0..3).chain(10..10 + MANY).collect();
    assert_eq!(take_rows(&mut source, kept.len()).await.0, kept);
    let origin = "SELECT roname FROM pg_replication_origin WHERE roname LIKE 'pg\\_%'";
    assert!(!fixture.text(origin).await.is_empty(), "it came under an origin");
    fixture.execute("ALTER SUBSCRIPTION s DISABLE").await;
    fixture.execute("ALTER SUBSCRIPTION s SET (slot_name = NONE)").await;
    fixture.execute("DROP SUBSCRIPTION s").await;
}

#[tokio::test]
async fn dropped_transactions_move_what_the_server_may_forget() {
    let fixture = Fixture::new(&STREAMING, "parked").await;
    let mut source = start(&fixture).await;
    let writer = under_origin(&fixture, "tidegate_parked_1").await;
    write(&writer, &[rows(0, 3)]).await;
    write(&writer, &[rows(100_000, MANY)]).await;
    let end = fixture.text("SELECT pg_current_wal_flush_lsn()::text").await.parse().unwrap();
    let watermark = take_watermark(&mut source, &end).await;
    tidegate_model::Source::acknowledge(&mut source, &watermark).await.unwrap();
    until("the watermark is confirmed", || async { fixture.confirmed_flush().await >= watermark }).await;
    // Sent again after a reconnection or not, each counts once.
    let pid = fixture.walsender().await.unwrap();
    fixture.execute(&format!("SELECT pg_terminate_backend({pid})")).await;
    fixture.insert(5..6).await;
    assert_eq!(take_rows(&mut source, 1).await.0, [5]);
    assert_eq!(source.received().borrow().dropped, 2);
}

#[tokio::test]
async fn a_drain_marker_of_the_same_migration_is_kept() {
    let fixture = Fixture::new(&STREAMING, "drained").await;
    let mut source = start(&fixture).await;
    fixture.execute("SELECT pg_logical_emit_message(true, 'tidegate', 'drain')").await;
    loop {
        if let Event::Commit(transaction) = crate::fixture::next(&mut source).await.unwrap() {
            assert_eq!(transaction.changes.read().unwrap().count(), 1);
            break;
        }
    }
    assert_eq!(source.received().borrow().dropped, 0);
}
