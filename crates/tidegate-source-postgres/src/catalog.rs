//! The tables of the source, as pgoutput will describe them.
//!
//! Partitioned tables are carried leaf to leaf: the leaves are listed, the roots are not.

mod index;
mod sql;

use tidegate_connect::Session;
use tidegate_model::{
    ColumnName, Problem, RelationId, ReplicaIdentity, SourceColumn, SourceTable, TableFilter, TableName,
};
use tokio_postgres::Row;

use crate::problem::Asked;
use index::UniqueIndex;

/// A table that matches the filter, carried or not.
#[derive(Clone, Debug, PartialEq)]
pub struct CatalogTable {
    /// As pgoutput describes it in its Relation message: dropped and generated columns are not in it, and the columns
    /// that identify a row are flagged.
    pub table: SourceTable,
    /// The partitioned tables above it, the nearest first; empty if it is no partition.
    pub ancestors: Vec<TableName>,
    /// What keeps it from being carried.
    pub obstacles: Vec<Obstacle>,
    /// The columns of the primary key in key order; empty without one. Also where the replica identity is another.
    pub primary_key: Vec<ColumnName>,
    /// Whether every column of its replica identity is sent: a generated one is not.
    pub identity_whole: bool,
    /// Unique indexes that could be its replica identity, the one with the fewest columns first.
    pub identity_candidates: Vec<String>,
    /// Its generated columns: the target computes its own.
    pub generated: Vec<ColumnName>,
    /// What our role may do with it.
    pub rights: Rights,
    /// The planner's estimate; `None` before the first ANALYZE or VACUUM.
    pub rows_estimated: Option<u64>,
    /// With TOAST, without indexes.
    pub bytes: u64,
    /// The file of the table; another one after it was rewritten or truncated.
    pub relfilenode: u32,
}

/// Why a table cannot be carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Its changes are not in the WAL.
    Unlogged,
    /// Its rows are in another server.
    Foreign,
    /// It has children by inheritance (not partitions): a row of a child is also one of it.
    InheritanceParent,
}

/// What our role may do with a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// The owner.
    pub owner: String,
    /// Whether our role is the owner or a member of it: publishing asks for that.
    pub owned: bool,
    /// SELECT on the table.
    pub select: bool,
    /// USAGE on its schema.
    pub schema_usage: bool,
    /// Whether row level security hides rows from our role.
    pub row_security: bool,
}

impl CatalogTable {
    /// Returns the table's name.
    pub fn name(&self) -> &TableName {
        &self.table.name
    }

    /// Returns the topmost partitioned table above it.
    pub fn root(&self) -> Option<&TableName> {
        self.ancestors.last()
    }

    /// Returns whether the stream can carry the table.
    pub fn is_carried(&self) -> bool {
        self.obstacles.is_empty()
    }

    /// Returns whether updates and deletes say which row they mean. Without that the source itself refuses them once
    /// the table is published.
    pub fn has_identity(&self) -> bool {
        self.table.replica_identity == ReplicaIdentity::Full || self.table.columns.iter().any(|column| column.identity)
    }
}

/// Lists the tables that `filter` takes, by name: ordinary tables and leaf partitions, and also those that cannot be
/// carried (see [`CatalogTable::obstacles`]), so that they can be refused by name.
pub async fn list_tables(session: &Session, filter: &TableFilter) -> Result<Vec<CatalogTable>, Problem> {
    let asked = Asked::new("listing the tables");
    let rows = session.query(sql::TABLES, &[]).await.map_err(|error| asked.sql(error))?;
    let tables: Option<Vec<CatalogTable>> = rows.iter().map(read_table).collect();
    let mut tables = tables.ok_or_else(|| asked.unexpected("a table that cannot be read"))?;
    tables.retain(|table| filter.matches(table.name(), &table.ancestors));
    Ok(tables)
}

fn read_table(row: &Row) -> Option<CatalogTable> {
    let replica_identity = match row.get::<_, &str>("identity") {
        "d" => ReplicaIdentity::Default,
        "i" => ReplicaIdentity::Index,
        "f" => ReplicaIdentity::Full,
        "n" => ReplicaIdentity::Nothing,
        _ => return None,
    };
    let columns = read_columns(row);
    let indexes = index::read(row)?;
    let identity = index::identity(replica_identity, &indexes);
    let named = |numbers: &[i16]| -> Vec<ColumnName> {
        let find = |number: &i16| columns.iter().find(|column| column.number == *number).map(|c| c.name.clone());
        numbers.iter().filter_map(find).collect()
    };
    let usable = |index: &&UniqueIndex| {
        index.plain && index.key.iter().all(|n| columns.iter().any(|c| c.number == *n && c.not_null && !c.generated))
    };
    let mut candidates: Vec<&UniqueIndex> = indexes.iter().filter(usable).collect();
    candidates.sort_by_key(|index| index.key.len());

    Some(CatalogTable {
        primary_key: indexes.iter().find(|index| index.primary).map(|index| named(&index.key)).unwrap_or_default(),
        identity_whole: !columns.iter().any(|column| column.generated && identity.contains(&column.number)),
        identity_candidates: candidates.iter().map(|index| index.name.clone()).collect(),
        generated: columns.iter().filter(|column| column.generated).map(|column| column.name.clone()).collect(),
        table: SourceTable {
            id: RelationId(row.get("oid")),
            name: TableName::new(row.get::<_, String>("schema"), row.get::<_, String>("name")),
            replica_identity,
            columns: columns
                .iter()
                .filter(|column| !column.generated)
                .map(|column| SourceColumn {
                    name: column.name.clone(),
                    type_oid: column.type_oid,
                    type_modifier: column.type_modifier,
                    identity: replica_identity == ReplicaIdentity::Full || identity.contains(&column.number),
                })
                .collect(),
        },
        ancestors: read_ancestors(row),
        obstacles: read_obstacles(row),
        rights: Rights {
            owner: row.get("owner"),
            owned: row.get("owned"),
            select: row.get("may_select"),
            schema_usage: row.get("may_use_schema"),
            row_security: row.get("row_security"),
        },
        rows_estimated: read_estimate(row.get("reltuples")),
        bytes: u64::try_from(row.get::<_, i64>("bytes")).unwrap_or(0),
        relfilenode: row.get("relfilenode"),
    })
}

struct Column {
    number: i16,
    name: ColumnName,
    type_oid: u32,
    type_modifier: i32,
    not_null: bool,
    generated: bool,
}

fn read_columns(row: &Row) -> Vec<Column> {
    let numbers: Vec<i16> = row.get("column_numbers");
    let names: Vec<String> = row.get("column_names");
    let types: Vec<u32> = row.get("column_types");
    let modifiers: Vec<i32> = row.get("column_modifiers");
    let not_null: Vec<bool> = row.get("column_not_null");
    let generated: Vec<bool> = row.get("column_generated");
    let mut columns = Vec::with_capacity(numbers.len());
    for (index, name) in names.into_iter().enumerate() {
        columns.push(Column {
            number: numbers[index],
            name: name.into(),
            type_oid: types[index],
            type_modifier: modifiers[index],
            not_null: not_null[index],
            generated: generated[index],
        });
    }
    columns
}

fn read_ancestors(row: &Row) -> Vec<TableName> {
    let schemas: Vec<String> = row.get("ancestor_schemas");
    let names: Vec<String> = row.get("ancestor_names");
    schemas.into_iter().zip(names).map(|(schema, name)| TableName::new(schema, name)).collect()
}

fn read_obstacles(row: &Row) -> Vec<Obstacle> {
    let found = [
        (row.get::<_, &str>("persistence") == "u", Obstacle::Unlogged),
        (row.get::<_, &str>("kind") == "f", Obstacle::Foreign),
        (row.get("has_children"), Obstacle::InheritanceParent),
    ];
    found.into_iter().filter(|(is, _)| *is).map(|(_, obstacle)| obstacle).collect()
}

/// -1 (0 before PostgreSQL 14) stands for a table that was never looked at.
fn read_estimate(reltuples: f32) -> Option<u64> {
    (reltuples >= 0.0).then_some(reltuples as u64)
}
