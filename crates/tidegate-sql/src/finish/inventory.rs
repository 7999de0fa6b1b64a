//! What there is to remove.

use std::fmt;

use tidegate_connect::Session;
use tidegate_model::{MigrationName, Problem};
use tokio_postgres::Error;

use crate::fence::leftovers;
use crate::state::{Part, StateSchema, is_installed, table_exists};
use crate::{quote, retry, server_error};

/// What something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovalKind {
    /// The triggers of the fence on one table.
    FenceTriggers,
    /// Privileges that were revoked, and are given back.
    Grants,
    /// `default_transaction_read_only` of the database, which is set to what it was.
    ReadOnly,
    /// An index, constraint, trigger or rule that was put aside, and is brought back.
    PutAside,
    Publication,
    Slot,
    Origin,
    /// Rows of the state tables; others' rows stay.
    StateRows,
    StateSchema,
}

impl fmt::Display for RemovalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RemovalKind::FenceTriggers => "fence triggers",
            RemovalKind::Grants => "revoked privileges (given back)",
            RemovalKind::ReadOnly => "read-only setting (taken back)",
            RemovalKind::PutAside => "object put aside (brought back)",
            RemovalKind::Publication => "publication",
            RemovalKind::Slot => "replication slot",
            RemovalKind::Origin => "replication origin",
            RemovalKind::StateRows => "rows of the state tables",
            RemovalKind::StateSchema => "state schema",
        })
    }
}

/// One thing to remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    pub kind: RemovalKind,
    /// What it is called.
    pub name: String,
    /// The statement that does it; `None` where it takes several.
    pub sql: Option<String>,
}

pub(super) fn failed(doing: &str) -> impl FnOnce(Error) -> Problem {
    let what = format!("what tidegate made could not be removed: {doing}");
    move |error| {
        let next = "see the reason, then run the same command again: what is gone stays gone";
        server_error::problem("FI001", what, error, next)
    }
}

/// Lists what a migration left in a database, in the order in which it is removed. Changes nothing.
pub async fn inventory(session: &Session, schema: &StateSchema, name: &MigrationName) -> Result<Vec<Removal>, Problem> {
    let mut found = Vec::new();
    if !session.is_cockroach() {
        let plain = |table| Removal { kind: RemovalKind::FenceTriggers, name: table, sql: None };
        found.extend(leftovers(session, name).await?.iter().map(|table| plain(table.to_string())));
    }
    let has_state = is_installed(session, schema, Part::Common).await?;
    if has_state {
        found.extend(recorded(session, schema, name).await?);
        found.extend(put_aside(session, schema, name).await?);
    }
    if !session.is_cockroach() {
        found.extend(replication(session, name).await?);
    }
    if has_state {
        found.extend(state(session, schema, name).await?);
    }
    Ok(found)
}

async fn recorded(session: &Session, schema: &StateSchema, name: &MigrationName) -> Result<Vec<Removal>, Problem> {
    let sql = format!(
        "SELECT DISTINCT grantee, target_table = '' FROM {} WHERE migration = $1 ORDER BY 1",
        schema.table("fence_grant")
    );
    let rows = retry::repeatable(|| async {
        session.query(&sql, &[&name.as_str()]).await.map_err(failed("list what was revoked"))
    });
    let removal = |row: &tokio_postgres::Row| match row.get(1) {
        true => Removal { kind: RemovalKind::ReadOnly, name: "default_transaction_read_only".to_owned(), sql: None },
        false => Removal { kind: RemovalKind::Grants, name: row.get(0), sql: None },
    };
    Ok(rows.await?.iter().map(removal).collect())
}

async fn put_aside(session: &Session, schema: &StateSchema, name: &MigrationName) -> Result<Vec<Removal>, Problem> {
    if !table_exists(session, schema, "target_object").await? {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT kind, name, target_table, definition FROM {} WHERE migration = $1 AND state = 'dropped' \
         ORDER BY 1, 2, 3",
        schema.table("target_object")
    );
    let rows = retry::repeatable(|| async {
        session.query(&sql, &[&name.as_str()]).await.map_err(failed("list what was put aside"))
    });
    let removal = |row: &tokio_postgres::Row| {
        let (kind, name, table): (&str, &str, &str) = (row.get(0), row.get(1), row.get(2));
        Removal { kind: RemovalKind::PutAside, name: format!("{kind} {name} of {table}"), sql: Some(row.get(3)) }
    };
    Ok(rows.await?.iter().map(removal).collect())
}

async fn replication(session: &Session, name: &MigrationName) -> Result<Vec<Removal>, Problem> {
    let object = format!("tidegate_{name}");
    let sql = "
        SELECT 'p', pubname::text FROM pg_catalog.pg_publication WHERE pubname = $1
        UNION ALL
        SELECT 's', slot_name::text FROM pg_catalog.pg_replication_slots
        WHERE slot_name = $1 AND database = current_database()
        UNION ALL
        SELECT 'o', roname FROM pg_catalog.pg_replication_origin WHERE roname ~ ('^' || $1 || '_[0-9]+$')
        ORDER BY 1 DESC, 2";
    let rows = session.query(sql, &[&object]).await.map_err(failed("list slot, publication and origins"))?;
    let removal = |row: &tokio_postgres::Row| {
        let name: String = row.get(1);
        let (kind, sql) = match row.get(0) {
            "p" => (RemovalKind::Publication, format!("DROP PUBLICATION IF EXISTS {}", quote::identifier(&name))),
            "s" => {
                (RemovalKind::Slot, format!("SELECT pg_catalog.pg_drop_replication_slot({})", quote::literal(&name)))
            }
            _ => (
                RemovalKind::Origin,
                format!("SELECT pg_catalog.pg_replication_origin_drop({})", quote::literal(&name)),
            ),
        };
        Removal { kind, name, sql: Some(sql) }
    };
    Ok(rows.iter().map(removal).collect())
}

async fn state(session: &Session, schema: &StateSchema, name: &MigrationName) -> Result<Option<Removal>, Problem> {
    let sql = format!(
        "SELECT count(*), coalesce(sum(CASE WHEN migration = $1 THEN 1 ELSE 0 END), 0)::INT8 FROM {}",
        schema.table("migration")
    );
    let row = retry::repeatable(|| async {
        session.query_one(&sql, &[&name.as_str()]).await.map_err(failed("see whether others use the state schema"))
    });
    let row = row.await?;
    let (all, own): (i64, i64) = (row.get(0), row.get(1));
    // Its row goes last: where others have theirs and it has none, nothing of it is left.
    Ok((all == own || own > 0).then(|| match all - own {
        0 => Removal {
            kind: RemovalKind::StateSchema,
            name: schema.to_string(),
            sql: Some(format!("DROP SCHEMA IF EXISTS \"{schema}\" CASCADE")),
        },
        _ => Removal { kind: RemovalKind::StateRows, name: format!("{name} in {schema}"), sql: None },
    }))
}
