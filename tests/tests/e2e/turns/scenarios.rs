//! Short forms of the long runs.

use std::time::Duration;

use tidegate_testkit::scenario::turns::{self, Load};

#[test]
fn turns_under_load_lose_nothing_and_open_one_side_at_a_time() {
    let turned = turns::run_load(&Load { writers: 4, rate: 100, around: Duration::from_secs(2) });
    turned.iter().for_each(|turned| println!("{turned}"));
    // The machine is shared with other tests: what is promised is measured by the long run.
    assert!(turned.iter().all(|turned| turned.pause < Duration::from_secs(30)), "{turned:?}");
}

#[test]
fn turns_are_made_whatever_dies() {
    let engine = [("fence", "inside"), ("turn", "after")];
    let deaths = turns::run_crashes(&|step, moment| engine.contains(&(step, moment)), &|step, server| {
        (step, server) == ("drain", "target")
    });
    assert_eq!((deaths.engine, deaths.servers), (4, 2), "{deaths:?}");
}
