//! Row sources: SQL text that gives the rows of a table at a time.
//!
//! The rows that nobody changed after the time are read from the table; the others from the log, where the first row
//! about a key after the time says what was before. Both halves come in key order and take conditions on the key into
//! their indexes, so a range of a large table costs what the range costs.

use tokio_postgres::Client;

use super::{Hlc, Tracked, quoted};
use crate::error::SqlError;

/// Below this many log rows after a time they are fetched through their commits, above it through their keys.
const FEW: i64 = 20_000;

fn keys(table: &Tracked, of: &str) -> Vec<String> {
    table.layout.keys.iter().map(|place| format!("{of}.c{}", table.layout.columns[*place].number)).collect()
}

/// The stamp of the newest log row of a row `t` of the table; no row if it has none.
fn newest_stamp(table: &Tracked) -> String {
    let same: Vec<String> = table
        .layout
        .keys
        .iter()
        .map(|place| &table.layout.columns[*place])
        .map(|column| format!("l.c{} = t.{}", column.number, quoted(&column.name)))
        .collect();
    format!(
        "(SELECT coalesce(c.hlc, standin.unstamped(l.x)) FROM {} l LEFT JOIN standin.commit c ON c.xid = l.x \
         WHERE {} ORDER BY l.n DESC LIMIT 1)",
        table.log(),
        same.join(" AND ")
    )
}

/// Returns the row source for `at`. The caller has made sure that it is not in the future.
pub async fn source(client: &Client, table: &Tracked, at: Hlc, mvcc: bool) -> Result<String, SqlError> {
    let log = table.log();
    let few = format!(
        "SELECT count(*) FROM (SELECT 1 FROM standin.commit c CROSS JOIN LATERAL (SELECT 1 FROM {log} l \
         WHERE l.x = c.xid ORDER BY l.n LIMIT {FEW}) l WHERE c.hlc > $1 LIMIT {FEW}) AS later"
    );
    let later: i64 = client.query_one(&few, &[&at.0]).await?.get(0);
    let Hlc(time) = at;
    let changed = if later < FEW {
        // The limit makes the planner take the index on the transaction, whatever it believes of its size.
        format!(
            "standin.commit c CROSS JOIN LATERAL (SELECT * FROM {log} l WHERE l.x = c.xid ORDER BY l.n LIMIT {FEW}) l \
             WHERE c.hlc > {time}"
        )
    } else {
        format!("standin.commit c JOIN {log} l ON l.x = c.xid WHERE c.hlc > {time}")
    };
    let names: Vec<String> = table.layout.columns.iter().map(|column| format!("t.{}", quoted(&column.name))).collect();
    let logged: Vec<String> = table.layout.columns.iter().map(|column| format!("s.c{}", column.number)).collect();
    let order: Vec<String> = table.layout.keys.iter().map(|place| names[*place].clone()).collect();
    let newest = newest_stamp(table);
    let since = table.since;
    let (mvcc_now, mvcc_then) = if mvcc {
        let then = format!(
            ", standin.hlc_decimal(coalesce((SELECT max(c.hlc) FROM {log} l JOIN standin.commit c ON c.xid = l.x \
             WHERE ({}) = ({}) AND c.hlc <= {time}), {since}))",
            keys(table, "l").join(", "),
            keys(table, "s").join(", ")
        );
        (format!(", standin.hlc_decimal(coalesce({newest}, {since})) AS crdb_internal_mvcc_timestamp"), then)
    } else {
        (String::new(), String::new())
    };
    let key = keys(table, "l").join(", ");
    Ok(format!(
        "((SELECT {}{mvcc_now} FROM {} t WHERE coalesce({newest}, 0) <= {time} ORDER BY {}) UNION ALL \
         (SELECT {}{mvcc_then} FROM (SELECT DISTINCT ON ({key}) l.* FROM {changed} ORDER BY {key}, l.n) s \
         WHERE NOT s.plus ORDER BY {}))",
        names.join(", "),
        table.path(),
        order.join(", "),
        logged.join(", "),
        keys(table, "s").join(", ")
    ))
}

/// Returns the row source for now, with the timestamps of the rows.
pub fn mvcc_source(table: &Tracked) -> String {
    format!(
        "(SELECT t.*, standin.hlc_decimal(coalesce({}, {})) AS crdb_internal_mvcc_timestamp FROM {} t)",
        newest_stamp(table),
        table.since,
        table.path()
    )
}
