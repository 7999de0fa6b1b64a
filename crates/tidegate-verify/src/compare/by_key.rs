//! Comparing the rows of given keys.

use std::collections::HashSet;
use std::sync::Arc;

use tidegate_model::Problem;

use super::job::{End, Job};
use super::matching::{Differences, Entry};
use super::pace::Pace;
use super::scan::Collected;
use crate::key::Key;

/// How many keys one statement asks for: enough to make its cost that of its rows.
const STATEMENT_KEYS_MAX: usize = 1_000;

/// How many bytes of keys one statement carries.
const STATEMENT_BYTES_MAX: usize = 256 * 1024;

impl Job {
    /// Compares the rows of these keys; returns how many rows the source has of them.
    pub(super) async fn compare_keys(&self, keys: &[Key], found: &mut Differences) -> Result<u64, Problem> {
        let mut pace = Pace::new(self.options().rows_per_second);
        let mut compared = 0;
        let mut seen = HashSet::new();
        let mut scratch = Vec::new();
        for batch in batches(keys) {
            let mut asked = HashSet::new();
            // Two texts may be one key, and no key may be counted twice.
            let new = |key: &&Key| {
                let hash = self.layout().hash_key(key, &mut scratch);
                seen.insert(hash) && asked.insert(hash)
            };
            let batch: Arc<[Key]> = batch.iter().filter(new).cloned().collect();
            if batch.is_empty() {
                continue;
            }
            let asked = Arc::new(asked);
            let (source, target) = self.both(|end| self.fetch(end, &batch, &asked)).await?;
            compared += source.len() as u64;
            for _ in &source {
                pace.row().await;
            }
            found.match_rows(source, target, self.table());
        }
        Ok(compared)
    }

    fn fetch(
        &self,
        end: End,
        keys: &Arc<[Key]>,
        asked: &Arc<HashSet<u128>>,
    ) -> impl Future<Output = Result<Vec<Entry>, Problem>> + Send + use<> {
        let (reading, layout) = (self.reading(end).clone(), Arc::clone(self.layout()));
        let (keys, asked) = (Arc::clone(keys), Arc::clone(asked));
        async move {
            let mut collected = Collected::new(&layout);
            let mut scratch = Vec::new();
            let mut rows = reading.side.read_keys(&reading.selection, &keys).await?;
            while let Some(row) = rows.next().await? {
                let hash = layout.hash(row, &mut scratch);
                if asked.contains(&hash.key) {
                    collected.keep(&layout, row, hash, &mut scratch);
                }
            }
            Ok(collected.entries)
        }
    }
}

/// Cuts keys into what one statement asks for.
pub(crate) fn batches(keys: &[Key]) -> Vec<&[Key]> {
    let mut batches = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (index, key) in keys.iter().enumerate() {
        if index > start && (index - start >= STATEMENT_KEYS_MAX || bytes + key.bytes() > STATEMENT_BYTES_MAX) {
            batches.push(&keys[start..index]);
            (start, bytes) = (index, 0);
        }
        bytes += key.bytes();
    }
    if start < keys.len() {
        batches.push(&keys[start..]);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_left_out_and_no_statement_is_too_long() {
        let key = |size: usize| [Some(&vec![b'x'; size][..])].into_iter().collect::<Key>();
        let keys: Vec<Key> = (0..2500).map(|index| key(if index == 1200 { 1_000_000 } else { 10 })).collect();
        let batches = batches(&keys);
        assert_eq!(batches.iter().map(|batch| batch.len()).collect::<Vec<_>>(), [1000, 200, 1, 1000, 299]);
        assert!(super::batches(&[]).is_empty());
    }
}
