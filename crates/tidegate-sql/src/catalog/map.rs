//! From a source table to the target's table of the same name: the identity map.

use tidegate_model::{ColumnMap, ColumnName, Problem, ReplicaIdentity, SourceTable, TableMap};

use super::{TargetKind, TargetTable};
use crate::quote;

/// A table of the source that is to be carried.
#[derive(Clone, Debug)]
pub struct WantedTable {
    /// As the source describes it.
    pub source: SourceTable,
    /// Its primary key, empty without one.
    pub primary_key: Vec<ColumnName>,
    /// Whether every column of its replica identity is sent. A generated one is not, and then what is sent of the
    /// identity may be the same for many rows.
    pub identity_whole: bool,
}

/// Returns the indices of the columns that identify a row, ascending: the replica identity, or with FULL the primary
/// key. Empty for a table without a key, and where a part of the key is not sent: the rest identifies nothing.
pub fn key_of(wanted: &WantedTable) -> Vec<usize> {
    let WantedTable { source, primary_key, identity_whole } = wanted;
    let in_key = |index: &usize| {
        let column = &source.columns[*index];
        match source.replica_identity {
            ReplicaIdentity::Full => primary_key.contains(&column.name),
            ReplicaIdentity::Default | ReplicaIdentity::Index | ReplicaIdentity::Nothing => column.identity,
        }
    };
    let key: Vec<usize> = (0..source.columns.len()).filter(in_key).collect();
    let whole = match source.replica_identity {
        ReplicaIdentity::Full => key.len() == primary_key.len(),
        ReplicaIdentity::Default | ReplicaIdentity::Index | ReplicaIdentity::Nothing => *identity_whole,
    };
    if whole { key } else { Vec::new() }
}

/// Maps a source table to the target's table of its name, each column to the one of its name. Refuses what cannot be
/// written; `check` finds the same beforehand, and more.
pub fn map_table(wanted: &WantedTable, target: &TargetTable) -> Result<TableMap, Problem> {
    let source = &wanted.source;
    if !wanted.identity_whole {
        return Err(Problem::definite(
            "AP066",
            format!("the replica identity of table \"{}\" has a generated column", source.name),
            "generated columns are not sent, and without them updates and deletes do not say which row they mean",
            format!("at the source: ALTER TABLE {} REPLICA IDENTITY FULL", quote::table(&source.name)),
        ));
    }
    if target.kind != TargetKind::Table {
        return Err(Problem::definite(
            "AP062",
            format!("\"{}\" of the target is not a table that holds rows", target.name),
            "tables are carried to tables, partitions to partitions of the same name",
            "create the target's table like the source's",
        ));
    }
    let columns = source.columns.iter().map(|column| map_column(target, &column.name)).collect::<Result<_, _>>()?;
    Ok(TableMap {
        source: source.clone(),
        target: target.name.clone(),
        columns,
        key: key_of(wanted),
        references: target.references(),
    })
}

fn map_column(target: &TargetTable, name: &ColumnName) -> Result<ColumnMap, Problem> {
    let refused = |what: &str, next: &str| {
        Err(Problem::definite(
            "AP063",
            format!("column \"{name}\" of table \"{}\" {what}", target.name),
            "every column that the source sends is written to the column of its name",
            next,
        ))
    };
    match target.column(name) {
        None => refused("is missing at the target", "add it: ALTER TABLE ... ADD COLUMN"),
        Some(column) if column.hidden => refused(
            "has the name of a hidden column of the target",
            "rename the target's, or give the table a primary key of its own: the hidden one then goes",
        ),
        Some(column) if column.generated => refused(
            "is generated at the target and not at the source",
            "make it an ordinary column: ALTER TABLE ... ALTER COLUMN ... DROP EXPRESSION",
        ),
        Some(column) => Ok(ColumnMap {
            source: name.clone(),
            target: column.name.clone(),
            target_type: column.type_name.clone(),
            comparable: column.comparable,
        }),
    }
}
