//! The row that remembers a fence: its secret, its turn, and whether it still stands.
//!
//! The secret is one for each migration and database, and made before the first fence: the applier's sessions are open
//! by the time that a fence goes up. It is made by the server and compared by the server, and never leaves it.

use tidegate_connect::Session;
use tidegate_model::{MigrationName, Problem};

use super::problem::{failed, given_up};
use super::{FenceOrder, LOCK_TIMEOUT};
use crate::retry;
use crate::state::StateSchema;

/// What is remembered of a fence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FenceRow {
    /// The turn that it was last put up for.
    pub turn: Option<String>,
    /// The generation that ends it.
    pub opens_at: Option<i64>,
    /// Whether it was put up, or begun to be, and not given up since.
    pub is_up: bool,
}

/// Lets a session of ours through the fence of this database, whether one stands or not. Where the server knows no
/// such fence (CockroachDB) there is nothing to do.
pub async fn let_through(session: &Session, schema: &StateSchema, name: &MigrationName) -> Result<(), Problem> {
    if session.is_cockroach() {
        return Ok(());
    }
    remember(session, schema, name).await?;
    // The secret goes from the table into the setting: no statement and no parameter has it in it.
    let sql = format!(
        "SELECT pg_catalog.set_config('tidegate.pass', secret, false) IS NULL FROM {} WHERE migration = $1",
        schema.table("fence")
    );
    session.query_one(&sql, &[&name.as_str()]).await.map_err(failed("pass through it"))?;
    Ok(())
}

/// Makes the row, where there is none.
async fn remember(session: &Session, schema: &StateSchema, name: &MigrationName) -> Result<(), Problem> {
    let fence = schema.table("fence");
    // Looked for first: most sessions only read.
    let sql = format!("SELECT count(*) FROM {fence} WHERE migration = $1");
    let found = session.query_one(&sql, &[&name.as_str()]).await.map_err(failed("look for its secret"))?;
    if found.get::<_, i64>(0) > 0 {
        return Ok(());
    }
    let sql = format!(
        "INSERT INTO {fence} (migration, secret, state) VALUES ($1, gen_random_uuid()::text, 'down') \
         ON CONFLICT (migration) DO NOTHING"
    );
    session.execute(&sql, &[&name.as_str()]).await.map_err(failed("make its secret"))?;
    Ok(())
}

/// Records that a fence goes up for a turn. Fails where it was given up for that turn, where a later turn has one, or
/// where another turn has begun: after an abort the generation is the same, and only that tells who is late.
pub(super) async fn raise(session: &Session, schema: &StateSchema, order: &FenceOrder) -> Result<(), Problem> {
    let sql = format!(
        "INSERT INTO {} AS f (migration, secret, turn, opens_at, state, write_to) \
         SELECT $1::text, gen_random_uuid()::text, $2::text, $3::INT8, 'up', $4::text \
         WHERE NOT EXISTS (SELECT 1 FROM {} AS m WHERE m.migration = $1 AND m.turning IS NOT NULL \
         AND m.turning NOT IN (concat('begun ', $2::text), concat('turning ', $2::text))) \
         ON CONFLICT (migration) DO UPDATE \
         SET turn = excluded.turn, opens_at = excluded.opens_at, state = 'up', write_to = excluded.write_to \
         WHERE f.turn IS NULL OR f.turn = excluded.turn AND f.state = 'up' \
         OR f.turn <> excluded.turn AND coalesce(f.opens_at, 0) <= excluded.opens_at",
        schema.table("fence"),
        schema.table("migration")
    );
    let (name, opens_at) = (order.name.as_str(), order.opens_at());
    let raised = retry::repeatable(|| async {
        let written = session.execute(&sql, &[&name, &order.turn, &opens_at, &order.write_to]).await;
        written.map_err(failed("record it"))
    });
    if raised.await? == 1 { Ok(()) } else { Err(given_up(&order.name, &order.turn)) }
}

/// Gives a fence up: from now on its triggers let everybody through, and it cannot be put up again for this turn. The
/// one write that an abort needs before the application can go on. May be repeated; a fence of another turn stays.
pub async fn give_up(session: &Session, schema: &StateSchema, name: &MigrationName, turn: &str) -> Result<(), Problem> {
    // A turn that was given up before it had a fence must not get one from whoever is late.
    let sql = format!(
        "INSERT INTO {} AS f (migration, secret, turn, state) VALUES ($1, gen_random_uuid()::text, $2, 'down') \
         ON CONFLICT (migration) DO UPDATE SET turn = excluded.turn, state = 'down' \
         WHERE f.turn = excluded.turn OR f.state = 'down'",
        schema.table("fence")
    );
    retry::repeatable(|| async { session.execute(&sql, &[&name.as_str(), &turn]).await.map_err(failed("give it up")) })
        .await?;
    Ok(())
}

/// Reads what is remembered of a fence; `None` where there never was one.
pub async fn read_fence(
    session: &Session,
    schema: &StateSchema,
    name: &MigrationName,
) -> Result<Option<FenceRow>, Problem> {
    let sql = format!("SELECT turn, opens_at, state FROM {} WHERE migration = $1", schema.table("fence"));
    let row = retry::repeatable(|| async {
        session.query_opt(&sql, &[&name.as_str()]).await.map_err(failed("read its record"))
    });
    Ok(row.await?.map(|row| FenceRow { turn: row.get(0), opens_at: row.get(1), is_up: row.get::<_, &str>(2) == "up" }))
}

/// Returns SQL that raises a division by zero unless the fence goes up for this turn: whoever is late must not put it
/// up behind an abort. Holds the row, so that giving up waits for the group that is being fenced.
pub(super) fn guard_sql(schema: &StateSchema, order: &FenceOrder) -> String {
    format!(
        "SELECT 1 / count(*) FROM (SELECT 1 FROM {} WHERE migration = '{}' AND turn = {} AND state = 'up' FOR SHARE) \
         AS mine; ",
        schema.table("fence"),
        order.name,
        crate::quote::literal(&order.turn)
    )
}

/// Returns how long a lock is waited for where no order says it.
pub(super) fn lock_timeout() -> std::time::Duration {
    LOCK_TIMEOUT
}
