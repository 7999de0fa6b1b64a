//! The short form of `make verify-load`.

use std::time::Duration;

use tidegate_testkit::Migration;
use tidegate_testkit::scenario::verify_load::{FencePlan, LongPlan, fences, long};

#[test]
fn fences_under_load_show_no_false_difference() {
    let taken = fences(&FencePlan { count: 8, rate: 150, seed: 7 });
    println!("{taken}");
    assert_eq!((taken.different, taken.held_ms.len()), (0, 8), "{taken}");
}

#[test]
fn a_turn_under_load_compares_inside_the_block_only_what_was_touched_since_the_last_round() {
    let plan = LongPlan { rows: 20_000, lasts: Duration::from_secs(2), turns: true, seed: 7 };
    let found = long(&Migration::to_cockroach("load_block"), &plan);
    println!("{found}");
    let rows = found.block.expect("it ends with a turn").rows;
    assert!(rows < plan.rows / 2, "{rows} rows of {}", plan.rows);
}
