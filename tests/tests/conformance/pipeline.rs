//! The pipeline between a source and an applier that fails as told.

use std::time::Duration;

use tidegate_model::{Applier, Position, Problem};
use tidegate_pipeline::{BatchLimits, Ended, Pipeline};
use tidegate_testkit::faulty::{BatchFault, Counting, Faulty, Hold};
use tidegate_testkit::memory::{self, MemoryHistory, MemoryTarget, insert};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Each transaction is a batch of its own.
fn limits() -> BatchLimits {
    BatchLimits { transactions_max: 1, ..BatchLimits::default() }
}

fn commit(history: &MemoryHistory, count: u64) -> Vec<Position> {
    let table = memory::table("t");
    (1..=count).map(|id| history.commit(vec![insert(&table, id)])).collect()
}

struct Running {
    stop: CancellationToken,
    pipeline: JoinHandle<Result<Ended, Problem>>,
}

fn start(history: &MemoryHistory, applier: impl Applier + 'static) -> Running {
    let stop = CancellationToken::new();
    let mut pipeline = Pipeline::new(history.open(&MemoryHistory::start()), applier, MemoryHistory::start(), limits());
    let running = stop.clone();
    let pipeline = tokio::spawn(async move { pipeline.run(running).await });
    Running { stop, pipeline }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn everything_arrives_and_is_then_acknowledged() {
    let history = MemoryHistory::default();
    let target = MemoryTarget::at(MemoryHistory::start());
    let applier = Counting::new(target.open());
    let counts = applier.counts();
    let last = commit(&history, 50).pop();
    let running = start(&history, applier);
    until("the last one is acknowledged", || history.acknowledged() == last).await;
    assert_eq!(target.ids(&memory::table("t").name), (1..=50).collect::<Vec<_>>());
    assert_eq!((counts.batches(), counts.transactions()), (50, 50));
    running.stop.cancel();
    assert!(running.pipeline.await.unwrap().unwrap().clean);
}

#[tokio::test]
async fn nothing_is_acknowledged_before_it_is_durable() {
    let history = MemoryHistory::default();
    let target = MemoryTarget::at(MemoryHistory::start());
    let hold = Hold::default();
    let positions = commit(&history, 3);
    let running = start(&history, Faulty::new(target.open(), [None, Some(BatchFault::Hold(hold.clone()))]));
    until("the first one is acknowledged", || history.acknowledged().as_ref() == Some(&positions[0])).await;
    // The second one is held: also the third, which was submitted behind it, stays unacknowledged.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(history.acknowledged().as_ref(), Some(&positions[0]));
    assert_eq!(target.position(), positions[0]);
    hold.release();
    until("the last one is acknowledged", || history.acknowledged().as_ref() == Some(&positions[2])).await;
    running.stop.cancel();
    running.pipeline.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_rejected_batch_ends_the_pipeline_and_is_not_acknowledged() {
    let history = MemoryHistory::default();
    let target = MemoryTarget::at(MemoryHistory::start());
    let positions = commit(&history, 3);
    let running = start(&history, Faulty::new(target.open(), [None, Some(BatchFault::Reject)]));
    running.pipeline.await.unwrap().expect_err("a rejected batch was passed over");
    assert!(history.acknowledged() <= Some(positions[0].clone()));
    assert!(target.position() <= positions[0]);
}

#[tokio::test]
async fn a_batch_applied_behind_a_lost_answer_is_not_applied_twice() {
    let history = MemoryHistory::default();
    let target = MemoryTarget::at(MemoryHistory::start());
    let last = commit(&history, 3).pop();
    let running = start(&history, Faulty::new(target.open(), [None, Some(BatchFault::ApplyThenFail)]));
    running.pipeline.await.unwrap().expect_err("the lost answer was passed over");
    // A new process reads the checkpoint and goes on there.
    let stands = target.position();
    assert!(Some(&stands) > history.acknowledged().as_ref(), "nothing was lost");
    let stop = CancellationToken::new();
    let mut pipeline = Pipeline::new(history.open(&stands), target.open(), stands, limits());
    let running = stop.clone();
    let pipeline = tokio::spawn(async move { pipeline.run(running).await });
    until("the last one is acknowledged", || history.acknowledged() == last).await;
    assert_eq!(target.ids(&memory::table("t").name), [1, 2, 3]);
    stop.cancel();
    pipeline.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_batch_delivered_twice_is_refused() {
    let history = MemoryHistory::default();
    let target = MemoryTarget::at(MemoryHistory::start());
    commit(&history, 2);
    let running = start(&history, Faulty::new(target.open(), [Some(BatchFault::DeliverTwice)]));
    running.pipeline.await.unwrap().expect_err("a batch was applied twice");
    assert_eq!(target.ids(&memory::table("t").name), [1]);
}

#[tokio::test]
async fn an_idle_source_moves_the_checkpoint() {
    let history = MemoryHistory::default();
    let target = MemoryTarget::at(MemoryHistory::start());
    commit(&history, 1);
    let idle = history.idle();
    let stop = CancellationToken::new();
    let limits = BatchLimits { idle_checkpoint_every: Duration::from_millis(20), ..limits() };
    let mut pipeline =
        Pipeline::new(history.open(&MemoryHistory::start()), target.open(), MemoryHistory::start(), limits);
    let running = stop.clone();
    let pipeline = tokio::spawn(async move { pipeline.run(running).await });
    until("the watermark is acknowledged", || history.acknowledged().as_ref() == Some(&idle)).await;
    assert_eq!(target.position(), idle);
    stop.cancel();
    pipeline.await.unwrap().unwrap();
}
