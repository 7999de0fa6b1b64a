//! Foreign keys around the load. The record is written before the key is dropped, because a schema change takes no part
//! in a transaction: a record of a key that is still there only means that nothing has to be brought back.

use std::collections::BTreeSet;

use tidegate_connect::Session;
use tidegate_model::{Problem, TableMap, TableName};
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::catalog::cockroach::{ForeignKeyRow, foreign_keys};
use crate::copy::objects::{self, Kind, Missing, Object};
use crate::copy::problem;
use crate::copy::session::Sessions;
use crate::quote;
use crate::retry;
use crate::state::under_lease;

/// Takes away the foreign keys of tables being loaded, and of tables of the stream that refer to one being loaded.
pub(in crate::copy) async fn take_away(
    sessions: &Sessions,
    stream: &[TableMap],
    loading: &[TableMap],
) -> Result<(), Problem> {
    let names = |maps: &[TableMap]| -> BTreeSet<TableName> { maps.iter().map(|map| map.target.clone()).collect() };
    let (stream, loading) = (names(stream), names(loading));
    if loading.is_empty() {
        return Ok(());
    }
    let session = sessions.take().await?;
    for row in foreign_keys(&session).await? {
        let key = &row.key;
        let concerned =
            loading.contains(&key.table) || stream.contains(&key.table) && loading.contains(&key.references);
        if concerned {
            take_one_away(sessions, &session, &object(&row)).await?;
        }
    }
    sessions.give(session);
    Ok(())
}

fn object(row: &ForeignKeyRow) -> Object {
    let key = &row.key;
    // One that was not valid before the load stays so.
    let not_valid = if row.validated { "" } else { " NOT VALID" };
    let definition = format!(
        "ALTER TABLE {} ADD CONSTRAINT {} {}{not_valid}",
        quote::table(&key.table),
        quote::identifier(&key.name),
        key.definition
    );
    Object { table: key.table.clone(), kind: Kind::ForeignKey, name: key.name.clone(), definition }
}

async fn take_one_away(sessions: &Sessions, session: &Session, object: &Object) -> Result<(), Problem> {
    let failed = |error: Error| problem::target("record a foreign key")(error);
    under_lease(session, sessions.lease(), "", failed, || async {
        objects::record_dropped(session, sessions, object).await.map_err(failed)
    })
    .await?;
    let table = quote::table(&object.table);
    let drop = format!("ALTER TABLE {table} DROP CONSTRAINT {}", quote::identifier(&object.name));
    let dropped = retry::repeatable(|| async {
        match session.batch_execute(&drop).await {
            // An attempt whose answer was lost has done it.
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_OBJECT) => Ok(()),
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                Err(problem::foreign_key_in_the_way(&object.table, &object.name, &drop))
            }
            other => other.map_err(problem::target("take a foreign key away for the load")),
        }
    });
    dropped.await
}

/// Brings foreign keys back: first not validated, then validated.
pub(in crate::copy) async fn restore(sessions: &Sessions) -> Result<(), Problem> {
    for missing in objects::missing(sessions, Kind::ForeignKey, None).await? {
        let session = sessions.take().await?;
        restore_one(sessions, &session, &missing).await?;
        let failed = |error: Error| problem::target("record that something is back")(error);
        under_lease(&session, sessions.lease(), "", failed, || async {
            objects::record_restored(&session, sessions, &missing.table, Kind::ForeignKey, &missing.name).await
        })
        .await?;
        sessions.give(session);
    }
    Ok(())
}

async fn restore_one(sessions: &Sessions, session: &Session, missing: &Missing) -> Result<(), Problem> {
    let (definition, stays_invalid) = match missing.definition.strip_suffix(" NOT VALID") {
        Some(definition) => (definition, true),
        None => (missing.definition.as_str(), false),
    };
    // Nobody but the owner brings keys back while tables may still be loaded.
    let failed = |error: Error| problem::target("check the owner")(error);
    under_lease(session, sessions.lease(), "", failed, || async { Ok(()) }).await?;
    let add = format!("{definition} NOT VALID");
    let added = retry::repeatable(|| async {
        match session.batch_execute(&add).await {
            Err(error) if error.code() == Some(&SqlState::DUPLICATE_OBJECT) => Ok(()),
            other => other.map_err(|error| problem::not_restored(&missing.table, &add, error)),
        }
    });
    added.await?;
    if stays_invalid {
        return Ok(());
    }
    tracing::info!(table = missing.table, name = missing.name, "validating a foreign key");
    let table = objects::table_sql(missing);
    let sql = format!("ALTER TABLE {table} VALIDATE CONSTRAINT {}", quote::identifier(&missing.name));
    let validated = retry::repeatable(|| async {
        let broken = |error| problem::foreign_key_broken(&missing.table, &missing.name, error);
        session.batch_execute(&sql).await.map_err(broken)
    });
    validated.await
}
