//! What `check` finds at a target: everything that would make `migrate` fail late, or change rows behind its back.
//!
//! A question that cannot be answered is a finding of its own ([`Severity::Unknown`]), never a pass.

mod actions;
mod cockroach;
mod columns;
mod database;
mod foreign;
mod tables;

use std::collections::{HashMap, HashSet};

use tidegate_connect::Session;
use tidegate_model::{Finding, Problem, Severity, TableName};

pub use crate::catalog::WantedTable;
use crate::catalog::{ValueType, read_tables};
use crate::dialect::Dialect;
use crate::plan::SessionRights;
use crate::state::StateKey;

/// What the target is checked for.
#[derive(Clone, Debug)]
pub struct TargetQuestion<'a> {
    /// Which stream wants to write.
    pub key: &'a StateKey,
    /// What it wants to write.
    pub tables: &'a [WantedTable],
    /// The source's types by OID (see [`value_types`](crate::catalog::value_types)); columns of types that are missing
    /// here are not compared.
    pub source_types: &'a HashMap<u32, ValueType>,
    /// The tables hold the data already (`--no-copy`), so that rows in them are no finding.
    pub no_copy: bool,
    /// Both directions are to run at the same time: what is written by us must be told apart from the rest.
    pub both: bool,
}

/// Findings about objects that [`put_aside`](crate::triggers::put_aside) takes out of the way when told to.
pub const PUT_ASIDE_WHEN_TOLD: [&str; 3] = ["CK067", "CK068", "CK069"];

/// Returns what our role may do in a session that writes.
pub async fn session_rights(session: &Session) -> Result<SessionRights, Problem> {
    let mut findings = Vec::new();
    rights(session, &mut findings).await.ok_or_else(|| {
        let why = findings.pop().map_or(String::new(), |finding| finding.why);
        let what = "it could not be found out whether triggers of the target can be turned off";
        Problem::transient("AP065", what, why, "try again")
    })
}

/// CockroachDB has nothing that turns triggers and foreign keys off for a session.
async fn rights(session: &Session, findings: &mut Vec<Finding>) -> Option<SessionRights> {
    match Dialect::of(session) {
        Dialect::Postgres => database::rights(session, findings).await,
        Dialect::Cockroach => Some(SessionRights { foreign_keys_enforced: true }),
    }
}

/// Returns everything that stands in the way of writing to the target, and what should be known.
pub async fn target_findings(session: &Session, question: &TargetQuestion<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let dialect = Dialect::of(session);
    match dialect {
        Dialect::Postgres => database::look(session, question.key, &mut findings).await,
        Dialect::Cockroach => cockroach::look_at_database(session, question, &mut findings).await,
    }
    let rights = rights(session, &mut findings).await;
    let role = database::role(session).await;
    let names: Vec<TableName> = question.tables.iter().map(|table| table.source.name.clone()).collect();
    let targets = match read_tables(session, &names).await {
        Ok(targets) => targets,
        Err(problem) => {
            findings.push(unknown("CK050", "target", &problem));
            return findings;
        }
    };
    for wanted in question.tables {
        let Some(target) = targets.get(&wanted.source.name) else {
            findings.push(tables::missing(&wanted.source.name, dialect));
            continue;
        };
        tables::look(target, &role, &mut findings);
        columns::look(wanted, target, question.source_types, dialect, &mut findings);
        // Without an answer the worse case is assumed: it names what may change rows.
        let rights = rights.unwrap_or(SessionRights { foreign_keys_enforced: true });
        actions::look(target, rights, dialect, &mut findings);
    }
    if dialect.is_cockroach() {
        cockroach::look_at_tables(question, &targets, &mut findings);
    }
    tables::look_for_rows(session, question, &targets, &mut findings).await;
    foreign::look(session, question, &mut findings).await;
    // A foreign key between two tables is found at both.
    let mut seen = HashSet::new();
    findings.retain(|finding| seen.insert((finding.code, finding.what.clone(), finding.fix.clone())));
    findings
}

/// Makes the finding of a question that could not be answered.
fn unknown(code: &'static str, subject: impl Into<String>, problem: &Problem) -> Finding {
    Finding {
        code,
        severity: Severity::Unknown,
        subject: subject.into(),
        what: problem.what.clone(),
        why: problem.why.clone(),
        fix: problem.next.clone(),
    }
}
