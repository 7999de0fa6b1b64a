//! Where no fence can be had.

use std::time::Duration;

use serde_json::Value;
use tidegate_testkit::Migration;
use tidegate_testkit::damage::{self, Scribblers};
use tidegate_testkit::wait::{PATIENCE, wait_until};

#[test]
fn without_a_fence_rows_are_read_until_both_sides_agree() {
    let migration = Migration::new("verify_weak");
    damage::create(&migration);
    let engine = migration.start_streaming();
    let writing = Scribblers::start(&migration.source, 2, Duration::from_millis(20));
    wait_until("something is written", PATIENCE, || writing.written() > 5);
    let report: Value =
        migration.run("verify", &["--weak", "--json", "--tables", "public.d_blob,public.d_number"]).json();
    assert_eq!((&report["verdict"], &report["weak"]), (&"equal".into(), &true.into()), "{report}");
    writing.stop();
    migration.drain();
    migration.target.sql("UPDATE d_ulp SET x = 7 WHERE id = 7");
    let told = migration.run("verify", &["--weak", "--tables", "public.d_ulp"]).expect_code(1);
    assert!(told.says("weak"), "{}", told.stdout);
    engine.stop();
}
