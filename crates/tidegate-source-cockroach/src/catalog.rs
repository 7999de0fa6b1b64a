//! The tables of the source, as its changefeed will tell them.

mod carried;
mod read;
mod shape;

use tidegate_connect::Session;
use tidegate_model::{ColumnName, Problem, RelationId, TableFilter, TableName};

use crate::table::TableInfo;

pub use carried::Present;
pub(crate) use read::is_computed;

/// A table that matches the filter, carried or not.
#[derive(Debug)]
pub struct CatalogTable {
    /// As a feed tells it: hidden and computed columns are not carried, and those of the primary key are flagged.
    pub info: TableInfo,
    /// The columns of the primary key that are carried, in key order. Empty for a table whose only key is the hidden
    /// `rowid`, which no other database has.
    pub primary_key: Vec<ColumnName>,
    /// Its computed columns: the target computes its own.
    pub generated: Vec<ColumnName>,
    /// Whether every column of its primary key is carried, or told by those that are.
    pub identity_whole: bool,
    /// What keeps it from being carried.
    pub obstacles: Vec<Obstacle>,
    /// Whether its definition is locked (`schema_locked`).
    pub schema_locked: bool,
    /// Whether our role may read it.
    pub may_select: bool,
    /// The server's estimate; `None` where it has none.
    pub rows_estimated: Option<u64>,
    /// Bytes on disk; 0 where they are not known, and CockroachDB tells nobody cheaply.
    pub bytes: u64,
}

/// Why a table cannot be carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// A feed sends a message for each column family of a row, and nothing says which belong together.
    ColumnFamilies(u32),
    /// A type that a feed does not tell, or that only this database knows.
    Type {
        /// The column.
        column: ColumnName,
        /// Its type as the server writes it.
        type_name: String,
    },
    /// A column of the primary key is computed, so that it is not carried and the rest says nothing.
    ComputedKey(ColumnName),
}

/// Something of the database that is no table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherRelation {
    /// Its name.
    pub name: TableName,
    /// Whether it is a sequence; otherwise it is a view.
    pub is_sequence: bool,
}

impl CatalogTable {
    /// Returns its name.
    pub fn name(&self) -> &TableName {
        &self.info.table.name
    }

    /// Returns its identity.
    pub fn id(&self) -> RelationId {
        self.info.table.id
    }

    /// Returns whether it can be carried.
    pub fn is_carried(&self) -> bool {
        self.obstacles.is_empty()
    }
}

/// Lists the tables of the session's database that match the filter, by name. System schemas and the state schema are
/// never among them.
pub async fn list_tables(session: &Session, filter: &TableFilter) -> Result<Vec<CatalogTable>, Problem> {
    Ok(list(session, filter).await?.tables)
}

/// What a database holds.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) tables: Vec<CatalogTable>,
    pub(crate) others: Vec<OtherRelation>,
}

pub(crate) async fn list(session: &Session, filter: &TableFilter) -> Result<Listed, Problem> {
    read::list(session, filter).await
}
