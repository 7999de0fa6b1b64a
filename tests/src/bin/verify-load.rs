//! `make verify-load`: fences and comparisons under load. The arguments are the minutes of comparing in each direction and
//! the rows of the table.

use std::time::Duration;

use tidegate_testkit::Migration;
use tidegate_testkit::random::seed;
use tidegate_testkit::scenario::verify_load::{FencePlan, LongPlan, fences, long};

/// The applier is held for less than this, at the median.
const HELD_MAX_MS: u64 = 100;
/// What is compared while nothing can be written takes less than this.
const BLOCK_MAX_MS: u64 = 1_000;

fn main() {
    let argument = |place: usize| std::env::args().nth(place);
    let minutes: f64 = argument(1).map_or(10.0, |text| text.parse().expect("MINUTES is a number"));
    let rows: u64 = argument(2).map_or(5_000_000, |text| text.parse().expect("ROWS is a number"));
    let seed = seed();
    let taken = fences(&FencePlan { count: 200, rate: 400, seed });
    println!("{taken}");
    assert_eq!(taken.different, 0, "a fence has shown a difference where there is none");
    assert!(taken.median_ms() < HELD_MAX_MS, "the applier was held for {} ms at the median", taken.median_ms());
    let plan = LongPlan { rows, lasts: Duration::from_secs_f64(minutes * 60.0), turns: true, seed };
    let there = long(&Migration::to_cockroach("load_to"), &plan);
    println!("to CockroachDB: {there}");
    let block = there.block.expect("it ends with a turn");
    assert!(block.took_ms < BLOCK_MAX_MS, "{} ms were compared while nothing could be written", block.took_ms);
    let plan = LongPlan { turns: false, ..plan };
    println!("from CockroachDB: {}", long(&Migration::from_cockroach("load_from"), &plan));
}
