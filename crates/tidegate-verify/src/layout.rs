//! What of a row is compared, and its hashes.

use std::hash::{BuildHasher, Hasher};
use std::sync::OnceLock;

use foldhash::quality::RandomState;
use tidegate_model::TableMap;

use crate::key::Key;
use crate::row::Fields;
use crate::value::{Equality, Kind};

/// How the rows of one table are compared.
#[derive(Debug)]
pub(crate) struct Layout {
    /// One for each column of the map.
    kinds: Vec<Kind>,
    /// The columns that identify a row; empty without a key.
    pub(crate) key: Vec<usize>,
    equality: Equality,
}

/// What stands for a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowHash {
    /// Of the values that identify it. Without a key it is that of the row.
    pub(crate) key: u128,
    /// Of all values.
    pub(crate) row: u128,
}

impl Layout {
    pub(crate) fn of(table: &TableMap, equality: Equality) -> Layout {
        let columns = table.source.columns.iter().zip(&table.columns);
        let kinds = columns.map(|(source, map)| Kind::of_pair(source.type_oid, &map.target_type)).collect();
        Layout { kinds, key: table.key.clone(), equality }
    }

    /// Returns the columns that name a row in a report: those of the key, or all.
    pub(crate) fn naming(&self) -> Vec<usize> {
        if self.key.is_empty() { (0..self.kinds.len()).collect() } else { self.key.clone() }
    }

    /// Hashes a row. `scratch` is memory that every call uses anew.
    pub(crate) fn hash(&self, row: &Fields, scratch: &mut Vec<u8>) -> RowHash {
        scratch.clear();
        for (index, kind) in self.kinds.iter().enumerate() {
            append(kind, row.value(index), self.equality, scratch);
        }
        let whole = hash(scratch);
        if self.key.is_empty() {
            return RowHash { key: whole, row: whole };
        }
        scratch.clear();
        for index in &self.key {
            // Servers tell keys apart by meaning: 1.0 and 1.00 are one key.
            append(&self.kinds[*index], row.value(*index), Equality::Meaning, scratch);
        }
        RowHash { key: hash(scratch), row: whole }
    }

    /// Hashes each column of a row.
    pub(crate) fn hash_columns(&self, row: &Fields, scratch: &mut Vec<u8>) -> Box<[u64]> {
        let column = |(index, kind): (usize, &Kind)| {
            scratch.clear();
            append(kind, row.value(index), self.equality, scratch);
            hash(scratch) as u64
        };
        self.kinds.iter().enumerate().map(column).collect()
    }

    /// Hashes a key, as [`Layout::hash`] does that of a row.
    pub(crate) fn hash_key(&self, key: &Key, scratch: &mut Vec<u8>) -> u128 {
        scratch.clear();
        for (index, value) in self.naming().iter().zip(key.values()) {
            let equality = if self.key.is_empty() { self.equality } else { Equality::Meaning };
            append(&self.kinds[*index], value, equality, scratch);
        }
        hash(scratch)
    }
}

/// Appends a value so that no two rows of different values become the same bytes: NULL or not, the length, the value.
fn append(kind: &Kind, value: Option<&[u8]>, equality: Equality, out: &mut Vec<u8>) {
    let Some(text) = value else { return out.push(0) };
    out.push(1);
    let length_at = out.len();
    out.extend_from_slice(&[0; 8]);
    kind.canonical(text, equality, out);
    let length = (out.len() - length_at - 8) as u64;
    out[length_at..length_at + 8].copy_from_slice(&length.to_be_bytes());
}

/// Hashes twice with seeds that nobody knows beforehand: data cannot be made to collide, and by chance it does once in
/// 2^64 pairs of rows squared. Hashes of one process compare with each other only.
fn hash(bytes: &[u8]) -> u128 {
    static SEEDS: OnceLock<[RandomState; 2]> = OnceLock::new();
    let [low, high] = SEEDS.get_or_init(|| [RandomState::default(), RandomState::default()]);
    let one = |state: &RandomState| {
        let mut hasher = state.build_hasher();
        hasher.write(bytes);
        u128::from(hasher.finish())
    };
    one(high) << 64 | one(low)
}
