//! Rows of a table summed up in buckets.

use crate::layout::RowHash;

/// How many buckets there are: 4 MiB a side, and of a table of ten million rows one that differs stands for 80.
pub(super) const BUCKETS: usize = 1 << 17;

/// What came into each bucket. Sums do not depend on the order, and count equal rows as often as they come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Buckets(Vec<Bucket>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bucket {
    pub(super) rows: u64,
    sum: u128,
}

impl Buckets {
    pub(super) fn new() -> Buckets {
        Buckets(vec![Bucket::default(); BUCKETS])
    }

    pub(super) fn add(&mut self, hash: RowHash) {
        let bucket = &mut self.0[bucket_of(hash)];
        bucket.rows += 1;
        bucket.sum = bucket.sum.wrapping_add(hash.row);
    }

    /// Returns how many rows there are.
    pub(super) fn rows(&self) -> u64 {
        self.0.iter().map(|bucket| bucket.rows).sum()
    }

    pub(super) fn rows_of(&self, bucket: usize) -> u64 {
        self.0[bucket].rows
    }

    /// Returns the buckets that are not the same.
    pub(super) fn differing(&self, other: &Buckets) -> Vec<usize> {
        (0..BUCKETS).filter(|index| self.0[*index] != other.0[*index]).collect()
    }
}

/// Returns the bucket of a row: that of its key, so that a row that changed stays in its bucket.
pub(super) fn bucket_of(hash: RowHash) -> usize {
    (hash.key % BUCKETS as u128) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rows: &[(u128, u128)]) -> Buckets {
        let mut buckets = Buckets::new();
        rows.iter().for_each(|(key, row)| buckets.add(RowHash { key: *key, row: *row }));
        buckets
    }

    #[test]
    fn order_does_not_count_and_number_does() {
        assert_eq!(of(&[(1, 10), (2, 20), (1, 10)]), of(&[(1, 10), (1, 10), (2, 20)]));
        assert_eq!(of(&[(1, 10), (1, 10), (2, 20)]).differing(&of(&[(1, 10), (2, 20)])), [1]);
        // Two changes that cancel out in a sum of halves.
        assert_eq!(of(&[(7, u128::MAX), (7, 1)]).differing(&of(&[(7, 0), (7, 2)])), [7]);
    }
}
