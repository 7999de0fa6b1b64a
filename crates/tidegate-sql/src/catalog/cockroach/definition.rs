//! What only `SHOW CREATE TABLE` tells in every version, and triggers, which only newer versions have.

use std::collections::HashMap;

use futures_util::future::try_join_all;
use tidegate_connect::{Server, Session};
use tokio_postgres::Error;

use crate::catalog::{Firing, TargetKind, TargetTable, Trigger};
use crate::{quote, server_error};

/// Tables asked for at a time: the questions follow each other over one connection without waiting.
const AT_ONCE: usize = 50;

pub(super) async fn read(session: &Session, tables: &mut HashMap<u32, TargetTable>) -> Result<(), Error> {
    let has_triggers = matches!(session.server(), Server::Cockroach(version) if version.at_least(24, 3));
    let mut oids: Vec<u32> =
        tables.iter().filter(|(_, table)| table.kind == TargetKind::Table).map(|(oid, _)| *oid).collect();
    oids.sort_unstable();
    for oids in oids.chunks(AT_ONCE) {
        let asked = oids.iter().map(|oid| ask(session, quote::table(&tables[oid].name), has_triggers));
        for (oid, (definition, triggers)) in oids.iter().zip(try_join_all(asked).await?) {
            let table = tables.get_mut(oid).expect("it was there just now");
            note(table, &definition);
            match triggers {
                Ok(triggers) => table.triggers = triggers,
                Err(why) => table.triggers_unknown = Some(why),
            }
        }
    }
    Ok(())
}

/// A table's triggers, or why they are not known.
type Triggers = Result<Vec<Trigger>, String>;

async fn ask(session: &Session, table: String, has_triggers: bool) -> Result<(String, Triggers), Error> {
    let row = session.query_one(&format!("SHOW CREATE TABLE {table}"), &[]).await?;
    if !has_triggers {
        return Ok((row.get(1), Ok(Vec::new())));
    }
    match triggers(session, &table).await {
        Ok(triggers) => Ok((row.get(1), Ok(triggers))),
        Err(error) if server_error::is_transient(&error) => Err(error),
        Err(error) => Ok((row.get(1), Err(server_error::describe(&error)))),
    }
}

async fn triggers(session: &Session, table: &str) -> Result<Vec<Trigger>, Error> {
    let mut triggers = Vec::new();
    for row in session.query(&format!("SHOW TRIGGERS FROM {table}"), &[]).await? {
        let (name, enabled): (String, bool) = (row.get("trigger_name"), row.get("enabled"));
        let sql = format!("SHOW CREATE TRIGGER {} ON {table}", quote::identifier(&name));
        let definition = session.query_one(&sql, &[]).await?.get("create_statement");
        let firing = if enabled { Firing::Always } else { Firing::Disabled };
        triggers.push(Trigger { name, firing, definition });
    }
    Ok(triggers)
}

/// Reads a definition as far as it matters. Names are quoted where they could be taken for words.
fn note(table: &mut TargetTable, definition: &str) {
    let lines: Vec<&str> = definition.lines().map(str::trim).collect();
    table.families = lines.iter().filter(|line| line.starts_with("FAMILY ")).count().max(1);
    let storage = definition.rsplit_once(") WITH (").map_or("", |(_, storage)| storage);
    table.schema_locked = storage.replace(' ', "").contains("schema_locked=true");
    for column in &mut table.columns {
        let (bare, quoted) = (format!("{} ", column.name), format!("{} ", quote::identifier(&column.name)));
        let line = lines.iter().find(|line| line.starts_with(&bare) || line.starts_with(&quoted));
        column.identity_always |= line.is_some_and(|line| line.contains("GENERATED ALWAYS AS IDENTITY"));
    }
}

#[cfg(test)]
mod tests {
    use tidegate_model::TableName;

    use super::*;
    use crate::catalog::{TargetColumn, ValueType};

    fn table(columns: &[&str]) -> TargetTable {
        let column = |name: &&str| TargetColumn {
            name: (*name).into(),
            type_oid: 20,
            type_name: "INT8".to_owned(),
            type_text: "INT8".to_owned(),
            value_type: ValueType::new("bigint", -1),
            not_null: true,
            has_default: false,
            generated: false,
            identity_always: false,
            comparable: true,
            hidden: false,
        };
        TargetTable {
            oid: 1,
            name: TableName::new("public", "t"),
            kind: TargetKind::Table,
            columns: columns.iter().map(column).collect(),
            unique_keys: Vec::new(),
            foreign_keys: Vec::new(),
            triggers: Vec::new(),
            rules: Vec::new(),
            row_security: false,
            missing_privileges: Vec::new(),
            schema_usage: true,
            families: 1,
            schema_locked: false,
            triggers_unknown: None,
        }
    }

    #[test]
    fn a_definition_tells_of_families_locks_and_identities() {
        let mut found = table(&["id", "Odd name", "v"]);
        note(
            &mut found,
            "CREATE TABLE public.t (\n\tid INT8 NOT NULL GENERATED ALWAYS AS IDENTITY,\n\
             \t\"Odd name\" INT8 NOT NULL GENERATED ALWAYS AS IDENTITY (START 5),\n\tv INT8 NULL,\n\
             \tCONSTRAINT t_pkey PRIMARY KEY (id ASC),\n\tFAMILY f1 (id, v),\n\tFAMILY f2 (\"Odd name\")\n\
             ) WITH (schema_locked = true)",
        );
        assert_eq!((found.families, found.schema_locked), (2, true));
        let always: Vec<bool> = found.columns.iter().map(|column| column.identity_always).collect();
        assert_eq!(always, [true, true, false]);
        let mut plain = table(&["id"]);
        note(&mut plain, "CREATE TABLE public.t (\n\tid INT8 NOT NULL,\n\tCONSTRAINT t_pkey PRIMARY KEY (id ASC)\n)");
        assert_eq!((plain.families, plain.schema_locked, plain.columns[0].identity_always), (1, false, false));
    }
}
