//! Rows of both sides, put side by side.

use tidegate_model::{Position, TableMap};

use crate::key::Key;
use crate::layout::RowHash;
use crate::report::{DifferenceKind, KeyReport, TableReport};

/// How many bytes of keys a report lists: rows of tables without a key may be large.
const LISTED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A row that was kept.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) hash: RowHash,
    /// The hash of each column; empty without a key.
    pub(super) columns: Box<[u64]>,
    /// What names the row; `None` where there was no room for it.
    pub(super) key: Option<Key>,
}

/// What was found so far.
#[derive(Debug)]
pub(super) struct Differences {
    pub(super) missing: u64,
    pub(super) extra: u64,
    different: u64,
    keys: Vec<KeyReport>,
    listed_max: usize,
    listed_bytes: usize,
    /// Whether the counts may be too low.
    at_least: bool,
}

impl Differences {
    pub(super) fn new(listed_max: usize) -> Differences {
        Differences {
            missing: 0,
            extra: 0,
            different: 0,
            keys: Vec::new(),
            listed_max,
            listed_bytes: 0,
            at_least: false,
        }
    }

    /// Takes rows of both sides; no row of the same key is in another call.
    pub(super) fn match_rows(&mut self, mut source: Vec<Entry>, mut target: Vec<Entry>, table: &TableMap) {
        for side in [&mut source, &mut target] {
            side.sort_unstable_by_key(|entry| (entry.hash.key, entry.hash.row));
        }
        let (mut source, mut target) = (&source[..], &target[..]);
        while let Some(key) = source.first().into_iter().chain(target.first()).map(|entry| entry.hash.key).min() {
            let (at_source, at_target) = (group(&mut source, key), group(&mut target, key));
            self.match_key(at_source, at_target, table);
        }
    }

    fn match_key(&mut self, source: &[Entry], target: &[Entry], table: &TableMap) {
        let (source, target) = (without(source, target), without(target, source));
        let changed = source.len().min(target.len());
        for (before, after) in source.iter().zip(&target) {
            self.different += 1;
            self.list(before, DifferenceKind::Different, table, |index| before.columns[index] != after.columns[index]);
        }
        for entry in &source[changed..] {
            self.missing += 1;
            self.list(entry, DifferenceKind::Missing, table, |_| false);
        }
        for entry in &target[changed..] {
            self.extra += 1;
            self.list(entry, DifferenceKind::Extra, table, |_| false);
        }
    }

    fn list(&mut self, entry: &Entry, kind: DifferenceKind, table: &TableMap, differs: impl Fn(usize) -> bool) {
        let Some(key) = &entry.key else { return };
        if self.keys.len() >= self.listed_max || self.listed_bytes >= LISTED_BYTES_MAX {
            return;
        }
        self.listed_bytes += key.bytes();
        let columns = table.columns.iter().enumerate().filter(|(index, _)| differs(*index));
        let columns = columns.map(|(_, column)| column.source.to_string()).collect();
        self.keys.push(KeyReport::new(key.clone(), kind, columns, table));
    }

    /// Takes note of a bucket that differs and was not looked into: what its numbers of rows prove, at least one.
    pub(super) fn guess(&mut self, source: u64, target: u64) {
        self.at_least = true;
        self.missing += source.saturating_sub(target);
        self.extra += target.saturating_sub(source);
        self.different += u64::from(source == target);
    }

    pub(super) fn into_report(mut self, table: &TableMap, position: &Position, compared: u64) -> TableReport {
        self.keys.sort_by(|a, b| a.row.cmp(&b.row));
        let note =
            self.at_least.then(|| "the sides differ in so much that rows were not counted one by one".to_owned());
        TableReport::new(table, position, compared, [self.missing, self.extra, self.different], self.keys, note)
    }
}

/// Takes the rows of a key off the front.
fn group<'a>(rows: &mut &'a [Entry], key: u128) -> &'a [Entry] {
    let length = rows.iter().take_while(|entry| entry.hash.key == key).count();
    let (group, rest) = rows.split_at(length);
    *rows = rest;
    group
}

/// Returns the rows that have no equal among the others, each of which counts once. Both are sorted.
fn without<'a>(rows: &'a [Entry], others: &[Entry]) -> Vec<&'a Entry> {
    let mut others = others.iter().map(|entry| entry.hash.row).peekable();
    let mut left = Vec::new();
    for entry in rows {
        while others.next_if(|other| *other < entry.hash.row).is_some() {}
        if others.next_if_eq(&entry.hash.row).is_none() {
            left.push(entry);
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use tidegate_model::{ColumnMap, Lsn, RelationId, ReplicaIdentity, SourceColumn, SourceTable, TableName};

    use super::*;

    fn table() -> TableMap {
        let name = TableName::new("public", "t");
        let column = |name: &str| SourceColumn { name: name.into(), type_oid: 20, type_modifier: -1, identity: true };
        let map = |name: &str| ColumnMap {
            source: name.into(),
            target: name.into(),
            target_type: "bigint".into(),
            comparable: true,
        };
        let source = SourceTable {
            id: RelationId(1),
            name: name.clone(),
            replica_identity: ReplicaIdentity::Default,
            columns: vec![column("k"), column("v")],
        };
        let columns = vec![map("k"), map("v")];
        TableMap { source, target: name, columns, key: vec![0], references: vec![] }
    }

    fn entry((key, value): &(u8, u8)) -> Entry {
        let hash = RowHash { key: u128::from(*key), row: u128::from(*key) << 8 | u128::from(*value) };
        let name = [Some(&[*key][..])].into_iter().collect();
        Entry { hash, columns: [u64::from(*key), u64::from(*value)].into(), key: Some(name) }
    }

    /// Counts rows by key and value: how often more at the source than at the target.
    fn surplus(source: &[(u8, u8)], target: &[(u8, u8)]) -> BTreeMap<u8, BTreeMap<u8, i64>> {
        let mut surplus: BTreeMap<u8, BTreeMap<u8, i64>> = BTreeMap::new();
        for (rows, step) in [(source, 1), (target, -1)] {
            for (key, value) in rows {
                *surplus.entry(*key).or_default().entry(*value).or_default() += step;
            }
        }
        surplus
    }

    proptest! {
        #[test]
        fn rows_are_matched_as_often_as_they_are_there(
            source in prop::collection::vec((0_u8..6, 0_u8..3), 0..20),
            target in prop::collection::vec((0_u8..6, 0_u8..3), 0..20),
        ) {
            let (mut missing, mut extra, mut different) = (0, 0, 0);
            for values in surplus(&source, &target).values() {
                let more: i64 = values.values().filter(|count| **count > 0).sum();
                let fewer: i64 = -values.values().filter(|count| **count < 0).sum::<i64>();
                different += more.min(fewer);
                missing += more - more.min(fewer);
                extra += fewer - more.min(fewer);
            }
            let mut found = Differences::new(1000);
            let entries = |rows: &[(u8, u8)]| rows.iter().map(entry).collect();
            found.match_rows(entries(&source), entries(&target), &table());
            let report = found.into_report(&table(), &Position::postgres(Lsn(1)), source.len() as u64);
            let counts = [report.missing, report.extra, report.different].map(|count| count as i64);
            prop_assert_eq!(counts, [missing, extra, different]);
            prop_assert_eq!(report.keys.len() as u64, report.differing());
            let changed = report.keys.iter().filter(|key| key.kind == DifferenceKind::Different);
            prop_assert!(changed.into_iter().all(|key| key.columns == ["v"]));
        }
    }
}
