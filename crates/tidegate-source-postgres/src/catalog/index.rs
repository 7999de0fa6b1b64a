//! Unique indexes, and which of them identifies a row for pgoutput.

use tidegate_model::ReplicaIdentity;
use tokio_postgres::Row;

/// A unique index of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UniqueIndex {
    pub(super) name: String,
    pub(super) primary: bool,
    /// Chosen by `REPLICA IDENTITY USING INDEX`.
    pub(super) chosen: bool,
    /// Valid, not deferrable, on plain columns of all rows. Others do not identify a row: a deferrable primary key is
    /// no replica identity (`RelationGetIndexList`, `relcache.c`).
    pub(super) plain: bool,
    /// The numbers of its key columns in key order, without INCLUDE columns.
    pub(super) key: Vec<i16>,
}

/// Reads the index arrays of a row of the table query; `None` if they do not have its shape.
pub(super) fn read(row: &Row) -> Option<Vec<UniqueIndex>> {
    let names: Vec<String> = row.get("index_names");
    let primary: Vec<bool> = row.get("index_primary");
    let chosen: Vec<bool> = row.get("index_chosen");
    let plain: Vec<bool> = row.get("index_plain");
    let keys: Vec<String> = row.get("index_keys");
    let mut indexes = Vec::with_capacity(names.len());
    for (at, name) in names.into_iter().enumerate() {
        indexes.push(UniqueIndex {
            name,
            primary: *primary.get(at)?,
            chosen: *chosen.get(at)?,
            plain: *plain.get(at)?,
            key: keys.get(at)?.split(' ').map(|number| number.parse().ok()).collect::<Option<_>>()?,
        });
    }
    Some(indexes)
}

/// Returns the numbers of the columns that pgoutput flags as replica identity (`RelationGetIdentityKeyBitmap`); with
/// FULL every column is, so none is named here.
pub(super) fn identity(replica_identity: ReplicaIdentity, indexes: &[UniqueIndex]) -> &[i16] {
    let find = |is: fn(&UniqueIndex) -> bool| {
        indexes.iter().find(|index| index.plain && is(index)).map_or(&[][..], |index| &index.key)
    };
    match replica_identity {
        ReplicaIdentity::Default => find(|index| index.primary),
        ReplicaIdentity::Index => find(|index| index.chosen),
        ReplicaIdentity::Full | ReplicaIdentity::Nothing => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(primary: bool, chosen: bool, plain: bool, key: &[i16]) -> UniqueIndex {
        UniqueIndex { name: String::new(), primary, chosen, plain, key: key.to_vec() }
    }

    #[test]
    fn the_identity_is_the_one_that_the_server_uses() {
        let indexes = [index(true, false, true, &[1, 2]), index(false, true, true, &[3])];
        assert_eq!(identity(ReplicaIdentity::Default, &indexes), [1, 2]);
        assert_eq!(identity(ReplicaIdentity::Index, &indexes), [3]);
        assert_eq!(identity(ReplicaIdentity::Nothing, &indexes), [0_i16; 0]);
        assert_eq!(identity(ReplicaIdentity::Index, &indexes[..1]), [0_i16; 0], "its index was dropped");
        let deferrable = [index(true, false, false, &[1])];
        assert_eq!(identity(ReplicaIdentity::Default, &deferrable), [0_i16; 0]);
    }
}
