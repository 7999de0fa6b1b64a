//! The two passes over all rows of a side.

use std::num::NonZeroU32;
use std::sync::Arc;

use tidegate_model::Problem;

use super::buckets::{BUCKETS, Buckets, bucket_of};
use super::job::{End, Job, Reading};
use super::matching::Entry;
use super::pace::Pace;
use crate::layout::{Layout, RowHash};
use crate::row::Fields;

/// How many bytes of keys one side keeps in a pass. Rows past that are counted and not named.
const KEY_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A set of buckets.
#[derive(Clone, Debug)]
pub(super) struct Chosen(Arc<[bool]>);

impl Chosen {
    pub(super) fn new(buckets: &[usize]) -> Chosen {
        let mut chosen = vec![false; BUCKETS];
        buckets.iter().for_each(|bucket| chosen[*bucket] = true);
        Chosen(chosen.into())
    }

    fn has(&self, hash: RowHash) -> bool {
        self.0[bucket_of(hash)]
    }
}

impl Job {
    /// The first pass: sums up all rows of both sides.
    pub(super) async fn count(&self) -> Result<(Buckets, Buckets), Problem> {
        self.both(|end| {
            let scan = self.scan(end);
            async move {
                let mut buckets = Buckets::new();
                scan.each(|_, hash, _| buckets.add(hash)).await?;
                Ok(buckets)
            }
        })
        .await
    }

    /// The second pass: keeps the rows of some buckets of both sides.
    pub(super) async fn collect(&self, chosen: &Chosen) -> Result<(Vec<Entry>, Vec<Entry>), Problem> {
        self.both(|end| {
            let (scan, chosen) = (self.scan(end), chosen.clone());
            async move {
                let mut collected = Collected::new(&scan.layout);
                let layout = Arc::clone(&scan.layout);
                let take = |row: &Fields, hash, scratch: &mut Vec<u8>| {
                    if chosen.has(hash) {
                        collected.keep(&layout, row, hash, scratch);
                    }
                };
                scan.each(take).await?;
                Ok(collected.entries)
            }
        })
        .await
    }

    fn scan(&self, end: End) -> Scan {
        Scan {
            reading: self.reading(end).clone(),
            layout: Arc::clone(self.layout()),
            rows_per_second: self.options().rows_per_second.filter(|_| end == End::Source),
        }
    }
}

struct Scan {
    reading: Reading,
    layout: Arc<Layout>,
    rows_per_second: Option<NonZeroU32>,
}

impl Scan {
    /// Calls `take` for each row, with its hash and with memory for hashing.
    async fn each(&self, mut take: impl FnMut(&Fields, RowHash, &mut Vec<u8>) + Send) -> Result<(), Problem> {
        let mut rows = self.reading.side.read(&self.reading.selection).await?;
        let (mut pace, mut scratch) = (Pace::new(self.rows_per_second), Vec::new());
        while let Some(row) = rows.next().await? {
            let hash = self.layout.hash(row, &mut scratch);
            take(row, hash, &mut scratch);
            pace.row().await;
        }
        Ok(())
    }
}

/// Rows that were kept.
pub(super) struct Collected {
    pub(super) entries: Vec<Entry>,
    naming: Vec<usize>,
    key_bytes: usize,
}

impl Collected {
    pub(super) fn new(layout: &Layout) -> Collected {
        Collected { entries: Vec::new(), naming: layout.naming(), key_bytes: 0 }
    }

    pub(super) fn keep(&mut self, layout: &Layout, row: &Fields, hash: RowHash, scratch: &mut Vec<u8>) {
        let key = (self.key_bytes < KEY_BYTES_MAX).then(|| row.key(&self.naming));
        self.key_bytes += key.as_ref().map_or(0, |key| key.bytes());
        // Rows without a key are there or not: none is another row changed.
        let columns = if layout.key.is_empty() { Box::default() } else { layout.hash_columns(row, scratch) };
        self.entries.push(Entry { hash, columns, key });
    }
}
