//! Tables that refer to each other in a circle.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tidegate_model::TableName;

use crate::catalog::TargetTable;

/// Returns each group of tables in which every one refers to every other, over however many steps. A table that only
/// refers to itself is none: a statement is checked when all its rows are written.
pub(super) fn cycles(targets: &HashMap<TableName, TargetTable>) -> Vec<Vec<TableName>> {
    let references: BTreeMap<&TableName, Vec<TableName>> =
        targets.iter().map(|(name, table)| (name, table.references())).collect();
    let reach: BTreeMap<&TableName, BTreeSet<TableName>> =
        references.keys().map(|name| (*name, reached(name, &references))).collect();
    let mut groups = Vec::new();
    let mut seen = BTreeSet::new();
    for (name, there) in &reach {
        let both_ways = |other: &&TableName| reach.get(*other).is_some_and(|back| back.contains(*name));
        let group: Vec<TableName> = there.iter().filter(|other| other != name).filter(both_ways).cloned().collect();
        if group.is_empty() || seen.contains(*name) {
            continue;
        }
        let mut group = group;
        group.push((*name).clone());
        group.sort();
        seen.extend(group.iter().cloned());
        groups.push(group);
    }
    groups
}

fn reached(from: &TableName, references: &BTreeMap<&TableName, Vec<TableName>>) -> BTreeSet<TableName> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from.clone()];
    while let Some(name) = open.pop() {
        for next in references.get(&name).into_iter().flatten() {
            if reached.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    reached
}
