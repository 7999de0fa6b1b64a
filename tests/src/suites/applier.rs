//! The promises of an `Applier`.

use std::future::Future;
use std::sync::Arc;

use tidegate_model::{Applier, Batch, Change, Changes, Lsn, Position, SourceTable, Span, Timestamp, Transaction};

use super::{cancelled, within};
use crate::memory::{insert, update};

/// A target that a suite can look into.
pub trait ApplierHarness {
    /// What is tried.
    type Applier: Applier;
    /// Returns the table that is written: `id`, a number and the key, and `note`, a text. See [`crate::memory::table`].
    fn table(&self) -> Arc<SourceTable>;
    /// Opens an applier where the target stands, as a process that was just started does.
    fn open(&mut self) -> impl Future<Output = Self::Applier>;
    /// Returns the stored checkpoint.
    fn position(&mut self) -> impl Future<Output = Position>;
    /// Returns the numbers of the rows, in order.
    fn ids(&mut self) -> impl Future<Output = Vec<u64>>;
}

/// Tries every promise, one after another on the same target. Panics at the first one that is broken.
pub async fn applier_suite(harness: &mut impl ApplierHarness) {
    let mut suite = Suite { next_id: 1, expected: harness.ids().await, harness };
    assert!(suite.expected.is_empty(), "the suite begins with an empty target");
    suite.rows_arrive_with_their_checkpoint().await;
    suite.batches_under_way_take_effect_in_order().await;
    suite.a_batch_may_move_only_the_checkpoint().await;
    suite.a_dropped_wait_loses_nothing().await;
    suite.gaps_and_overlaps_are_refused_and_nothing_behind_them_is_written().await;
    suite.what_came_before_a_refused_row_is_durable_and_told_first().await;
    suite.a_dropped_applier_leaves_a_prefix().await;
}

struct Suite<'a, H> {
    harness: &'a mut H,
    next_id: u64,
    expected: Vec<u64>,
}

/// The position `bytes` after another one.
fn later(position: &Position, bytes: u64) -> Position {
    Position::postgres(Lsn(position.lsn().expect("the suite uses positions of PostgreSQL").0 + bytes))
}

fn batch(after: &Position, until: &Position, changes: Vec<Change>) -> Batch {
    let transaction = Transaction {
        position: until.clone(),
        committed_at: Timestamp(0),
        xid: None,
        changes: Changes::Memory(changes.into()),
    };
    Batch { span: Span { after: after.clone(), until: until.clone() }, transactions: vec![transaction] }
}

/// Waits until the applier has told `until`.
async fn wait_durable(applier: &mut impl Applier, from: &Position, until: &Position) {
    let mut durable = from.clone();
    while durable < *until {
        durable = within("a durable position", applier.durable(&durable)).await.expect("no fault was asked for");
    }
    assert_eq!(durable, *until, "more is durable than was submitted");
}

impl<H: ApplierHarness> Suite<'_, H> {
    /// Returns an insert of a new row, which is then expected.
    fn insert(&mut self) -> Change {
        let id = self.next_id;
        self.next_id += 1;
        self.expected.push(id);
        insert(&self.harness.table(), id)
    }

    async fn assert_target(&mut self, position: &Position) {
        assert_eq!(self.harness.ids().await, self.expected);
        assert_eq!(self.harness.position().await, *position);
    }

    async fn rows_arrive_with_their_checkpoint(&mut self) {
        let start = self.harness.position().await;
        let until = later(&start, 100);
        let mut applier = self.harness.open().await;
        let changes = vec![self.insert(), self.insert(), update(&self.harness.table(), 1)];
        applier.submit(batch(&start, &until, changes)).await.expect("a batch that fits is taken");
        wait_durable(&mut applier, &start, &until).await;
        self.assert_target(&until).await;
    }

    async fn batches_under_way_take_effect_in_order(&mut self) {
        let start = self.harness.position().await;
        let mut applier = self.harness.open().await;
        let mut at = start.clone();
        for _ in 0..8 {
            let until = later(&at, 100);
            // Each one changes the row that the one before it made.
            let newest = self.next_id - 1;
            let changes = vec![update(&self.harness.table(), newest), self.insert()];
            within("room for a batch", applier.submit(batch(&at, &until, changes))).await.expect("it fits");
            at = until;
        }
        wait_durable(&mut applier, &start, &at).await;
        self.assert_target(&at).await;
    }

    async fn a_batch_may_move_only_the_checkpoint(&mut self) {
        let start = self.harness.position().await;
        let until = later(&start, 1000);
        let mut applier = self.harness.open().await;
        let span = Span { after: start.clone(), until: until.clone() };
        applier.submit(Batch { span, transactions: Vec::new() }).await.expect("a batch that fits is taken");
        wait_durable(&mut applier, &start, &until).await;
        self.assert_target(&until).await;
    }

    async fn a_dropped_wait_loses_nothing(&mut self) {
        let start = self.harness.position().await;
        let mut applier = self.harness.open().await;
        let mut at = start.clone();
        let mut told = start.clone();
        for _ in 0..5 {
            let until = later(&at, 100);
            let changes = vec![self.insert()];
            within("room for a batch", applier.submit(batch(&at, &until, changes))).await.expect("it fits");
            at = until;
            if let Some(durable) = cancelled(applier.durable(&told)).await {
                told = durable.expect("no fault was asked for");
            }
        }
        wait_durable(&mut applier, &told, &at).await;
        self.assert_target(&at).await;
    }

    async fn gaps_and_overlaps_are_refused_and_nothing_behind_them_is_written(&mut self) {
        let start = self.harness.position().await;
        let good = later(&start, 100);
        let wrong_starts = [later(&good, 10), start.clone()];
        let mut at = start;
        for wrong in wrong_starts {
            let good = later(&at, 100);
            let wrong = if wrong > at { later(&good, 10) } else { at.clone() };
            let until = later(&good, 200);
            let mut applier = self.harness.open().await;
            let changes = vec![self.insert()];
            applier.submit(batch(&at, &good, changes)).await.expect("a batch that fits is taken");
            let table = self.harness.table();
            // Refused when it is submitted or when its result is asked for; the one behind it with it.
            let taken = applier.submit(batch(&wrong, &until, vec![insert(&table, 900_001)])).await.is_ok();
            if taken {
                let _ = applier.submit(batch(&until, &later(&until, 100), vec![insert(&table, 900_002)])).await;
                wait_durable(&mut applier, &at, &good).await;
                within("the refusal", applier.durable(&good)).await.expect_err("a batch that does not fit was written");
            }
            drop(applier);
            let mut applier = self.harness.open().await;
            let stands = self.harness.position().await;
            if stands == at {
                // It was refused before the good one was written, which is then written again.
                let id = *self.expected.last().expect("one was inserted");
                applier.submit(batch(&at, &good, vec![insert(&table, id)])).await.expect("it fits");
                wait_durable(&mut applier, &at, &good).await;
            }
            self.assert_target(&good).await;
            at = good;
        }
    }

    async fn what_came_before_a_refused_row_is_durable_and_told_first(&mut self) {
        let start = self.harness.position().await;
        let (first, second) = (later(&start, 100), later(&start, 200));
        let mut applier = self.harness.open().await;
        let changes = vec![self.insert()];
        applier.submit(batch(&start, &first, changes)).await.expect("a batch that fits is taken");
        let table = self.harness.table();
        let missing = vec![insert(&table, 900_003), update(&table, 999_999)];
        if applier.submit(batch(&first, &second, missing)).await.is_ok() {
            let _ = applier.submit(batch(&second, &later(&second, 100), vec![insert(&table, 900_004)])).await;
        }
        wait_durable(&mut applier, &start, &first).await;
        let refused = within("the refusal", applier.durable(&first)).await;
        refused.expect_err("an update of a row that is not there was taken");
        drop(applier);
        self.assert_target(&first).await;
    }

    async fn a_dropped_applier_leaves_a_prefix(&mut self) {
        let start = self.harness.position().await;
        let mut applier = self.harness.open().await;
        let first_id = self.next_id;
        let mut ends = vec![start.clone()];
        for _ in 0..6 {
            let at = ends.last().expect("it is not empty").clone();
            let until = later(&at, 100);
            let changes = vec![insert(&self.harness.table(), self.next_id)];
            self.next_id += 1;
            within("room for a batch", applier.submit(batch(&at, &until, changes))).await.expect("it fits");
            ends.push(until);
        }
        drop(applier);
        // A new applier begins where the target then stands for good.
        let applier = self.harness.open().await;
        let stands = self.harness.position().await;
        let written =
            ends.iter().position(|end| *end == stands).expect("the target stands at the end of a batch") as u64;
        self.expected.extend(first_id..first_id + written);
        self.assert_target(&stands).await;
        drop(applier);
    }
}
