//! How many rows a target transaction takes: fewer after the target said that it was too much, more again while all
//! goes well.

/// Conflicts one after another that are taken for a transaction that is too large: a long one is in the way of others,
/// and they of it, for longer.
const CONFLICTS_MAX: u32 = 4;
/// A limit that has grown this far is lifted: batches are bounded by themselves.
const LIFTED_AT: u64 = 100_000;

/// The size of target transactions.
#[derive(Debug, Default)]
pub(super) struct Size {
    rows_max: Option<u64>,
    conflicts: u32,
}

impl Size {
    /// Returns how many rows a transaction may have, at least 1; `None`: there is no limit in force.
    pub(super) fn rows_max(&self) -> Option<u64> {
        self.rows_max
    }

    /// A transaction of so many rows was too large.
    pub(super) fn shrink(&mut self, rows: u64) {
        let tried = self.rows_max.map_or(rows, |max| max.min(rows));
        self.rows_max = Some((tried / 2).max(1));
        self.conflicts = 0;
    }

    /// A transaction of so many rows was refused because of another one.
    pub(super) fn conflict(&mut self, rows: u64) {
        self.conflicts += 1;
        if self.conflicts >= CONFLICTS_MAX {
            self.shrink(rows);
        }
    }

    /// A transaction of so many rows was written. Only one that came near the limit says something about it.
    pub(super) fn grow(&mut self, rows: u64) {
        self.conflicts = 0;
        if let Some(max) = self.rows_max
            && rows >= max / 2
        {
            let more = max + (max / 8).max(1);
            self.rows_max = (more < LIFTED_AT).then_some(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_halves_down_to_one_row_and_grows_slowly() {
        let mut size = Size::default();
        assert_eq!(size.rows_max(), None);
        size.shrink(1_000);
        assert_eq!(size.rows_max(), Some(500));
        size.shrink(5_000);
        assert_eq!(size.rows_max(), Some(250));
        size.grow(10);
        assert_eq!(size.rows_max(), Some(250), "a small one says nothing");
        size.grow(200);
        assert_eq!(size.rows_max(), Some(281));
        (0..20).for_each(|_| size.shrink(1));
        assert_eq!(size.rows_max(), Some(1));
        while let Some(rows) = size.rows_max() {
            size.grow(rows);
        }
        assert_eq!(size.rows_max(), None);
    }

    #[test]
    fn a_few_conflicts_are_no_reason_to_shrink() {
        let mut size = Size::default();
        for _ in 1..CONFLICTS_MAX {
            size.conflict(100);
        }
        size.grow(100);
        size.conflict(100);
        assert_eq!(size.rows_max(), None);
        (1..CONFLICTS_MAX).for_each(|_| size.conflict(100));
        assert_eq!(size.rows_max(), Some(50));
    }
}
