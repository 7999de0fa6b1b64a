//! The target's tables: there, writable, and empty or known.

use std::collections::{HashMap, HashSet};

use tidegate_connect::Session;
use tidegate_model::{Finding, Severity, TableName};
use tokio_postgres::{Client, Error};

use super::TargetQuestion;
use super::database::unanswered;
use crate::catalog::{TargetKind, TargetTable};
use crate::dialect::Dialect;
use crate::quote;
use crate::state::{Part, StateKey, is_installed, table_text};

/// Says that a table is missing.
pub(super) fn missing(table: &TableName, dialect: Dialect) -> Finding {
    let name = quote::table(table);
    let fix = match dialect {
        Dialect::Postgres => {
            format!("create it (pg_dump --schema-only -t '{name}' of the source), or --exclude it")
        }
        Dialect::Cockroach => format!("create {name} like the source's, with a primary key, or --exclude it"),
    };
    Finding {
        code: "CK055",
        severity: Severity::Critical,
        subject: table.to_string(),
        what: format!("the target has no table \"{table}\""),
        why: "tables are carried to the target's tables of the same names, which must exist".to_owned(),
        fix,
    }
}

/// Looks at one table.
pub(super) fn look(target: &TargetTable, role: &str, findings: &mut Vec<Finding>) {
    let subject = target.name.to_string();
    let critical = |code, what: String, why: &str, fix: String| Finding {
        code,
        severity: Severity::Critical,
        subject: subject.clone(),
        what,
        why: why.to_owned(),
        fix,
    };
    if target.kind != TargetKind::Table {
        findings.push(critical(
            "CK056",
            format!("\"{}\" of the target is not a table that holds rows", target.name),
            "tables are carried to tables, partitions to partitions of the same name",
            "create it as an ordinary table or as a partition, like the source's".to_owned(),
        ));
    }
    let name = quote::table(&target.name);
    if !target.schema_usage {
        let schema = quote::identifier(&target.name.schema);
        findings.push(critical(
            "CK057",
            format!("the role may not use schema \"{}\" of the target", target.name.schema),
            "its tables cannot be reached",
            format!("GRANT USAGE ON SCHEMA {schema} TO {role}"),
        ));
    }
    if !target.missing_privileges.is_empty() {
        let privileges = target.missing_privileges.join(", ");
        findings.push(critical(
            "CK057",
            format!("the role lacks {privileges} on table \"{}\" of the target", target.name),
            "rows are read, written, removed and emptied by the stream",
            format!("GRANT {privileges} ON {name} TO {role}"),
        ));
    }
    if target.row_security {
        findings.push(critical(
            "CK058",
            format!("row level security of table \"{}\" holds for the role", target.name),
            "rows that a policy hides could not be updated or removed",
            format!("ALTER TABLE {name} DISABLE ROW LEVEL SECURITY until the turn, or use a role with BYPASSRLS"),
        ));
    }
}

/// Refuses tables with rows that this migration did not write.
pub(super) async fn look_for_rows(
    client: &Session,
    question: &TargetQuestion<'_>,
    targets: &HashMap<TableName, TargetTable>,
    findings: &mut Vec<Finding>,
) {
    if question.no_copy {
        return;
    }
    let dialect = Dialect::of(client);
    let begun = match begun_tables(client, question.key).await {
        Ok(begun) => begun,
        Err(error) => {
            findings.push(unanswered("CK060", "which tables were copied before cannot be read", error));
            return;
        }
    };
    let mut names: Vec<&TableName> = targets.keys().collect();
    names.sort();
    for name in names {
        let target = &targets[name];
        let readable = target.schema_usage && !target.missing_privileges.iter().any(|missing| missing == "SELECT");
        // What cannot be read has a finding of its own.
        if target.kind != TargetKind::Table || !readable || begun.contains(&table_text(name)) {
            continue;
        }
        let only = if dialect.is_cockroach() { "" } else { "ONLY " };
        let sql = format!("SELECT EXISTS (SELECT 1 FROM {only}{})", quote::table(name));
        match client.query_one(&sql, &[]).await {
            Ok(row) if row.get(0) => findings.push(has_rows(name)),
            Ok(_) => {}
            Err(error) => {
                let what = format!("whether table \"{name}\" of the target has rows cannot be read");
                findings.push(unanswered("CK060", &what, error));
            }
        }
    }
}

/// Target tables whose copy this migration has begun, by `copy_table.target_table`.
async fn begun_tables(client: &Client, key: &StateKey) -> Result<HashSet<String>, Error> {
    // Without state there is nothing that was begun; what else is wrong with it has a finding of its own.
    if !is_installed(client, &key.schema, Part::Stream).await.unwrap_or(false) {
        return Ok(HashSet::new());
    }
    let sql = format!(
        "SELECT target_table FROM {} WHERE {} AND (copies > 0 OR state = 'copied')",
        key.table("copy_table"),
        key.condition()
    );
    Ok(client.query(&sql, &[]).await?.iter().map(|row| row.get(0)).collect())
}

fn has_rows(table: &TableName) -> Finding {
    Finding {
        code: "CK060",
        severity: Severity::Critical,
        subject: table.to_string(),
        what: format!("table \"{table}\" of the target has rows that this migration did not write"),
        why: "the copy would double them or collide with them, and nothing is ever emptied unasked".to_owned(),
        fix: format!(
            "if they are not needed: TRUNCATE {}; if they are the source's rows already: --no-copy --start-at POSITION",
            quote::table(table)
        ),
    }
}
