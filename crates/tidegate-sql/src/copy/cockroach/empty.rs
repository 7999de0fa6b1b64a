//! Emptying a table that an earlier copy began.
//!
//! Never by TRUNCATE: that ends every changefeed on the table, and takes no part in the transaction that checks the
//! lease. Along the primary key instead, a stretch at a time, because reading from the beginning again would pass over
//! everything that was removed before.

use tidegate_connect::Session;
use tidegate_model::{Load, Problem, TableMap, TableName};
use tokio_postgres::Error;

use crate::catalog::{TargetTable, read_tables};
use crate::copy::problem;
use crate::dialect::Dialect;
use crate::quote;
use crate::retry;
use crate::state::{Lease, under_lease};

/// How many rows one transaction removes.
const ROWS_EACH: u32 = 10_000;

/// Removes the rows that earlier copies wrote, for as long as this copy is the current one.
pub(super) async fn empty(session: &Session, lease: &Lease, table: &TableMap, load: &Load) -> Result<(), Problem> {
    let found = read_tables(session, std::slice::from_ref(&table.target)).await?;
    let Some(target) = found.get(&table.target) else {
        return Err(problem::no_such_target(&table.target, "it does not exist"));
    };
    refuse_references(target)?;
    let key = Key::of(target);
    let mut after = None;
    loop {
        let until = match &key {
            Some(key) => key.bound(session, &target.name, after.as_deref()).await?,
            None => None,
        };
        let stretch = key.as_ref().map_or(String::new(), |key| key.stretch(after.as_deref(), until.as_deref()));
        remove(session, lease, table, load, &stretch).await?;
        if until.is_none() {
            return Ok(());
        }
        after = until;
    }
}

/// Rows of other tables would be removed or changed, or refuse it.
fn refuse_references(target: &TargetTable) -> Result<(), Problem> {
    let mut refers = target.foreign_keys.iter().filter(|key| key.references == target.name && key.table != target.name);
    match refers.next() {
        Some(key) => Err(problem::cannot_be_emptied(&target.name, &key.name, Dialect::Cockroach)),
        None => Ok(()),
    }
}

async fn remove(session: &Session, lease: &Lease, table: &TableMap, load: &Load, stretch: &str) -> Result<(), Problem> {
    let current = format!(
        "SELECT 1 / count(*) FROM {} WHERE {} AND source_table = {} AND copies = {}",
        lease.key.table("copy_table"),
        lease.key.condition(),
        quote::literal(&crate::state::table_text(&table.source.name)),
        load.copy
    );
    let delete = format!("DELETE FROM {}{stretch}", quote::table(&table.target));
    let failed = |error: Error| problem::target("empty a table")(error);
    under_lease(session, lease, "", failed, || async {
        session.batch_execute(&current).await.map_err(failed)?;
        session.batch_execute(&delete).await.map_err(failed)
    })
    .await
}

/// The primary key, hidden columns included: every table has one.
struct Key {
    columns: Vec<String>,
    types: Vec<String>,
}

impl Key {
    fn of(target: &TargetTable) -> Option<Key> {
        let names = target.unique_keys.first()?;
        let types = names.iter().map(|name| target.column(name).map(|column| column.type_name.clone()));
        let types: Vec<String> = types.collect::<Option<_>>()?;
        Some(Key { columns: names.iter().map(|name| quote::identifier(name)).collect(), types })
    }

    fn tuple(&self) -> String {
        format!("({})", self.columns.join(", "))
    }

    /// Returns the key of the last row of the stretch that begins after `after`, as a tuple of literals; `None` where
    /// fewer rows are left.
    async fn bound(
        &self,
        session: &Session,
        table: &TableName,
        after: Option<&str>,
    ) -> Result<Option<String>, Problem> {
        let texts: Vec<String> = self.columns.iter().map(|column| format!("{column}::STRING")).collect();
        let sql = format!(
            "SELECT {} FROM {}{} ORDER BY {} LIMIT 1 OFFSET {}",
            texts.join(", "),
            quote::table(table),
            self.stretch(after, None),
            self.columns.join(", "),
            ROWS_EACH - 1
        );
        let failed = |error: Error| problem::target("empty a table")(error);
        let row = retry::repeatable(|| async { session.query_opt(&sql, &[]).await.map_err(failed) }).await?;
        let literal = |(index, type_name): (usize, &String)| {
            row.as_ref().map(|row| format!("{}::{type_name}", quote::literal(row.get::<_, &str>(index))))
        };
        let literals: Option<Vec<String>> = self.types.iter().enumerate().map(literal).collect();
        Ok(literals.map(|literals| format!("({})", literals.join(", "))))
    }

    fn stretch(&self, after: Option<&str>, until: Option<&str>) -> String {
        let key = self.tuple();
        match (after, until) {
            (None, None) => String::new(),
            (Some(after), None) => format!(" WHERE {key} > {after}"),
            (None, Some(until)) => format!(" WHERE {key} <= {until}"),
            (Some(after), Some(until)) => format!(" WHERE {key} > {after} AND {key} <= {until}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_follow_each_other_without_a_gap() {
        let key = Key { columns: vec!["\"a\"".to_owned(), "\"b\"".to_owned()], types: vec!["INT8".to_owned(); 2] };
        assert_eq!(key.stretch(None, Some("(1, 2)")), " WHERE (\"a\", \"b\") <= (1, 2)");
        assert_eq!(
            key.stretch(Some("(1, 2)"), Some("(3, 4)")),
            " WHERE (\"a\", \"b\") > (1, 2) AND (\"a\", \"b\") <= (3, 4)"
        );
        assert_eq!(key.stretch(Some("(3, 4)"), None), " WHERE (\"a\", \"b\") > (3, 4)");
    }
}
