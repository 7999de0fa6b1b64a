//! What may go wrong while nothing streams yet: the history that the stream will need is given up.

use std::time::Duration;

use tidegate_connect::Session;
use tidegate_model::{Position, Problem, TableName};
use tidegate_source_cockroach::{History, history};
use tokio::time::sleep;
use tracing::warn;

use super::super::Flow;

const HISTORY_EVERY: Duration = Duration::from_secs(5);

/// Asks again and again whether a feed could still begin at `at`, and returns the refusal when it could not.
pub(super) async fn history(flow: Flow<'_>, stored: &History, tables: &[TableName], at: &Position) -> Problem {
    loop {
        match verify(flow, stored, tables, at).await {
            Ok(()) => {}
            Err(problem) if problem.class == tidegate_model::Class::Transient => {
                warn!(error = %problem.why, "the source's history cannot be looked at");
            }
            Err(refused) => return refused,
        }
        sleep(HISTORY_EVERY).await;
    }
}

async fn verify(flow: Flow<'_>, stored: &History, tables: &[TableName], at: &Position) -> Result<(), Problem> {
    let name = &flow.migration.name;
    let session = Session::connect(&flow.from().settings, &name.application_name("history")).await?;
    history::verify(&session, name, stored, at, tables).await
}
