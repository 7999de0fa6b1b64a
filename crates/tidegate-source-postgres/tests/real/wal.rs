//! WAL that is kept back is measured and bounded.

use tidegate_source_postgres::wal::{WalBudget, WalLevel, WhenSpent, measure};
use tidegate_source_postgres::{PostgresSource, SourceConfig, slot};

use crate::fixture::{Fixture, SHARED, next, until};

async fn write_until_spent(name: &str, when_spent: WhenSpent) -> (Fixture, &'static str, bool) {
    let fixture = Fixture::new(&SHARED, name).await;
    let kept = measure(&fixture.session, &fixture.name.object_name()).await.unwrap().unwrap().bytes();
    let wal_budget = WalBudget { bytes_max: Some(kept + (32 << 20)), when_spent };
    let config = SourceConfig { wal_budget, ..fixture.config() };
    let mut source = PostgresSource::start(config, fixture.point.clone(), fixture.history.clone()).await.unwrap();
    let received = source.received();
    let mut warned = false;
    // Nothing is acknowledged, as if the target did not follow.
    until("the budget is spent", || {
        warned |= received.borrow().wal_level == WalLevel::Half;
        let ended = received.borrow().ended.is_some();
        let fixture = &fixture;
        async move {
            if !ended {
                let sql = "CREATE TABLE public.w AS SELECT repeat('x', 500) FROM generate_series(1, 4000)";
                fixture.execute(sql).await;
                fixture.execute("DROP TABLE public.w").await;
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            ended
        }
    })
    .await;
    let problem = loop {
        if let Err(problem) = next(&mut source).await {
            break problem;
        }
    };
    (fixture, problem.code, warned)
}

#[tokio::test]
async fn at_the_budget_the_stream_stops_and_its_slot_stays() {
    let (fixture, code, warned) = write_until_spent("budget_stop", WhenSpent::Stop).await;
    assert_eq!(code, "PG050");
    assert!(warned, "half of the budget was shown before");
    assert!(slot::inspect(&fixture.session, &fixture.name.object_name()).await.unwrap().is_some());
}

#[tokio::test]
async fn at_the_budget_the_slot_is_dropped_where_the_source_goes_first() {
    let (fixture, code, _) = write_until_spent("budget_drop", WhenSpent::DropSlot).await;
    assert_eq!(code, "PG051");
    assert!(slot::inspect(&fixture.session, &fixture.name.object_name()).await.unwrap().is_none());
}
