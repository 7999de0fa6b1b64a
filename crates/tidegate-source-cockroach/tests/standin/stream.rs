//! The stream: order, idleness, restarts, back-pressure.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_connect::Session;
use tidegate_model::{Event, Hlc, Position, Source};
use tidegate_source_cockroach::{CockroachSource, SourceConfig};
use tokio::time::sleep;

use crate::fixture::{Fixture, SHARED, apply, changes, inserted_id, next, take_rows, take_watermark};

const WRITERS: i64 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_come_whole_and_in_order() {
    let fixture = Fixture::new(&SHARED, "whole").await;
    let mut source = fixture.start().await;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let settings = fixture.settings.clone();
            tokio::spawn(async move {
                let session = Session::connect(&settings, "writer").await.unwrap();
                for number in 0..25 {
                    let first = (writer * 25 + number) * 4;
                    let rows: Vec<String> = (first..first + 4).map(|id| format!("({id}, 'w{writer}')")).collect();
                    let sql = format!("INSERT INTO public.t (id, v) VALUES {}", rows.join(", "));
                    session.batch_execute(&sql).await.unwrap();
                }
            })
        })
        .collect();
    let (mut transactions, mut last) = (Vec::new(), fixture.point.clone());
    while transactions.len() < 100 {
        match next(&mut source).await.unwrap() {
            Event::Watermark(position) => assert!(position >= last),
            Event::Commit(transaction) => {
                assert!(transaction.position > last, "positions go on");
                last = transaction.position.clone();
                let mut ids: Vec<i64> = changes(&transaction).iter().map(inserted_id).collect();
                ids.sort_unstable();
                assert_eq!(ids, (ids[0]..ids[0] + 4).collect::<Vec<_>>(), "a transaction comes whole");
                assert_eq!(ids[0] % 4, 0);
                transactions.push(ids[0] / 4);
            }
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
    for writer in 0..WRITERS {
        let of_writer: Vec<i64> = transactions.iter().copied().filter(|number| number / 25 == writer).collect();
        assert_eq!(of_writer, (writer * 25..writer * 25 + 25).collect::<Vec<_>>(), "each writer's order is kept");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_goes_on_after_its_position() {
    let fixture = Fixture::new(&SHARED, "restart").await;
    fixture.insert(0..10).await;
    let mut source = fixture.start().await;
    let (ids, position) = take_rows(&mut source, 6).await;
    assert_eq!(ids, (0..6).collect::<Vec<_>>());
    source.close().await;
    fixture.insert(10..12).await;
    let mut source = fixture.start_from(&position).await;
    assert_eq!(take_rows(&mut source, 6).await.0, (6..12).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_of_a_row_is_followed() {
    let fixture = Fixture::new(&SHARED, "changes").await;
    let mut source = fixture.start().await;
    for sql in [
        "INSERT INTO public.t VALUES (1, 'a'), (2, 'b'), (3, NULL)",
        "UPDATE public.t SET v = 'c' WHERE id = 1",
        "UPDATE public.t SET id = 9 WHERE id = 2",
        "DELETE FROM public.t WHERE id = 3",
        "INSERT INTO public.t VALUES (3, 'again')",
    ] {
        fixture.execute(sql).await;
    }
    let mut rows = BTreeMap::new();
    let wanted = fixture.rows().await;
    let mut commits = 0;
    while commits < 5 {
        if let Event::Commit(transaction) = next(&mut source).await.unwrap() {
            apply(&mut rows, &transaction);
            commits += 1;
        }
    }
    assert_eq!(rows, wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_stream_moves_with_the_clock() {
    let fixture = Fixture::new(&SHARED, "idle").await;
    let mut source = fixture.start().await;
    for _ in 0..3 {
        let now = Position::cockroach(fixture.now().await);
        let watermark = take_watermark(&mut source, &now).await;
        source.acknowledge(&watermark).await.unwrap();
    }
    let received = source.received().borrow().clone();
    assert!(received.resolved.is_some() && received.heard_at.is_some() && received.waiting_for.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledging_what_was_not_delivered_is_refused() {
    let fixture = Fixture::new(&SHARED, "early").await;
    let mut source = fixture.start().await;
    let ahead = Position::cockroach(Hlc { wall: u64::MAX, logical: 0 });
    assert_eq!(source.acknowledge(&ahead).await.unwrap_err().code, "CR030");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_stalls_loses_nothing_and_costs_no_memory() {
    let fixture = Fixture::new(&SHARED, "stalled").await;
    let config = SourceConfig { memory_budget_bytes: 1 << 20, ..fixture.config().await };
    let mut source = CockroachSource::start(config, fixture.point.clone(), fixture.history.clone()).await.unwrap();
    for batch in 0..20 {
        let first = batch * 500;
        let sql = format!(
            "INSERT INTO public.t SELECT g, repeat('0123456789', 40) FROM generate_series({first}, {}) AS s(g)",
            first + 499
        );
        fixture.execute(&sql).await;
    }
    sleep(Duration::from_secs(1)).await;
    let (mut ids, _) = take_rows(&mut source, 10_000).await;
    for batch in ids.chunks_mut(500) {
        batch.sort_unstable();
    }
    assert_eq!(ids, (0..10_000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_first_connection_a_server_that_is_not_there_is_an_error() {
    let fixture = Fixture::new(&SHARED, "nobody").await;
    let settings = tidegate_connect::Settings::parse("cockroach://root@127.0.0.1:1/nobody").unwrap();
    let config = SourceConfig { settings, ..fixture.config().await };
    let started = CockroachSource::start(config, fixture.point.clone(), fixture.history.clone()).await;
    assert_eq!(started.unwrap_err().code, "CN004");
}
