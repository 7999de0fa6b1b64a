//! Revoking at PostgreSQL.

use tidegate_connect::Session;
use tidegate_model::{Problem, TableName};

use super::{Grant, Unrevoked, Why, record};
use crate::fence::FenceOrder;
use crate::fence::members::{columns, members};
use crate::fence::problem::{failed, given_up};
use crate::fence::record::guard_sql;
use crate::quote;
use crate::server_error::DIVISION_BY_ZERO;
use crate::state::StateSchema;

/// What everybody else may write, as far as it was granted; the owner's own privileges are among it. The last column:
/// whether the owner granted it, so that it can be revoked and given back by whoever acts as the owner.
const GRANTS: &str = "
WITH wanted AS (
    SELECT c.oid, n.nspname, c.relname, c.relowner, c.relacl
    FROM unnest($1::text[], $2::text[]) AS w (schema, name)
    JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
    JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
), granted AS (
    SELECT w.*, '' AS attname, a.grantor, a.grantee, a.privilege_type, a.is_grantable
    FROM wanted w, pg_catalog.aclexplode(coalesce(w.relacl, pg_catalog.acldefault('r', w.relowner))) a
    UNION ALL
    SELECT w.*, c.attname::text, a.grantor, a.grantee, a.privilege_type, a.is_grantable
    FROM wanted w JOIN pg_catalog.pg_attribute c ON c.attrelid = w.oid AND c.attnum > 0 AND NOT c.attisdropped,
         pg_catalog.aclexplode(c.attacl) a
)
SELECT nspname::text, relname::text, attname,
       CASE grantee WHEN 0 THEN 'public' ELSE pg_catalog.pg_get_userbyid(grantee)::text END,
       privilege_type, is_grantable, grantor = relowner
FROM granted
WHERE privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
  AND grantee <> (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user)
ORDER BY 1, 2, 3, 4, 5";

/// Revokes and records in one transaction; returns the tables, partitions included.
pub(super) async fn revoke(
    session: &Session,
    schema: &StateSchema,
    order: &FenceOrder,
) -> Result<Vec<TableName>, Problem> {
    session.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await.map_err(failed("begin"))?;
    let done = revoke_in_transaction(session, schema, order).await;
    let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = session.batch_execute(end).await.map_err(failed("revoke"));
    done.and_then(|tables| ended.map(|()| tables))
}

async fn revoke_in_transaction(
    session: &Session,
    schema: &StateSchema,
    order: &FenceOrder,
) -> Result<Vec<TableName>, Problem> {
    session.batch_execute(&guard_sql(schema, order)).await.map_err(|error| {
        let is_guarded = error.code().is_some_and(|state| state.code() == DIVISION_BY_ZERO);
        if is_guarded { given_up(&order.name, &order.turn) } else { failed("revoke")(error) }
    })?;
    let tables: Vec<TableName> =
        members(session, &order.tables).await?.into_iter().map(|member| member.table).collect();
    let grants = grants(session, &tables).await?;
    record(session, schema, order, &grants).await?;
    for table in &tables {
        let mut roles: Vec<String> = grants
            .iter()
            .filter(|grant| grant.table == *table)
            .map(|grant| quote::identifier(&grant.grantee))
            .collect();
        roles.dedup();
        if roles.is_empty() {
            continue;
        }
        // Those of columns go with those of their table.
        let sql = format!(
            "REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON TABLE {} FROM {}",
            quote::table(table),
            roles.join(", ")
        );
        session.batch_execute(&sql).await.map_err(failed("revoke"))?;
    }
    Ok(tables)
}

async fn grants(session: &Session, tables: &[TableName]) -> Result<Vec<Grant>, Problem> {
    let (schemas, names) = columns(tables);
    let rows = session.query(GRANTS, &[&schemas, &names]).await.map_err(failed("read who may write"))?;
    let mut grants = Vec::new();
    for row in rows {
        let grant = Grant {
            table: TableName::new(row.get::<_, String>(0), row.get::<_, String>(1)),
            column: row.get(2),
            grantee: row.get(3),
            privilege: row.get(4),
            grantable: row.get(5),
        };
        if !row.get::<_, bool>(6) {
            return Err(granted_by_another(&grant));
        }
        if !grants.contains(&grant) {
            grants.push(grant);
        }
    }
    grants.sort_by(|one: &Grant, other| (&one.table, &one.grantee).cmp(&(&other.table, &other.grantee)));
    Ok(grants)
}

fn granted_by_another(grant: &Grant) -> Problem {
    Problem::definite(
        "FN005",
        format!("writing to table \"{}\" cannot be revoked from role \"{}\"", grant.table, grant.grantee),
        format!(
            "its privilege {} was not granted by the table's owner, and only who granted it can do so",
            grant.privilege
        ),
        "use the fence of triggers, or let the owner grant it instead",
    )
}

/// Returns the roles that can log in and write whatever is revoked.
pub(super) async fn unrevoked(session: &Session) -> Result<Vec<Unrevoked>, Problem> {
    let sql = "
        SELECT r.rolname::text, r.rolsuper FROM pg_catalog.pg_roles r
        WHERE r.rolcanlogin AND r.rolname <> current_user
          AND (r.rolsuper OR pg_catalog.pg_has_role(r.oid, (SELECT oid FROM pg_catalog.pg_roles
               WHERE rolname = current_user), 'MEMBER') OR pg_catalog.pg_has_role(r.oid, 'pg_write_all_data', 'MEMBER'))
        ORDER BY 1";
    let rows = session.query(sql, &[]).await.map_err(failed("read who can still write"))?;
    let role = |row: &tokio_postgres::Row| Unrevoked {
        role: row.get(0),
        why: if row.get(1) { Why::Administrator } else { Why::Member },
    };
    Ok(rows.iter().map(role).collect())
}
