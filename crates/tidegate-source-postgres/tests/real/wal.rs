//! WAL that is kept back is measured and bounded.

use tidegate_source_postgres::wal::{WalBudget, WalLevel, WhenSpent, measure};
use tidegate_source_postgres::{PostgresSource, SourceConfig, slot};
use tidegate_throwaway::Server;

use crate::fixture::{Fixture, next, until};

const BUDGET: u64 = 32 << 20;

/// Writes about `bytes` of WAL that belong to no published table.
async fn write(fixture: &Fixture, bytes: u64) {
    let rows = bytes / 550;
    let sql = format!("CREATE TABLE public.w AS SELECT repeat('x', 500) FROM generate_series(1, {rows})");
    fixture.execute(&sql).await;
    fixture.execute("DROP TABLE public.w").await;
}

/// Lets the budget be spent, as by a target that does not follow, and returns the code with which the stream ends.
async fn spend(fixture: &Fixture, when_spent: WhenSpent) -> &'static str {
    let object = fixture.name.object_name();
    let kept = measure(&fixture.session, &object).await.unwrap().unwrap().bytes();
    let wal_budget = WalBudget { bytes_max: Some(kept + BUDGET), when_spent };
    let config = SourceConfig { wal_budget, ..fixture.config() };
    let mut source = PostgresSource::start(config, fixture.point.clone(), fixture.history.clone()).await.unwrap();
    let received = source.received();
    write(fixture, BUDGET * 6 / 10).await;
    until("half of the budget is shown", || async { received.borrow().wal_level == WalLevel::Half }).await;
    assert!(received.borrow().ended.is_none());
    write(fixture, BUDGET).await;
    until("the stream has ended", || async { received.borrow().ended.is_some() }).await;
    loop {
        if let Err(problem) = next(&mut source).await {
            return problem.code;
        }
    }
}

#[tokio::test]
async fn half_of_the_budget_is_shown_and_at_all_of_it_the_stream_stops() {
    let server = Server::builder().start().unwrap();
    let fixture = Fixture::new(&server, "budget_stop").await;
    assert_eq!(spend(&fixture, WhenSpent::Stop).await, "PG050");
    let slot = slot::inspect(&fixture.session, &fixture.name.object_name()).await.unwrap();
    assert!(slot.is_some(), "the slot stays");
}

#[tokio::test]
async fn where_the_source_goes_first_the_slot_is_dropped_at_the_budget() {
    let server = Server::builder().start().unwrap();
    let fixture = Fixture::new(&server, "budget_drop").await;
    assert_eq!(spend(&fixture, WhenSpent::DropSlot).await, "PG051");
    assert!(slot::inspect(&fixture.session, &fixture.name.object_name()).await.unwrap().is_none());
}
