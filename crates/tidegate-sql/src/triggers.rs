//! Putting aside what changes rows of the target by itself, when told to, and bringing it back when the application
//! moves in.
//!
//! Triggers and rules are switched off, not dropped: a name and the way to switch it on again is all that has to be
//! kept. Foreign keys with actions are dropped, and their definitions kept. Each one goes in a transaction of its own
//! together with the record of it in `target_object`.

use tidegate_model::{Problem, TableName};
use tokio_postgres::{Client, Error};
use tracing::info;

use crate::catalog::{Firing, TargetTable, read_tables};
use crate::plan::SessionRights;
use crate::state::{Lease, table_text};
use crate::{quote, server_error};

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
pub fn active_objects(target: &TargetTable, rights: SessionRights) -> Vec<TargetObject> {
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
    let triggers = target.triggers.iter().filter(|trigger| fires(trigger.firing));
    let rules = target.rules.iter().filter(|rule| fires(rule.firing));
    let mut objects: Vec<TargetObject> =
        triggers.map(|trigger| switch("trigger", &trigger.name, trigger.firing)).collect();
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
    client: &Client,
    lease: &Lease,
    tables: &[TableName],
    rights: SessionRights,
) -> Result<Vec<TargetObject>, Problem> {
    let targets = read_tables(client, tables).await?;
    let mut done: Vec<TargetObject> = Vec::new();
    for target in targets.values() {
        for object in active_objects(target, rights) {
            // A foreign key between two of the tables is found at both.
            if done.contains(&object) {
                continue;
            }
            let record = format!(
                "INSERT INTO {} (migration, stream, target_table, kind, name, definition, state) \
                 VALUES ('{}', '{}', $1, $2, $3, $4, 'dropped') \
                 ON CONFLICT (migration, stream, target_table, kind, name) \
                 DO UPDATE SET definition = excluded.definition, state = excluded.state",
                lease.key.table("target_object"),
                lease.key.migration,
                lease.key.stream
            );
            let params = (table_text(&object.table), object.kind, object.name.as_str(), object.back.as_str());
            let changed = in_transaction(client, lease, async || {
                client.execute(&record, &[&params.0, &params.1, &params.2, &params.3]).await?;
                client.batch_execute(&object.away).await
            });
            changed.await.map_err(|error| failed(&object.away, error))?;
            info!(table = %object.table, kind = object.kind, name = object.name, "put aside");
            done.push(object);
        }
    }
    Ok(done)
}

/// Brings back what [`put_aside`] put aside. May be repeated.
pub async fn bring_back(client: &Client, lease: &Lease) -> Result<(), Problem> {
    let state = lease.key.table("target_object");
    let list = format!(
        "SELECT target_table, kind, name, definition FROM {state} WHERE {} AND state = 'dropped' \
         AND kind IN ('trigger', 'rule', 'action') ORDER BY 1, 2, 3",
        lease.key.condition()
    );
    let rows = client.query(&list, &[]).await.map_err(|error| failed("listing what was put aside", error))?;
    for row in rows {
        let (table, kind, name, back): (String, String, String, String) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        let record = format!(
            "UPDATE {state} SET state = 'restored' WHERE {} AND target_table = $1 AND kind = $2 AND name = $3",
            lease.key.condition()
        );
        let changed = in_transaction(client, lease, async || {
            client.execute(&record, &[&table, &kind, &name]).await?;
            client.batch_execute(&back).await
        });
        changed.await.map_err(|error| failed(&back, error))?;
        info!(table, kind, name, "brought back");
    }
    Ok(())
}

/// Does something in a transaction under the lease, without waiting long for locks: whoever waits stops others.
async fn in_transaction(
    client: &Client,
    lease: &Lease,
    work: impl AsyncFnOnce() -> Result<(), Error>,
) -> Result<(), Error> {
    client.batch_execute(&format!("BEGIN; SET LOCAL lock_timeout = '10s'; {}", lease.guard_sql())).await?;
    let done = work().await;
    let ended = client.batch_execute(if done.is_ok() { "COMMIT" } else { "ROLLBACK" }).await;
    done.and(ended)
}

fn failed(doing: &str, error: Error) -> Problem {
    let what = format!("what changes rows of the target by itself could not be put aside or brought back: {doing}");
    server_error::problem("AP064", what, error, "run the statement as the table's owner, and start again")
}
