//! The state of a migration, kept in the databases themselves, so that the process can be killed and started anywhere.
//!
//! ```text
//!   both databases   schema_version, migration
//!   target           checkpoint   epoch + position: who may write, and how far the target is
//!                    owner        who that is: heartbeat, status, how it ended
//!                    copy_table, copy_chunk, target_object, request
//! ```
//!
//! Every key begins with (migration, stream). Every transaction of an owner begins by checking its epoch against the
//! checkpoint row and fails where it is not its own; see [`Lease`].

mod checkpoint;
mod cockroach;
mod ddl;
mod heartbeat;
mod install;
mod lease;
mod migration;
mod owner;
mod ownership;
mod process;
mod schema;
mod transaction;

pub use checkpoint::{CheckpointRow, forget_start, read_checkpoint, store_history, store_intention, store_start};
pub use heartbeat::Ownership;
pub use install::{Part, install, is_installed};
pub use lease::Lease;
pub use migration::{MigrationRow, Pair, Side, read_migration, write_migration};
pub use owner::{OwnerRow, read_owner};
pub use ownership::{OwnerConfig, Waiting, take};

pub(crate) use checkpoint::displaced;
pub(crate) use install::{table_exists, tables};
pub(crate) use process::unique;
pub use schema::{StateKey, StateSchema};
pub(crate) use schema::{advisory_key, table_text};
pub(crate) use transaction::{begin_sql, under_lease};

use tidegate_model::Problem;
use tokio_postgres::Error;

use crate::server_error;

/// Makes the problem of a state table that could not be read or written.
pub(crate) fn failed(doing: &str) -> impl FnOnce(Error) -> Problem {
    let what = format!("the state could not be kept: {doing}");
    move |error| {
        let next = "see the reason; the state tables are described in docs/state.md";
        server_error::problem("ST002", what, error, next)
    }
}
