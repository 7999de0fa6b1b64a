//! Tests of the planner without a server.

mod contests;
mod fixture;
mod history;
mod interpreter;
mod random;
mod rules;
mod sql_text;

use tidegate_model::{Change, TableRoute};

use super::{Plan, Planner, SessionRights, SliceLimit};
use crate::dialect::Dialect;

const REPLICA: SessionRights = SessionRights { foreign_keys_enforced: false };
const ENFORCED: SessionRights = SessionRights { foreign_keys_enforced: true };
const UNLIMITED: SliceLimit = SliceLimit { bytes: u64::MAX, changes: u64::MAX };

fn on_postgres(routes: Vec<TableRoute>, rights: SessionRights) -> Planner {
    Planner::new(routes, rights, Dialect::Postgres)
}

fn on_cockroach(routes: Vec<TableRoute>) -> Planner {
    Planner::new(routes, ENFORCED, Dialect::Cockroach)
}

/// Plans all changes at once, each one a transaction of its own.
fn plan(planner: &mut Planner, changes: Vec<Change>) -> Plan {
    let mut changes =
        changes.into_iter().enumerate().map(|(index, change)| Ok((fixture::at(index as u64 + 1), change)));
    planner.slice(&mut changes, UNLIMITED).unwrap().expect("there were changes")
}
