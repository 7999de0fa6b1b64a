//! An independent comparison: every row of both sides, read as text and held against each other.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::pin;

use anyhow::Context;
use futures_util::TryStreamExt;
use tidegate_connect::Session;
use tokio_postgres::SimpleQueryMessage;

use super::engine::Urls;
use super::shop;

#[derive(Debug)]
struct Table {
    name: &'static str,
    source: u64,
    target: u64,
    only_source: u64,
    only_target: u64,
}

/// What the comparison found.
#[derive(Debug)]
pub struct Comparison {
    tables: Vec<Table>,
}

impl Comparison {
    pub fn equal(&self) -> bool {
        self.tables.iter().all(|table| table.only_source == 0 && table.only_target == 0)
    }

    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.source).sum()
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["table", "source", "target", "only source", "only target"];
        writeln!(f, "{:<20}{:>12}{:>12}{:>14}{:>14}", head[0], head[1], head[2], head[3], head[4])?;
        for Table { name, source, target, only_source, only_target } in &self.tables {
            let name = format!("shop.{name}");
            writeln!(f, "{name:<20}{source:>12}{target:>12}{only_source:>14}{only_target:>14}")?;
        }
        Ok(())
    }
}

/// Compares all tables as multisets of rows.
pub async fn databases(urls: &Urls, tables: &[&'static str]) -> anyhow::Result<Comparison> {
    let (source, target) = (shop::session(&urls.source).await?, shop::session(&urls.target).await?);
    let mut compared = Vec::new();
    for name in tables {
        let (left, right) = (rows(&source, name).await?, rows(&target, name).await?);
        let missing = |from: &BTreeMap<Vec<u8>, u64>, there: &BTreeMap<Vec<u8>, u64>| {
            from.iter().map(|(row, count)| count.saturating_sub(there.get(row).copied().unwrap_or(0))).sum()
        };
        compared.push(Table {
            name,
            source: left.values().sum(),
            target: right.values().sum(),
            only_source: missing(&left, &right),
            only_target: missing(&right, &left),
        });
    }
    Ok(Comparison { tables: compared })
}

/// Reads a table into a multiset of its rows' text.
async fn rows(session: &Session, table: &str) -> anyhow::Result<BTreeMap<Vec<u8>, u64>> {
    let sql = format!("SELECT * FROM shop.{table}");
    let messages = session.simple_query_raw(&sql).await;
    let mut messages = pin!(messages.with_context(|| format!("could not read shop.{table}"))?);
    let mut rows = BTreeMap::new();
    while let Some(message) = messages.try_next().await? {
        if let SimpleQueryMessage::Row(row) = message {
            let mut text = Vec::new();
            for column in 0..row.len() {
                // No value holds these bytes: text is UTF-8.
                text.extend(row.get(column).map_or(&b"\xFE"[..], str::as_bytes));
                text.push(0xFF);
            }
            *rows.entry(text).or_insert(0) += 1;
        }
    }
    Ok(rows)
}
