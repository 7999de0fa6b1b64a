//! Removing what is listed.

use tidegate_connect::{Session, Settings};
use tidegate_model::{MigrationName, Problem};
use tokio::time::Instant;
use tokio_postgres::Error;
use tracing::info;

use super::inventory::failed;
use super::{Removal, RemovalKind, inventory};
use crate::fence::{OnWait, give_back, make_writable, take_down};
use crate::retry;
use crate::state::{StateSchema, tables};

/// Removes what a migration left in a database, and returns what that was. The pipelines must have ended: a slot in
/// use is not dropped. May be repeated, also after a crash half-way. The origins of a cluster that has several
/// databases are those of this migration's name in any of them.
pub async fn remove(
    settings: &Settings,
    schema: &StateSchema,
    name: &MigrationName,
    until: Instant,
    on_wait: OnWait<'_>,
) -> Result<Vec<Removal>, Problem> {
    let session = Session::connect(settings, &name.application_name("finish")).await?;
    let found = inventory(&session, schema, name).await?;
    let has = |kind| found.iter().any(|removal| removal.kind == kind);
    if has(RemovalKind::FenceTriggers) {
        take_down(settings, name, until, on_wait).await?;
    }
    if has(RemovalKind::Grants) {
        give_back(&session, schema, name).await?;
    }
    if has(RemovalKind::ReadOnly) {
        make_writable(&session, schema, name).await?;
    }
    for removal in &found {
        if let Some(sql) = &removal.sql {
            run(&session, sql).await?;
        }
        if removal.kind == RemovalKind::StateRows {
            remove_rows(&session, schema, name).await?;
        }
        info!(kind = %removal.kind, name = removal.name, "removed");
    }
    Ok(found)
}

/// What is there already, or gone already, was done by an attempt before this one.
async fn run(session: &Session, sql: &str) -> Result<(), Problem> {
    retry::repeatable(|| async {
        match session.batch_execute(sql).await {
            Err(error) if is_done(&error) => Ok(()),
            other => other.map_err(failed(sql)),
        }
    })
    .await
}

fn is_done(error: &Error) -> bool {
    // duplicate_object, duplicate_table (also an index), undefined_object.
    error.code().is_some_and(|state| ["42710", "42P07", "42704"].contains(&state.code()))
}

/// The migration's own row goes last.
async fn remove_rows(session: &Session, schema: &StateSchema, name: &MigrationName) -> Result<(), Problem> {
    for table in tables(session, schema).await? {
        let sql = format!("DELETE FROM {} WHERE migration = $1", schema.table(&table));
        retry::repeatable(|| async {
            session.execute(&sql, &[&name.as_str()]).await.map_err(failed("remove rows of the state"))
        })
        .await?;
    }
    Ok(())
}
