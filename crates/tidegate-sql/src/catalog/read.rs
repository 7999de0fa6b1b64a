//! Reading the catalog of the target.

use std::collections::HashMap;

use tidegate_connect::Session;
use tidegate_model::{ColumnName, Problem, TableName};
use tokio_postgres::{Client, Error, Row};

use super::{Firing, ForeignKey, Rule, TargetColumn, TargetKind, TargetTable, Trigger, ValueType, cockroach};
use crate::dialect::Dialect;
use crate::server_error;

/// A type is comparable if it, or what it is a domain over, has an operator class that an index uses by default. Arrays
/// and enums have one for all of their kind, but an array only as far as its element has; ranges and composites are
/// taken as they are declared.
const COLUMNS: &str = "
SELECT a.attrelid, a.attname::text, a.atttypid, format_type(a.atttypid, -1), format_type(a.atttypid, a.atttypmod),
       a.attnotnull, a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL, a.attgenerated <> '',
       a.attidentity = 'a',
       CASE WHEN coalesce(e.typtype, b.typtype) IN ('e', 'r', 'm') THEN true
            ELSE EXISTS (SELECT FROM pg_opclass o JOIN pg_am m ON m.oid = o.opcmethod
                          WHERE m.amname IN ('btree', 'hash') AND o.opcdefault
                            AND (o.opcintype = coalesce(e.oid, b.oid)
                                 OR o.opcintype IN (SELECT c.casttarget FROM pg_cast c
                                                     WHERE c.castsource = coalesce(e.oid, b.oid)
                                                       AND c.castmethod = 'b' AND c.castcontext = 'i')))
       END, a.atttypmod
  FROM pg_attribute a
  JOIN pg_type t ON t.oid = a.atttypid
  JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
  LEFT JOIN pg_type e ON e.oid = b.typelem AND b.typcategory = 'A'
 WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attrelid, a.attnum";

/// Follows domains down to what they are over. One of the domains may say a modifier.
const VALUE_TYPES: &str = "
WITH RECURSIVE over (declared, oid, modifier) AS (
     SELECT oid, oid, -1 FROM pg_type WHERE oid = ANY ($1)
     UNION ALL
     SELECT o.declared, t.typbasetype, CASE WHEN o.modifier = -1 THEN t.typtypmod ELSE o.modifier END
       FROM over o JOIN pg_type t ON t.oid = o.oid
      WHERE t.typtype = 'd')
SELECT o.declared, format_type(o.oid, -1), o.modifier,
       ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid IN (t.oid, t.typelem) ORDER BY e.enumsortorder)
  FROM over o JOIN pg_type t ON t.oid = o.oid
 WHERE t.typtype <> 'd'";

const TABLES: &str = "
SELECT c.oid, w.schema, w.name, c.relkind::text, row_security_active(c.oid), has_schema_privilege(n.oid, 'USAGE'),
       ARRAY(SELECT p FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS p
              WHERE NOT has_table_privilege(c.oid, p))
  FROM unnest($1::text[], $2::text[]) AS w (schema, name)
  JOIN pg_namespace n ON n.nspname = w.schema
  JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')";

const UNIQUE_KEYS: &str = "
SELECT i.indrelid, ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, place)
                          JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
                         WHERE k.place <= i.indnkeyatts ORDER BY k.place)
  FROM pg_index i
 WHERE i.indrelid = ANY ($1) AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
 ORDER BY i.indrelid, i.indisprimary DESC, i.indexrelid";

const FOREIGN_KEYS: &str = "
SELECT k.conrelid, k.confrelid, k.conname::text, n.nspname::text, c.relname::text, fn.nspname::text, f.relname::text,
       k.confdeltype NOT IN ('a', 'r') OR k.confupdtype NOT IN ('a', 'r'), k.condeferrable, k.conparentid <> 0,
       pg_get_constraintdef(k.oid)
  FROM pg_constraint k
  JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_class f ON f.oid = k.confrelid JOIN pg_namespace fn ON fn.oid = f.relnamespace
 WHERE k.contype = 'f' AND (k.conrelid = ANY ($1) OR k.confrelid = ANY ($1))
 ORDER BY n.nspname, c.relname, k.conname";

const TRIGGERS: &str = "
SELECT tgrelid, tgname::text, tgenabled::text, pg_get_triggerdef(oid) FROM pg_trigger
 WHERE tgrelid = ANY ($1) AND NOT tgisinternal ORDER BY tgrelid, tgname";

const RULES: &str = "
SELECT ev_class, rulename::text, ev_enabled::text, pg_get_ruledef(oid) FROM pg_rewrite
 WHERE ev_class = ANY ($1) AND rulename <> '_RETURN' ORDER BY ev_class, rulename";

/// Reads what the target has under these names. Names that it does not have are left out.
pub async fn read_tables(session: &Session, names: &[TableName]) -> Result<HashMap<TableName, TargetTable>, Problem> {
    if Dialect::of(session).is_cockroach() {
        return cockroach::read_tables(session, names).await;
    }
    read(session, names).await.map_err(|error| {
        let next = "see the reason: the catalog is readable for every role";
        server_error::problem("CK050", "the tables of the target cannot be read", error, next)
    })
}

async fn read(client: &Client, names: &[TableName]) -> Result<HashMap<TableName, TargetTable>, Error> {
    let schemas: Vec<&str> = names.iter().map(|name| &*name.schema).collect();
    let plain: Vec<&str> = names.iter().map(|name| &*name.name).collect();
    let rows = client.query(TABLES, &[&schemas, &plain]).await?;
    let mut tables: HashMap<u32, TargetTable> = rows.iter().map(|row| (row.get(0), table(row))).collect();
    let oids: Vec<u32> = tables.keys().copied().collect();
    let rows = client.query(COLUMNS, &[&oids]).await?;
    let types = read_value_types(client, &rows.iter().map(|row| row.get(2)).collect::<Vec<u32>>()).await?;
    for row in &rows {
        of(&mut tables, row, |table| table.columns.push(column(row, &types)));
    }
    for row in client.query(UNIQUE_KEYS, &[&oids]).await? {
        let columns = row.get::<_, Vec<String>>(1).into_iter().map(ColumnName::from).collect();
        of(&mut tables, &row, |table| table.unique_keys.push(columns));
    }
    for row in client.query(FOREIGN_KEYS, &[&oids]).await? {
        let key = foreign_key(&row);
        let (table, references): (u32, u32) = (row.get(0), row.get(1));
        if let Some(referencing) = tables.get_mut(&table) {
            referencing.foreign_keys.push(key.clone());
        }
        if let Some(referenced) = tables.get_mut(&references).filter(|_| table != references) {
            referenced.foreign_keys.push(key);
        }
    }
    for row in client.query(TRIGGERS, &[&oids]).await? {
        let trigger = Trigger { name: row.get(1), firing: firing(row.get(2)), definition: row.get(3) };
        of(&mut tables, &row, |table| table.triggers.push(trigger));
    }
    for row in client.query(RULES, &[&oids]).await? {
        let rule = Rule { name: row.get(1), firing: firing(row.get(2)), definition: row.get(3) };
        of(&mut tables, &row, |table| table.rules.push(rule));
    }
    Ok(tables.into_values().map(|table| (table.name.clone(), table)).collect())
}

/// Returns what the values of types are, by the OIDs of the types. Those that the database does not have are left out.
pub async fn value_types(session: &Session, oids: &[u32]) -> Result<HashMap<u32, ValueType>, Problem> {
    if Dialect::of(session).is_cockroach() {
        return cockroach::value_types(session, oids).await;
    }
    read_value_types(session, oids).await.map_err(|error| {
        server_error::problem("CK050", "the types of a database cannot be read", error, "see the reason")
    })
}

async fn read_value_types(client: &Client, oids: &[u32]) -> Result<HashMap<u32, ValueType>, Error> {
    let rows = client.query(VALUE_TYPES, &[&oids]).await?;
    let value_type = |row: &Row| ValueType::new(row.get::<_, String>(1), row.get(2)).with_labels(row.get(3));
    Ok(rows.iter().map(|row| (row.get(0), value_type(row))).collect())
}

fn of(tables: &mut HashMap<u32, TargetTable>, row: &Row, add: impl FnOnce(&mut TargetTable)) {
    if let Some(table) = tables.get_mut(&row.get::<_, u32>(0)) {
        add(table);
    }
}

fn table(row: &Row) -> TargetTable {
    TargetTable {
        oid: row.get(0),
        name: TableName::new(row.get::<_, String>(1), row.get::<_, String>(2)),
        kind: match row.get::<_, &str>(3) {
            "r" => TargetKind::Table,
            "p" => TargetKind::Partitioned,
            _ => TargetKind::Other,
        },
        columns: Vec::new(),
        unique_keys: Vec::new(),
        foreign_keys: Vec::new(),
        triggers: Vec::new(),
        rules: Vec::new(),
        row_security: row.get(4),
        schema_usage: row.get(5),
        families: 1,
        schema_locked: false,
        triggers_unknown: None,
        missing_privileges: row.get(6),
    }
}

fn column(row: &Row, types: &HashMap<u32, ValueType>) -> TargetColumn {
    let type_name: String = row.get(3);
    // A type made since then is taken by its name.
    let value_type = types.get(&row.get(2)).cloned().unwrap_or_else(|| ValueType::new(type_name.clone(), -1));
    TargetColumn {
        name: row.get::<_, String>(1).into(),
        type_oid: row.get(2),
        type_name,
        type_text: row.get(4),
        value_type: value_type.declared(row.get(10)),
        not_null: row.get(5),
        has_default: row.get(6),
        generated: row.get(7),
        identity_always: row.get(8),
        comparable: row.get(9),
        hidden: false,
    }
}

fn foreign_key(row: &Row) -> ForeignKey {
    ForeignKey {
        name: row.get(2),
        table: TableName::new(row.get::<_, String>(3), row.get::<_, String>(4)),
        references: TableName::new(row.get::<_, String>(5), row.get::<_, String>(6)),
        has_actions: row.get(7),
        deferrable: row.get(8),
        inherited: row.get(9),
        definition: row.get(10),
    }
}

fn firing(enabled: &str) -> Firing {
    match enabled {
        "O" => Firing::Origin,
        "R" => Firing::Replica,
        "A" => Firing::Always,
        _ => Firing::Disabled,
    }
}
