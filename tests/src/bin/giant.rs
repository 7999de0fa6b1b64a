//! `make giant`: transactions larger than memory.

use std::time::Duration;

use tidegate_testkit::scenario::giant::{self, Plan};

fn main() {
    println!(
        "needs about 10 GB in {} for both servers, their WAL and the spool; takes a while",
        std::env::temp_dir().display()
    );
    let plan = Plan {
        rows_deleted: 2_000_000,
        bytes_inserted: 2_000_000_000,
        memory_budget: "64MiB",
        target_pause: Duration::from_secs(60),
        resident_bytes_max: 300_000_000,
        drain_timeout: "1800s",
    };
    println!("{}", giant::run(&plan));
}
