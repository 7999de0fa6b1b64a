//! Ending walsenders of ours that outlived their client: one that waits for a lock, or for WAL to decode, does not
//! notice that nobody listens any more.

use std::time::Duration;

use tidegate_connect::Session;
use tidegate_model::{MigrationName, Problem};
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use tracing::{info, warn};

use super::{ROLE_SLOT, ROLE_STREAM, WALSENDER_END_WAIT, refusal};
use crate::problem;

/// Ends the walsender `pid` if it is this migration's, and waits until it has gone; otherwise says whose it is.
///
/// Called only by the owner of the stream: whoever else ran under this name has been displaced.
pub(crate) async fn release(session: &Session, name: &MigrationName, slot: &str, pid: i32) -> Result<(), Problem> {
    let sql = "SELECT coalesce(application_name, ''), coalesce(usename::text, ''), coalesce(client_addr::text, 'local')
                 FROM pg_stat_activity WHERE pid = $1";
    let row = session.query_opt(sql, &[&pid]).await.map_err(|e| problem::sql("looking at a walsender", e))?;
    let Some(row) = row else { return Ok(()) };
    let application: String = row.get(0);
    if ![ROLE_SLOT, ROLE_STREAM].iter().any(|role| application == name.application_name(role)) {
        let (user, client): (String, String) = (row.get(1), row.get(2));
        let by = format!("process {pid} serves application \"{application}\" of role \"{user}\" ({client})");
        return Err(refusal::in_use(slot, &by));
    }
    end(session, pid, &application).await
}

/// Ends every walsender that makes a slot for this migration: leftovers of a process that was killed while it waited.
pub(super) async fn end_makers(session: &Session, name: &MigrationName) -> Result<(), Problem> {
    let application = name.application_name(ROLE_SLOT);
    let sql = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walsender' AND application_name = $1";
    let rows = session.query(sql, &[&application]).await.map_err(|e| problem::sql("looking for walsenders", e))?;
    for row in rows {
        end(session, row.get(0), &application).await?;
    }
    Ok(())
}

/// Ends the walsender `pid`, provided that it still bears this application name, and waits until it has gone.
pub(super) async fn end(session: &Session, pid: i32, application: &str) -> Result<(), Problem> {
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                      WHERE pid = $1 AND backend_type = 'walsender' AND application_name = $2";
    match session.query(terminate, &[&pid, &application]).await {
        Ok(rows) if rows.is_empty() => return Ok(()),
        Ok(_) => info!(pid, application, "walsender of an earlier attempt ended"),
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            warn!(pid, application, "no right to end a walsender of ours");
            return Err(refusal::walsender_left(pid, "the role of this session may not end it").caused_by(error));
        }
        Err(error) => return Err(problem::sql("ending a walsender", error)),
    }
    let deadline = Instant::now() + WALSENDER_END_WAIT;
    loop {
        let alive = "SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND backend_type = 'walsender'";
        let rows =
            session.query(alive, &[&pid]).await.map_err(|e| problem::sql("waiting for a walsender to end", e))?;
        if rows.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(refusal::walsender_left(pid, "it was told to end and has not within 10 s"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
