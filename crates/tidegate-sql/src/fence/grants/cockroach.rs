//! Revoking at CockroachDB.
//!
//! TRUNCATE goes by the privilege DROP there. An owner has all privileges on what it owns, whatever is revoked
//! (`HasPrivilege` of the server asks `isOwner` first), so owners are named and left alone.

use tidegate_connect::Session;
use tidegate_model::{Problem, TableName};

use super::{Grant, Unrevoked, Why, record};
use crate::fence::FenceOrder;
use crate::fence::members::columns;
use crate::fence::problem::{failed, given_up};
use crate::fence::record::read_fence;
use crate::state::StateSchema;
use crate::{quote, retry};

/// `information_schema` shows a role that has all privileges with the word ALL.
const GRANTS: &str = "
SELECT p.table_schema::STRING, p.table_name::STRING, p.grantee::STRING, p.privilege_type::STRING,
       p.is_grantable::STRING = 'YES'
FROM information_schema.table_privileges AS p
JOIN (SELECT unnest($1::STRING[]) AS table_schema, unnest($2::STRING[]) AS table_name) AS w
  ON p.table_schema = w.table_schema AND p.table_name = w.table_name
WHERE p.privilege_type IN ('ALL', 'INSERT', 'UPDATE', 'DELETE', 'DROP')
  AND p.grantee NOT IN ('admin', 'root') AND p.grantee <> current_user
ORDER BY 1, 2, 3, 4";

const OWNERS: &str = "
SELECT n.nspname::STRING, c.relname::STRING, pg_get_userbyid(c.relowner)::STRING
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN (SELECT unnest($1::STRING[]) AS table_schema, unnest($2::STRING[]) AS table_name) AS w
  ON n.nspname = w.table_schema AND c.relname = w.table_name
ORDER BY 1, 2";

const ADMINISTRATORS: &str = "
SELECT m.rolname::STRING FROM pg_catalog.pg_auth_members AS a
JOIN pg_catalog.pg_roles AS r ON r.oid = a.roleid JOIN pg_catalog.pg_roles AS m ON m.oid = a.member
WHERE r.rolname = 'admin' ORDER BY 1";

/// Whoever may write, whatever it is by. A role does not see every grant of others, nor may it revoke each.
const WRITERS: &str = "
SELECT DISTINCT r.rolname::STRING FROM pg_catalog.pg_roles AS r
CROSS JOIN pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN (SELECT unnest($1::STRING[]) AS table_schema, unnest($2::STRING[]) AS table_name) AS w
  ON n.nspname = w.table_schema AND c.relname = w.table_name
WHERE r.rolname <> current_user AND has_table_privilege(r.rolname, c.oid, 'INSERT, UPDATE, DELETE')
ORDER BY 1";

pub(super) async fn revoke(session: &Session, schema: &StateSchema, order: &FenceOrder) -> Result<(), Problem> {
    let owners = owners(session, &order.tables).await?;
    let owns = |grant: &Grant| owners.contains(&(grant.table.clone(), grant.grantee.clone()));
    let grants: Vec<Grant> = grants(session, &order.tables).await?.into_iter().filter(|grant| !owns(grant)).collect();
    record(session, schema, order, &grants).await?;
    // No transaction holds the record and the revoke together: at least nobody who is late begins.
    let stands = read_fence(session, schema, &order.name).await?;
    if !stands.is_some_and(|row| row.is_up && row.turn.as_ref() == Some(&order.turn)) {
        return Err(given_up(&order.name, &order.turn));
    }
    let mut roles: Vec<&String> = grants.iter().map(|grant| &grant.grantee).collect();
    roles.sort();
    roles.dedup();
    for role in roles {
        let mut tables: Vec<String> =
            grants.iter().filter(|grant| grant.grantee == *role).map(|grant| quote::table(&grant.table)).collect();
        tables.dedup();
        let sql = format!(
            "REVOKE INSERT, UPDATE, DELETE, DROP ON TABLE {} FROM {}",
            tables.join(", "),
            quote::identifier(role)
        );
        retry::repeatable(|| async { session.batch_execute(&sql).await.map_err(failed("revoke")) }).await?;
    }
    Ok(())
}

async fn grants(session: &Session, tables: &[TableName]) -> Result<Vec<Grant>, Problem> {
    let rows = query(session, GRANTS, tables, "read who may write").await?;
    let grant = |row: &tokio_postgres::Row| Grant {
        table: TableName::new(row.get::<_, String>(0), row.get::<_, String>(1)),
        column: String::new(),
        grantee: row.get(2),
        privilege: row.get(3),
        grantable: row.get(4),
    };
    Ok(rows.iter().map(grant).collect())
}

async fn owners(session: &Session, tables: &[TableName]) -> Result<Vec<(TableName, String)>, Problem> {
    let rows = query(session, OWNERS, tables, "read who owns the tables").await?;
    let owner = |row: &tokio_postgres::Row| {
        (TableName::new(row.get::<_, String>(0), row.get::<_, String>(1)), row.get::<_, String>(2))
    };
    Ok(rows.iter().map(owner).collect())
}

async fn query(
    session: &Session,
    sql: &str,
    tables: &[TableName],
    doing: &str,
) -> Result<Vec<tokio_postgres::Row>, Problem> {
    let (schemas, names) = columns(tables);
    retry::repeatable(|| async { session.query(sql, &[&schemas, &names]).await.map_err(failed(doing)) }).await
}

/// Returns the roles that can write whatever is revoked, our own left out.
pub(super) async fn unrevoked(session: &Session, tables: &[TableName]) -> Result<Vec<Unrevoked>, Problem> {
    let rows = retry::repeatable(|| async {
        session.query(ADMINISTRATORS, &[]).await.map_err(failed("read who can still write"))
    });
    let mut found: Vec<Unrevoked> = ["admin", "root"].map(|role| administrator(role.to_owned())).into();
    found.extend(rows.await?.iter().map(|row| administrator(row.get(0))));
    let owners = owners(session, tables).await?;
    found.extend(owners.into_iter().map(|(_, role)| Unrevoked { role, why: Why::Owner }));
    let me = retry::repeatable(|| async {
        session.query_one("SELECT current_user::STRING", &[]).await.map_err(failed("read who can still write"))
    });
    let me: String = me.await?.get(0);
    let mut unrevoked: Vec<Unrevoked> = Vec::new();
    for role in found {
        if role.role != me && !unrevoked.iter().any(|known| known.role == role.role) {
            unrevoked.push(role);
        }
    }
    Ok(unrevoked)
}

/// Returns the roles that a revoke has not reached, with those that it cannot.
pub(super) async fn still_writing(session: &Session, tables: &[TableName]) -> Result<Vec<Unrevoked>, Problem> {
    let mut found = unrevoked(session, tables).await?;
    for row in query(session, WRITERS, tables, "read who can still write").await? {
        let role: String = row.get(0);
        if !found.iter().any(|known| known.role == role) {
            found.push(Unrevoked { role, why: Why::Granted });
        }
    }
    Ok(found)
}

fn administrator(role: String) -> Unrevoked {
    Unrevoked { role, why: Why::Administrator }
}
