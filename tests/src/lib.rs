//! What Tidegate's tests are made of.
//!
//! - [`Migration`]: two databases on shared throw-away servers, and the engine as users run it ([`Engine`]).
//! - [`Proxy`]: a network that fails on demand, down to a single COMMIT.
//! - [`compare`]: row-by-row comparison by queries that share nothing with the engine.
//! - [`pgbench`] and [`oracle`]: traffic; the oracle knows which of its writes were acknowledged.
//! - [`memory`], [`faulty`]: in-memory ends of a pipeline, and wrappers that make any end fail.
//! - [`suites`]: what every `Source` and every `Applier` must do.
//! - [`scenario`]: long runs, short in `make test` and long in `make crash` and `make giant`.

mod certificates;
pub mod compare;
mod database;
mod engine;
pub mod faulty;
pub mod memory;
mod migration;
pub mod oracle;
pub mod pgbench;
mod proxy;
pub mod random;
pub mod scenario;
mod session;
pub mod suites;
pub mod wait;

pub use certificates::Authority;
pub use database::{Database, source_server, start_server, target_server, unique_name};
pub use engine::{Engine, Outcome, program};
pub use migration::Migration;
pub use proxy::{Fault, Proxy};
pub use session::Session;
