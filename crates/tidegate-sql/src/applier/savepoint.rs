//! Attempts inside a transaction that is open: each behind a savepoint, so that a refusal takes back nothing else.

use std::sync::Arc;

use super::connection::Connection;
use super::exchange::{Exchange, Step};
use super::failure::Failure;
use crate::plan::Plan;

/// Writes a plan, behind a savepoint. Where it is refused, [`take_back`] must follow before anything else is sent.
pub(super) async fn write_plan(connection: &mut Connection, plan: &Arc<Plan>) -> Result<(), Failure> {
    let savepoint = format!("SAVEPOINT slice{}", connection.renew_plans());
    text(connection, savepoint).await?;
    connection.next_round();
    for (index, statement) in plan.statements.iter().enumerate() {
        let prepared = connection.prepare(&statement.sql).await;
        prepared.map_err(|error| connection.failure(Step::Statement(index), error))?;
    }
    let mut exchange = Exchange::default();
    let mut sent = true;
    for index in 0..plan.statements.len() {
        sent = sent && connection.send_planned(&mut exchange, plan, index).await;
    }
    if sent {
        connection.send_text(&mut exchange, Step::Savepoint, "RELEASE SAVEPOINT slice").await;
    }
    exchange.outcome().await.map_err(|(step, error)| connection.failure(step, error))
}

/// Takes back what came behind the last savepoint.
pub(super) async fn take_back(connection: &mut Connection) -> Result<(), Failure> {
    text(connection, "ROLLBACK TO SAVEPOINT slice").await
}

/// Sends a text and waits for its answer.
async fn text(connection: &mut Connection, sql: impl Into<String>) -> Result<(), Failure> {
    let mut exchange = Exchange::default();
    connection.send_text(&mut exchange, Step::Savepoint, sql).await;
    exchange.outcome().await.map_err(|(step, error)| connection.failure(step, error))
}
