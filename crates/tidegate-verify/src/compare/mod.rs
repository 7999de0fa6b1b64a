//! Comparing tables.

mod buckets;
mod by_key;
mod job;
mod matching;
mod pace;
mod passes;
mod scan;
mod values;

use std::num::NonZeroU32;
use std::time::Instant;

use tidegate_model::{Position, Problem, TableMap};

use crate::key::Key;
use crate::report::TableReport;
use crate::side::Side;
use crate::value::Equality;
pub(crate) use by_key::batches;
use job::Job;
pub(crate) use job::{End, Reading, selection};
use matching::Differences;

/// How many keys a report lists, unless told otherwise: more than anybody reads, few enough to be held and sent.
const KEYS_LISTED_MAX: usize = 1_000;

/// Both sides at one position.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The side whose rows are right.
    pub source: Side,
    /// The side that is to be like it.
    pub target: Side,
    /// The point of the source's history at which both are seen.
    pub position: Position,
}

/// How to compare.
#[derive(Clone, Debug)]
pub struct Options {
    /// When two values are equal.
    pub equality: Equality,
    /// Whether the report has the values that differ: other people's data.
    pub values: bool,
    /// How many keys of a table the report lists. Counts do not stop there.
    pub keys_listed_max: usize,
    /// How many rows a second the source is asked for; `None`: as fast as it gives them.
    pub rows_per_second: Option<NonZeroU32>,
}

impl Default for Options {
    fn default() -> Self {
        Options { equality: Equality::Meaning, values: false, keys_listed_max: KEYS_LISTED_MAX, rows_per_second: None }
    }
}

/// Compares all rows of a table. Both sides are read once if they are equal, and some more times if they are not. May
/// be called again: it changes nothing. Dropping the call ends it.
///
/// `VF001` says that a side cannot be read, `VF002` that a snapshot is gone, `VF003` that the table is not what the map
/// says.
pub async fn compare_table(pair: &Pair, table: &TableMap, options: &Options) -> Result<TableReport, Problem> {
    let started = Instant::now();
    let job = Job::new(pair, table, options);
    let mut found = Differences::new(options.keys_listed_max);
    let compared = match job.equal_at_the_servers().await? {
        Some(rows) => rows,
        None => {
            let (source, target) = job.count().await?;
            job.look_into(&source, &target, &mut found).await?;
            source.rows()
        }
    };
    report(&job, compared, found, started).await
}

/// Compares the rows of these keys, which are read by key. A table without a key is compared as a whole.
///
/// Its problems are those of [`compare_table`].
pub async fn compare_keys(
    pair: &Pair,
    table: &TableMap,
    keys: &[Key],
    options: &Options,
) -> Result<TableReport, Problem> {
    if table.key.is_empty() {
        return compare_table(pair, table, options).await;
    }
    let started = Instant::now();
    let job = Job::new(pair, table, options);
    let mut found = Differences::new(options.keys_listed_max);
    let compared = job.compare_keys(keys, &mut found).await?;
    report(&job, compared, found, started).await
}

async fn report(job: &Job, compared: u64, found: Differences, started: Instant) -> Result<TableReport, Problem> {
    let mut report = found.into_report(job.table(), job.position(), compared);
    if job.options().values {
        job.add_values(&mut report.keys).await?;
    }
    report.took(started.elapsed());
    Ok(report)
}
