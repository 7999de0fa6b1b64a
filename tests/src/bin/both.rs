//! `make both`: both directions at once, with writers on both sides. The argument is the minutes of writing.

use std::time::Duration;

use tidegate_testkit::random::seed;
use tidegate_testkit::scenario::both::{self, Plan};

fn main() {
    let minutes: f64 = std::env::args().nth(1).map_or(3.0, |text| text.parse().expect("MINUTES is a number"));
    let plan = Plan { lasts: Duration::from_secs_f64(minutes * 60.0), clients: 3, rate: 60, seed: seed() };
    println!("{}", both::run(&plan));
}
