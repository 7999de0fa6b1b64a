//! What would change rows of the target behind the plan: triggers, rules, and foreign keys with actions.
//!
//! A folded batch and ON DELETE CASCADE lose a child without a word, and a trigger that writes makes rows that no
//! source ever had. Under `session_replication_role = replica` the ordinary ones rest.

use tidegate_model::{Finding, Severity};

use crate::catalog::TargetTable;
use crate::dialect::Dialect;
use crate::plan::SessionRights;
use crate::quote;
use crate::triggers::{TargetObject, active_objects};

/// Looks at one table.
pub(super) fn look(target: &TargetTable, rights: SessionRights, dialect: Dialect, findings: &mut Vec<Finding>) {
    findings.extend(active_objects(target, rights, dialect).iter().map(|object| active(target, object)));
    // At CockroachDB no foreign key is deferrable: only cycles of them matter.
    if rights.foreign_keys_enforced && !dialect.is_cockroach() {
        look_for_undeferrable(target, findings);
    }
}

fn active(target: &TargetTable, object: &TargetObject) -> Finding {
    let (code, what, does) = match object.kind {
        "trigger" => ("CK067", "trigger", "fires while the stream is applied"),
        "rule" => ("CK068", "rule", "works while the stream is applied"),
        _ => ("CK069", "foreign key", "changes rows by itself"),
    };
    Finding {
        code,
        severity: Severity::Critical,
        subject: target.name.to_string(),
        what: format!("{what} \"{}\" of table \"{}\" {does}", object.name, object.table),
        why: "it would change rows of the target that the source did not change".to_owned(),
        fix: format!("{}; after the turn: {}", object.away, object.back),
    }
}

fn look_for_undeferrable(target: &TargetTable, findings: &mut Vec<Finding>) {
    let own = target.foreign_keys.iter().filter(|key| key.table == target.name && !key.inherited);
    for key in own.filter(|key| !key.deferrable && !key.has_actions) {
        findings.push(Finding {
            code: "CK070",
            severity: Severity::Warning,
            subject: target.name.to_string(),
            what: format!("foreign key \"{}\" of table \"{}\" is not deferrable", key.name, key.table),
            why: "it is checked after each statement; tables that reference each other may then refuse rows that the \
                  source took"
                .to_owned(),
            fix: format!(
                "ALTER TABLE {} ALTER CONSTRAINT {} DEFERRABLE",
                quote::table(&key.table),
                quote::identifier(&key.name)
            ),
        });
    }
}
