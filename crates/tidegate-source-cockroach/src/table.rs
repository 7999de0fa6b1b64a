//! Tables as a feed tells them: which of a row's columns are carried, of which type each is, and what the key is.

mod names;

use std::sync::Arc;

use tidegate_model::{ColumnName, ReplicaIdentity, SourceTable};

use crate::value::Kind;

pub use names::Tables;

/// What is known of a table whose rows come from a feed. Made from the catalog; cheap to share.
#[derive(Debug, PartialEq, Eq)]
pub struct TableInfo {
    /// The database that the table is in: feeds name tables with it.
    pub database: Arc<str>,
    /// The table as the target's side sees it: the columns that are carried, in the order of the values in a
    /// [`Row`](tidegate_model::Row), those of the primary key flagged as identity. With [`ReplicaIdentity::Full`] the
    /// table has no key that the target has (only the hidden `rowid`): updates and deletes then carry the whole old
    /// row.
    pub table: Arc<SourceTable>,
    /// How the values of each of those columns are written in a feed.
    pub kinds: Vec<Kind>,
    /// Columns that a feed may tell and that are not carried: hidden ones (`rowid`, `crdb_region`), computed ones.
    pub ignored: Vec<ColumnName>,
    /// The primary key in its own order, hidden columns included: what the key of a feed's row consists of.
    pub key: Vec<KeyColumn>,
    /// The columns of a feed's row by name, sorted: what the feed does, too.
    places: Vec<(ColumnName, Place)>,
}

/// A column of the primary key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyColumn {
    /// Its name.
    pub name: ColumnName,
    /// Where it is in the columns that are carried; `None`: it is not.
    pub column: Option<usize>,
}

/// What becomes of a column of a feed's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Carried(usize),
    Ignored,
}

impl TableInfo {
    /// Describes a table. `key` names the primary key in its own order, hidden columns included.
    ///
    /// # Panics
    /// If there is not one kind for each column.
    pub fn new(
        database: impl Into<Arc<str>>,
        table: Arc<SourceTable>,
        kinds: Vec<Kind>,
        ignored: Vec<ColumnName>,
        key: Vec<ColumnName>,
    ) -> Self {
        assert_eq!(table.columns.len(), kinds.len(), "each column that is carried has a kind");
        let carried = table.columns.iter().enumerate().map(|(at, column)| (column.name.clone(), Place::Carried(at)));
        let mut places: Vec<_> = carried.chain(ignored.iter().map(|name| (name.clone(), Place::Ignored))).collect();
        // Stable: a column that is carried wins over an ignored one of its name.
        places.sort_by(|a, b| a.0.cmp(&b.0));
        places.dedup_by(|b, a| a.0 == b.0);
        let column = |name: &ColumnName| table.columns.iter().position(|column| column.name == *name);
        let key = key.into_iter().map(|name| KeyColumn { column: column(&name), name }).collect();
        TableInfo { database: database.into(), table, kinds, ignored, key, places }
    }

    /// Returns whether updates and deletes must carry the whole old row, because no key tells it at the target.
    pub fn carries_old_rows(&self) -> bool {
        self.table.replica_identity == ReplicaIdentity::Full
    }

    /// Returns how many columns a feed's row may have.
    pub(crate) fn places(&self) -> usize {
        self.places.len()
    }

    /// Returns the name of a column of a feed's row.
    pub(crate) fn place_name(&self, at: usize) -> &ColumnName {
        &self.places[at].0
    }

    /// Finds a column of a feed's row. `guess` is where to look first: rows come sorted by name.
    pub(crate) fn place(&self, name: &str, guess: usize) -> Option<(usize, Place)> {
        match self.places.get(guess) {
            Some((guessed, place)) if **guessed == *name => Some((guess, *place)),
            _ => {
                let at = self.places.binary_search_by(|(candidate, _)| (**candidate).cmp(name)).ok()?;
                Some((at, self.places[at].1))
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use tidegate_model::{RelationId, SourceColumn, TableName};

    use super::*;

    /// Makes a table of the database `bank`, schema `public`. Columns are given as name and type, those of the key
    /// begin with `*`; without one the key is the hidden `rowid`.
    pub(crate) fn table(id: u32, name: &str, columns: &[(&str, &str)]) -> Arc<TableInfo> {
        let columns = columns.iter().map(|(name, kind)| (name.strip_prefix('*'), *name, *kind));
        let (mut sources, mut kinds, mut key) = (Vec::new(), Vec::new(), Vec::new());
        for (in_key, name, kind) in columns {
            let name: ColumnName = in_key.unwrap_or(name).into();
            key.extend(in_key.map(|_| name.clone()));
            sources.push(SourceColumn { name, type_oid: 25, type_modifier: -1, identity: in_key.is_some() });
            kinds.push(Kind::of_type(kind).unwrap());
        }
        let replica_identity = if key.is_empty() { ReplicaIdentity::Full } else { ReplicaIdentity::Default };
        let ignored: Vec<ColumnName> = if key.is_empty() { vec!["rowid".into()] } else { Vec::new() };
        let key = if key.is_empty() { ignored.clone() } else { key };
        let (id, name) = (RelationId(id), TableName::new("public", name));
        let table = SourceTable { id, name, replica_identity, columns: sources };
        Arc::new(TableInfo::new("bank", Arc::new(table), kinds, ignored, key))
    }

    #[test]
    fn columns_are_found_whatever_the_guess() {
        let plain = table(1, "t", &[("b", "STRING"), ("*a", "STRING")]);
        let hidden: Vec<ColumnName> = vec!["crdb_region".into(), "rowid".into()];
        let key = vec!["crdb_region".into(), "a".into()];
        let info = TableInfo::new("bank", Arc::clone(&plain.table), plain.kinds.clone(), hidden, key);
        assert_eq!(info.key.iter().map(|column| column.column).collect::<Vec<_>>(), [None, Some(1)]);
        for guess in 0..5 {
            assert_eq!(info.place("a", guess), Some((0, Place::Carried(1))));
            assert_eq!(info.place("b", guess), Some((1, Place::Carried(0))));
            assert_eq!(info.place("crdb_region", guess), Some((2, Place::Ignored)));
            assert_eq!(info.place("c", guess), None);
        }
    }
}
