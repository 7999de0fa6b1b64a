//! The end of a migration, as its row says it.

use tidegate_connect::Session;
use tidegate_model::{MigrationName, Problem};

use super::inventory::failed;
use crate::retry;
use crate::state::{StateSchema, read_migration};

/// Says in a database that the migration is over: nobody runs it or turns it any more. May be repeated; a database that
/// does not know it is left alone. `FI002`: a turn has begun there.
pub async fn declare_over(session: &Session, schema: &StateSchema, name: &MigrationName) -> Result<(), Problem> {
    let Some(row) = read_migration(session, schema, name).await? else { return Ok(()) };
    if row.phase == "final" {
        return Ok(());
    }
    let sql = format!(
        "UPDATE {} SET phase = 'final' WHERE migration = $1 AND generation = $2 AND coalesce(turning, '') = $3",
        schema.table("migration")
    );
    // What was read is what is replaced: a turn that begins meanwhile changes it.
    let turning = row.turning.unwrap_or_default();
    if !turning.is_empty() && !turning.starts_with("aborted ") {
        return Err(turn_has_begun(name, &turning));
    }
    let ended = retry::repeatable(|| async {
        session.execute(&sql, &[&name.as_str(), &row.generation, &turning]).await.map_err(failed("say that it is over"))
    });
    if ended.await? == 1 { Ok(()) } else { Err(turn_has_begun(name, "something else than a moment ago")) }
}

fn turn_has_begun(name: &MigrationName, turning: &str) -> Problem {
    Problem::definite(
        "FI002",
        format!("migration \"{name}\" cannot be finished: a turn has begun"),
        format!("the database says \"{turning}\""),
        format!("let it end, or undo it; see tidegate status --name {name}"),
    )
}
