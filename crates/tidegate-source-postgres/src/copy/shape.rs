//! What a table is like at the moment its copy begins.

use tidegate_connect::Session;
use tidegate_model::{RelationId, ReplicaIdentity, SourceColumn, SourceTable, TableName};
use tokio_postgres::Error;

const COLUMNS: &str = "
SELECT c.oid, c.relreplident::text, a.attname::text, a.atttypid, a.atttypmod
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_attribute a
    ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
 WHERE n.nspname = $1 AND c.relname = $2
 ORDER BY a.attnum";

/// Says how the table differs from what was planned. Which columns identify a row is not looked at: it changes nothing
/// in the copy, and the stream says it with the first change.
pub(super) async fn difference(session: &Session, planned: &SourceTable) -> Result<Option<String>, Error> {
    Ok(match describe(session, planned).await? {
        Some(now) => planned.difference(&now),
        None => Some("it was dropped or renamed".to_owned()),
    })
}

async fn describe(session: &Session, planned: &SourceTable) -> Result<Option<SourceTable>, Error> {
    let TableName { schema, name } = &planned.name;
    let rows = session.query(COLUMNS, &[&&**schema, &&**name]).await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let replica_identity = match first.get(1) {
        "d" => ReplicaIdentity::Default,
        "i" => ReplicaIdentity::Index,
        "f" => ReplicaIdentity::Full,
        _ => ReplicaIdentity::Nothing,
    };
    let mut columns = Vec::with_capacity(rows.len());
    for row in &rows {
        let Some(name) = row.get::<_, Option<&str>>(2) else { continue };
        let identity = planned.columns.iter().any(|column| &*column.name == name && column.identity);
        columns.push(SourceColumn { name: name.into(), type_oid: row.get(3), type_modifier: row.get(4), identity });
    }
    Ok(Some(SourceTable { id: RelationId(first.get(0)), name: planned.name.clone(), replica_identity, columns }))
}
