//! The stand-in's own statements in the client's session, and what they tell about tables.

use std::collections::HashMap;

use super::pending::{Pending, Step};
use super::receive::Until;
use super::{Protocol, Session};
use crate::dialect::{Column, TableInfo, TableName};
use crate::error::SqlError;
use crate::wire::answer;

/// Name of the statement and portal; no client uses it.
const OWN: &str = "\u{1}standin";

const TABLE_SQL: &str = "SELECT * FROM standin_catalog.table_columns($1, $2)";

/// What was found out about tables, until a schema changes.
#[derive(Debug, Default)]
pub struct TableCache {
    as_of_changes: u64,
    found: HashMap<TableName, Option<TableInfo>>,
}

impl Session {
    /// Runs a statement of the stand-in's own inside the client's transaction, with text parameters.
    pub async fn own(
        &mut self,
        sql: &str,
        parameters: &[Option<&str>],
    ) -> anyhow::Result<Result<Vec<Vec<Option<String>>>, SqlError>> {
        self.settle().await?;
        if self.group.passes_over && self.protocol == Protocol::Extended {
            return Ok(Err(SqlError::new("25P02", translate_aborted())));
        }
        let out = self.backing.output();
        // The one before may have been left by an error.
        answer::close_statement(out, OWN);
        answer::close_portal(out, OWN);
        answer::parse(out, OWN, sql, &[0, 0]);
        answer::bind(out, OWN, OWN, parameters);
        answer::execute(out, OWN);
        answer::close_portal(out, OWN);
        let steps = [Step::Close, Step::Close, Step::Parse, Step::Bind, Step::Execute, Step::Close];
        self.pending.extend(steps.map(Pending::Own));
        let until = match self.protocol {
            Protocol::Simple => {
                answer::sync(out);
                Until::Ready
            }
            Protocol::Extended => {
                answer::flush(out);
                Until::Answered
            }
        };
        let received = self.receive(until).await?;
        Ok(match received.error {
            Some(error) => Err(error),
            None => Ok(received.rows),
        })
    }

    /// Returns what is known of a table; `None` if there is none of this name.
    pub async fn table(&mut self, name: &TableName) -> anyhow::Result<Result<Option<TableInfo>, SqlError>> {
        let changes = self.cluster.schema_changes();
        if self.tables.as_of_changes != changes {
            self.tables = TableCache { as_of_changes: changes, found: HashMap::new() };
        }
        if let Some(found) = self.tables.found.get(name) {
            return Ok(Ok(found.clone()));
        }
        let parameters = [name.schema.as_deref(), Some(name.table.as_str())];
        let found = match self.own(TABLE_SQL, &parameters).await? {
            Ok(rows) => table_info(&rows),
            // The transaction is aborted, as the statement would have been told.
            Err(error) => return Ok(Err(error)),
        };
        // A table that is not there yet may be made at any moment, by a statement that is not seen here.
        if found.is_some() {
            self.tables.found.insert(name.clone(), found.clone());
        }
        Ok(Ok(found))
    }
}

fn translate_aborted() -> &'static str {
    "current transaction is aborted, commands ignored until end of transaction block"
}

fn table_info(rows: &[Vec<Option<String>>]) -> Option<TableInfo> {
    let mut info: Option<TableInfo> = None;
    for row in rows {
        let [Some(schema), Some(table), column, hidden, generated, key, locked, stored] = row.as_slice() else {
            continue;
        };
        let flag = |value: &Option<String>| value.as_deref() == Some("t");
        let info = info.get_or_insert_with(|| TableInfo {
            schema: schema.clone(),
            table: table.clone(),
            columns: Vec::new(),
            key: Vec::new(),
            locked: flag(locked),
            stored: flag(stored),
        });
        let Some(name) = column else { continue };
        info.columns.push(Column { name: name.clone(), hidden: flag(hidden), generated: flag(generated) });
        if let Some(place) = key.as_deref().and_then(|place| place.parse::<usize>().ok()) {
            info.key.push((place, name.clone()));
        }
    }
    if let Some(info) = &mut info {
        info.key.sort();
    }
    info
}
