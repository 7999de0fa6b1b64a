//! Transactions on disk: one transaction at the target, slice by slice.

use std::sync::Arc;

use tidegate_model::{
    Applier, Batch, Change, ChangeReader, Changes, Problem, Span, SpooledChanges, TableRoute, Timestamp, Transaction,
};

use crate::support::{Changing, Target, at, batch, durable, route, transaction};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, name text UNIQUE)";

/// Changes that are made when they are read, as if they came from disk.
struct Made {
    count: u64,
    make: Box<dyn Fn(u64) -> Change + Send + Sync>,
}

struct Handle(Arc<Made>);

impl SpooledChanges for Handle {
    fn read(&self) -> Result<ChangeReader, Problem> {
        let made = Arc::clone(&self.0);
        Ok(Box::new((0..made.count).map(move |index| Ok((made.make)(index)))))
    }

    fn bytes(&self) -> u64 {
        self.0.count * 100
    }
}

fn spooled(after: u64, until: u64, count: u64, make: impl Fn(u64) -> Change + Send + Sync + 'static) -> Batch {
    let made = Handle(Arc::new(Made { count, make: Box::new(make) }));
    let changes = Changes::Spooled(Arc::new(made));
    let transactions = vec![Transaction { position: at(until), committed_at: Timestamp(0), xid: None, changes }];
    Batch { span: Span { after: at(after), until: at(until) }, transactions }
}

fn table() -> (TableRoute, Changing) {
    let route = route(1, "t", &["id integer", "name text"], &[0]);
    let changing = Changing::new(&route);
    (route, changing)
}

#[tokio::test]
async fn a_giant_transaction_arrives_whole_between_its_neighbours() {
    let target = Target::new(TABLE).await;
    let owner = target.own().await;
    let (route, t) = table();
    let mut applier = target.applier(owner.lease(), [route.clone()]).await;
    applier.submit(batch(10, vec![transaction(11, vec![t.insert("0 a")])])).await.unwrap();
    let made = Changing::new(&route);
    applier.submit(spooled(11, 12, 30_000, move |n| made.insert(&format!("{} n{n}", n + 1)))).await.unwrap();
    applier.submit(batch(12, vec![transaction(13, vec![t.delete("30000 -")])])).await.unwrap();
    durable(&mut applier, 10, 13).await.unwrap();
    assert_eq!(target.text("SELECT count(*), max(id) FROM t").await, "30000|29999");
    // One commit for all of it: every row carries a transaction id (or that of a subtransaction) between its
    // neighbours'.
    assert_eq!(applier.progress().borrow().rows, 30_002);
}

#[tokio::test]
async fn a_slice_that_is_refused_goes_to_source_order_and_the_rest_does_not() {
    let target = Target::new(TABLE).await;
    let owner = target.own().await;
    let (route, t) = table();
    let mut applier = target.applier(owner.lease(), [route.clone()]).await;
    applier.submit(batch(10, vec![transaction(11, vec![t.insert("1 a"), t.insert("2 b")])])).await.unwrap();
    let made = Changing::new(&route);
    // The swap of two unique values lies in the middle of the second slice.
    let changes = move |n| match n {
        7_000 => made.update("1 z"),
        7_001 => made.update("2 a"),
        7_002 => made.update("1 b"),
        n => made.insert(&format!("{} n{n}", n + 10)),
    };
    applier.submit(spooled(11, 12, 12_000, changes)).await.unwrap();
    durable(&mut applier, 10, 12).await.unwrap();
    assert_eq!(target.text("SELECT id, name FROM t WHERE id < 3 ORDER BY 1").await, "1|b 2|a");
    assert_eq!(target.number("SELECT count(*) FROM t").await, 11_999);
    assert_eq!(applier.progress().borrow().batches_in_source_order, 1);
}

#[tokio::test]
async fn a_giant_transaction_with_a_bad_row_leaves_nothing() {
    let target = Target::new(TABLE).await;
    let owner = target.own().await;
    let (route, _) = table();
    let mut applier = target.applier(owner.lease(), [route.clone()]).await;
    let made = Changing::new(&route);
    let changes = move |n| if n == 11_000 { made.update("77777 x") } else { made.insert(&format!("{n} n{n}")) };
    applier.submit(spooled(10, 12, 12_000, changes)).await.unwrap();
    let problem = durable(&mut applier, 10, 12).await.unwrap_err();
    assert_eq!(problem.code, "AP001");
    assert!(problem.what.contains("(id)=(77777)"), "{problem}");
    assert_eq!(target.checkpoint().await, at(10).to_string());
    assert_eq!(target.number("SELECT count(*) FROM t").await, 0);
}

#[tokio::test]
async fn a_giant_transaction_that_is_interrupted_begins_anew() {
    let target = Target::new(TABLE).await;
    let owner = target.own().await;
    let (route, _) = table();
    let mut applier = target.applier(owner.lease(), [route.clone()]).await;
    let made = Changing::new(&route);
    applier.submit(spooled(10, 12, 60_000, move |n| made.insert(&format!("{n} n{n}")))).await.unwrap();
    let mut progress = applier.progress();
    progress.wait_for(|progress| progress.rows_uncommitted > 0).await.unwrap();
    let role = target.key.migration.application_name("apply");
    target
        .sql(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{role}'"))
        .await;
    progress.wait_for(|progress| progress.retrying.is_some() || progress.applied == at(12)).await.unwrap();
    durable(&mut applier, 10, 12).await.unwrap();
    assert_eq!(target.number("SELECT count(*) FROM t").await, 60_000);
}
