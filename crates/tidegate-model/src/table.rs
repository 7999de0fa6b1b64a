//! Tables: as a source describes them, and how they map to a target's.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ColumnName, Position, RelationId, TableName};

/// Which columns of the old row a source sends with updates and deletes (PostgreSQL: `pg_class.relreplident`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplicaIdentity {
    /// Those of the primary key.
    Default,
    /// Those of a chosen unique index.
    Index,
    /// All.
    Full,
    /// None: updates and deletes cannot be replicated.
    Nothing,
}

/// A column as the source sends it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SourceColumn {
    /// Its name.
    pub name: ColumnName,
    /// The OID of its type.
    pub type_oid: u32,
    /// Its type modifier, -1 where it has none.
    pub type_modifier: i32,
    /// Whether it is part of the replica identity.
    pub identity: bool,
}

/// A table as the source describes it: the columns it sends, in the order of the values in a [`Row`](crate::Row).
/// Generated columns that the source does not send are not in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SourceTable {
    /// Its identity.
    pub id: RelationId,
    /// Its name.
    pub name: TableName,
    /// Its replica identity.
    pub replica_identity: ReplicaIdentity,
    /// The columns that are sent.
    pub columns: Vec<SourceColumn>,
}

impl SourceTable {
    /// Says in a few words how `self` became `now`; `None` where both are the same.
    pub fn difference(&self, now: &SourceTable) -> Option<String> {
        if self == now {
            return None;
        }
        if self.name != now.name {
            return Some(format!("it was \"{}\" and is \"{}\"", self.name, now.name));
        }
        let find =
            |table: &'_ SourceTable, name: &str| table.columns.iter().find(|column| &*column.name == name).cloned();
        for column in &self.columns {
            match find(now, &column.name) {
                None => return Some(format!("column \"{}\" is gone", column.name)),
                Some(after) if (after.type_oid, after.type_modifier) != (column.type_oid, column.type_modifier) => {
                    return Some(format!("column \"{}\" has another type", column.name));
                }
                Some(after) if after.identity != column.identity => {
                    return Some(format!("column \"{}\" entered or left the replica identity", column.name));
                }
                Some(_) => {}
            }
        }
        if let Some(added) = now.columns.iter().find(|column| find(self, &column.name).is_none()) {
            return Some(format!("column \"{}\" is new", added.name));
        }
        if self.replica_identity != now.replica_identity {
            return Some("its replica identity changed".to_owned());
        }
        Some(
            if self.id == now.id { "its columns changed order" } else { "it was dropped and created again" }.to_owned(),
        )
    }
}

impl fmt::Display for SourceTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

/// Where one column goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnMap {
    /// The source column's name.
    pub source: ColumnName,
    /// The target column's name.
    pub target: ColumnName,
    /// The target's type as SQL text without a type modifier (`format_type(atttypid, -1)`): values are cast to it, and
    /// the column's own modifier is then enforced by assignment, which refuses what does not fit instead of cutting it.
    pub target_type: String,
    /// Whether the target's type has an equality operator. `json`, `xml` and `point`, for instance, have none.
    pub comparable: bool,
}

/// Which table and columns of the source go to which table and columns of the target. Copy, planner, verify and reverse
/// all read it. Invertible: no two columns share a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableMap {
    /// The table as the source described it when the map was made.
    pub source: SourceTable,
    /// The target table.
    pub target: TableName,
    /// One for each column of `source.columns`, in that order.
    pub columns: Vec<ColumnMap>,
    /// Indices into `columns` that identify a row: the replica identity, or with FULL the primary key, in ascending order.
    /// Empty for a table without a key: its rows are then a multiset.
    pub key: Vec<usize>,
    /// Target tables that this target table references by foreign keys, itself included where it does.
    pub references: Vec<TableName>,
}

/// A table of a stream: its map, and from where on the stream applies to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRoute {
    /// Which goes where.
    pub map: TableMap,
    /// The point of the snapshot under which the table was copied: changes at or before it are in the copy already.
    #[serde(with = "position_text")]
    pub from: Position,
}

mod position_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::Position;

    pub fn serialize<S: Serializer>(position: &Position, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(position)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Position, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
