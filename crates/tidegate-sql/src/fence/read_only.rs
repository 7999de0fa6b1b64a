//! The fence by `default_transaction_read_only`: what drivers with `target_session_attrs=read-write` understand, and
//! nothing that a session could not switch off again for itself.
//!
//! New sessions of the database are read only; those that are open are ended, because the setting reaches none of
//! them. It holds as long as nobody sets it otherwise: what is written in spite of it arrives behind the marker and is
//! a breach. A fence of triggers refuses such a write.

use std::time::Duration;

use tidegate_connect::{Session, Settings};
use tidegate_model::{MigrationName, Problem};
use tokio::time::{Instant, sleep};
use tokio_postgres::error::SqlState;

use super::problem::{failed, too_late};
use super::record::raise;
use super::{FenceOrder, Fenced, OnWait};
use crate::quote;
use crate::state::StateSchema;

const SETTING: &str = "default_transaction_read_only";
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Who is not reached by the setting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadOnly {
    /// Server processes of other sessions that this role may not end.
    pub survivors: Vec<i32>,
    /// Roles that have a setting of their own, which goes before that of the database.
    pub roles: Vec<String>,
}

/// Makes the database read only, ends the other sessions in it, and waits for all who have written. PostgreSQL only;
/// the role must own the database. Safe to repeat. Problems are those of [`super::put_up`].
pub async fn make_read_only(
    settings: &Settings,
    schema: &StateSchema,
    order: &FenceOrder,
    on_wait: OnWait<'_>,
) -> Result<(Fenced, ReadOnly), Problem> {
    let session = Session::connect(settings, &order.name.application_name("fence")).await?;
    raise(&session, schema, order).await?;
    remember(&session, schema, order).await?;
    let blocked_since = Instant::now();
    set(&session, "SET default_transaction_read_only = on").await?;
    let survivors = end_others(&session, order).await?;
    let fenced = super::barrier(settings, order, on_wait).await?;
    Ok((Fenced { blocked_since, ..fenced }, ReadOnly { survivors, roles: roles_of_their_own(&session).await? }))
}

/// Undoes [`make_read_only`]: the setting is what it was. May be repeated.
pub async fn make_writable(session: &Session, schema: &StateSchema, name: &MigrationName) -> Result<(), Problem> {
    let grants = schema.table("fence_grant");
    let sql = format!("SELECT privilege FROM {grants} WHERE migration = $1 AND target_table = ''");
    let row = session.query_opt(&sql, &[&name.as_str()]).await.map_err(failed("read what the setting was"))?;
    let Some(row) = row else { return Ok(()) };
    match row.get::<_, &str>(0) {
        "" => set(session, "RESET default_transaction_read_only").await?,
        value => set(session, &format!("SET default_transaction_read_only = {}", quote::literal(value))).await?,
    }
    let sql = format!("DELETE FROM {grants} WHERE migration = $1 AND target_table = ''");
    session.execute(&sql, &[&name.as_str()]).await.map_err(failed("forget what the setting was"))?;
    Ok(())
}

/// Writes down what the setting was before the first attempt.
async fn remember(session: &Session, schema: &StateSchema, order: &FenceOrder) -> Result<(), Problem> {
    let sql = format!(
        "INSERT INTO {0} (migration, turn, target_table, target_column, grantee, privilege, grantable) \
         SELECT $1, $2, '', '', '', coalesce((SELECT split_part(s.setting, '=', 2) \
         FROM pg_catalog.pg_db_role_setting r, unnest(r.setconfig) AS s (setting) \
         WHERE r.setrole = 0 AND r.setdatabase = (SELECT oid FROM pg_catalog.pg_database \
         WHERE datname = current_database()) AND s.setting LIKE '{SETTING}=%'), ''), false \
         WHERE NOT EXISTS (SELECT FROM {0} WHERE migration = $1 AND target_table = '')",
        schema.table("fence_grant")
    );
    let name = order.name.as_str();
    session.execute(&sql, &[&name, &order.turn]).await.map_err(failed("record what the setting was"))?;
    Ok(())
}

async fn set(session: &Session, what: &str) -> Result<(), Problem> {
    let row = session.query_one("SELECT current_database()::text", &[]).await.map_err(failed("name the database"))?;
    let sql = format!("ALTER DATABASE {} {what}", quote::identifier(row.get(0)));
    session.batch_execute(&sql).await.map_err(failed("set default_transaction_read_only"))
}

/// Ends the sessions of others, and waits until they are gone; returns those that it may not end.
async fn end_others(session: &Session, order: &FenceOrder) -> Result<Vec<i32>, Problem> {
    let sql = "SELECT pid FROM pg_catalog.pg_stat_activity WHERE datname = current_database() \
               AND backend_type = 'client backend' AND pid <> pg_catalog.pg_backend_pid() \
               AND application_name NOT LIKE $1 AND backend_start < $2::text::timestamptz";
    let ours = format!("tidegate/{}/%", order.name);
    let row = session.query_one("SELECT clock_timestamp()::text", &[]).await.map_err(failed("read the clock"))?;
    let before: String = row.get(0);
    let mut survivors: Vec<i32> = Vec::new();
    loop {
        let rows = session.query(sql, &[&ours, &before]).await.map_err(failed("list the other sessions"))?;
        let others: Vec<i32> = rows.iter().map(|row| row.get(0)).filter(|pid| !survivors.contains(pid)).collect();
        if others.is_empty() {
            return Ok(survivors);
        }
        if Instant::now() >= order.until {
            return Err(too_late(&[]));
        }
        for pid in others {
            match session.execute("SELECT pg_catalog.pg_terminate_backend($1)", &[&pid]).await {
                Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => survivors.push(pid),
                ended => drop(ended.map_err(failed("end the other sessions"))?),
            }
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn roles_of_their_own(session: &Session) -> Result<Vec<String>, Problem> {
    let sql = format!(
        "SELECT DISTINCT pg_catalog.pg_get_userbyid(r.setrole)::text FROM pg_catalog.pg_db_role_setting r, \
         unnest(r.setconfig) AS s (setting) WHERE r.setrole <> 0 AND s.setting LIKE '{SETTING}=%' \
         AND r.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())) \
         ORDER BY 1"
    );
    let rows = session.query(&sql, &[]).await.map_err(failed("read settings of roles"))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
