//! What there is to fence: the tables, their partitions and children.

use tidegate_connect::Session;
use tidegate_model::{Problem, TableName};

use super::problem::failed;

/// A table that can be written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) table: TableName,
    /// Rows reach it without a statement on anything that is fenced, so that only triggers of rows see them: through a
    /// root that is not fenced, or by a subscription, whose worker fires no triggers of statements.
    pub(super) by_rows: bool,
}

/// The tables and all that inherits from them: a trigger on the root does not see what is written to a leaf.
const FAMILY: &str = "
WITH RECURSIVE wanted AS (
    SELECT c.oid FROM unnest($1::text[], $2::text[]) AS w (schema, name)
    JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
    JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
), family AS (
    SELECT oid FROM wanted
    UNION
    SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN family f ON f.oid = i.inhparent
)";

/// Returns the tables with their partitions and children, always in the same order.
pub(super) async fn members(session: &Session, tables: &[TableName]) -> Result<Vec<Member>, Problem> {
    let sql = format!(
        "{FAMILY} SELECT n.nspname::text, c.relname::text, c.relkind = 'r' AND EXISTS (\
         WITH RECURSIVE up AS (SELECT f.oid UNION SELECT i.inhparent FROM pg_catalog.pg_inherits i \
         JOIN up ON up.oid = i.inhrelid) \
         SELECT FROM up LEFT JOIN pg_catalog.pg_subscription_rel s ON s.srrelid = up.oid WHERE s.srrelid IS NOT NULL OR up.oid NOT IN (SELECT m.oid FROM family m)), \
         (SELECT count(*) FROM wanted) \
         FROM family f JOIN pg_catalog.pg_class c ON c.oid = f.oid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') ORDER BY c.oid"
    );
    let (schemas, names) = columns(tables);
    let rows =
        session.query(&sql, &[&schemas, &names]).await.map_err(failed("find the tables and their partitions"))?;
    let found = rows.first().map_or(0, |row| row.get::<_, i64>(3));
    if found as usize != tables.len() {
        return Err(Problem::definite(
            "FN004",
            "a table that was to be fenced is not there",
            format!("{} tables were to be fenced, {found} of them exist", tables.len()),
            "see which table was dropped or renamed: tidegate status",
        ));
    }
    let member = |row: &tokio_postgres::Row| Member {
        table: TableName::new(row.get::<_, String>(0), row.get::<_, String>(1)),
        by_rows: row.get(2),
    };
    Ok(rows.iter().map(member).collect())
}

/// Returns which of the tables, their partitions and children this role cannot fence with triggers, because it does
/// not own them. For the check before a turn.
pub async fn not_owned(session: &Session, tables: &[TableName]) -> Result<Vec<TableName>, Problem> {
    let sql = format!(
        "{FAMILY} SELECT n.nspname::text, c.relname::text FROM family f JOIN pg_catalog.pg_class c ON c.oid = f.oid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p') AND NOT pg_catalog.pg_has_role(c.relowner, 'USAGE') ORDER BY 1, 2"
    );
    let (schemas, names) = columns(tables);
    let rows = session.query(&sql, &[&schemas, &names]).await.map_err(failed("see who owns the tables"))?;
    Ok(rows.iter().map(|row| TableName::new(row.get::<_, String>(0), row.get::<_, String>(1))).collect())
}

/// Returns schemas and names, for two parameters of a statement.
pub(crate) fn columns(tables: &[TableName]) -> (Vec<&str>, Vec<&str>) {
    tables.iter().map(|table| (&*table.schema, &*table.name)).unzip()
}
