//! Whether the tables of a stream are still those that it was mapped for.
//!
//! A feed names tables, and a table of that name may be another one by now. Nor does it tell DDL: where a column's type
//! was changed, the values that the server made of the old ones come as copies of old versions, which a stream drops.

use std::collections::HashMap;

use tidegate_connect::Session;
use tidegate_model::{MigrationName, Problem, RelationId, SourceTable, TableFilter, TableName};

use super::read;
use crate::problem::recreate;

const EXCHANGED: &str = "CR041";
const RETYPED: &str = "CR042";

/// The tables of a database and the types of their columns, as the catalog has them at one moment. Costs the server two
/// questions, whatever the number of tables.
#[derive(Debug)]
pub struct Present {
    names: HashMap<RelationId, TableName>,
    /// By table and column; the OID of the type.
    types: HashMap<(RelationId, String), u32>,
}

impl Present {
    /// Reads them from the session's database.
    pub async fn read(session: &Session) -> Result<Present, Problem> {
        let every_table = TableFilter::new(&[], &[], "")?;
        Ok(Present {
            names: read::names(session, &every_table).await?.into_iter().collect(),
            types: read::type_oids(session).await?,
        })
    }

    /// Returns the tables that the filter takes, by name.
    pub fn matching(&self, filter: &TableFilter) -> Vec<(RelationId, TableName)> {
        let found = self.names.iter().filter(|(_, name)| filter.matches(name, &[]));
        let mut matching: Vec<_> = found.map(|(id, name)| (*id, name.clone())).collect();
        matching.sort_by(|(_, one), (_, other)| one.cmp(other));
        matching
    }

    /// Refuses to go on with tables of which one was renamed, exchanged for another one of its name, or given another
    /// type. Returns those that were dropped. Columns that came or went are left to the feed, which tells from which row
    /// on.
    pub fn verify<'a>(
        &self,
        name: &MigrationName,
        tables: impl IntoIterator<Item = &'a SourceTable>,
    ) -> Result<Vec<TableName>, Problem> {
        let mut dropped = Vec::new();
        for table in tables {
            match self.names.get(&table.id) {
                Some(now) if *now != table.name => {
                    return Err(exchanged(name, table, format!("it is called \"{now}\" now")));
                }
                Some(_) => self.verify_types(name, table)?,
                None if self.names.values().any(|now| *now == table.name) => {
                    let why = "it was dropped or moved away, and another table has its name now";
                    return Err(exchanged(name, table, why.to_owned()));
                }
                None => dropped.push(table.name.clone()),
            }
        }
        Ok(dropped)
    }

    fn verify_types(&self, name: &MigrationName, table: &SourceTable) -> Result<(), Problem> {
        let changed = table.columns.iter().find(|column| {
            let now = self.types.get(&(table.id, column.name.to_string()));
            now.is_some_and(|now| *now != column.type_oid)
        });
        match changed {
            Some(column) => Err(retyped(name, table, &column.name)),
            None => Ok(()),
        }
    }
}

fn exchanged(name: &MigrationName, table: &SourceTable, why: String) -> Problem {
    Problem::definite(
        EXCHANGED,
        format!("table \"{}\" of the source is not the table that the stream carries any more", table.name),
        format!("{why}; a changefeed is asked for by name, and would tell the rows of the other one as if of the same"),
        format!(
            "give the table its name back and start again, or, to carry the one that has the name now, {}",
            recreate(name)
        ),
    )
}

fn retyped(name: &MigrationName, table: &SourceTable, column: &str) -> Problem {
    let table = &table.name;
    Problem::definite(
        RETYPED,
        format!("table \"{table}\" changed at the source: column \"{column}\" has another type"),
        "the values that the server made of the old ones are not told as changes, so the target would keep the old ones",
        format!(
            "give the column of the target that type, then copy the table again: tidegate migrate --name {name} --recopy \
             {table}"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::table;

    fn present(tables: &[(u32, &str)], types: &[(u32, &str, u32)]) -> Present {
        let names = tables.iter().map(|(id, name)| (RelationId(*id), TableName::new("public", *name)));
        let types = types.iter().map(|(id, column, oid)| ((RelationId(*id), (*column).to_owned()), *oid));
        Present { names: names.collect(), types: types.collect() }
    }

    #[test]
    fn only_the_tables_that_were_mapped_are_carried() {
        let name: MigrationName = "orders".parse().unwrap();
        // Its columns are of the type with OID 25.
        let mapped = table(1, "t", &[("*a", "STRING"), ("b", "STRING")]);
        let code = |present: &Present| present.verify(&name, [&*mapped.table]).map_err(|problem| problem.code);
        let same = [(1, "a", 25), (1, "b", 25), (1, "new", 20)];
        assert_eq!(code(&present(&[(1, "t"), (2, "u")], &same)), Ok(vec![]));
        assert_eq!(code(&present(&[(1, "t")], &[(1, "a", 25)])), Ok(vec![]), "the feed tells that a column is gone");
        assert_eq!(code(&present(&[(2, "u")], &[])), Ok(vec![TableName::new("public", "t")]));
        assert_eq!(code(&present(&[(2, "t")], &same)), Err("CR041"));
        assert_eq!(code(&present(&[(1, "old"), (2, "t")], &same)), Err("CR041"));
        assert_eq!(code(&present(&[(1, "old")], &same)), Err("CR041"));
        assert_eq!(code(&present(&[(1, "t")], &[(1, "a", 25), (1, "b", 20)])), Err("CR042"));
    }
}
