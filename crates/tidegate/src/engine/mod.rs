//! Runs a migration: prepare, copy, stream. What `migrate` is, and what `drain` does when nobody else runs it.
//!
//! ```text
//!   Ends (two sessions) --> Before (what both databases know) --> preflight --> ownership
//!        nothing is written up to here, and every refusal comes from here        |
//!                                                                                v
//!                              Stream: start point --> copy --> stream, until told to stop
//! ```

mod before;
mod board;
mod copying;
mod display;
mod ends;
mod lag;
mod preflight;
mod start;
mod streaming;
mod watch;

use std::time::Duration;

use serde_json::json;
use tidegate_model::{Position, Problem, Stream, TableName};
use tidegate_sql::state::{self, OwnerConfig, Ownership, Part, Side, StateKey, Waiting};
use tidegate_sql::triggers;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::config::Migration;
use crate::output::Failure;
use crate::status::{StreamState, StreamStatus};
pub use before::Before;
use board::Board;
pub use display::line;
pub use ends::Ends;
pub use preflight::{Verdict, run as preflight};

/// How long the target may take to note that its owner has stopped, and why.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// What is asked of a run beyond going on.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// Do not wait for an owner that seems to be alive.
    pub take_over: bool,
    /// Take the target's tables as they are, as of this position.
    pub no_copy_from: Option<Position>,
    /// Tables to empty and copy again.
    pub recopy: Vec<TableName>,
    /// Make the slot again and copy everything again.
    pub recreate_slot: bool,
    /// Put aside what changes rows of the target by itself.
    pub set_aside_triggers: bool,
    /// Restore that, and end.
    pub restore_triggers: bool,
    /// End when everything up to this position is durable at the target.
    pub until: Option<Position>,
}

/// How a run ended when nothing was wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// Where the target is; `None` before a start point is known.
    pub applied: Option<Position>,
}

/// The name of the stream's rows in the state tables.
pub fn state_key(migration: &Migration) -> Result<StateKey, Problem> {
    let schema = migration.state_schema.parse().map_err(|error: tidegate_model::InvalidName| {
        Problem::definite("CF001", error.to_string(), "it is the state schema's name", "choose another --state-schema")
    })?;
    Ok(StateKey { schema, migration: migration.name.clone(), stream: Stream::Forward })
}

/// Runs a migration until `stop` is cancelled or a wish says that it is over.
pub async fn run(migration: &Migration, wishes: Wishes, stop: &CancellationToken) -> Result<Ended, Failure> {
    let key = state_key(migration).map_err(Failure::unknown)?;
    let ends = Ends::connect(migration).await.map_err(Failure::at_start)?;
    let before = Before::read(&ends, &key).await.map_err(Failure::at_start)?;
    if wishes.restore_triggers {
        return restore_triggers(&ends, migration, &key, &before, &wishes, stop).await;
    }
    before.verify(&ends, migration, &wishes).await.map_err(Failure::at_start)?;
    let preflight = preflight(&ends, migration, &before, &wishes).await.map_err(Failure::at_start)?;
    preflight.pass(&migration.name)?;

    let ownership = install_and_take(&ends, migration, &key, &before, &wishes, stop).await;
    let Some(ownership) = ownership.map_err(Failure::at_start)? else {
        return Ok(Ended { applied: before.position() });
    };
    let board = Board::new(StreamStatus::new(key.stream.as_str(), StreamState::Copying), ownership.status());
    let showing = tokio::spawn(display::show(board.subscribe()));
    let running = start::Stream { migration, ends: &ends, ownership: &ownership, board: &board, wishes: &wishes, stop };
    let result = tokio::select! {
        result = running.run(&preflight.tables) => result,
        displaced = ownership.displaced() => Err(displaced),
    };
    showing.abort();
    board.change(|status| status.state = StreamState::Stopped);
    // A target that does not answer keeps nobody from stopping: the next owner finds this one gone.
    match timeout(RELEASE_TIMEOUT, ownership.release(result.as_ref().err())).await {
        Ok(Ok(())) => {}
        Ok(Err(problem)) => info!(error = %problem.what, "the stream could not be given back in order"),
        Err(_elapsed) => info!("the stream could not be given back in order: the target does not answer"),
    }
    result.map_err(Failure::stopped)
}

/// Restores what was put aside at the target. Needs no slot: the source may be gone already.
async fn restore_triggers(
    ends: &Ends,
    migration: &Migration,
    key: &StateKey,
    before: &Before,
    wishes: &Wishes,
    stop: &CancellationToken,
) -> Result<Ended, Failure> {
    if before.checkpoint.is_none() {
        let what = format!("migration \"{}\" has put nothing aside", migration.name);
        let next = "check --target, --name and --state-schema";
        return Err(Failure::refused(Problem::definite("MI015", what, "the target knows no such migration", next)));
    }
    let ownership = install_and_take(ends, migration, key, before, wishes, stop).await.map_err(Failure::at_start)?;
    let Some(ownership) = ownership else { return Ok(Ended { applied: before.position() }) };
    let result = triggers::bring_back(&ends.target_session, ownership.lease()).await;
    let released = ownership.release(result.as_ref().err()).await;
    result.and(released).map_err(Failure::refused)?;
    Ok(Ended { applied: before.position() })
}

/// Makes the state tables on both sides and becomes the owner; `None` if told to stop while waiting for another owner.
async fn install_and_take(
    ends: &Ends,
    migration: &Migration,
    key: &StateKey,
    before: &Before,
    wishes: &Wishes,
    stop: &CancellationToken,
) -> Result<Option<Ownership>, Problem> {
    state::install(&ends.target_session, &key.schema, Part::Stream).await?;
    state::install(&ends.source_session, &key.schema, Part::Common).await?;
    let settings = before.pair.settings(json!({ "tables": migration.tables, "exclude": migration.exclude }));
    for (session, side) in [(&ends.target_session, Side::Target), (&ends.source_session, Side::Source)] {
        state::write_migration(session, &key.schema, &migration.name, side, &settings).await?;
    }
    let config = OwnerConfig { settings: ends.target.clone(), key: key.clone(), take_over: wishes.take_over };
    let mut said = None;
    let waiting = |why: &Waiting| {
        let text = said_of(why);
        if said.as_ref() != Some(&text) {
            info!(waiting_for = %text, "not the owner yet");
            said = Some(text);
        }
    };
    stop.run_until_cancelled(state::take(&config, waiting)).await.transpose()
}

/// Says who or what a newcomer waits for, without what changes every time.
fn said_of(waiting: &Waiting) -> String {
    match waiting {
        Waiting::Owner { host, pid, .. } => {
            format!("process {pid} on {host} owns the stream and is alive; --take-over does not wait for it")
        }
        Waiting::Newcomer { backend_pid } => {
            format!("another process is taking the stream over (backend {backend_pid})")
        }
        Waiting::Transaction { backend_pid, application_name } => format!(
            "a transaction of \"{application_name}\" at the target holds the checkpoint (backend {backend_pid}); \
             SELECT pg_terminate_backend({backend_pid}) ends it"
        ),
    }
}
