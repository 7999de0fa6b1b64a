//! What was taken away from target tables, and how to bring it back.

use tidegate_connect::Session;
use tidegate_model::{Problem, TableName};
use tokio_postgres::Error;

use super::problem;
use super::session::Sessions;
use crate::retry;
use crate::state::table_text;

/// The kinds of what is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Index,
    /// A primary key or a unique constraint.
    Key,
    ForeignKey,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Kind::Index => "index",
            Kind::Key => "key",
            Kind::ForeignKey => "foreign_key",
        }
    }
}

/// An object of a target table.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) table: TableName,
    pub(super) kind: Kind,
    pub(super) name: String,
    /// The statement that makes it.
    pub(super) definition: String,
}

/// Records that an object is about to go, in the transaction in which it goes.
pub(super) async fn record_dropped(transaction: &Session, key: &Sessions, object: &Object) -> Result<(), Error> {
    let key = &key.lease().key;
    let sql = format!(
        "INSERT INTO {} (migration, stream, target_table, kind, name, definition, state) \
         VALUES ('{}', '{}', $1, $2, $3, $4, 'dropped') \
         ON CONFLICT (migration, stream, target_table, kind, name) \
         DO UPDATE SET definition = excluded.definition, state = excluded.state",
        key.table("target_object"),
        key.migration,
        key.stream
    );
    let table = table_text(&object.table);
    transaction.execute(&sql, &[&table, &object.kind.as_str(), &object.name, &object.definition]).await?;
    Ok(())
}

/// Records that an object is back.
pub(super) async fn record_restored(
    transaction: &Session,
    sessions: &Sessions,
    table: &str,
    kind: Kind,
    name: &str,
) -> Result<(), Problem> {
    let key = &sessions.lease().key;
    let sql = format!(
        "UPDATE {} SET state = 'restored' WHERE {} AND target_table = $1 AND kind = $2 AND name = $3",
        key.table("target_object"),
        key.condition()
    );
    let updated = transaction.execute(&sql, &[&table, &kind.as_str(), &name]).await;
    updated.map_err(problem::target("record that something is back"))?;
    Ok(())
}

/// A recorded object that is not back yet.
#[derive(Clone, Debug)]
pub(super) struct Missing {
    /// As the state writes it.
    pub(super) table: String,
    pub(super) name: String,
    pub(super) definition: String,
}

/// Lists what of one kind is not back yet, of one table or of all.
pub(super) async fn missing(
    sessions: &Sessions,
    kind: Kind,
    table: Option<&TableName>,
) -> Result<Vec<Missing>, Problem> {
    let key = &sessions.lease().key;
    let sql = format!(
        "SELECT target_table, name, definition FROM {} \
         WHERE {} AND kind = $1 AND state = 'dropped' AND ($2::text IS NULL OR target_table = $2) ORDER BY 1, 2",
        key.table("target_object"),
        key.condition()
    );
    let session = sessions.take().await?;
    let table = table.map(table_text);
    let rows = retry::repeatable(|| async {
        let rows = session.query(&sql, &[&kind.as_str(), &table]).await;
        rows.map_err(problem::target("list what was taken away"))
    });
    let rows = rows.await?;
    sessions.give(session);
    let missing = |row: &tokio_postgres::Row| Missing { table: row.get(0), name: row.get(1), definition: row.get(2) };
    Ok(rows.iter().map(missing).collect())
}

/// Returns the quoted name of the table of a missing foreign key, which stands at the beginning of its definition.
pub(super) fn table_sql(missing: &Missing) -> &str {
    let rest = missing.definition.strip_prefix("ALTER TABLE ").unwrap_or(&missing.definition);
    rest.split_once(" ADD CONSTRAINT ").map_or(rest, |(table, _)| table)
}
