//! The short forms of `make crash`, `make crash-cockroach`, `make giant` and `make both`.

use std::time::Duration;

use tidegate_testkit::random::seed;
use tidegate_testkit::scenario::crash::{Direction, Plan, Report};
use tidegate_testkit::scenario::{both, crash, giant, giant_cockroach};

fn crash_short(direction: Direction) -> Report {
    let report = crash::run(&Plan {
        direction,
        scale: 1,
        clients: 2,
        rate: 100,
        kills_in_copy: 2,
        kills_in_flight: 2,
        kills_anywhere: 1,
        source_kills: 1,
        target_kills: 1,
        samples_min: if direction == Direction::CockroachToPostgres { 50 } else { 5 },
        seed: seed(),
    });
    println!("{report}");
    report
}

#[test]
fn crash_pgbench_killed_again_and_again_ends_equal() {
    let report = crash::run(&Plan {
        direction: Direction::PostgresToPostgres,
        scale: 1,
        clients: 2,
        rate: 150,
        kills_in_copy: 3,
        kills_in_flight: 5,
        kills_anywhere: 4,
        source_kills: 1,
        target_kills: 1,
        samples_min: 0,
        seed: seed(),
    });
    println!("{report}");
}

#[test]
fn crash_of_everything_towards_cockroach_ends_equal_and_shows_only_states_that_were() {
    assert!(crash_short(Direction::PostgresToCockroach).samples.is_some());
}

#[test]
fn crash_of_everything_from_cockroach_ends_equal_and_shows_only_states_that_were() {
    assert!(crash_short(Direction::CockroachToPostgres).samples.is_some());
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

#[test]
fn giant_transaction_towards_cockroach_killed_in_the_middle_of_its_parts_arrives_whole() {
    let plan = giant_cockroach::Plan { rows: 60_000, giant_transaction_bytes: "1MiB", kills: 2 };
    println!("{}", giant_cockroach::run(&plan));
}

#[test]
fn both_directions_at_once_end_equal_and_nothing_comes_back() {
    let plan = both::Plan { lasts: Duration::from_secs(15), clients: 2, rate: 40, seed: seed() };
    println!("{}", both::run(&plan));
}
