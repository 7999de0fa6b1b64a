//! What `check` finds at a CockroachDB source: everything without which `migrate` would fail late, with its fix.
//!
//! A question that could not be answered is a finding of its own ([`Severity::Unknown`]), never a pass.

mod server;
mod tables;

use tidegate_connect::{Server, Session, Settings};
use tidegate_model::{Finding, MigrationName, Problem, Severity, TableFilter, TableName};

use crate::catalog;
use crate::gc::Ttl;

const NOT_COCKROACH: &str = "CK130";
const NOT_ANSWERED: &str = "CK131";

/// Returns what is found at the source. With `both_directions` at once, what one of them writes to this database must
/// not come out of its feed. The error is that of the first connection: nothing could be asked.
pub async fn source_findings(
    settings: &Settings,
    name: &MigrationName,
    filter: &TableFilter,
    both_directions: bool,
) -> Result<Vec<Finding>, Problem> {
    let session = Session::connect(settings, &name.application_name("check")).await?;
    let Server::Cockroach(version) = session.server() else {
        return Ok(vec![not_cockroach(session.server())]);
    };
    let mut findings = Vec::new();
    server::judge_version(version, both_directions, &mut findings);
    server::judge_settings(&session, &mut findings).await;
    let role = match server::role(&session).await {
        Ok(role) => role,
        Err(problem) => {
            findings.push(not_answered("role of the session", &problem));
            "<role>".to_owned()
        }
    };
    match catalog::list(&session, filter).await {
        Ok(listed) => {
            tables::judge(&listed, filter, &role, &mut findings);
            findings.extend(tables::json_nulls(&listed, version, both_directions));
            let carried: Vec<&catalog::CatalogTable> = listed.tables.iter().filter(|t| t.is_carried()).collect();
            let names: Vec<TableName> = carried.iter().map(|table| table.name().clone()).collect();
            let rows = carried.iter().filter_map(|table| table.rows_estimated).sum();
            match Ttl::shortest(&session, &names).await {
                Ok(ttl) => findings.extend(server::judge_window(ttl, rows)),
                Err(problem) => findings.push(not_answered("garbage collection window of the tables", &problem)),
            }
        }
        Err(problem) => findings.push(not_answered("tables", &problem)),
    }
    Ok(findings)
}

fn not_cockroach(server: &Server) -> Finding {
    critical(
        NOT_COCKROACH,
        format!("the source is {server}"),
        "a CockroachDB was expected there",
        "correct the URL".to_owned(),
    )
}

fn not_answered(about: &str, problem: &Problem) -> Finding {
    Finding {
        code: NOT_ANSWERED,
        severity: Severity::Unknown,
        subject: "source".to_owned(),
        what: format!("the {about} could not be checked"),
        why: format!("{}: {}", problem.what, problem.why),
        fix: problem.next.clone(),
    }
}

fn critical(code: &'static str, what: String, why: &str, fix: String) -> Finding {
    Finding { code, severity: Severity::Critical, subject: "source".to_owned(), what, why: why.to_owned(), fix }
}
