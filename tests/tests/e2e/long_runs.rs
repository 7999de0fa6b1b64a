//! The short forms of `make crash` and `make giant`.

use std::time::Duration;

use tidegate_testkit::random::seed;
use tidegate_testkit::scenario::{crash, giant};

#[test]
fn crash_pgbench_killed_again_and_again_ends_equal() {
    let report = crash::run(&crash::Plan {
        scale: 1,
        clients: 2,
        rate: 150,
        kills_in_copy: 3,
        kills_in_flight: 5,
        kills_anywhere: 4,
        source_kills: 1,
        target_kills: 1,
        seed: seed(),
    });
    println!("{report}");
}

#[test]
fn giant_transactions_stay_within_a_small_memory_budget() {
    let report = giant::run(&giant::Plan {
        rows_deleted: 200_000,
        bytes_inserted: 100_000_000,
        memory_budget: "16MiB",
        target_pause: Duration::from_secs(8),
        // Less than either transaction; the program itself and what is in flight fit.
        resident_bytes_max: 96_000_000,
        drain_timeout: "180s",
    });
    println!("{report}");
}
