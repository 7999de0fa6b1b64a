//! `check`: both ends, for everything that would make a migration fail late.

use serde::Serialize;
use tidegate_model::{Class, Finding, Problem, Severity, Stream};

use crate::cli::{CheckArgs, Direction};
use crate::config::{Migration, PipelineOptions};
use crate::engine::{
    Before, Ends, Flow, NoCopy, Preflight, Upstream, Verdict, Wishes, known, preflight, with_upstream,
};
use crate::output::{Exit, Failure, print_findings, print_json, say};

#[derive(Serialize)]
struct Answer<'a> {
    verdict: Verdict,
    tables: usize,
    findings: &'a [Finding],
}

pub async fn run(args: CheckArgs) -> Result<Exit, Failure> {
    let migration = Migration::read(&args.migration, PipelineOptions::default()).map_err(Failure::unknown)?;
    let ends = Ends::connect(&migration).await.map_err(Failure::unknown)?;
    let forward = Flow { migration: &migration, ends: &ends, stream: Stream::Forward };
    let both = args.direction == Direction::Both;
    let wishes = Wishes { both, ..Wishes::default() };
    let mut preflight = look(forward, &wishes).await?;
    if both {
        let back = Wishes { no_copy: Some(NoCopy::Now), ..wishes };
        let reverse = look(Flow { stream: Stream::Reverse, ..forward }, &back).await?;
        preflight.findings.extend(reverse.findings);
    }
    let verdict = preflight.verdict();
    let (tables, findings) = (preflight.tables.len(), &preflight.findings);
    if args.migration.json {
        print_json(&Answer { verdict, tables, findings });
    } else {
        print_findings(&mut std::io::stdout(), findings);
        let critical = findings.iter().filter(|finding| finding.severity >= Severity::Critical).count();
        let counted = |one: &str, more: &str| format!("{critical} {}", if critical == 1 { one } else { more });
        match verdict {
            Verdict::Pass => {
                say!("pass: {tables} tables can be carried from {} to {}", ends.source.settings, ends.target.settings);
            }
            Verdict::Fail => say!("fail: {} to be mended first", counted("finding has", "findings have")),
            Verdict::Unknown => {
                say!("unknown: {} not be answered; that is not a pass", counted("question could", "questions could"));
            }
        }
    }
    Ok(verdict.exit())
}

/// Finds what stands in the way of one direction.
async fn look(flow: Flow<'_>, wishes: &Wishes) -> Result<Preflight, Failure> {
    with_upstream!(flow, upstream => look_upstream(flow, &upstream, wishes).await).map_err(Failure::unknown)
}

async fn look_upstream<U: Upstream>(flow: Flow<'_>, upstream: &U, wishes: &Wishes) -> Result<Preflight, Problem> {
    let before = Before::read(flow).await?;
    let mut preflight = preflight(flow, upstream, &before, wishes).await?;
    // What would make `migrate` refuse to start is a finding here, unless it is one already.
    let known = known(flow, upstream, wishes).await.map(drop);
    let refusals = [known, before.verify(flow.migration, wishes)];
    for problem in refusals.into_iter().filter_map(Result::err) {
        if preflight.findings.iter().any(|finding| finding.what == problem.what) {
            continue;
        }
        let severity = match problem.class {
            Class::Transient => Severity::Unknown,
            Class::Definite | Class::Bug => Severity::Critical,
        };
        preflight.findings.push(Finding {
            code: problem.code,
            severity,
            subject: format!("migration {}", flow.migration.name),
            what: problem.what,
            why: problem.why,
            fix: problem.next,
        });
    }
    Ok(preflight)
}
