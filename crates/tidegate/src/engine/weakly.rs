//! Compares without a fence: both sides as they are at about the same time, and what differs again until both agree.
//!
//! A row that is written all the time may never be seen alike, and one that was wrong may become right while it is looked
//! at. So the report says that it is weak, and no turn asks for one.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_model::{Problem, TableMap};
use tidegate_verify::{Key, Options, TableReport, Verdict, compare_keys, compare_table};
use tokio::time::sleep;

use super::fence::Fencing;
use super::seat::Live;

/// How often what differs is read again.
const LOOKS_MAX: u32 = 20;
/// Between two looks the stream brings what is under way.
const PAUSE: Duration = Duration::from_millis(500);

/// Compares tables. One that cannot be read is reported as unknown.
pub async fn compare(
    fencing: &Fencing<'_>,
    live: &Live,
    tables: &[TableMap],
    options: &Options,
    progress: impl Fn(Value),
) -> Result<Vec<TableReport>, Problem> {
    let mut reports = Vec::new();
    for (number, table) in tables.iter().enumerate() {
        progress(json!({ "table": table.source.name.to_string(), "number": number + 1, "of": tables.len() }));
        let report = compare_until_equal(fencing, live, table, options).await;
        reports.push(report.unwrap_or_else(|problem| TableReport::unread(&table.source.name, &problem)));
    }
    Ok(reports)
}

async fn compare_until_equal(
    fencing: &Fencing<'_>,
    live: &Live,
    table: &TableMap,
    options: &Options,
) -> Result<TableReport, Problem> {
    let first = compare_table(&fencing.now(live).await?, table, options).await?;
    let (compared, mut found, mut looks) = (first.compared, first, 1);
    while found.verdict == Verdict::Different && looks < LOOKS_MAX {
        sleep(PAUSE).await;
        looks += 1;
        let keys: Vec<Key> = found.keys.iter().filter_map(|report| report.row.clone()).collect();
        let pair = fencing.now(live).await?;
        found = match found.differing() == keys.len() as u64 {
            true => compare_keys(&pair, table, &keys, options).await?,
            false => compare_table(&pair, table, options).await?,
        };
    }
    found.compared = compared;
    found.note = (looks > 1).then(|| format!("looked at {looks} times"));
    Ok(found)
}
