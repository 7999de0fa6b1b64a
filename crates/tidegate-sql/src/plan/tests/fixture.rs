//! Tables and changes for tests, in few words. Shared with the tests on a server.

use std::sync::Arc;

use tidegate_model::{
    Change, ColumnMap, Lsn, NewRow, OldRow, Position, RelationId, ReplicaIdentity, Row, SourceColumn, SourceTable,
    TableMap, TableName, TableRoute, Value,
};

pub fn at(lsn: u64) -> Position {
    Position::postgres(Lsn(lsn))
}

/// A table `public.<name>` with columns given as `name type`; those in `key` identify a row.
pub fn route(id: u32, name: &str, columns: &[&str], key: &[usize]) -> TableRoute {
    let columns: Vec<(&str, &str)> = columns.iter().map(|column| column.split_once(' ').unwrap()).collect();
    let replica_identity = if key.is_empty() { ReplicaIdentity::Full } else { ReplicaIdentity::Default };
    let source = SourceTable {
        id: RelationId(id),
        name: TableName::new("public", name),
        replica_identity,
        columns: columns
            .iter()
            .enumerate()
            .map(|(index, (name, _))| SourceColumn {
                name: Arc::from(*name),
                type_oid: 25,
                type_modifier: -1,
                identity: key.is_empty() || key.contains(&index),
            })
            .collect(),
    };
    let columns = columns
        .iter()
        .map(|(name, target_type)| ColumnMap {
            source: Arc::from(*name),
            target: Arc::from(*name),
            target_type: (*target_type).to_owned(),
            comparable: !matches!(*target_type, "json" | "xml" | "point"),
        })
        .collect();
    let target = source.name.clone();
    let map = TableMap { source, target, columns, key: key.to_vec(), references: Vec::new() };
    TableRoute { map, from: at(0) }
}

/// Makes a route of a table whose key is deferrable at the source, which leaves FULL as its replica identity.
pub fn with_full_identity(mut route: TableRoute) -> TableRoute {
    route.map.source.replica_identity = ReplicaIdentity::Full;
    route.map.source.columns.iter_mut().for_each(|column| column.identity = true);
    route
}

/// A row from words, or from what is between bars where there are any: `-` is NULL, `~` is a value that was not sent.
pub fn row(text: &str) -> Row {
    fn value(cell: &str) -> Value<'_> {
        match cell {
            "-" => Value::Null,
            "~" => Value::Unchanged,
            text => Value::Text(text.as_bytes()),
        }
    }
    if text.contains('|') { text.split('|').map(value).collect() } else { text.split_whitespace().map(value).collect() }
}

/// A source table that changes are made for.
pub struct Changing(pub Arc<SourceTable>);

impl Changing {
    pub fn new(route: &TableRoute) -> Self {
        Changing(Arc::new(route.map.source.clone()))
    }

    pub fn insert(&self, new: &str) -> Change {
        Change::Insert { table: Arc::clone(&self.0), new: row(new) }
    }

    pub fn update(&self, new: &str) -> Change {
        Change::Update { table: Arc::clone(&self.0), old: None, new: NewRow::from(row(new)) }
    }

    pub fn rekey(&self, old: &str, new: &str) -> Change {
        let old = Some(self.old(old));
        Change::Update { table: Arc::clone(&self.0), old, new: NewRow::from(row(new)) }
    }

    pub fn delete(&self, old: &str) -> Change {
        Change::Delete { table: Arc::clone(&self.0), old: self.old(old) }
    }

    pub fn truncate(&self) -> Change {
        Change::Truncate { tables: vec![Arc::clone(&self.0)] }
    }

    fn old(&self, words: &str) -> OldRow {
        match self.0.replica_identity {
            ReplicaIdentity::Full => OldRow::Full(row(words)),
            _ => OldRow::Key(row(words)),
        }
    }
}
