//! What would change rows of the target behind the plan: triggers, rules, and foreign keys with actions.
//!
//! A folded batch and ON DELETE CASCADE lose a child without a word, and a trigger that writes makes rows that no source
//! ever had. Under `session_replication_role = replica` the ordinary ones rest.

use tidegate_model::{Finding, Severity};

use crate::catalog::{Firing, TargetTable};
use crate::quote;

/// Looks at one table. `enforced`: the session cannot turn them off.
pub(super) fn look(target: &TargetTable, enforced: bool, findings: &mut Vec<Finding>) {
    let fires = |firing: Firing| if enforced { firing.in_origin() } else { firing.in_replica() };
    let table = quote::table(&target.name);
    for trigger in target.triggers.iter().filter(|trigger| fires(trigger.firing)) {
        let name = quote::identifier(&trigger.name);
        findings.push(critical(
            "CK067",
            target,
            format!("trigger \"{}\" of table \"{}\" fires while the stream is applied", trigger.name, target.name),
            format!(
                "ALTER TABLE {table} DISABLE TRIGGER {name}; after the turn: ALTER TABLE {table} {}",
                enable("TRIGGER", trigger.firing, &name)
            ),
        ));
    }
    for rule in target.rules.iter().filter(|rule| fires(rule.firing)) {
        let name = quote::identifier(&rule.name);
        findings.push(critical(
            "CK068",
            target,
            format!("rule \"{}\" of table \"{}\" works while the stream is applied", rule.name, target.name),
            format!(
                "ALTER TABLE {table} DISABLE RULE {name}; after the turn: ALTER TABLE {table} {}",
                enable("RULE", rule.firing, &name)
            ),
        ));
    }
    if enforced {
        look_at_foreign_keys(target, findings);
    }
}

fn look_at_foreign_keys(target: &TargetTable, findings: &mut Vec<Finding>) {
    for key in target.foreign_keys.iter().filter(|key| !key.inherited) {
        // A key between two tables is known to both; the referencing one speaks, or the other where it is not carried.
        let (table, name) = (quote::table(&key.table), quote::identifier(&key.name));
        if key.has_actions {
            findings.push(critical(
                "CK069",
                target,
                format!("foreign key \"{}\" of table \"{}\" changes rows by itself", key.name, key.table),
                format!(
                    "ALTER TABLE {table} DROP CONSTRAINT {name}; after the turn: \
                     ALTER TABLE {table} ADD CONSTRAINT {name} {}",
                    key.definition
                ),
            ));
        } else if !key.deferrable && key.table == target.name {
            findings.push(Finding {
                code: "CK070",
                severity: Severity::Warning,
                subject: target.name.to_string(),
                what: format!("foreign key \"{}\" of table \"{}\" is not deferrable", key.name, key.table),
                why: "it is checked after each statement; tables that reference each other may then refuse rows \
                      that the source took"
                    .to_owned(),
                fix: format!("ALTER TABLE {table} ALTER CONSTRAINT {name} DEFERRABLE"),
            });
        }
    }
}

fn enable(what: &str, firing: Firing, name: &str) -> String {
    match firing {
        Firing::Always => format!("ENABLE ALWAYS {what} {name}"),
        Firing::Replica => format!("ENABLE REPLICA {what} {name}"),
        Firing::Origin | Firing::Disabled => format!("ENABLE {what} {name}"),
    }
}

fn critical(code: &'static str, target: &TargetTable, what: String, fix: String) -> Finding {
    Finding {
        code,
        severity: Severity::Critical,
        subject: target.name.to_string(),
        what,
        why: "it would change rows of the target that the source did not change".to_owned(),
        fix,
    }
}
