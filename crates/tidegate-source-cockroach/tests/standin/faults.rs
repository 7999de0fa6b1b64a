//! What a feed may do to us: repeats, other orders, broken connections, silence.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_model::{Event, Position, Source};
use tidegate_source_cockroach::{CockroachSource, SourceConfig};

use crate::fixture::{Fixture, apply, next, own, take_rows, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeats_other_orders_and_broken_connections_cost_no_row_and_repeat_none() {
    let standin = own();
    let fixture = Fixture::new(&standin, "rough").await;
    fixture.set("duplicates", "0.3").await;
    fixture.set("reorder", "true").await;
    // A feed that is broken off before it resolves anything begins where it began: not too often.
    fixture.set("drop_connections", "250").await;
    let mut source = fixture.start().await;
    let writers: Vec<_> = (0..3_i64)
        .map(|writer| {
            let settings = fixture.settings.clone();
            tokio::spawn(async move {
                let session = tidegate_connect::Session::connect(&settings, "writer").await.unwrap();
                for number in 0..100_i64 {
                    let id = writer * 1_000 + number % 20;
                    let sql = match number / 20 % 3 {
                        0 => format!("INSERT INTO public.t VALUES ({id}, '{number}')"),
                        1 => format!("UPDATE public.t SET v = '{number}' WHERE id = {id}"),
                        _ => format!("DELETE FROM public.t WHERE id = {id}"),
                    };
                    session.batch_execute(&sql).await.unwrap();
                }
            })
        })
        .collect();
    let (mut rows, mut commits) = (BTreeMap::new(), 0);
    while commits < 300 {
        if let Event::Commit(transaction) = next(&mut source).await.unwrap() {
            apply(&mut rows, &transaction);
            source.acknowledge(&transaction.position).await.unwrap();
            commits += 1;
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(rows, fixture.rows().await);
    let end = Position::cockroach(fixture.now().await);
    crate::fixture::take_watermark(&mut source, &end).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_that_resolves_nothing_is_opened_again() {
    let standin = own();
    let fixture = Fixture::new(&standin, "silent").await;
    fixture.set("delay_resolved", "'1h'").await;
    let config = SourceConfig { resolved_silence_max: Duration::from_millis(200), ..fixture.config().await };
    let mut source = CockroachSource::start(config, fixture.point.clone(), fixture.history.clone()).await.unwrap();
    fixture.insert(0..5).await;
    let received = source.received();
    until("the silence is told", || async {
        let reason = received.borrow().waiting_for.clone();
        reason.is_some_and(|reason| reason.contains("resolved no time"))
    })
    .await;
    fixture.set("delay_resolved", "'0s'").await;
    assert_eq!(take_rows(&mut source, 5).await.0, (0..5).collect::<Vec<_>>());
    until("the reason is gone", || async { received.borrow().waiting_for.is_none() }).await;
    assert_eq!(received.borrow().ended, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_may_go_and_come_back() {
    let standin = own();
    let mut fixture = Fixture::new(&standin, "gone").await;
    let (backing, address) = (standin.backing().cloned(), standin.address());
    let mut source = fixture.start().await;
    fixture.insert(0..5).await;
    assert_eq!(take_rows(&mut source, 5).await.0.len(), 5);
    let received = source.received();
    standin.stop();
    until("the reason is shown", || async { received.borrow().waiting_for.is_some() }).await;
    let options = tidegate_standin::StandinOptions {
        backing,
        listen: Some(address),
        ..tidegate_standin::StandinOptions::default()
    };
    let _again = tidegate_standin::Standin::start(options).unwrap();
    fixture.session = tidegate_connect::Session::connect(&fixture.settings, "test").await.unwrap();
    fixture.insert(5..10).await;
    assert_eq!(take_rows(&mut source, 5).await.0, (5..10).collect::<Vec<_>>());
    assert_eq!(received.borrow().waiting_for, None);
}
