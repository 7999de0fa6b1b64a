//! What is written to a real PostgreSQL: who may write, and what is there after every kind of failure.

mod applier;
mod arbitrated;
mod checking;
mod cockroach;
mod faults;
#[path = "../../src/plan/tests/fixture.rs"]
#[allow(dead_code, reason = "shared with tests that use the rest")]
mod fixture;
mod ownership;
mod proxy;
mod requests;
mod rounding;
mod spooled;
mod state;
mod support;
mod unordered;
