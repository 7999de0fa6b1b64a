//! Unique constraints that are checked at the end of a transaction, which not every target can.

use std::collections::HashSet;

use tidegate_connect::Session;
use tidegate_model::{Finding, Problem, Severity, TableFilter};

use super::not_answered;
use crate::catalog;
use crate::problem::Asked;
use crate::publication::quote;

const DEFERRABLE: &str = "CK025";

const CONSTRAINTS: &str = "
SELECT k.conrelid, k.conname::text FROM pg_constraint AS k
 WHERE k.contype IN ('u', 'p') AND k.condeferrable ORDER BY k.conname";

/// Returns the unique constraints of the migration's tables under which values may change hands inside a transaction: for
/// targets that check with every statement.
pub async fn deferrable_findings(session: &Session, filter: &TableFilter) -> Vec<Finding> {
    look(session, filter).await.unwrap_or_else(|problem| vec![not_answered("deferrable constraints", &problem)])
}

async fn look(session: &Session, filter: &TableFilter) -> Result<Vec<Finding>, Problem> {
    let asked = Asked::new("asking the source for its constraints");
    let rows = session.query(CONSTRAINTS, &[]).await.map_err(|error| asked.sql(error))?;
    let relations: HashSet<u32> = rows.iter().map(|row| row.get(0)).collect();
    if relations.is_empty() {
        return Ok(Vec::new());
    }
    let mut findings = Vec::new();
    for table in catalog::list_tables(session, filter).await?.iter().filter(|table| table.is_carried()) {
        let of_table = rows.iter().filter(|row| row.get::<_, u32>(0) == table.table.id.0);
        findings.extend(of_table.map(|row| {
            let name: &str = row.get(1);
            Finding {
                code: DEFERRABLE,
                severity: Severity::Warning,
                subject: table.name().to_string(),
                what: format!("unique constraint \"{name}\" is deferrable"),
                why: "the target checks with every statement: a transaction in which rows exchange their values is refused \
                      there, and stops the stream"
                    .to_owned(),
                fix: format!(
                    "if that happens, drop its counterpart at the target until the migration has turned: DROP INDEX {}@... \
                     CASCADE",
                    quote(table.name())
                ),
            }
        }));
    }
    Ok(findings)
}
