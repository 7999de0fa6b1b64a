//! Foreign keys, with definitions that depend on no setting.

use std::collections::{BTreeSet, HashMap};

use tidegate_connect::Session;
use tidegate_model::{Problem, TableName};
use tokio_postgres::{Error, Row};

use super::{numbers_in, with_oids};
use crate::catalog::ForeignKey;
use crate::{quote, retry, server_error};

const FOREIGN_KEYS: &str = "
SELECT k.conname::text, k.conrelid, n.nspname::text, c.relname::text, k.confrelid, fn.nspname::text, f.relname::text,
       k.conkey::text, k.confkey::text, k.confdeltype::text, k.confupdtype::text, k.confmatchtype::text, k.convalidated
  FROM pg_catalog.pg_constraint k
  JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_class f ON f.oid = k.confrelid JOIN pg_catalog.pg_namespace fn ON fn.oid = f.relnamespace
 WHERE k.contype = 'f'
 ORDER BY n.nspname, c.relname, k.conname";

const NAMES: &str = "
SELECT attrelid, attnum, attname::text FROM pg_catalog.pg_attribute WHERE attnum > 0 AND attrelid IN ({oids})";

/// A foreign key and whether every row was checked against it.
#[derive(Clone, Debug)]
pub(crate) struct ForeignKeyRow {
    pub(crate) key: ForeignKey,
    pub(crate) validated: bool,
}

/// Reads all foreign keys of the database.
pub(crate) async fn foreign_keys(session: &Session) -> Result<Vec<ForeignKeyRow>, Problem> {
    retry::repeatable(|| async {
        read(session).await.map_err(|error| {
            server_error::problem("CK050", "the foreign keys of the target cannot be read", error, "see the reason")
        })
    })
    .await
}

pub(super) async fn read(session: &Session) -> Result<Vec<ForeignKeyRow>, Error> {
    let rows = session.query(FOREIGN_KEYS, &[]).await?;
    let oids: BTreeSet<u32> = rows.iter().flat_map(|row| [row.get::<_, u32>(1), row.get(4)]).collect();
    if oids.is_empty() {
        return Ok(Vec::new());
    }
    let names = session.query(&with_oids(NAMES, oids.iter()), &[]).await?;
    let names: HashMap<(u32, i16), String> = names.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect();
    Ok(rows.iter().map(|row| foreign_key(row, &names)).collect())
}

fn foreign_key(row: &Row, names: &HashMap<(u32, i16), String>) -> ForeignKeyRow {
    let columns = |oid: u32, numbers: &str| -> String {
        let numbers = numbers_in(numbers);
        let names = numbers.iter().map(|number| names.get(&(oid, *number)).map_or("", String::as_str));
        names.map(quote::identifier).collect::<Vec<_>>().join(", ")
    };
    let references = TableName::new(row.get::<_, String>(5), row.get::<_, String>(6));
    let (on_delete, on_update) = (action(row.get(9)), action(row.get(10)));
    let mut definition = format!(
        "FOREIGN KEY ({}) REFERENCES {} ({})",
        columns(row.get(1), row.get(7)),
        quote::table(&references),
        columns(row.get(4), row.get(8))
    );
    if row.get::<_, &str>(11) == "f" {
        definition.push_str(" MATCH FULL");
    }
    for (event, action) in [("DELETE", on_delete), ("UPDATE", on_update)] {
        if let Some(action) = action {
            definition.push_str(&format!(" ON {event} {action}"));
        }
    }
    let key = ForeignKey {
        name: row.get(0),
        table: TableName::new(row.get::<_, String>(2), row.get::<_, String>(3)),
        references,
        has_actions: [on_delete, on_update].into_iter().flatten().any(|action| action != "RESTRICT"),
        deferrable: false,
        inherited: false,
        definition,
    };
    ForeignKeyRow { key, validated: row.get(12) }
}

/// What happens to rows that refer to one that goes or changes; `None`: it is refused.
fn action(code: &str) -> Option<&'static str> {
    match code {
        "c" => Some("CASCADE"),
        "n" => Some("SET NULL"),
        "d" => Some("SET DEFAULT"),
        "r" => Some("RESTRICT"),
        _ => None,
    }
}
