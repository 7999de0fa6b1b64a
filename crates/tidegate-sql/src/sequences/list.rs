//! What sequences there are.

use std::collections::HashMap;

use tidegate_connect::Session;
use tidegate_model::{Problem, TableName};
use tokio_postgres::Row;

use super::problem::failed;
use super::{Owner, Sequence};
use crate::{quote, retry};

/// As many are read by one statement.
const READ_MAX: usize = 200;

const POSTGRES: &str = "
SELECT n.nspname::text, c.relname::text, pg_catalog.format_type(s.seqtypid, NULL), s.seqstart, s.seqincrement,
       s.seqmin, s.seqmax, s.seqcycle, s.seqcache, tn.nspname::text, t.relname::text, a.attname::text
FROM pg_catalog.pg_sequence s
JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid
     AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
LEFT JOIN pg_catalog.pg_class t ON t.oid = d.refobjid
LEFT JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE c.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
ORDER BY 1, 2";

/// Its sequences do not cycle, and where one stands is NULL until it is called. The name as SQL is what
/// `pg_get_serial_sequence` gives.
const COCKROACH: &str = "
SELECT schemaname::STRING, sequencename::STRING, NULL::STRING, start_value::INT8, increment_by::INT8,
       min_value::INT8, max_value::INT8, cycle, cache_size::INT8, last_value::INT8,
       quote_ident(schemaname::STRING) || '.' || quote_ident(sequencename::STRING)
FROM pg_catalog.pg_sequences
WHERE schemaname NOT IN ('pg_catalog', 'information_schema', 'crdb_internal', 'pg_extension')
ORDER BY 1, 2";

const COCKROACH_OWNERS: &str = "
SELECT n.nspname::STRING, c.relname::STRING, a.attname::STRING,
       pg_get_serial_sequence(quote_ident(n.nspname::STRING) || '.' || quote_ident(c.relname::STRING),
                              a.attname::STRING)::STRING
FROM pg_catalog.pg_attribute AS a
JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped AND (a.atthasdef OR a.attidentity <> '')
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'crdb_internal', 'pg_extension')
ORDER BY 1, 2, 3";

/// Returns the sequences of a database and where they stand, by name.
pub async fn list_sequences(session: &Session) -> Result<Vec<Sequence>, Problem> {
    if session.is_cockroach() { cockroach(session).await } else { postgres(session).await }
}

/// Returns the last value of a sequence that is in its column, in the direction in which it counts; `None` where it has no
/// column or that holds nothing.
pub async fn last_used(session: &Session, sequence: &Sequence) -> Result<Option<i64>, Problem> {
    let Some(owner) = &sequence.owner else { return Ok(None) };
    let last = if sequence.increment > 0 { "max" } else { "min" };
    let sql = format!("SELECT {last}({})::INT8 FROM {}", quote::identifier(&owner.column), quote::table(&owner.table));
    let row = retry::repeatable(|| async { session.query_one(&sql, &[]).await.map_err(failed("read what was used")) });
    Ok(row.await?.get(0))
}

async fn postgres(session: &Session) -> Result<Vec<Sequence>, Problem> {
    let rows = session.query(POSTGRES, &[]).await.map_err(failed("list them"))?;
    let mut sequences: Vec<Sequence> = rows.iter().map(definition).collect();
    for (sequence, row) in sequences.iter_mut().zip(&rows) {
        let owner: (Option<String>, Option<String>, Option<String>) = (row.get(9), row.get(10), row.get(11));
        if let (Some(schema), Some(table), Some(column)) = owner {
            sequence.owner = Some(Owner { table: TableName::new(schema, table), column });
        }
    }
    // `pg_sequences` does not tell a value that was set from one that was never called.
    for some in sequences.chunks_mut(READ_MAX) {
        let one = |(at, sequence): (usize, &Sequence)| {
            format!("SELECT {at}, last_value, is_called FROM {}", quote::table(&sequence.name))
        };
        let sql: Vec<String> = some.iter().enumerate().map(one).collect();
        for row in session.query(&sql.join(" UNION ALL "), &[]).await.map_err(failed("read where they stand"))? {
            let sequence = usize::try_from(row.get::<_, i32>(0)).ok().and_then(|at| some.get_mut(at));
            if let Some(sequence) = sequence {
                (sequence.last_value, sequence.is_called) = (row.get(1), row.get(2));
            }
        }
    }
    Ok(sequences)
}

async fn cockroach(session: &Session) -> Result<Vec<Sequence>, Problem> {
    let owners = owners(session).await?;
    let rows = retry::repeatable(|| async { session.query(COCKROACH, &[]).await.map_err(failed("list them")) });
    let sequence = |row: &Row| {
        let last: Option<i64> = row.get(9);
        let mut sequence = definition(row);
        (sequence.last_value, sequence.is_called) = (last.unwrap_or(sequence.start), last.is_some());
        sequence.owner = owners.get(row.get::<_, &str>(10)).cloned();
        sequence
    };
    Ok(rows.await?.iter().map(sequence).collect())
}

async fn owners(session: &Session) -> Result<HashMap<String, Owner>, Problem> {
    let rows = retry::repeatable(|| async {
        session.query(COCKROACH_OWNERS, &[]).await.map_err(failed("see which columns they belong to"))
    });
    let mut owners = HashMap::new();
    for row in rows.await? {
        if let Some(sequence) = row.get::<_, Option<String>>(3) {
            let table = TableName::new(row.get::<_, String>(0), row.get::<_, String>(1));
            owners.insert(sequence, Owner { table, column: row.get(2) });
        }
    }
    Ok(owners)
}

fn definition(row: &Row) -> Sequence {
    Sequence {
        name: TableName::new(row.get::<_, String>(0), row.get::<_, String>(1)),
        of: row.get(2),
        start: row.get(3),
        increment: row.get(4),
        min: row.get(5),
        max: row.get(6),
        cycle: row.get(7),
        cache: row.get(8),
        last_value: row.get(3),
        is_called: false,
        owner: None,
    }
}
