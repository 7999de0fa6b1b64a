//! The garbage collection window: the alarm, the stop, and the refusal of what is past it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tidegate_model::{Class, Source};
use tidegate_source_cockroach::{CockroachSource, GcLevel, SourceConfig, Work};
use tokio::time::timeout;

use crate::fixture::{Fixture, LIMIT, SHARED, next, own, take_rows, take_watermark, until};

fn level(source: &CockroachSource) -> Option<GcLevel> {
    source.received().borrow().gc.map(|gc| gc.level())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_does_not_move_is_alarmed_at_half_the_window_and_stops_past_it() {
    let fixture = Fixture::new(&SHARED, "window").await;
    fixture.execute("ALTER TABLE public.t CONFIGURE ZONE USING gc.ttlseconds = 6").await;
    let mut source = fixture.start_from(&tidegate_model::Position::cockroach(fixture.now().await)).await;
    fixture.insert(0..1).await;
    let (_, position) = take_rows(&mut source, 1).await;
    source.acknowledge(&position).await.unwrap();
    until("the window is measured", || async { level(&source) == Some(GcLevel::Normal) }).await;
    assert_eq!(source.received().borrow().gc.unwrap().ttl_seconds, 6);
    until("the alarm comes at half of it", || async { level(&source) == Some(GcLevel::Half) }).await;
    // Nobody takes events: the problem goes past them.
    let problem = timeout(LIMIT, source.failed()).await.expect("the stream stops past the window");
    assert_eq!((problem.code, problem.class), ("CR011", Class::Definite), "{problem}");
    assert!(problem.why.contains(&position.to_string()) && problem.next.contains("--recreate-slot"), "{problem}");
    assert_eq!(source.received().borrow().ended, Some("CR011"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_moves_is_never_stopped() {
    let fixture = Fixture::new(&SHARED, "moving").await;
    fixture.execute("ALTER TABLE public.t CONFIGURE ZONE USING gc.ttlseconds = 2").await;
    let mut source = fixture.start_from(&tidegate_model::Position::cockroach(fixture.now().await)).await;
    let end = std::time::Instant::now() + Duration::from_secs(5);
    while std::time::Instant::now() < end {
        let now = tidegate_model::Position::cockroach(fixture.now().await);
        let watermark = take_watermark(&mut source, &now).await;
        source.acknowledge(&watermark).await.unwrap();
        assert_ne!(level(&source), Some(GcLevel::Past));
    }
    assert_eq!(source.received().borrow().ended, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_works_is_not_stopped() {
    let fixture = Fixture::new(&SHARED, "working").await;
    fixture.execute("ALTER TABLE public.t CONFIGURE ZONE USING gc.ttlseconds = 1").await;
    let (done, halted) = (AtomicU64::new(0), Arc::new(AtomicBool::new(false)));
    let halts = Arc::clone(&halted);
    let work: Work = Arc::new(move || done.fetch_add(u64::from(!halts.load(Ordering::Relaxed)), Ordering::Relaxed));
    let config = SourceConfig { work, ..fixture.config().await };
    let now = tidegate_model::Position::cockroach(fixture.now().await);
    let working = CockroachSource::start(config, now, fixture.history.clone()).await.unwrap();
    until("the window is measured", || async { level(&working) == Some(GcLevel::Normal) }).await;
    until("it is past", || async { level(&working) == Some(GcLevel::Past) }).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(working.received().borrow().ended, None);
    // It stands still.
    halted.store(true, Ordering::Relaxed);
    let mut working = working;
    assert_eq!(timeout(LIMIT, working.failed()).await.expect("the stream stops").code, "CR011");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_past_the_window_is_refused_with_bounds_and_repair() {
    let standin = own();
    let fixture = Fixture::new(&standin, "toolate").await;
    fixture.insert(0..3).await;
    let threshold = fixture.now().await;
    fixture.insert(3..4).await;
    fixture.set("gc_threshold", &format!("'{threshold}'")).await;
    let started = CockroachSource::start(fixture.config().await, fixture.point.clone(), fixture.history.clone()).await;
    let problem = started.unwrap_err();
    assert_eq!((problem.code, problem.class), ("CR010", Class::Definite), "{problem}");
    let from = fixture.point.hlc().unwrap().to_string();
    assert!(problem.what.contains(&from) && problem.next.contains("--recreate-slot"), "{problem}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_that_loses_its_history_ends_behind_what_it_gave() {
    let standin = own();
    let fixture = Fixture::new(&standin, "collected").await;
    let mut source = fixture.start().await;
    fixture.insert(0..3).await;
    take_rows(&mut source, 3).await;
    // Far ahead, so that wherever the feed goes on is behind it; the connection then breaks.
    let ahead = fixture.now().await.wall + 3_600_000_000_000;
    fixture.set("gc_threshold", &format!("'{ahead}.0000000000'")).await;
    fixture.set("drop_connections", "1").await;
    let problem = loop {
        if let Err(problem) = next(&mut source).await {
            break problem;
        }
    };
    assert_eq!(problem.code, "CR010", "{problem}");
}
