//! The stream: order, acknowledgement, idleness, interruptions.

use std::time::Duration;

use tidegate_connect::{ReplicationSession, Session, Settings};
use tidegate_model::{Event, Lsn, Position, Source};
use tidegate_source_postgres::{PostgresSource, SourceConfig};
use tokio::time::sleep;

use crate::fixture::{Fixture, SHARED, next, take_rows, take_watermark, until};

#[tokio::test]
async fn rows_come_in_order_and_only_what_is_acknowledged_is_confirmed() {
    let fixture = Fixture::new(&SHARED, "ordered").await;
    let mut source = fixture.start().await;
    fixture.insert(0..50).await;
    let (ids, position) = take_rows(&mut source, 50).await;
    assert_eq!(ids, (0..50).collect::<Vec<_>>());
    // Long enough for several status updates.
    sleep(Duration::from_millis(500)).await;
    assert_eq!(fixture.confirmed_flush().await, fixture.point, "nothing was acknowledged");
    source.acknowledge(&position).await.unwrap();
    until("what was acknowledged is confirmed", || async { fixture.confirmed_flush().await == position }).await;
    source.close().await;
    until("a closed source lets its slot go", || async { fixture.walsender().await.is_none() }).await;

    fixture.insert(50..60).await;
    let mut source = fixture.start_from(&position).await;
    assert_eq!(take_rows(&mut source, 10).await.0, (50..60).collect::<Vec<_>>());
}

#[tokio::test]
async fn acknowledging_what_was_not_delivered_is_refused() {
    let fixture = Fixture::new(&SHARED, "early").await;
    let mut source = fixture.start().await;
    let problem = source.acknowledge(&Position::postgres(Lsn(u64::MAX))).await.unwrap_err();
    assert_eq!(problem.code, "PG064");
}

#[tokio::test]
async fn a_stream_without_changes_moves_with_the_wal_of_others() {
    let fixture = Fixture::new(&SHARED, "idle").await;
    let mut source = fixture.start().await;
    fixture
        .execute("CREATE TABLE public.foreign_wal AS SELECT g, repeat('x', 500) FROM generate_series(1, 20000) g")
        .await;
    let end: Position = fixture.text("SELECT pg_current_wal_flush_lsn()::text").await.parse().unwrap();
    let watermark = take_watermark(&mut source, &end).await;
    source.acknowledge(&watermark).await.unwrap();
    until("the watermark is confirmed", || async { fixture.confirmed_flush().await >= watermark }).await;
}

#[tokio::test]
async fn a_heartbeat_is_a_transaction_of_the_stream() {
    let fixture = Fixture::new(&SHARED, "heart").await;
    let config = SourceConfig { heartbeat_every: Some(Duration::from_millis(50)), ..fixture.config() };
    let mut source = PostgresSource::start(config, fixture.point.clone(), fixture.history.clone()).await.unwrap();
    loop {
        if let Event::Commit(_) = next(&mut source).await.unwrap() {
            break;
        }
    }
}

#[tokio::test]
async fn a_lost_walsender_costs_no_row_and_repeats_none() {
    let fixture = Fixture::new(&SHARED, "cut").await;
    let mut source = fixture.start().await;
    let mut seen = Vec::new();
    for round in 0..8 {
        let first = round * 20;
        fixture.insert(first..first + 10).await;
        if round % 2 == 0 {
            // In the middle: some rows are delivered, some are not, few are acknowledged.
            let (ids, position) = take_rows(&mut source, 5).await;
            seen.extend(ids);
            if round % 4 == 0 {
                source.acknowledge(&position).await.unwrap();
            }
        }
        // Between seeing a walsender and ending it, it may end by itself: the source connects as it likes.
        until("a walsender is ended", || async {
            let Some(pid) = fixture.walsender().await else { return false };
            fixture.execute(&format!("SELECT pg_terminate_backend({pid})")).await;
            true
        })
        .await;
        fixture.insert(first + 10..first + 20).await;
    }
    let left = 160 - seen.len();
    seen.extend(take_rows(&mut source, left).await.0);
    assert_eq!(seen, (0..160).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_server_may_go_and_come_back() {
    let server = tidegate_throwaway::Server::builder().start().unwrap();
    let mut fixture = Fixture::new(&server, "restarted").await;
    let mut source = fixture.start().await;
    fixture.insert(0..5).await;
    assert_eq!(take_rows(&mut source, 5).await.0.len(), 5);
    server.kill9();
    let received = source.received();
    until("the reason is shown", || async { received.borrow().waiting_for.is_some() }).await;
    server.start().unwrap();
    fixture.session = Session::connect(&fixture.settings, "test").await.unwrap();
    fixture.insert(5..10).await;
    assert_eq!(take_rows(&mut source, 5).await.0, (5..10).collect::<Vec<_>>());
    assert_eq!(received.borrow().waiting_for, None);
}

#[tokio::test]
async fn a_consumer_that_stalls_longer_than_the_servers_timeout_keeps_its_connection() {
    let fixture = Fixture::new(&SHARED, "stalled").await;
    assert_eq!(fixture.text("SELECT current_setting('wal_sender_timeout')").await, "2s");
    let config = SourceConfig { memory_budget_bytes: 1 << 20, ..fixture.config() };
    let mut source = PostgresSource::start(config, fixture.point.clone(), fixture.history.clone()).await.unwrap();
    let pid = fixture.walsender().await;
    for batch in 0..40 {
        fixture
            .execute(&format!(
                "INSERT INTO public.t SELECT g, repeat(md5(g::text), 30) FROM generate_series({}, {}) g",
                batch * 1_000,
                batch * 1_000 + 999
            ))
            .await;
    }
    sleep(Duration::from_secs(6)).await;
    assert!(
        source.received().borrow().position.0 < fixture.point.lsn().unwrap().0 + (30 << 20),
        "a stalled consumer holds the reader back"
    );
    let (ids, _) = take_rows(&mut source, 40_000).await;
    assert_eq!(ids, (0..40_000).collect::<Vec<_>>());
    assert_eq!(fixture.walsender().await, pid, "the connection was never lost");
}

#[tokio::test]
async fn a_slot_held_by_a_former_life_is_taken_and_one_of_somebody_else_is_waited_for() {
    let fixture = Fixture::new(&SHARED, "former").await;
    let hold = async |application: &str| {
        let session = ReplicationSession::connect(&fixture.settings, application).await.unwrap();
        let command = "START_REPLICATION SLOT \"tidegate_former\" LOGICAL 0/0 \
                       (proto_version '1', publication_names '\"tidegate_former\"')";
        session.copy_both(command).await.unwrap()
    };
    let _dead = hold("tidegate/former/stream").await;
    fixture.insert(0..3).await;
    let mut source = fixture.start().await;
    assert_eq!(take_rows(&mut source, 3).await.0, [0, 1, 2]);
    source.close().await;

    let somebody = hold("pg_recvlogical").await;
    let mut source = fixture.start().await;
    let received = source.received();
    until("the reader of the slot is named", || async {
        received.borrow().waiting_for.as_ref().is_some_and(|reason| reason.contains("pg_recvlogical"))
    })
    .await;
    drop(somebody);
    assert_eq!(take_rows(&mut source, 3).await.0, [0, 1, 2]);
}

#[tokio::test]
async fn in_the_middle_of_a_transaction_the_whole_of_it_comes_again() {
    let fixture = Fixture::new(&SHARED, "part").await;
    fixture.insert(0..2).await;
    let mut source = fixture.start().await;
    let (_, second) = take_rows(&mut source, 2).await;
    source.close().await;
    let part = Position { part: 1, ..second };
    let mut source = fixture.start_from(&part).await;
    assert_eq!(take_rows(&mut source, 1).await.0, [1]);
}

#[tokio::test]
async fn in_the_middle_of_a_giant_transaction_the_whole_of_it_comes_again_after_a_restart_and_a_lost_connection() {
    const ROWS: i32 = 20_000;
    let server = tidegate_throwaway::Server::builder().setting("logical_decoding_work_mem", "64kB").start().unwrap();
    let fixture = Fixture::new(&server, "giant").await;
    fixture.insert(0..2).await;
    fixture
        .execute(&format!("INSERT INTO public.t SELECT g, repeat('x', 80) FROM generate_series(2, {}) g", ROWS + 1))
        .await;
    let config = || SourceConfig { memory_budget_bytes: 1 << 20, ..fixture.config() };
    let start =
        async |from: &Position| PostgresSource::start(config(), from.clone(), fixture.history.clone()).await.unwrap();
    let mut source = start(&fixture.point).await;
    let (_, before) = take_rows(&mut source, 2).await;
    source.acknowledge(&before).await.unwrap();
    let (ids, giant) = take_rows(&mut source, ROWS as usize).await;
    assert_eq!(ids, (2..ROWS + 2).collect::<Vec<_>>());
    // What an applier acknowledges that wrote it slice by slice, and was killed.
    let part = Position { part: 5_000, ..giant };
    source.acknowledge(&part).await.unwrap();
    source.close().await;
    until("part of it is not told to the server", || async { fixture.confirmed_flush().await == before }).await;
    for _ in 0..2 {
        let mut source = start(&part).await;
        // Before anything of it was given out, and after it.
        let walsender = fixture.walsender().await.unwrap();
        fixture.execute(&format!("SELECT pg_terminate_backend({walsender})")).await;
        let (ids, again) = take_rows(&mut source, ROWS as usize).await;
        assert_eq!((ids, &again.commit), ((2..ROWS + 2).collect::<Vec<_>>(), &part.commit));
        assert!(source.spooled_bytes()() == 0, "it was read and let go");
        source.acknowledge(&Position { part: 7_000, ..part.clone() }).await.unwrap();
        until("the stream is open", || async { fixture.walsender().await.is_some_and(|pid| pid != walsender) }).await;
        let walsender = fixture.walsender().await.unwrap();
        fixture.execute(&format!("SELECT pg_terminate_backend({walsender})")).await;
        fixture.insert(ROWS + 2..ROWS + 3).await;
        assert_eq!(take_rows(&mut source, 1).await.0, [ROWS + 2], "what was given out is not repeated");
        fixture.execute(&format!("DELETE FROM public.t WHERE id = {}", ROWS + 2)).await;
        source.close().await;
    }
}

#[tokio::test]
async fn at_the_first_connection_a_server_that_is_not_there_is_an_error() {
    let fixture = Fixture::new(&SHARED, "nobody").await;
    let settings = Settings::parse("postgres://postgres@127.0.0.1:1/nobody").unwrap();
    let config = SourceConfig { settings, ..fixture.config() };
    let started = PostgresSource::start(config, fixture.point.clone(), fixture.history.clone()).await;
    assert_eq!(started.unwrap_err().code, "CN004");
}
