//! Reading a CockroachDB database as of a time.
//!
//! Every statement names the time itself, so nothing is held at the server between statements. The clause takes no
//! placeholder; the time is written into the text, and consists of digits and a dot.

use std::collections::HashMap;

use tidegate_connect::Session;
use tidegate_model::{Hlc, InvalidPosition, Problem, TableName};

use super::rows::{Rows, Stream};
use super::{Selection, Side, SnapshotRef};
use crate::key::Key;
use crate::problem;

/// Names and types of a table's columns, as the server writes them.
const COLUMNS_OF_TABLE: &str = "
SELECT column_name::STRING, crdb_sql_type::STRING, is_hidden::STRING, is_generated::STRING
  FROM information_schema.columns
 WHERE table_schema = $1 AND table_name = $2
 ORDER BY ordinal_position";

/// Returns the time that it is now.
pub(super) async fn now(session: &Session) -> Result<SnapshotRef, Problem> {
    let row = session.query_one("SELECT cluster_logical_timestamp()::STRING", &[]).await.map_err(problem::snapshot)?;
    let at =
        row.get::<_, &str>(0).parse().map_err(|error: InvalidPosition| problem::reader_ended(&error.to_string()))?;
    Ok(SnapshotRef::Cockroach { at })
}

pub(super) async fn read(side: &Side, session: Session, selection: &Selection, at: Hlc) -> Result<Rows, Problem> {
    let sql = select(selection, at);
    run(side, session, selection, &sql).await
}

pub(super) async fn read_keys(
    side: &Side,
    session: Session,
    selection: &Selection,
    keys: &[Key],
    at: Hlc,
) -> Result<Rows, Problem> {
    let types = key_types(&session, selection).await?;
    let sql = format!("{} WHERE {}", select(selection, at), condition(selection, &types, keys));
    run(side, session, selection, &sql).await
}

async fn run(side: &Side, session: Session, selection: &Selection, sql: &str) -> Result<Rows, Problem> {
    // Simple protocol: values come in their text form.
    let messages = session.simple_query_raw(sql).await.map_err(|error| problem::reading(&selection.table, error))?;
    Ok(Rows::new(side.clone(), session, selection.table.clone(), Stream::Simple(Box::pin(messages))))
}

fn select(selection: &Selection, at: Hlc) -> String {
    let columns: Vec<String> = selection.columns.iter().map(|column| identifier(column)).collect();
    format!("SELECT {} FROM {} AS OF SYSTEM TIME '{at}'", columns.join(", "), table(&selection.table))
}

async fn key_types(session: &Session, selection: &Selection) -> Result<Vec<String>, Problem> {
    let Selection { table, columns, key } = selection;
    let rows = session.query(COLUMNS_OF_TABLE, &[&&*table.schema, &&*table.name]).await;
    let rows = rows.map_err(|error| problem::reading(table, error))?;
    let types: HashMap<String, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let find = |index: &usize| {
        let column = &columns[*index];
        types.get(column).cloned().ok_or_else(|| problem::changed(table, format!("column \"{column}\" is gone")))
    };
    key.iter().map(find).collect()
}

/// Returns the condition that only rows of these keys fulfil. A key of one column is compared as a value, others as
/// rows.
fn condition(selection: &Selection, types: &[String], keys: &[Key]) -> String {
    let columns: Vec<String> = selection.key.iter().map(|index| identifier(&selection.columns[*index])).collect();
    let together = |parts: Vec<String>| match &parts[..] {
        [one] => one.clone(),
        several => format!("({})", several.join(", ")),
    };
    let typed = |(value, type_name): (Option<&[u8]>, &String)| {
        let text = value.map_or("NULL".to_owned(), |text| literal(&String::from_utf8_lossy(text)));
        format!("{text}::{type_name}")
    };
    let rows: Vec<String> = keys.iter().map(|key| together(key.values().zip(types).map(typed).collect())).collect();
    format!("{} IN ({})", together(columns), rows.join(", "))
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn table(name: &TableName) -> String {
    format!("{}.{}", identifier(&name.schema), identifier(&name.name))
}

/// Quotes a string. In CockroachDB a backslash in it is a backslash.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(key: &[usize]) -> Selection {
        let columns = vec!["v".to_owned(), "k".to_owned()];
        Selection { table: TableName::new("public", "t"), columns, key: key.to_vec() }
    }

    fn key(values: &[&str]) -> Key {
        values.iter().map(|text| Some(text.as_bytes())).collect()
    }

    #[test]
    fn keys_are_literals_with_their_types() {
        let at = Hlc { wall: 5, logical: 1 };
        let one = selection(&[1]);
        let where_one = condition(&one, &["STRING".to_owned()], &[key(&["o'x"]), key(&["\\"])]);
        assert_eq!(
            format!("{} WHERE {where_one}", select(&one, at)),
            "SELECT \"v\", \"k\" FROM \"public\".\"t\" AS OF SYSTEM TIME '5.0000000001' \
             WHERE \"k\" IN ('o''x'::STRING, '\\'::STRING)"
        );
        let types = ["INT8".to_owned(), "STRING".to_owned()];
        let where_both = condition(&selection(&[0, 1]), &types, &[key(&["1", "a"]), key(&["2", "b"])]);
        assert_eq!(where_both, r#"("v", "k") IN (('1'::INT8, 'a'::STRING), ('2'::INT8, 'b'::STRING))"#);
    }
}
