//! The fence of triggers.

use tidegate_connect::{Session, Settings};
use tidegate_model::{MigrationName, Problem, TableName};
use tokio::time::Instant;
use tracing::info;

use super::barrier::lock_sql;
use super::locks::{Locker, Refused};
use super::members::{Member, members};
use super::problem::failed;
use super::record::{guard_sql, lock_timeout, raise};
use super::{FenceOrder, Fenced, OnWait};
use crate::quote;
use crate::state::{StateSchema, advisory_key};

/// What the triggers of all fences of a state schema call: their arguments are the migration, the turn, and the
/// generation that opens the database again. It runs as its owner, who alone can read the secret.
const FUNCTION: &str = r#"
CREATE OR REPLACE FUNCTION {s}.fence() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fence$
DECLARE
    place text;
BEGIN
    IF EXISTS (SELECT FROM {s}.fence f WHERE f.migration = TG_ARGV[0]
               AND (f.secret = current_setting('tidegate.pass', true) OR f.turn = TG_ARGV[1] AND f.state = 'down'))
       OR EXISTS (SELECT FROM {s}.migration m
                  WHERE m.migration = TG_ARGV[0] AND m.generation >= TG_ARGV[2]::int8) THEN
        IF TG_LEVEL = 'STATEMENT' THEN
            RETURN NULL;
        END IF;
        RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
    END IF;
    SELECT f.write_to INTO place FROM {s}.fence f WHERE f.migration = TG_ARGV[0];
    IF EXISTS (SELECT FROM {s}.migration m
               WHERE m.migration = TG_ARGV[0] AND m.generation >= TG_ARGV[2]::int8 - 1) THEN
        RAISE EXCEPTION 'this database takes no more writes to %.%: the application has moved', TG_TABLE_SCHEMA,
            TG_TABLE_NAME USING ERRCODE = '25006',
            DETAIL = format('Tidegate closed it in migration "%s"; nothing was written.', TG_ARGV[0]),
            HINT = format('Connect to %s.', coalesce(place, 'the other database'));
    END IF;
    RAISE EXCEPTION 'this database takes no writes to %.% at the moment: the application is being moved',
        TG_TABLE_SCHEMA, TG_TABLE_NAME USING ERRCODE = '25006',
        DETAIL = format('Tidegate is closing it in migration "%s"; nothing was written.', TG_ARGV[0]),
        HINT = format('Try again in a few seconds, at %s if this goes on.', coalesce(place, 'the other database'));
END
$fence$;
REVOKE ALL ON FUNCTION {s}.fence() FROM PUBLIC"#;

/// Puts up the fence of a turn at PostgreSQL. Safe to repeat after a crash at any point, and by several at a time.
///
/// Tables whose trigger is as this turn needs it are left alone: the transaction that made it has waited for all who
/// had written. Fails with `FN001` where the locks were not to be had in time, naming who held them; what is fenced by
/// then stays so until [`super::give_up`]. `FN002`: the turn was given up.
pub async fn put_up(
    settings: &Settings,
    schema: &StateSchema,
    order: &FenceOrder,
    on_wait: OnWait<'_>,
) -> Result<Fenced, Problem> {
    let locker = Locker::connect(settings, &order.name, order.lock_timeout, order.until).await?;
    make_function(locker.session(), schema).await?;
    raise(locker.session(), schema, order).await?;
    let found = members(locker.session(), &order.tables).await?;
    let standing = standing(locker.session(), schema, order).await?;
    let missing: Vec<Member> = found.iter().filter(|member| !standing.contains(member)).cloned().collect();
    let blocked_since = Instant::now();
    for group in missing.chunks(order.group_size.max(1)) {
        let mut sql = format!("{}{}", guard_sql(schema, order), lock_sql(group));
        for member in group {
            sql += &create_sql(schema, order, member);
        }
        locker.run(&sql, on_wait).await.map_err(|refused| refused.or_given_up(order))?;
        info!(migration = %order.name, tables = group.len(), "fenced");
    }
    Ok(Fenced { blocked_since, tables: found.into_iter().map(|member| member.table).collect() })
}

/// Two at a time would change one row of the catalog, which the server refuses.
async fn make_function(session: &Session, schema: &StateSchema) -> Result<(), Problem> {
    let key = advisory_key(&format!("tidegate/{schema}/install"));
    let function = FUNCTION.replace("{s}", &format!("\"{schema}\""));
    let sql = format!("BEGIN READ WRITE; SELECT pg_catalog.pg_advisory_xact_lock({key}); {function}; COMMIT");
    let made = session.batch_execute(&sql).await;
    if made.is_err() {
        // Its own failure says nothing new.
        let _ = session.batch_execute("ROLLBACK").await;
    }
    made.map_err(failed("make its function"))
}

fn name_of(name: &MigrationName) -> String {
    format!("tidegate_{name}_fence")
}

/// Returns whether a trigger of this name is one of a migration's fence. It changes no row: it refuses or lets pass.
pub fn is_of_a_fence(trigger: &str) -> bool {
    trigger.starts_with("tidegate_") && (trigger.ends_with("_fence") || trigger.ends_with("_fence_row"))
}

/// The trigger of rows, for what no trigger of statements sees.
fn row_name_of(name: &MigrationName) -> String {
    format!("tidegate_{name}_fence_row")
}

/// `OR REPLACE`, because a trigger of an earlier turn may still be there, and DROP TRIGGER would wait for readers too.
fn create_sql(schema: &StateSchema, order: &FenceOrder, member: &Member) -> String {
    let table = quote::table(&member.table);
    let call = format!(
        "EXECUTE FUNCTION \"{schema}\".fence('{}', {}, '{}')",
        order.name,
        quote::literal(&order.turn),
        order.opens_at()
    );
    let one = |name: &str, events: &str, level: &str| {
        format!(
            "; CREATE OR REPLACE TRIGGER {name} BEFORE {events} ON {table} FOR EACH {level} {call}; \
             ALTER TABLE ONLY {table} ENABLE ALWAYS TRIGGER {name}"
        )
    };
    let mut sql = one(&name_of(&order.name), "INSERT OR UPDATE OR DELETE OR TRUNCATE", "STATEMENT");
    if member.by_rows {
        sql += &one(&row_name_of(&order.name), "INSERT OR UPDATE OR DELETE", "ROW");
    }
    sql
}

/// Returns the tables that have all triggers of this turn already.
async fn standing(session: &Session, schema: &StateSchema, order: &FenceOrder) -> Result<Vec<Member>, Problem> {
    let sql = "
        SELECT n.nspname::text, c.relname::text, count(*) FILTER (WHERE t.tgname = $3) = 1
        FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE t.tgname IN ($2, $3) AND t.tgenabled = 'A' AND t.tgargs = $4
          AND t.tgfoid = pg_catalog.to_regprocedure($1)
        GROUP BY 1, 2 HAVING count(*) FILTER (WHERE t.tgname = $2) = 1";
    let arguments: Vec<u8> = [order.name.as_str(), &order.turn, &order.opens_at().to_string()]
        .iter()
        .flat_map(|text| [text.as_bytes(), b"\0"].concat())
        .collect();
    let function = format!("\"{schema}\".fence()");
    let (name, row_name) = (name_of(&order.name), row_name_of(&order.name));
    let rows =
        session.query(sql, &[&function, &name, &row_name, &arguments]).await.map_err(failed("see what stands"))?;
    let mut standing = Vec::new();
    for row in rows {
        let table = TableName::new(row.get::<_, String>(0), row.get::<_, String>(1));
        standing.push(Member { table: table.clone(), by_rows: false });
        if row.get(2) {
            standing.push(Member { table, by_rows: true });
        }
    }
    Ok(standing)
}

/// Which tables of a migration have its fence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Present {
    /// They have its trigger, switched on for everybody. Whether it refuses is said by [`super::read_fence`].
    pub fenced: Vec<TableName>,
    /// They lack it, or it was switched off: among them partitions made since.
    pub open: Vec<TableName>,
}

/// Tells which of the tables, their partitions and children have the fence.
pub async fn present(session: &Session, name: &MigrationName, tables: &[TableName]) -> Result<Present, Problem> {
    let found = members(session, tables).await?;
    let fenced = with_trigger(session, name, "AND t.tgenabled = 'A'").await?;
    let (fenced, open) = found.into_iter().map(|member| member.table).partition(|table| fenced.contains(table));
    Ok(Present { fenced, open })
}

/// Returns the tables of the database that have a trigger of a migration's fence.
async fn with_trigger(session: &Session, name: &MigrationName, and: &str) -> Result<Vec<TableName>, Problem> {
    let sql = format!(
        "SELECT DISTINCT n.nspname::text, c.relname::text FROM pg_catalog.pg_trigger t \
         JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE t.tgname IN ($1, $2) {and} ORDER BY 1, 2"
    );
    let (name, row_name) = (name_of(name), row_name_of(name));
    let rows = session.query(&sql, &[&name, &row_name]).await.map_err(failed("see which tables have it"))?;
    Ok(rows.iter().map(|row| TableName::new(row.get::<_, String>(0), row.get::<_, String>(1))).collect())
}

/// Removes the triggers of a migration's fence, wherever they are. For after the fence has let everybody through, by
/// [`super::give_up`] or by the generation: each table is locked for a moment, readers too. May be repeated. Fails
/// with `FN001` where a lock was not to be had in time.
pub async fn take_down(
    settings: &Settings,
    name: &MigrationName,
    until: Instant,
    on_wait: OnWait<'_>,
) -> Result<Vec<TableName>, Problem> {
    let locker = Locker::connect(settings, name, lock_timeout(), until).await?;
    let tables = with_trigger(locker.session(), name, "").await?;
    for table in &tables {
        let quoted = quote::table(table);
        let sql = format!(
            "DROP TRIGGER IF EXISTS {} ON {quoted}; DROP TRIGGER IF EXISTS {} ON {quoted}",
            name_of(name),
            row_name_of(name)
        );
        locker.run(&sql, on_wait).await.map_err(|refused| match refused {
            Refused::Problem(problem) => problem,
            Refused::Guarded => Problem::bug("FN003", "the fence failed: take it down", "nothing guards this"),
        })?;
    }
    Ok(tables)
}

/// Returns the tables that still have triggers of a migration's fence, for `finish`.
pub(crate) async fn leftovers(session: &Session, name: &MigrationName) -> Result<Vec<TableName>, Problem> {
    with_trigger(session, name, "").await
}

/// Quoting: names of migrations are `[a-z0-9_]`, so that a trigger's name needs none.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_fits() {
        let name: MigrationName = "x".repeat(32).parse().unwrap();
        assert!(row_name_of(&name).len() < 63);
    }

    #[test]
    fn triggers_of_a_fence_are_known_by_their_names() {
        let name: MigrationName = "orders".parse().unwrap();
        assert!(is_of_a_fence(&name_of(&name)) && is_of_a_fence(&row_name_of(&name)));
        assert!(!is_of_a_fence("audit_fence") && !is_of_a_fence("tidegate_orders"));
    }
}
