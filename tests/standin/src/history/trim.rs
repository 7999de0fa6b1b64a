//! Forgetting what is past the GC window.

use tokio_postgres::Client;

use super::{Hlc, Tracked};
use crate::error::SqlError;

/// Removes log rows at or below the threshold. The newest version of a row stays, because it tells the row's timestamp.
/// What transactions leave in `pending` goes too.
pub async fn trim(client: &Client, table: &Tracked, threshold: Hlc) -> Result<u64, SqlError> {
    let log = table.log();
    let same: Vec<String> = table
        .layout
        .keys
        .iter()
        .map(|place| table.layout.columns[*place].number)
        .map(|number| format!("newer.c{number} = l.c{number}"))
        .collect();
    let sql = format!(
        "DELETE FROM {log} l USING standin.commit c WHERE c.xid = l.x AND c.hlc <= $1 AND (NOT l.plus OR EXISTS \
         (SELECT 1 FROM {log} newer WHERE {} AND newer.n > l.n))",
        same.join(" AND ")
    );
    let removed = client.execute(&sql, &[&threshold.0]).await?;
    client.execute("DELETE FROM standin.pending p USING standin.commit c WHERE c.xid = p.xid", &[]).await?;
    Ok(removed)
}
