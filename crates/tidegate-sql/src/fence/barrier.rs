//! The barrier behind a fence that is not made of triggers.

use tidegate_connect::Settings;
use tidegate_model::Problem;
use tokio::time::Instant;

use super::locks::{Locker, Refused};
use super::members::{Member, members};
use super::problem::given_up;
use super::{FenceOrder, Fenced, OnWait};
use crate::quote;

/// Waits until every transaction is over that has written to the tables so far: locks each of them for a moment. What
/// stops the writers that come after must stand already. PostgreSQL only.
pub async fn barrier(settings: &Settings, order: &FenceOrder, on_wait: OnWait<'_>) -> Result<Fenced, Problem> {
    let locker = Locker::connect(settings, &order.name, order.lock_timeout, order.until).await?;
    let found = members(locker.session(), &order.tables).await?;
    let blocked_since = Instant::now();
    for group in found.chunks(order.group_size.max(1)) {
        locker.run(&lock_sql(group), on_wait).await.map_err(|refused| refused.or_given_up(order))?;
    }
    Ok(Fenced { blocked_since, tables: found.into_iter().map(|member| member.table).collect() })
}

/// Returns the statement that waits for everybody who has written to these tables. Readers go on.
pub(super) fn lock_sql(group: &[Member]) -> String {
    let names: Vec<String> = group.iter().map(|member| format!("ONLY {}", quote::table(&member.table))).collect();
    format!("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", names.join(", "))
}

impl Refused {
    pub(super) fn or_given_up(self, order: &FenceOrder) -> Problem {
        match self {
            Refused::Guarded => given_up(&order.name, &order.turn),
            Refused::Problem(problem) => problem,
        }
    }
}
