//! What Tidegate's tests are made of.
//!
//! - [`Migration`]: two databases on shared throw-away servers, and the engine as users run it ([`Engine`]).
//! - [`Cockroach`]: a CockroachDB where there is one, else the stand-in.
//! - [`Proxy`]: a network that fails on demand, down to a single COMMIT.
//! - [`compare`]: row-by-row comparison by queries that share nothing with the engine.
//! - [`pgbench`], [`transfers`] and [`oracle`]: traffic; the latter two know which of their writes were acknowledged.
//! - [`damage`]: ways in which two sides may differ, and what a comparison has to say of each.
//! - [`sampler`]: what a reader of the target sees while the engine works.
//! - [`memory`], [`faulty`]: in-memory ends of a pipeline, and wrappers that make any end fail.
//! - [`suites`]: what every `Source` and every `Applier` must do.
//! - [`scenario`]: long runs, short in `make test` and long in `make crash` and `make giant`.

mod certificates;
mod cockroach;
pub mod compare;
pub mod damage;
mod database;
mod engine;
pub mod faulty;
pub mod memory;
mod migration;
pub mod oracle;
pub mod pgbench;
mod proxy;
mod psql;
pub mod random;
pub mod sampler;
pub mod scenario;
mod session;
pub mod suites;
pub mod transfers;
pub mod wait;
pub mod wire;

pub use certificates::Authority;
pub use cockroach::{Cockroach, REVIEWED_SQL, cockroach_server};
pub use database::{Database, Host, source_server, start_server, target_server, unique_name};
pub use engine::{Engine, Outcome, program};
pub use migration::Migration;
pub use proxy::{Fault, Proxy};
pub use session::Session;
