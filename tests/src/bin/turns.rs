//! `make turns`: a cutover and a failback under load, then one for every point at which something can die.

use std::time::Duration;

use tidegate_testkit::scenario::turns::{self, Load};

fn main() {
    let load = Load { writers: 16, rate: 1_000, around: Duration::from_secs(10) };
    for turned in turns::run_load(&load) {
        println!("{turned}");
    }
    let deaths = turns::run_crashes(&|_, _| true, &|_, _| true);
    println!(
        "the engine died at {} points and servers in {} steps: every turn was made, {} of them at the second attempt; \
         took {:.0?}",
        deaths.engine, deaths.servers, deaths.undone, deaths.took
    );
}
