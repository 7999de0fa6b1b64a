//! `check`: both ends, for everything that would make a migration fail late.

use serde::Serialize;
use tidegate_model::{Finding, Severity};

use crate::cli::CheckArgs;
use crate::config::{Migration, PipelineOptions};
use crate::engine::{Before, Ends, Verdict, Wishes, preflight, state_key};
use crate::output::{Exit, Failure, print_findings, print_json};

#[derive(Serialize)]
struct Answer<'a> {
    verdict: Verdict,
    tables: usize,
    findings: &'a [Finding],
}

pub async fn run(args: CheckArgs) -> Result<Exit, Failure> {
    let migration = Migration::read(&args.migration, PipelineOptions::default()).map_err(Failure::unknown)?;
    let key = state_key(&migration).map_err(Failure::unknown)?;
    let ends = Ends::connect(&migration).await.map_err(Failure::unknown)?;
    let before = Before::read(&ends, &key).await.map_err(Failure::unknown)?;
    let wishes = Wishes::default();
    let mut preflight = preflight(&ends, &migration, &before, &wishes).await.map_err(Failure::unknown)?;
    // What would make `migrate` refuse to start is a finding here, unless it is one already.
    if let Err(problem) = before.verify(&ends, &migration, &wishes).await
        && !preflight.findings.iter().any(|finding| finding.what == problem.what)
    {
        let severity = match problem.class {
            tidegate_model::Class::Transient => Severity::Unknown,
            tidegate_model::Class::Definite | tidegate_model::Class::Bug => Severity::Critical,
        };
        preflight.findings.push(Finding {
            code: problem.code,
            severity,
            subject: format!("migration {}", migration.name),
            what: problem.what,
            why: problem.why,
            fix: problem.next,
        });
    }
    let verdict = preflight.verdict();
    let (tables, findings) = (preflight.tables.len(), &preflight.findings);
    if args.migration.json {
        print_json(&Answer { verdict, tables, findings });
    } else {
        print_findings(&mut std::io::stdout(), findings);
        let critical = findings.iter().filter(|finding| finding.severity >= Severity::Critical).count();
        match verdict {
            Verdict::Pass => println!("pass: {tables} tables can be carried from {} to {}", ends.source, ends.target),
            Verdict::Fail => println!("fail: {critical} findings have to be mended first"),
            Verdict::Unknown => println!("unknown: {critical} questions could not be answered; that is not a pass"),
        }
    }
    Ok(verdict.exit())
}
