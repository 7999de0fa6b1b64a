//! The columns of tables.

use std::collections::HashMap;

use tidegate_connect::Session;
use tidegate_model::ColumnName;
use tokio_postgres::{Error, Row};

use super::type_name::TypeRow;
use super::with_oids;
use crate::catalog::{TargetColumn, TargetTable};

const ATTRIBUTES: &str = "
SELECT attrelid, attnum, attname::text, atttypid, atttypmod
  FROM pg_catalog.pg_attribute
 WHERE attnum > 0 AND NOT attisdropped AND attrelid IN ({oids})
 ORDER BY attrelid, attnum";

/// What only CockroachDB's view tells. `YES` and `NO` here, `ALWAYS` and `NEVER` in other versions.
const DETAILS: &str = "
SELECT table_schema::text, table_name::text, column_name::text, is_nullable::text, column_default IS NOT NULL,
       is_generated::text, coalesce(identity_generation::text, ''), is_hidden::text, crdb_sql_type::text
  FROM information_schema.columns
 WHERE table_schema = ANY ($1::text[]) AND table_name = ANY ($2::text[])";

/// A type that can be compared for equality. JSONB can; what has no order of its own cannot.
const INCOMPARABLE: [&str; 6] = ["geometry", "geography", "box2d", "tsvector", "tsquery", "vector"];

/// What a column is, apart from its type.
struct Details {
    not_null: bool,
    has_default: bool,
    generated: bool,
    identity_always: bool,
    hidden: bool,
    type_text: String,
}

/// Reads the columns of tables, and returns their names by table and number.
pub(super) async fn read(
    session: &Session,
    tables: &mut HashMap<u32, TargetTable>,
) -> Result<HashMap<(u32, i16), ColumnName>, Error> {
    let mut details = details(session, tables).await?;
    let rows = session.query(&with_oids(ATTRIBUTES, tables.keys()), &[]).await?;
    let types = super::type_name::read(session, &rows.iter().map(|row| row.get(3)).collect::<Vec<u32>>()).await?;
    let mut numbers = HashMap::new();
    for row in &rows {
        let (oid, number, name): (u32, i16, String) = (row.get(0), row.get(1), row.get(2));
        numbers.insert((oid, number), ColumnName::from(name.as_str()));
        let Some(table) = tables.get_mut(&oid) else { continue };
        let key = (table.name.schema.to_string(), table.name.name.to_string(), name);
        let Some(found) = details.remove(&key) else { continue };
        table.columns.push(column(row, key.2, found, &types));
    }
    Ok(numbers)
}

async fn details(
    session: &Session,
    tables: &HashMap<u32, TargetTable>,
) -> Result<HashMap<(String, String, String), Details>, Error> {
    let schemas: Vec<&str> = tables.values().map(|table| &*table.name.schema).collect();
    let names: Vec<&str> = tables.values().map(|table| &*table.name.name).collect();
    let rows = session.query(DETAILS, &[&schemas, &names]).await?;
    let detail = |row: &Row| Details {
        not_null: !yes(row.get(3)),
        has_default: row.get(4),
        generated: yes(row.get(5)),
        identity_always: row.get::<_, &str>(6) == "ALWAYS",
        hidden: row.get::<_, Option<&str>>(7).is_some_and(yes),
        type_text: row.get::<_, Option<String>>(8).unwrap_or_default(),
    };
    Ok(rows.iter().map(|row| ((row.get(0), row.get(1), row.get(2)), detail(row))).collect())
}

fn yes(text: &str) -> bool {
    matches!(text, "YES" | "ALWAYS")
}

fn column(row: &Row, name: String, details: Details, types: &HashMap<u32, TypeRow>) -> TargetColumn {
    let type_oid: u32 = row.get(3);
    let known = types.get(&type_oid);
    let type_name = known.map_or_else(|| details.type_text.clone(), TypeRow::cast_name);
    let value_type = known.map_or_else(|| crate::catalog::ValueType::new(&*type_name, -1), TypeRow::value_type);
    let comparable = known.is_none_or(|found| !INCOMPARABLE.contains(&found.element_name()));
    TargetColumn {
        name: name.into(),
        type_oid,
        type_text: if details.type_text.is_empty() { type_name.clone() } else { details.type_text },
        type_name,
        value_type: value_type.declared(row.get(4)),
        not_null: details.not_null,
        has_default: details.has_default || details.identity_always,
        generated: details.generated,
        identity_always: details.identity_always,
        comparable,
        hidden: details.hidden,
    }
}
