//! Target tables that another migration writes.

use tidegate_model::{Finding, Severity};
use tokio_postgres::{Client, Error};

use super::TargetQuestion;
use super::database::{role, unanswered};
use crate::quote;
use crate::state::{StateKey, table_text};

/// Every schema with state tables, and whether our role may read them. Migrations need not agree on a schema.
const STATE_SCHEMAS: &str = "
SELECT n.nspname::text, has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
 WHERE c.relname = 'copy_table' AND c.relkind = 'r' AND NOT a.attisdropped
   AND a.attname IN ('migration', 'stream', 'source_table', 'target_table', 'state')
 GROUP BY n.oid, n.nspname, c.oid
HAVING count(*) = 5
 ORDER BY 1";

const UNREADABLE: &str = "which migration writes which table cannot be read";

/// Refuses tables that another migration, or another stream, has in its state.
pub(super) async fn look(client: &Client, question: &TargetQuestion<'_>, findings: &mut Vec<Finding>) {
    let schemas = match client.query(STATE_SCHEMAS, &[]).await {
        Ok(rows) => rows,
        Err(error) => {
            findings.push(unanswered("CK059", UNREADABLE, error));
            return;
        }
    };
    let names: Vec<String> = question.tables.iter().map(|table| table_text(&table.source.name)).collect();
    for row in schemas {
        let (schema, readable): (String, bool) = (row.get(0), row.get(1));
        if !readable {
            findings.push(closed(&schema, &role(client).await));
            continue;
        }
        match owners(client, &schema, question.key, &names).await {
            Ok(owned) => findings.extend(owned.iter().map(|(table, migration)| owned_by(table, migration, &schema))),
            Err(error) => findings.push(unanswered("CK059", UNREADABLE, error)),
        }
    }
}

async fn owners(
    client: &Client,
    schema: &str,
    key: &StateKey,
    names: &[String],
) -> Result<Vec<(String, String)>, Error> {
    // A migration of the same name in another schema is another one.
    let ours = if schema == key.schema.as_str() { key.condition() } else { "false".to_owned() };
    let sql = format!(
        "SELECT DISTINCT target_table, migration FROM {}.copy_table \
         WHERE target_table = ANY ($1::text[]) AND NOT ({ours}) ORDER BY 1, 2",
        quote::identifier(schema)
    );
    let rows = client.query(&sql, &[&names]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

fn owned_by(table: &str, migration: &str, schema: &str) -> Finding {
    Finding {
        code: "CK059",
        severity: Severity::Critical,
        subject: table.to_owned(),
        what: format!(
            "table \"{table}\" of the target is written by migration \"{migration}\" of state schema \"{schema}\""
        ),
        why: "nothing but one stream may change the rows of a target table".to_owned(),
        fix: format!("--exclude it here, or remove it from migration \"{migration}\""),
    }
}

fn closed(schema: &str, role: &str) -> Finding {
    let name = quote::identifier(schema);
    Finding {
        code: "CK059",
        severity: Severity::Unknown,
        subject: "target".to_owned(),
        what: format!("the role may not read the state of other migrations in schema \"{schema}\""),
        why: "a migration there may write the same tables, and nothing but one stream may change their rows".to_owned(),
        fix: format!("GRANT USAGE ON SCHEMA {name} TO {role}; GRANT SELECT ON {name}.copy_table TO {role}"),
    }
}
