//! Verify rounds before the fence: each compares what was touched since the last one, until what is left is small.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{Value, json};
use tidegate_control::{Verdict, VerifySeen};
use tidegate_model::{Problem, TableRoute};
use tidegate_verify::{Options, TableReport, Verdict as Found};

use super::super::fence::Fencing;
use super::super::seat::Seat;
use super::super::verifying::Comparison;
use crate::config::Migration;

/// Rounds after which what is left is taken as it is: it does not get smaller any more.
const ROUNDS_MAX: usize = 12;
/// So few keys are compared in no time.
const KEYS_FEW: u64 = 1_000;

/// What verify rounds have shown.
#[derive(Debug, Default)]
pub struct Rounds {
    verdict: Option<Verdict>,
    keys_left: u64,
    keys_per_second: Option<u64>,
    /// What the first comparison of each table said.
    tables: BTreeMap<String, TableReport>,
}

impl Rounds {
    /// Returns what the planner wants to know.
    pub fn seen(&self) -> VerifySeen {
        VerifySeen {
            verdict: self.verdict.unwrap_or(Verdict::NotRun),
            keys_left: self.keys_left,
            keys_per_second: self.keys_per_second,
        }
    }

    /// Returns whether rounds have run in this process.
    pub fn have_run(&self) -> bool {
        self.verdict.is_some()
    }

    /// Runs rounds until few keys are left, or their number stays what it is. Returns what was found.
    pub async fn run(
        &mut self,
        migration: &Migration,
        seat: &Seat,
        mut say: impl FnMut(String),
    ) -> Result<Value, Problem> {
        let mut comparison = Comparison::new(Fencing::new(migration, seat)?, Options::default());
        let (mut rounds, mut left_before) = (0, u64::MAX);
        loop {
            rounds += 1;
            let began = Instant::now();
            let fence = comparison.renew().await?;
            let (touched, held, routes) = (fence.touched_keys(), fence.held, fence.routes());
            let what = match touched {
                Some(keys) if rounds > 1 => format!("{keys} keys"),
                _ => "whole tables".to_owned(),
            };
            say(format!("verify round {rounds}: {what}, the applier held for {} ms", held.as_millis()));
            let mut compared = 0;
            for route in routes.iter() {
                // What others wrote at the target is seen only from the moment on at which its changes are read: so all of
                // it is compared once in every attempt.
                let report = match rounds {
                    1 => comparison.table(&route.map).await?,
                    _ => comparison.touched(&route.map).await?,
                };
                compared += report.compared;
                if report.verdict != Found::Equal {
                    self.verdict = Some(verdict_of(report.verdict));
                    return Err(not_equal(&report));
                }
                self.tables.entry(report.name.clone()).or_insert(report);
            }
            drop(comparison.take_fence());
            self.verdict = Some(Verdict::Equal);
            let seconds = began.elapsed().as_secs_f64().max(0.001);
            self.keys_per_second = Some(((compared as f64 / seconds) as u64).max(1));
            self.keys_left = self.count_left(seat, &routes).await;
            let small = self.keys_left <= KEYS_FEW || (self.keys_left >= left_before / 2 && rounds > 1);
            if rounds >= ROUNDS_MAX || small {
                break;
            }
            left_before = self.keys_left;
        }
        let rows: BTreeMap<&String, u64> = self.tables.iter().map(|(name, report)| (name, report.compared)).collect();
        Ok(
            json!({ "rounds": rounds, "keys_left": self.keys_left, "keys_per_second": self.keys_per_second, "rows": rows }),
        )
    }

    /// Counts the rows that would have to be compared now. A table without a key is compared as a whole.
    async fn count_left(&self, seat: &Seat, routes: &[TableRoute]) -> u64 {
        let live = seat.live().await;
        let left = |route: &TableRoute| {
            let name = &route.map.source.name;
            let whole = || self.tables.get(&name.to_string()).map_or(u64::MAX, |report| report.compared);
            live.touched(|touched| touched.count(name)).map_or_else(whole, |keys| keys as u64)
        };
        routes.iter().map(left).fold(0, u64::saturating_add)
    }

    /// Compares what was touched since the last round, inside the block. Returns how many keys of each table.
    pub async fn last(&mut self, migration: &Migration, seat: &Seat) -> Result<Value, Problem> {
        let began = Instant::now();
        let mut comparison = Comparison::new(Fencing::new(migration, seat)?, Options::default());
        let fence = comparison.renew().await?;
        let (position, routes, keys) = (fence.position.to_string(), fence.routes(), fence.touched_keys());
        let mut rows = BTreeMap::new();
        for route in routes.iter() {
            let report = comparison.touched(&route.map).await?;
            if report.verdict != Found::Equal {
                return Err(not_equal(&report));
            }
            rows.insert(report.name.clone(), report.compared);
        }
        let took_ms = began.elapsed().as_millis() as u64;
        Ok(json!({ "position": position, "keys": keys, "rows": rows, "took_ms": took_ms }))
    }
}

fn verdict_of(found: Found) -> Verdict {
    match found {
        Found::Equal => Verdict::Equal,
        Found::Different => Verdict::Different,
        Found::Unknown => Verdict::Unknown,
    }
}

fn not_equal(report: &TableReport) -> Problem {
    let TableReport { name, missing, extra, different, .. } = report;
    let why = match &report.note {
        Some(note) => format!("table \"{name}\" could not be compared: {note}"),
        None => {
            format!("table \"{name}\": {missing} rows missing at the other side, {extra} extra, {different} different")
        }
    };
    let code = if report.verdict == Found::Different { "CT005" } else { "CT006" };
    Problem::definite(code, "the two sides are not equal", why, "see which rows: tidegate verify")
}
