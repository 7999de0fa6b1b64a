//! What happens to tables as a whole: changes of their columns, TRUNCATE, DROP.

use tokio_postgres::{Client, Row};

use super::output::Stop;
use super::targets::Followed;
use crate::error::SqlError;
use crate::history::{Hlc, Layout};

#[derive(Debug)]
pub struct Event {
    pub at: Hlc,
    pub relation: u32,
    pub what: What,
}

#[derive(Debug)]
pub enum What {
    /// `"t" was truncated` or `"t" was dropped`.
    Ended(String),
    Columns {
        old: Layout,
        new: Layout,
        backfill: bool,
        columns_changed: bool,
    },
}

/// Returns the events of some tables after `after` up to `until`, in their order.
pub async fn between(client: &Client, relations: &[u32], after: Hlc, until: Hlc) -> Result<Vec<Event>, Stop> {
    let sql = "SELECT c.hlc, e.relid, e.kind, e.name, e.old_columns::text, e.new_columns::text, e.old_keys, e.new_keys,
            e.backfill, e.columns_changed
        FROM standin.event e JOIN standin.commit c ON c.xid = e.xid
        WHERE e.relid = ANY ($1) AND c.hlc > $2 AND c.hlc <= $3 ORDER BY c.hlc, e.n";
    let mut events = Vec::new();
    for row in client.query(sql, &[&relations, &after.0, &until.0]).await? {
        events.push(Event { at: Hlc(row.get(0)), relation: row.get(1), what: what(client, &row).await? });
    }
    Ok(events)
}

async fn what(client: &Client, row: &Row) -> Result<What, SqlError> {
    let (relation, kind, name): (u32, &str, &str) = (row.get(1), row.get(2), row.get(3));
    Ok(match kind {
        "truncate" => What::Ended(format!("\"{name}\" was truncated")),
        "drop" => What::Ended(format!("\"{name}\" was dropped")),
        _ => What::Columns {
            old: Layout::read(client, relation, row.get(4), row.get(6)).await?,
            new: Layout::read(client, relation, row.get(5), row.get(7)).await?,
            backfill: row.get(8),
            columns_changed: row.get(9),
        },
    })
}

/// Gives the tables the columns that they had at `position`.
pub async fn lay_out(client: &Client, followed: &mut [Followed], position: Hlc) -> Result<(), Stop> {
    let relations: Vec<u32> = followed.iter().map(|one| one.table.relation).collect();
    let events = between(client, &relations, position, Hlc(i64::MAX)).await?;
    for one in followed {
        let next = events.iter().find_map(|event| match &event.what {
            What::Columns { old, .. } if event.relation == one.table.relation => Some(old.clone()),
            _ => None,
        });
        one.layout = next.unwrap_or_else(|| one.table.layout.clone());
    }
    Ok(())
}
