//! What `check` finds at the source: everything without which `migrate` would fail late, with its fix.
//!
//! A question that could not be answered is a finding of its own ([`Severity::Unknown`]), never a pass.

mod deferrable;
mod server;
mod tables;

use tidegate_connect::{Session, Settings};
use tidegate_model::{Finding, MigrationName, Problem, Severity, TableFilter, TableName};

use crate::catalog::{self, CatalogTable};
use crate::{publication, slot};

pub use deferrable::deferrable_findings;

const NOT_ANSWERED: &str = "CK022";
/// The slot cannot be used as it is. No finding for a start that makes it again.
pub const SLOT_OF_SOMEBODY: &str = "CK021";

/// Returns what is found at the source. The error is that of the first connection: nothing could be asked.
pub async fn source_findings(
    settings: &Settings,
    name: &MigrationName,
    filter: &TableFilter,
) -> Result<Vec<Finding>, Problem> {
    let session = Session::connect(settings, &name.application_name("check")).await?;
    let mut findings = Vec::new();
    let object = name.object_name();

    let facts = server::Facts::ask(&session, filter.state_schema(), &object).await;
    let role = facts.as_ref().map_or_else(|_| "<role>".to_owned(), |facts| facts.role.clone());
    match facts {
        Ok(facts) => facts.judge(filter.state_schema(), &mut findings),
        Err(problem) => findings.push(not_answered("settings and privileges of the server", &problem)),
    }
    match slot::claimable(&session, name, &object).await {
        Ok(_) => {}
        Err(problem) if slot::is_refusal(&problem) => findings.push(slot_of_somebody(problem)),
        Err(problem) => findings.push(not_answered("replication slot", &problem)),
    }
    server::probe_replication(settings, name, &role, &mut findings).await;
    match catalog::list_tables(&session, filter).await {
        Ok(list) => {
            let published = is_published(&session, &object, &list, &mut findings).await;
            tables::judge(&list, filter, &role, published, &mut findings);
        }
        Err(problem) => findings.push(not_answered("tables", &problem)),
    }
    Ok(findings)
}

/// Returns whether the publication is already there as it should be: then nobody needs the right to make it.
async fn is_published(session: &Session, object: &str, tables: &[CatalogTable], findings: &mut Vec<Finding>) -> bool {
    let carried: Vec<TableName> = tables.iter().filter(|t| t.is_carried()).map(|t| t.name().clone()).collect();
    match publication::read(session, object).await {
        Ok(published) => published.is_some_and(|published| published.is_exactly(&carried)),
        Err(problem) => {
            findings.push(not_answered("publication", &problem));
            false
        }
    }
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

fn slot_of_somebody(problem: Problem) -> Finding {
    Finding {
        code: SLOT_OF_SOMEBODY,
        severity: Severity::Critical,
        subject: "source".to_owned(),
        what: problem.what,
        why: problem.why,
        fix: problem.next,
    }
}
