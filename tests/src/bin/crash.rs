//! `make crash`: kills the engine and both servers again and again under traffic.

use tidegate_testkit::random::seed;
use tidegate_testkit::scenario::crash::{self, Plan};

fn main() {
    let plan = Plan {
        scale: 10,
        clients: 4,
        rate: 400,
        kills_in_copy: 12,
        kills_in_flight: 32,
        kills_anywhere: 8,
        source_kills: 5,
        target_kills: 5,
        seed: seed(),
    };
    println!("{}", crash::run(&plan));
}
