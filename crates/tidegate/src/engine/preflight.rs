//! The check before a start, and the tables it plans. `check` prints it; `migrate` refuses to start over it.

use std::collections::HashMap;

use serde::Serialize;
use tidegate_model::{Class, CopyState, Finding, MigrationName, Problem, Severity, TableFilter, TableName};
use tidegate_sql::catalog::{map_table, read_tables, value_types};
use tidegate_sql::check::{PUT_ASIDE_WHEN_TOLD, TargetQuestion, WantedTable, target_findings};
use tidegate_sql::copy::PlannedTable;

use super::upstream::{Listed, Upstream};
use super::{Before, Flow, Wishes};
use crate::output::{Exit, Failure, print_findings};

/// Critical findings that pass by themselves after an outage: WAL senders of lost connections that the server still
/// counts, and a standby that is about to be promoted.
const PASSING: [&str; 4] = ["CK005", "CK008", "CK052", "CK101"];

/// What the findings say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing critical.
    Pass,
    /// Something critical.
    Fail,
    /// Something could not be checked, and nothing is known to be critical.
    Unknown,
}

impl Verdict {
    pub fn exit(self) -> Exit {
        match self {
            Verdict::Pass => Exit::Done,
            Verdict::Fail => Exit::Negative,
            Verdict::Unknown => Exit::Unknown,
        }
    }
}

/// What was found, and the tables that a stream would carry.
#[derive(Debug)]
pub struct Preflight {
    pub findings: Vec<Finding>,
    pub tables: Vec<PlannedTable>,
}

impl Preflight {
    pub fn verdict(&self) -> Verdict {
        let any = |severity| self.findings.iter().any(|finding| finding.severity == severity);
        match (any(Severity::Critical), any(Severity::Unknown)) {
            (true, _) => Verdict::Fail,
            (false, true) => Verdict::Unknown,
            (false, false) => Verdict::Pass,
        }
    }

    /// Refuses to start over what is critical or could not be checked, and prints it. The problem is transient where
    /// nothing critical is left that would not pass by itself.
    pub fn pass(&self, name: &MigrationName) -> Result<(), Failure> {
        let verdict = self.verdict();
        if verdict == Verdict::Pass {
            return Ok(());
        }
        let serious: Vec<Finding> =
            self.findings.iter().filter(|finding| finding.severity >= Severity::Critical).cloned().collect();
        print_findings(&mut std::io::stderr(), &serious);
        let codes: Vec<&str> = serious.iter().map(|finding| finding.code).collect();
        let why = format!("each of these findings would make it fail late or lose rows: {}", codes.join(", "));
        let next = "apply the fixes above; tidegate check shows all findings";
        let what = format!("migration \"{name}\" cannot start: {} findings", serious.len());
        let lasts = |finding: &Finding| finding.severity == Severity::Critical && !PASSING.contains(&finding.code);
        let class = if serious.iter().any(lasts) { Class::Definite } else { Class::Transient };
        Err(Failure { problem: Problem { class, ..Problem::definite("MI004", what, why, next) }, exit: verdict.exit() })
    }
}

/// Checks both ends of a stream and plans its tables. An error means that nothing could be asked.
pub async fn run<U: Upstream>(
    flow: Flow<'_>,
    upstream: &U,
    before: &Before,
    wishes: &Wishes,
) -> Result<Preflight, Problem> {
    let (key, migration) = (flow.key()?, flow.migration);
    let filter = TableFilter::new(&migration.tables, &migration.exclude, &migration.state_schema)?;
    let mut findings = upstream.findings(&filter, wishes).await?;

    let started = before.position().is_some() && !wishes.recreate_slot;
    let mut tables = Tables(upstream.tables(&filter).await?);
    if started {
        tables.keep_only_those_begun(before, wishes);
    }
    let question = TargetQuestion {
        key: &key,
        tables: &tables.wanted(),
        source_types: &value_types(&flow.from().session, &tables.type_oids()).await?,
        no_copy: wishes.no_copy.is_some(),
        both: wishes.both,
    };
    findings.extend(target_findings(&flow.to().session, &question).await);
    if wishes.set_aside_triggers {
        let told = findings.iter_mut().filter(|finding| PUT_ASIDE_WHEN_TOLD.contains(&finding.code));
        told.for_each(|finding| finding.severity = Severity::Notice);
    }
    let tables = if started { tables.as_begun(flow, before, wishes).await? } else { tables.planned(flow).await? };
    if tables.is_empty() {
        findings.push(no_tables());
    }
    Ok(Preflight { findings, tables })
}

/// The source's tables that a stream would carry.
struct Tables(Vec<Listed>);

impl Tables {
    /// A stream carries the tables that it began with, and those it is told to copy. Others that match and came later are
    /// shown by `status`.
    fn keep_only_those_begun(&mut self, before: &Before, wishes: &Wishes) {
        let begun = |name: &TableName| before.records.iter().any(|record| record.is_of(name));
        self.0.retain(|table| begun(table.name()) || wishes.recopy.contains(table.name()));
    }

    fn wanted(&self) -> Vec<WantedTable> {
        self.0.iter().map(|table| table.wanted.clone()).collect()
    }

    fn type_oids(&self) -> Vec<u32> {
        let columns = self.0.iter().flat_map(|table| table.wanted.source.columns.iter());
        let mut oids: Vec<u32> = columns.map(|column| column.type_oid).collect();
        oids.sort_unstable();
        oids.dedup();
        oids
    }

    /// Maps every table. One that cannot be mapped has a critical finding already and is left out.
    async fn planned(&self, flow: Flow<'_>) -> Result<Vec<PlannedTable>, Problem> {
        let names: Vec<TableName> = self.0.iter().map(|table| table.name().clone()).collect();
        let targets = read_tables(&flow.to().session, &names).await?;
        let plan = |table: &Listed| {
            let map = map_table(&table.wanted, targets.get(table.name())?).ok()?;
            let Listed { rows_estimated, bytes_estimated, .. } = *table;
            Some(PlannedTable { map, rows_estimated, bytes_estimated })
        };
        Ok(self.0.iter().filter_map(plan).collect())
    }

    /// As [`Tables::planned`], but a table that is copied keeps the map with which it was copied: the stream may still
    /// have changes to give from before the source's table was altered or dropped.
    async fn as_begun(&self, flow: Flow<'_>, before: &Before, wishes: &Wishes) -> Result<Vec<PlannedTable>, Problem> {
        let mut fresh: HashMap<TableName, PlannedTable> = HashMap::new();
        for table in self.planned(flow).await? {
            fresh.insert(table.map.source.name.clone(), table);
        }
        let mut planned = Vec::new();
        for record in &before.records {
            let stored = match &record.state {
                CopyState::Copied(route) => Some(route.map.clone()),
                CopyState::Planned | CopyState::Copying => None,
            };
            let name = fresh.keys().find(|name| record.is_of(name)).cloned();
            let now = name.and_then(|name| fresh.remove(&name));
            let again = now.as_ref().is_some_and(|table| wishes.recopy.contains(&table.map.source.name));
            match (stored, now) {
                (Some(map), now) if !again => {
                    let (rows_estimated, bytes_estimated) =
                        now.map_or((0, 0), |table| (table.rows_estimated, table.bytes_estimated));
                    planned.push(PlannedTable { map, rows_estimated, bytes_estimated });
                }
                (_, Some(table)) => planned.push(table),
                (_, None) => return Err(table_gone(&record.source_table)),
            }
        }
        for name in &wishes.recopy {
            if planned.iter().any(|table| table.map.source.name == *name) {
                continue;
            }
            // A table that came later joins the migration.
            planned.push(fresh.remove(name).ok_or_else(|| not_carried(name))?);
        }
        Ok(planned)
    }
}

fn no_tables() -> Finding {
    Finding {
        code: "MI005",
        severity: Severity::Critical,
        subject: "source".to_owned(),
        what: "there is no table to carry".to_owned(),
        why: "no table of the source matches --tables and --exclude, or none of those can be mapped to the target"
            .to_owned(),
        fix: "check the globs; without --tables every ordinary table is taken".to_owned(),
    }
}

fn table_gone(table: &str) -> Problem {
    Problem::definite(
        "MI006",
        format!("table \"{table}\" cannot be copied any more"),
        "its copy was not finished, and now it is missing at the source or cannot be mapped to the target",
        "bring the table back, or begin anew without it: --exclude and --recreate-slot",
    )
}

fn not_carried(table: &TableName) -> Problem {
    Problem::definite(
        "MI007",
        format!("table \"{table}\" cannot join this migration"),
        "--recopy names a table that does not exist at the source, does not match --tables, or has no table at the target",
        "write schema.table as the catalog stores it; make the target's table first",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_leaves_findings_that_pass_by_themselves() {
        let refused = |found: &[(&'static str, Severity)]| {
            let finding = |(code, severity): &(&'static str, Severity)| Finding {
                code,
                severity: *severity,
                subject: String::new(),
                what: String::new(),
                why: String::new(),
                fix: String::new(),
            };
            let preflight = Preflight { findings: found.iter().map(finding).collect(), tables: Vec::new() };
            let refused = preflight.pass(&"orders".parse().unwrap());
            refused.map_err(|failure| (failure.problem.class, failure.exit))
        };
        use Severity::{Critical, Unknown, Warning};
        assert_eq!(refused(&[("CK062", Warning)]).ok(), Some(()));
        // Whoever starts it is told at once; a stream that runs tries again.
        for passing in PASSING {
            let found = refused(&[(passing, Critical), ("CK062", Warning)]);
            assert_eq!(found.err(), Some((Class::Transient, Exit::Negative)), "{passing}");
        }
        assert_eq!(refused(&[("CK022", Unknown)]).err(), Some((Class::Transient, Exit::Unknown)));
        let both = refused(&[("CK005", Critical), ("CK062", Critical)]);
        assert_eq!(both.err(), Some((Class::Definite, Exit::Negative)));
    }
}
