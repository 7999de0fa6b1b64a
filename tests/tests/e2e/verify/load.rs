//! The short form of `make verify-load`.

use tidegate_testkit::scenario::verify_load::{FencePlan, fences};

#[test]
fn fences_under_load_show_no_false_difference() {
    let taken = fences(&FencePlan { count: 8, rate: 150, seed: 7 });
    println!("{taken}");
    assert_eq!((taken.different, taken.held_ms.len()), (0, 8), "{taken}");
}
