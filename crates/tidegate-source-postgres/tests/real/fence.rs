//! Snapshots for fences.

use tidegate_source_postgres::fence::SnapshotTaker;

use crate::fixture::{Fixture, SHARED, until};

#[tokio::test]
async fn a_slot_lends_its_snapshot_and_is_gone() {
    let fixture = Fixture::new(&SHARED, "lent").await;
    fixture.insert(0..3).await;
    let taker = SnapshotTaker::open(&fixture.settings, &fixture.name).await.unwrap();
    let end = taker.log_end().await.unwrap();
    let standing = taker.take_by_slot(&fixture.settings, &fixture.name, |_| {}).await.unwrap();
    assert!(standing.position >= end);
    fixture.insert(3..6).await;
    fixture.execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await;
    fixture.execute(&format!("SET TRANSACTION SNAPSHOT '{}'", standing.exported)).await;
    assert_eq!(fixture.text("SELECT count(*)::text FROM public.t").await, "3");
    fixture.execute("ROLLBACK").await;
    until("the slot is gone", || async {
        let slots = "SELECT count(*)::text FROM pg_replication_slots WHERE slot_name LIKE 'tidegate_lent_fence%'";
        fixture.text(slots).await == "0"
    })
    .await;
}
