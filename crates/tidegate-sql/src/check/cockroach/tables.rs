//! The tables: what CockroachDB has besides columns and keys.

use std::collections::{BTreeMap, HashMap};

use tidegate_model::{Finding, Severity, TableName};

use super::super::TargetQuestion;
use super::cycles::cycles;
use crate::catalog::{ForeignKey, Loss, TargetKind, TargetTable, WantedTable, key_of, loss};
use crate::quote;

/// How many columns a finding about many names.
const NAMED_MAX: usize = 5;

/// Looks at all tables of the stream.
pub(in crate::check) fn look(
    question: &TargetQuestion<'_>,
    targets: &HashMap<TableName, TargetTable>,
    findings: &mut Vec<Finding>,
) {
    let mut losses: BTreeMap<Loss, Vec<String>> = BTreeMap::new();
    for wanted in question.tables {
        let Some(target) = targets.get(&wanted.source.name).filter(|target| target.kind == TargetKind::Table) else {
            continue;
        };
        findings.extend(locked(target));
        findings.extend(families(target));
        findings.extend(other_key(wanted, target, question.both));
        findings.extend(triggers_unknown(target));
        collect_losses(wanted, target, question, &mut losses);
    }
    findings.extend(losses.iter().map(|(lost, columns)| of_loss(*lost, columns)));
    findings.extend(cycles(targets).iter().map(|group| cycle(group, targets)));
}

/// Foreign keys are dropped for the copy, which a locked table refuses.
fn locked(target: &TargetTable) -> Option<Finding> {
    let (severity, why) = match target.foreign_keys.is_empty() {
        true => (Severity::Notice, "triggers of it could not be put aside, and no column could be added"),
        false => (Severity::Critical, "its foreign keys must be dropped for the copy and added again after it"),
    };
    target.schema_locked.then(|| Finding {
        code: "CK104",
        severity,
        subject: target.name.to_string(),
        what: format!("the schema of table \"{}\" of the target is locked", target.name),
        why: why.to_owned(),
        fix: format!("ALTER TABLE {} SET (schema_locked = false)", quote::table(&target.name)),
    })
}

fn families(target: &TargetTable) -> Option<Finding> {
    (target.families > 1).then(|| Finding {
        code: "CK105",
        severity: Severity::Notice,
        subject: target.name.to_string(),
        what: format!("table \"{}\" of the target has {} column families", target.name, target.families),
        why: "a changefeed of it sends a message for each: as a source, on the way back, it is not supported"
            .to_owned(),
        fix: "create the table with one family if it is ever to be a source".to_owned(),
    })
}

/// A table without a key of its own is told of elsewhere.
fn other_key(wanted: &WantedTable, target: &TargetTable, both: bool) -> Option<Finding> {
    let mut ours: Vec<&str> = key_of(wanted).iter().map(|index| &*wanted.source.columns[*index].name).collect();
    let primary = target.unique_keys.first()?;
    let visible = |name: &&str| target.column(name).is_some_and(|column| !column.hidden);
    let mut theirs: Vec<&str> = primary.iter().map(|name| &**name).filter(visible).collect();
    ours.sort_unstable();
    theirs.sort_unstable();
    if ours.is_empty() || theirs.is_empty() || ours == theirs {
        return None;
    }
    Some(Finding {
        code: "CK107",
        severity: if both { Severity::Warning } else { Severity::Notice },
        subject: target.name.to_string(),
        what: format!(
            "the primary key of table \"{}\" is ({}) at the target and ({}) at the source",
            target.name,
            theirs.join(", "),
            ours.join(", ")
        ),
        why: "on the way back rows are told apart by the target's key, and here by the source's".to_owned(),
        fix: format!(
            "ALTER TABLE {} ALTER PRIMARY KEY USING COLUMNS ({})",
            quote::table(&target.name),
            ours.iter().map(|name| quote::identifier(name)).collect::<Vec<_>>().join(", ")
        ),
    })
}

fn triggers_unknown(target: &TargetTable) -> Option<Finding> {
    target.triggers_unknown.as_ref().map(|why| Finding {
        code: "CK110",
        severity: Severity::Unknown,
        subject: target.name.to_string(),
        what: format!("whether table \"{}\" of the target has triggers cannot be read", target.name),
        why: why.clone(),
        fix: format!("SHOW TRIGGERS FROM {} must work for the role", quote::table(&target.name)),
    })
}

fn collect_losses(
    wanted: &WantedTable,
    target: &TargetTable,
    question: &TargetQuestion<'_>,
    losses: &mut BTreeMap<Loss, Vec<String>>,
) {
    for column in &wanted.source.columns {
        let (Some(found), Some(source)) = (target.column(&column.name), question.source_types.get(&column.type_oid))
        else {
            continue;
        };
        if let Some(lost) = loss(source, &found.value_type, crate::dialect::Dialect::Cockroach) {
            losses.entry(lost).or_default().push(format!("{}.{}", target.name, column.name));
        }
    }
}

fn of_loss(lost: Loss, columns: &[String]) -> Finding {
    let (what, why, fix) = match lost {
        Loss::Infinity => (
            "infinite timestamps become the largest or smallest one",
            "CockroachDB has no infinite timestamps, and takes them for 294276-12-31 23:59:59.999999 and the like",
            "replace infinite values at the source, if there are any",
        ),
        Loss::JsonText => (
            "JSON is kept by its meaning, not as text",
            "spaces, the order of keys and keys that are there twice are lost",
            "use a STRING column where the text itself matters",
        ),
        Loss::Dimensions => (
            "arrays of more than one dimension are refused",
            "CockroachDB has arrays of one dimension that begin at 1; another one stops the stream at its row",
            "use JSONB or STRING where there are others",
        ),
        Loss::Case => (
            "text that was compared without regard to case is compared with it",
            "the target's column is an ordinary STRING",
            "use CITEXT (from v25.3 on), or an index on lower(column)",
        ),
    };
    let mut named = columns.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    if columns.len() > NAMED_MAX {
        named.push_str(&format!(" and {} others", columns.len() - NAMED_MAX));
    }
    Finding {
        code: "CK109",
        severity: Severity::Notice,
        subject: "target".to_owned(),
        what: format!("{what}: {named}"),
        why: why.to_owned(),
        fix: fix.to_owned(),
    }
}

fn cycle(group: &[TableName], targets: &HashMap<TableName, TargetTable>) -> Finding {
    let inside = |key: &&ForeignKey| {
        key.table != key.references && group.contains(&key.table) && group.contains(&key.references)
    };
    let key = group.iter().filter_map(|name| targets.get(name)).flat_map(|table| &table.foreign_keys).find(inside);
    let fix = key.map_or(String::new(), |key| {
        let (table, name) = (quote::table(&key.table), quote::identifier(&key.name));
        format!(
            "ALTER TABLE {table} DROP CONSTRAINT {name}; after the turn: \
             ALTER TABLE {table} ADD CONSTRAINT {name} {}",
            key.definition
        )
    });
    let names: Vec<String> = group.iter().map(ToString::to_string).collect();
    Finding {
        code: "CK108",
        severity: Severity::Warning,
        subject: names[0].clone(),
        what: format!("tables {} of the target refer to each other in a circle", names.join(", ")),
        why: "foreign keys are checked after each statement there, so that rows of one transaction which need each \
              other are refused whatever their order"
            .to_owned(),
        fix,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, references: &[&str]) -> (TableName, TargetTable) {
        let name = TableName::new("public", name);
        let key = |other: &&str| ForeignKey {
            name: format!("to_{other}"),
            table: name.clone(),
            references: TableName::new("public", *other),
            has_actions: false,
            deferrable: false,
            inherited: false,
            definition: "FOREIGN KEY (\"x\") REFERENCES \"public\".\"y\" (\"id\")".to_owned(),
        };
        let table = TargetTable {
            oid: 1,
            name: name.clone(),
            kind: TargetKind::Table,
            columns: Vec::new(),
            unique_keys: Vec::new(),
            foreign_keys: references.iter().map(key).collect(),
            triggers: Vec::new(),
            rules: Vec::new(),
            row_security: false,
            missing_privileges: Vec::new(),
            schema_usage: true,
            families: 1,
            schema_locked: false,
            triggers_unknown: None,
        };
        (name, table)
    }

    #[test]
    fn circles_are_named_once_and_with_the_statement_that_opens_them() {
        let targets = HashMap::from([
            table("a", &["b"]),
            table("b", &["c", "b"]),
            table("c", &["a"]),
            table("self", &["self", "a"]),
            table("leaf", &["self", "gone"]),
        ]);
        let found = cycles(&targets);
        assert_eq!(found.len(), 1);
        let finding = cycle(&found[0], &targets);
        assert_eq!(finding.what, "tables public.a, public.b, public.c of the target refer to each other in a circle");
        assert!(finding.fix.starts_with("ALTER TABLE \"public\".\"a\" DROP CONSTRAINT \"to_b\"; after the turn: "));
    }
}
