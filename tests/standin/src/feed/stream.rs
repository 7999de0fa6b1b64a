//! Reading changes out of the log, and rows out of the table.

use std::pin::Pin;

use futures_util::stream::Fuse;
use futures_util::{StreamExt, TryStreamExt};
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow, SimpleQueryStream};

use super::message::Row;
use super::output::Stop;
use crate::encode::Kind;
use crate::history::{Hlc, Layout, Tracked, quoted};

/// One transaction.
#[derive(Clone, Debug)]
pub struct Commit {
    pub transaction: String,
    pub at: Hlc,
    pub hidden: bool,
}

/// What one transaction did to one row.
#[derive(Debug)]
pub struct Folded {
    pub at: Hlc,
    pub before: Option<Row>,
    pub after: Option<Row>,
    /// The row, where the transaction made and removed it.
    pub passing: Option<Row>,
}

/// Returns transactions after `after` up to `until`, at most `limit`, in their order.
pub async fn commits(client: &Client, after: Hlc, until: Hlc, limit: i64) -> Result<Vec<Commit>, Stop> {
    let sql = "SELECT xid::text, hlc, hidden FROM standin.commit WHERE hlc > $1 AND hlc <= $2 ORDER BY hlc LIMIT $3";
    let rows = client.query(sql, &[&after.0, &until.0, &limit]).await?;
    Ok(rows.iter().map(|row| Commit { transaction: row.get(0), at: Hlc(row.get(1)), hidden: row.get(2) }).collect())
}

/// Statement that gives the log rows of some transactions, key by key.
fn changes_sql(table: &Tracked, layout: &Layout, commits: &[&Commit]) -> String {
    let columns: Vec<String> = layout.columns.iter().map(|column| format!("l.c{}", column.number)).collect();
    let keys: Vec<String> = layout.keys.iter().map(|place| columns[*place].clone()).collect();
    let transactions: Vec<&str> = commits.iter().map(|commit| commit.transaction.as_str()).collect();
    let times: Vec<String> = commits.iter().map(|commit| commit.at.0.to_string()).collect();
    format!(
        "SELECT c.hlc, l.plus, {} FROM unnest('{{{}}}'::xid8[], '{{{}}}'::int8[]) AS c (x, hlc) \
         JOIN {} l ON l.x = c.x ORDER BY c.hlc, {}, l.n",
        columns.join(", "),
        transactions.join(","),
        times.join(","),
        table.log(),
        keys.join(", ")
    )
}

/// The changes of a table in some transactions, in the order of the commits.
pub struct Changes<'a> {
    /// Asked again after its end, the stream itself would take the connection for lost.
    rows: Fuse<Pin<Box<SimpleQueryStream>>>,
    layout: &'a Layout,
    /// The key that is being folded.
    group: Option<(Vec<String>, Folded)>,
}

impl<'a> Changes<'a> {
    /// Begins to read the log rows of a table.
    pub async fn of(
        client: &Client,
        table: &Tracked,
        layout: &'a Layout,
        commits: &[&Commit],
    ) -> Result<Changes<'a>, Stop> {
        let rows = client.simple_query_raw(&changes_sql(table, layout, commits)).await?;
        Ok(Changes { rows: Box::pin(rows).fuse(), layout, group: None })
    }

    /// Folds per transaction and key what was first and what was last. Holds one row at a time.
    pub async fn next(&mut self) -> Result<Option<Folded>, Stop> {
        while let Some(message) = self.rows.try_next().await? {
            let SimpleQueryMessage::Row(row) = message else { continue };
            let at = Hlc(row.get(0).and_then(|text| text.parse().ok()).unwrap_or_default());
            let plus = row.get(1) == Some("t");
            let values = values(&row, 2, self.layout.columns.len());
            let key = normal_key(self.layout, &values);
            if let Some((_, folded)) = self.group.as_mut().filter(|(same, folded)| *same == key && folded.at == at) {
                (folded.after, folded.passing) = if plus { (Some(values), None) } else { (None, Some(values)) };
                continue;
            }
            let (before, after) = if plus { (None, Some(values)) } else { (Some(values), None) };
            if let Some((_, done)) = self.group.replace((key, Folded { at, before, after, passing: None })) {
                return Ok(Some(done));
            }
        }
        Ok(self.group.take().map(|(_, done)| done))
    }
}

fn values(row: &SimpleQueryRow, from: usize, count: usize) -> Row {
    (from..from + count).map(|index| row.get(index).map(str::to_owned)).collect()
}

/// A key in a form that is equal for equal keys: 1.0 and 1.00 are one.
fn normal_key(layout: &Layout, values: &Row) -> Vec<String> {
    let part = |place: &usize| {
        let text = values[*place].clone().unwrap_or_default();
        match layout.columns[*place].kind {
            Kind::Decimal if text.contains('.') => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
            Kind::Float { .. } if text == "-0" => "0".to_owned(),
            _ => text,
        }
    };
    layout.keys.iter().map(part).collect()
}

/// The rows that a row source gives, with their own timestamps where asked for.
pub struct Scanned {
    rows: Fuse<Pin<Box<SimpleQueryStream>>>,
    columns: usize,
    mvcc: bool,
}

impl Scanned {
    pub async fn of(client: &Client, source: &str, layout: &Layout, mvcc: bool) -> Result<Scanned, Stop> {
        let mut columns: Vec<String> = layout.columns.iter().map(|column| quoted(&column.name)).collect();
        if mvcc {
            columns.push("crdb_internal_mvcc_timestamp".to_owned());
        }
        let sql = format!("SELECT {} FROM {source} AS scanned", columns.join(", "));
        let rows = Box::pin(client.simple_query_raw(&sql).await?).fuse();
        Ok(Scanned { rows, columns: layout.columns.len(), mvcc })
    }

    pub async fn next(&mut self) -> Result<Option<(Row, Option<Hlc>)>, Stop> {
        while let Some(message) = self.rows.try_next().await? {
            if let SimpleQueryMessage::Row(row) = message {
                let own = if self.mvcc { row.get(self.columns).and_then(Hlc::parse) } else { None };
                return Ok(Some((values(&row, 0, self.columns), own)));
            }
        }
        Ok(None)
    }
}
