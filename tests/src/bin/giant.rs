//! `make giant`: transactions larger than memory, and one that CockroachDB takes in parts only.

use std::time::Duration;

use tidegate_testkit::scenario::{giant, giant_cockroach};

fn main() {
    println!(
        "needs about 10 GB in {} for both servers, their WAL and the spool; takes a while",
        std::env::temp_dir().display()
    );
    println!("--- PostgreSQL -> CockroachDB");
    let plan = giant_cockroach::Plan { rows: 1_000_000, giant_transaction_bytes: "16MiB", kills: 2 };
    println!("{}", giant_cockroach::run(&plan));
    println!("--- PostgreSQL -> PostgreSQL");
    let plan = giant::Plan {
        rows_deleted: 2_000_000,
        bytes_inserted: 2_000_000_000,
        memory_budget: "64MiB",
        target_pause: Duration::from_secs(60),
        resident_bytes_max: 300_000_000,
        drain_timeout: "1800s",
    };
    println!("{}", giant::run(&plan));
}
