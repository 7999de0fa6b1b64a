//! Which buckets are looked into, and in how many passes.

use tidegate_model::Problem;

use super::buckets::Buckets;
use super::job::Job;
use super::matching::Differences;
use super::scan::Chosen;

/// How many rows of a side one pass keeps: some 30 MB, the rows of a thousand buckets of a large table.
const PASS_ROWS: u64 = 100_000;

/// How often a table is read to find out which rows differ. Where more than 1.6 million rows share buckets with one
/// that differs, the sides are so different that it does not matter which of them are.
const PASSES_MAX: usize = 16;

/// What is known of the buckets that differ.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    /// The buckets of each pass.
    passes: Vec<Vec<usize>>,
    /// Rows that are missing or extra for certain, because the other side has none in their bucket.
    missing: u64,
    extra: u64,
    /// Buckets that no pass looks into though rows of both sides are in them.
    left_out: Vec<usize>,
}

impl Plan {
    /// Plans so that `listed` keys can be named, where there are as many.
    fn new(source: &Buckets, target: &Buckets, listed: u64, pass_rows: u64, passes_max: usize) -> Plan {
        let rows = |bucket: &usize| (source.rows_of(*bucket), target.rows_of(*bucket));
        let one_sided = |bucket: &usize| matches!(rows(bucket), (0, _) | (_, 0));
        let (alone, mixed): (Vec<usize>, Vec<usize>) = source.differing(target).into_iter().partition(one_sided);
        let mut plan = Plan::default();
        let mut room = 0;
        let mut named = 0;
        for bucket in mixed {
            let (a, b) = rows(&bucket);
            if !plan.place(bucket, a.max(b), &mut room, pass_rows, passes_max) {
                plan.left_out.push(bucket);
            }
            named += 1;
        }
        for bucket in alone {
            let (missing, extra) = rows(&bucket);
            let wanted = named < listed;
            if wanted && plan.place(bucket, missing.max(extra), &mut room, pass_rows, passes_max) {
                named += missing.max(extra);
            } else {
                plan.missing += missing;
                plan.extra += extra;
            }
        }
        plan
    }

    /// Puts a bucket into the last pass, or a new one; false where there is no room left.
    fn place(&mut self, bucket: usize, rows: u64, room: &mut u64, pass_rows: u64, passes_max: usize) -> bool {
        if rows > *room || self.passes.is_empty() {
            if self.passes.len() == passes_max {
                return false;
            }
            self.passes.push(Vec::new());
            *room = pass_rows;
        }
        *room = room.saturating_sub(rows);
        self.passes.last_mut().expect("there is one by now").push(bucket);
        true
    }
}

impl Job {
    /// Finds out which rows of the buckets that differ do.
    pub(super) async fn look_into(
        &self,
        source: &Buckets,
        target: &Buckets,
        found: &mut Differences,
    ) -> Result<(), Problem> {
        let listed = self.options().keys_listed_max as u64;
        let plan = Plan::new(source, target, listed, PASS_ROWS, PASSES_MAX);
        for buckets in &plan.passes {
            let (source, target) = self.collect(&Chosen::new(buckets)).await?;
            found.match_rows(source, target, self.table());
        }
        found.missing += plan.missing;
        found.extra += plan.extra;
        for bucket in plan.left_out {
            found.guess(source.rows_of(bucket), target.rows_of(bucket));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::RowHash;

    fn of(rows: &[(u128, u128)]) -> Buckets {
        let mut buckets = Buckets::new();
        rows.iter().for_each(|(key, row)| buckets.add(RowHash { key: *key, row: *row }));
        buckets
    }

    #[test]
    fn what_one_side_has_alone_is_counted_without_being_read() {
        let full: Vec<(u128, u128)> = (0..100).map(|key| (key, key)).collect();
        let plan = Plan::new(&of(&full), &of(&[]), 3, 10, 5);
        assert_eq!(plan, Plan { passes: vec![vec![0, 1, 2]], missing: 97, ..Plan::default() });
    }

    #[test]
    fn passes_hold_no_more_rows_than_they_may_and_end() {
        let table = |row: u128| of(&(0..7).map(|key| (key, row)).collect::<Vec<_>>());
        let plan = Plan::new(&table(1), &table(2), 100, 2, 3);
        assert_eq!(plan.passes, [vec![0, 1], vec![2, 3], vec![4, 5]]);
        assert_eq!(plan.left_out, [6]);
    }
}
