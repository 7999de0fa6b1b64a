//! Target tables that another migration writes.

use tidegate_model::{Finding, Severity};
use tokio_postgres::{Client, Error};

use super::TargetQuestion;
use super::database::unanswered;
use crate::state::{Part, StateKey, is_installed, table_text};

/// Refuses tables that another migration, or another stream, has in its state.
pub(super) async fn look(client: &Client, question: &TargetQuestion<'_>, findings: &mut Vec<Finding>) {
    if !is_installed(client, &question.key.schema, Part::Stream).await.unwrap_or(false) {
        return;
    }
    let names: Vec<String> = question.tables.iter().map(|table| table_text(&table.source.name)).collect();
    match owners(client, question.key, &names).await {
        Ok(owned) => findings.extend(owned.iter().map(|(table, migration)| owned_by(table, migration))),
        Err(error) => findings.push(unanswered("CK059", "which migration writes which table cannot be read", error)),
    }
}

async fn owners(client: &Client, key: &StateKey, names: &[String]) -> Result<Vec<(String, String)>, Error> {
    let sql = format!(
        "SELECT DISTINCT target_table, migration FROM {} WHERE target_table = ANY ($1) AND NOT ({}) ORDER BY 1, 2",
        key.table("copy_table"),
        key.condition()
    );
    let rows = client.query(&sql, &[&names]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

fn owned_by(table: &str, migration: &str) -> Finding {
    Finding {
        code: "CK059",
        severity: Severity::Critical,
        subject: table.to_owned(),
        what: format!("table \"{table}\" of the target is written by migration \"{migration}\""),
        why: "nothing but one stream may change the rows of a target table".to_owned(),
        fix: format!("--exclude it here, or remove it from migration \"{migration}\""),
    }
}
