//! Putting aside what changes rows of the target by itself, when told to, and bringing it back when the application
//! moves in.
//!
//! Triggers and rules are switched off, not dropped: a name and the way to switch it on again is all that has to be
//! kept. Foreign keys with actions are dropped, and their definitions kept; so are triggers at CockroachDB, which has no
//! such switch in most versions. Each one goes in a transaction of its own together with the record of it in
//! `target_object`; at CockroachDB, where a schema change takes no part in a transaction, after the record.

use tidegate_connect::Session;
use tidegate_model::{Problem, TableName};
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;
use tracing::info;

use crate::catalog::{Firing, TargetTable, Trigger, read_tables};
use crate::dialect::Dialect;
use crate::fence::is_of_a_fence;
use crate::plan::SessionRights;
use crate::state::{Lease, table_text, under_lease};
use crate::{quote, retry, server_error};

/// Whoever waits for a lock stops others.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '10s'; ";

/// A foreign key, trigger or rule, and the statements that put it aside and bring it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetObject {
    /// Its table.
    pub table: TableName,
    /// `trigger`, `rule` or `action` (a foreign key with one).
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Puts it aside.
    pub away: String,
    /// Brings it back.
    pub back: String,
}

/// Returns what of a table works while the stream is applied and changes rows by itself.
pub fn active_objects(target: &TargetTable, rights: SessionRights, dialect: Dialect) -> Vec<TargetObject> {
    let enforced = rights.foreign_keys_enforced;
    let fires = |firing: Firing| if enforced { firing.in_origin() } else { firing.in_replica() };
    let table = quote::table(&target.name);
    let switch = |kind: &'static str, name: &str, firing: Firing| {
        let (word, quoted) = (kind.to_uppercase(), quote::identifier(name));
        let how = match firing {
            Firing::Always => "ENABLE ALWAYS",
            Firing::Replica => "ENABLE REPLICA",
            Firing::Origin | Firing::Disabled => "ENABLE",
        };
        TargetObject {
            table: target.name.clone(),
            kind,
            name: name.to_owned(),
            away: format!("ALTER TABLE {table} DISABLE {word} {quoted}"),
            back: format!("ALTER TABLE {table} {how} {word} {quoted}"),
        }
    };
    // A fence of ours lets the applier pass. Putting it aside would open the side that a turn has closed.
    let triggers = target.triggers.iter().filter(|trigger| fires(trigger.firing) && !is_of_a_fence(&trigger.name));
    let rules = target.rules.iter().filter(|rule| fires(rule.firing));
    let trigger = |trigger: &Trigger| match dialect {
        Dialect::Postgres => switch("trigger", &trigger.name, trigger.firing),
        Dialect::Cockroach => TargetObject {
            table: target.name.clone(),
            kind: "trigger",
            name: trigger.name.clone(),
            away: format!("DROP TRIGGER {} ON {table}", quote::identifier(&trigger.name)),
            back: trigger.definition.clone(),
        },
    };
    let mut objects: Vec<TargetObject> = triggers.map(trigger).collect();
    objects.extend(rules.map(|rule| switch("rule", &rule.name, rule.firing)));
    for key in target.foreign_keys.iter().filter(|key| enforced && key.has_actions && !key.inherited) {
        let (table, name) = (quote::table(&key.table), quote::identifier(&key.name));
        objects.push(TargetObject {
            table: key.table.clone(),
            kind: "action",
            name: key.name.clone(),
            away: format!("ALTER TABLE {table} DROP CONSTRAINT {name}"),
            back: format!("ALTER TABLE {table} ADD CONSTRAINT {name} {}", key.definition),
        });
    }
    objects
}

/// Puts aside what of these tables works while the stream is applied and changes rows by itself, and returns it. May be
/// repeated.
pub async fn put_aside(
    session: &Session,
    lease: &Lease,
    tables: &[TableName],
    rights: SessionRights,
) -> Result<Vec<TargetObject>, Problem> {
    let dialect = Dialect::of(session);
    let targets = read_tables(session, tables).await?;
    let mut done: Vec<TargetObject> = Vec::new();
    for target in targets.values() {
        for object in active_objects(target, rights, dialect) {
            // A foreign key between two of the tables is found at both.
            if done.contains(&object) {
                continue;
            }
            put_one_aside(session, lease, &object).await?;
            info!(table = %object.table, kind = object.kind, name = object.name, "put aside");
            done.push(object);
        }
    }
    Ok(done)
}

async fn put_one_aside(session: &Session, lease: &Lease, object: &TargetObject) -> Result<(), Problem> {
    let record = format!(
        "INSERT INTO {} (migration, stream, target_table, kind, name, definition, state) \
         VALUES ('{}', '{}', $1, $2, $3, $4, 'dropped') \
         ON CONFLICT (migration, stream, target_table, kind, name) \
         DO UPDATE SET definition = excluded.definition, state = excluded.state",
        lease.key.table("target_object"),
        lease.key.migration,
        lease.key.stream
    );
    let table = table_text(&object.table);
    let failed = |error| failed(&object.away, error);
    let with_record = !Dialect::of(session).is_cockroach();
    under_lease(session, lease, LOCK_TIMEOUT, failed, || async {
        session.execute(&record, &[&table, &object.kind, &object.name, &object.back]).await.map_err(failed)?;
        if with_record { session.batch_execute(&object.away).await.map_err(failed) } else { Ok(()) }
    })
    .await?;
    if with_record {
        return Ok(());
    }
    alone(session, &object.away, SqlState::UNDEFINED_OBJECT).await
}

/// Brings back what [`put_aside`] put aside. May be repeated.
pub async fn bring_back(session: &Session, lease: &Lease) -> Result<(), Problem> {
    let state = lease.key.table("target_object");
    let list = format!(
        "SELECT target_table, kind, name, definition FROM {state} WHERE {} AND state = 'dropped' \
         AND kind IN ('trigger', 'rule', 'action') ORDER BY 1, 2, 3",
        lease.key.condition()
    );
    let rows = retry::repeatable(|| async {
        session.query(&list, &[]).await.map_err(|error| failed("listing what was put aside", error))
    });
    let record = format!(
        "UPDATE {state} SET state = 'restored' WHERE {} AND target_table = $1 AND kind = $2 AND name = $3",
        lease.key.condition()
    );
    let with_record = !Dialect::of(session).is_cockroach();
    for row in rows.await? {
        let (table, kind, name, back): (String, String, String, String) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        let failed = |error| failed(&back, error);
        if !with_record {
            under_lease(session, lease, "", failed, || async { Ok(()) }).await?;
            alone(session, &back, SqlState::DUPLICATE_OBJECT).await?;
        }
        under_lease(session, lease, LOCK_TIMEOUT, failed, || async {
            session.execute(&record, &[&table, &kind, &name]).await.map_err(failed)?;
            if with_record { session.batch_execute(&back).await.map_err(failed) } else { Ok(()) }
        })
        .await?;
        info!(table, kind, name, "brought back");
    }
    Ok(())
}

/// Changes the schema in no transaction. `done` is what the server says where that was done before.
async fn alone(session: &Session, sql: &str, done: SqlState) -> Result<(), Problem> {
    let changed = retry::repeatable(|| async {
        match session.batch_execute(sql).await {
            Err(error) if error.code() == Some(&done) => Ok(()),
            other => other.map_err(|error| failed(sql, error)),
        }
    });
    changed.await
}

fn failed(doing: &str, error: Error) -> Problem {
    let what = format!("what changes rows of the target by itself could not be put aside or brought back: {doing}");
    server_error::problem("AP064", what, error, "run the statement as the table's owner, and start again")
}
