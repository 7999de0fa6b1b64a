//! The begin of a table's load.

use tidegate_model::{CopyFormat, Load, Problem, TableMap, TableName};
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::empty::empty;
use crate::copy::problem;
use crate::copy::session::{CopySession, Sessions};
use crate::quote;
use crate::state::{table_text, under_lease};

/// Makes a table ready for its first chunk. That it is being copied is recorded before it is emptied, which takes many
/// transactions: pieces of an earlier copy are refused from then on, and whoever finds the record later empties again.
pub(in crate::copy) async fn begin(sessions: &Sessions, table: &TableMap) -> Result<Load, Problem> {
    let session = sessions.take().await?;
    let (before, load) = record(sessions, &session, table).await?;
    if before > 0 {
        empty(&session, sessions.lease(), table, &load).await?;
    }
    sessions.give(session);
    Ok(load)
}

/// Records another copy, and returns how many there were before.
async fn record(sessions: &Sessions, session: &CopySession, table: &TableMap) -> Result<(i32, Load), Problem> {
    let lease = sessions.lease();
    let (source, target) = (&table.source.name, &table.target);
    let name = table_text(source);
    let condition = format!("{} AND source_table = $1", lease.key.condition());
    let (copy_table, copy_chunk) = (lease.key.table("copy_table"), lease.key.table("copy_chunk"));
    let find = format!("SELECT state, copies FROM {copy_table} WHERE {condition} FOR UPDATE");
    let forget = format!("DELETE FROM {copy_chunk} WHERE {condition}");
    let begin = format!(
        "UPDATE {copy_table} SET state = 'copying', copies = copies + 1, format = $2, route = NULL \
         WHERE {condition} RETURNING copies"
    );
    let format = CopyFormat::Text;
    let failed = |error: Error| problem::target("begin a table")(error);
    under_lease(session, lease, "", failed, || async {
        let row = session.query_opt(&find, &[&name]).await.map_err(failed)?;
        let row = row.ok_or_else(|| problem::not_planned(source))?;
        let (state, before): (String, i32) = (row.get(0), row.get(1));
        if state == "copied" {
            return Err(problem::broken(source, "it is copied and was to be copied again"));
        }
        if before == 0 {
            refuse_rows(session, target).await?;
        }
        session.execute(&forget, &[&name]).await.map_err(failed)?;
        let row = session.query_one(&begin, &[&name, &format.as_str()]).await.map_err(failed)?;
        Ok((before, Load { format, copy: row.get(0) }))
    })
    .await
}

async fn refuse_rows(session: &CopySession, target: &TableName) -> Result<(), Problem> {
    let sql = format!("SELECT EXISTS (SELECT 1 FROM {})", quote::table(target));
    match session.query_one(&sql, &[]).await {
        Ok(row) if row.get(0) => Err(problem::not_empty(target)),
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => {
            Err(problem::no_such_target(target, "it does not exist"))
        }
        Err(error) => Err(problem::target("look for rows in a table")(error)),
    }
}
