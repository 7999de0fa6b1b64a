//! The fence by privileges: writing is revoked from everybody else, recorded, and given back.
//!
//! What was revoked stands in `fence_grant`, in the database itself. At PostgreSQL it is written in the transaction of
//! the revoke; at CockroachDB, where a schema change takes no part in a transaction, before it. A grant that is given
//! back twice does no harm.

mod cockroach;
mod postgres;

use std::collections::BTreeMap;
use std::fmt;

use tidegate_connect::{Session, Settings};
use tidegate_model::{MigrationName, Problem, TableName};
use tokio::time::Instant;

use super::problem::failed;
use super::record::raise;
use super::{FenceOrder, Fenced, OnWait};
use crate::state::StateSchema;
use crate::{quote, retry};

/// A role that can still write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unrevoked {
    /// Its name.
    pub role: String,
    /// What it writes by.
    pub why: Why,
}

/// Why a revoke does not reach a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// PostgreSQL: a superuser. CockroachDB: `admin`, `root`, or a member of `admin`.
    Administrator,
    /// CockroachDB: it owns one of the tables, which no revoke changes. Another owner would be needed.
    Owner,
    /// CockroachDB: it has a privilege that our role could not see, or not revoke.
    Granted,
    /// PostgreSQL: it may do what our own role may, or is a member of `pg_write_all_data`.
    Member,
}

impl fmt::Display for Unrevoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.why {
            Why::Administrator => "is an administrator",
            Why::Owner => "owns a table",
            Why::Granted => "keeps its privileges, which the role of the applier cannot revoke: let it own the tables",
            Why::Member => "is a member of a role that may write",
        };
        write!(f, "\"{}\" {why}", self.role)
    }
}

const GONE: [&str; 3] = ["42P01", "42704", "42703"];

/// One privilege of a role. `column` is empty for the whole table.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Grant {
    table: TableName,
    column: String,
    grantee: String,
    privilege: String,
    grantable: bool,
}

/// Revokes writing from everybody but our own role, and at PostgreSQL waits for all who have written. Returns who can
/// still write: with any of them among the application's roles this is no fence. Safe to repeat. Problems are those of
/// [`super::put_up`]; `FN005`: a privilege that its table's owner did not grant.
pub async fn put_up_by_revoke(
    settings: &Settings,
    schema: &StateSchema,
    order: &FenceOrder,
    on_wait: OnWait<'_>,
) -> Result<(Fenced, Vec<Unrevoked>), Problem> {
    let session = Session::connect(settings, &order.name.application_name("fence")).await?;
    raise(&session, schema, order).await?;
    let blocked_since = Instant::now();
    if session.is_cockroach() {
        cockroach::revoke(&session, schema, order).await?;
        let tables = order.tables.clone();
        return Ok((Fenced { blocked_since, tables }, cockroach::still_writing(&session, &order.tables).await?));
    }
    let tables = postgres::revoke(&session, schema, order).await?;
    super::barrier(settings, order, on_wait).await?;
    Ok((Fenced { blocked_since, tables }, unrevoked(&session, &order.tables).await?))
}

/// Returns who could still write to the tables if writing were revoked from everybody but our own role.
pub async fn unrevoked(session: &Session, tables: &[TableName]) -> Result<Vec<Unrevoked>, Problem> {
    if session.is_cockroach() {
        cockroach::unrevoked(session, tables).await
    } else {
        postgres::unrevoked(session).await
    }
}

/// Gives back what was revoked, to roles and tables that are still there, and forgets it. May be repeated.
pub async fn give_back(session: &Session, schema: &StateSchema, name: &MigrationName) -> Result<(), Problem> {
    for grants in by_statement(read(session, schema, name).await?) {
        if !grant(session, &grants).await? {
            for one in &grants {
                grant(session, std::slice::from_ref(one)).await?;
            }
        }
        forget(session, schema, name, &grants).await?;
    }
    Ok(())
}

/// Returns whether something is to be given back: privileges, or the setting of a database that was made read-only.
pub async fn revoked(session: &Session, schema: &StateSchema, name: &MigrationName) -> Result<bool, Problem> {
    let sql = format!("SELECT count(*) FROM {} WHERE migration = $1", schema.table("fence_grant"));
    let row = retry::repeatable(|| async {
        session.query_one(&sql, &[&name.as_str()]).await.map_err(failed("see what was revoked"))
    });
    Ok(row.await?.get::<_, i64>(0) > 0)
}

/// Groups what one statement can give back: one privilege of one role, on any number of tables. At CockroachDB each
/// statement is a change of the schema.
fn by_statement(grants: Vec<Grant>) -> Vec<Vec<Grant>> {
    let mut groups: BTreeMap<(String, String, String, bool), Vec<Grant>> = BTreeMap::new();
    for grant in grants {
        let key = (grant.grantee.clone(), grant.privilege.clone(), grant.column.clone(), grant.grantable);
        groups.entry(key).or_default().push(grant);
    }
    groups.into_values().collect()
}

/// Returns false where one of the tables, or the role, is gone.
async fn grant(session: &Session, grants: &[Grant]) -> Result<bool, Problem> {
    let Some(Grant { column, grantee, privilege, grantable, .. }) = grants.first() else { return Ok(true) };
    let column = if column.is_empty() { String::new() } else { format!(" ({})", quote::identifier(column)) };
    let tables: Vec<String> = grants.iter().map(|grant| quote::table(&grant.table)).collect();
    let sql = format!(
        "GRANT {privilege}{column} ON TABLE {} TO {}{}",
        tables.join(", "),
        quote::identifier(grantee),
        if *grantable { " WITH GRANT OPTION" } else { "" }
    );
    retry::repeatable(|| async {
        match session.batch_execute(&sql).await {
            // undefined_table, undefined_object, undefined_column.
            Err(error) if error.code().is_some_and(|state| GONE.contains(&state.code())) => Ok(false),
            other => other.map(|()| true).map_err(failed(&format!("give back: {sql}"))),
        }
    })
    .await
}

async fn read(session: &Session, schema: &StateSchema, name: &MigrationName) -> Result<Vec<Grant>, Problem> {
    let sql = format!(
        "SELECT target_table, target_column, grantee, privilege, grantable FROM {} \
         WHERE migration = $1 AND target_table <> '' ORDER BY 1, 2, 3, 4",
        schema.table("fence_grant")
    );
    let rows = retry::repeatable(|| async {
        session.query(&sql, &[&name.as_str()]).await.map_err(failed("read what was revoked"))
    });
    let rows = rows.await?;
    let grant = |row: &tokio_postgres::Row| Grant {
        table: table_of(row.get(0)),
        column: row.get(1),
        grantee: row.get(2),
        privilege: row.get(3),
        grantable: row.get(4),
    };
    Ok(rows.iter().map(grant).collect())
}

/// Writes down what is about to be revoked. What is written already stays: it was there before the first attempt.
async fn record(session: &Session, schema: &StateSchema, order: &FenceOrder, grants: &[Grant]) -> Result<(), Problem> {
    let sql = format!(
        "INSERT INTO {} (migration, turn, target_table, target_column, grantee, privilege, grantable) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        schema.table("fence_grant")
    );
    for Grant { table, column, grantee, privilege, grantable } in grants {
        let table = text_of(table);
        let (name, turn) = (order.name.as_str(), &order.turn);
        retry::repeatable(|| async {
            let params: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
                [&name, turn, &table, column, grantee, privilege, grantable];
            session.execute(&sql, &params).await.map_err(failed("record what is revoked"))
        })
        .await?;
    }
    Ok(())
}

async fn forget(
    session: &Session,
    schema: &StateSchema,
    name: &MigrationName,
    grants: &[Grant],
) -> Result<(), Problem> {
    let sql = format!(
        "DELETE FROM {} WHERE migration = $1 AND target_table = $2 AND target_column = $3 AND grantee = $4 \
         AND privilege = $5",
        schema.table("fence_grant")
    );
    for Grant { table, column, grantee, privilege, .. } in grants {
        let table = text_of(table);
        retry::repeatable(|| async {
            let params: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
                [&name.as_str(), &table, column, grantee, privilege];
            session.execute(&sql, &params).await.map_err(failed("forget what was given back"))
        })
        .await?;
    }
    Ok(())
}

/// The two parts of a name, apart by a character that no name has in it.
fn text_of(table: &TableName) -> String {
    format!("{}\n{}", table.schema, table.name)
}

fn table_of(text: &str) -> TableName {
    let (schema, name) = text.split_once('\n').unwrap_or(("", text));
    TableName::new(schema, name)
}
