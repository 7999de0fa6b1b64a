//! Makes the state tables without a lock: every statement may be repeated, and the version is recorded last.

use tidegate_connect::Session;
use tidegate_model::Problem;
use tracing::debug;

use crate::retry::{self, AMBIGUOUS, COLLIDED, Pauses};
use crate::state::ddl::{HOT, SCHEMA_VERSION, STEPS};
use crate::state::install::{Part, record, schema_exists, statement, version};
use crate::state::{StateSchema, failed};

/// How long old versions of the hot tables are kept. Nothing reads their past, and each heartbeat leaves one.
const GC_TTL_SECONDS: u32 = 600;

/// What two that make the same thing at the same time may be told, besides that they collided: the schema, the table
/// or a name of its kind is there already.
const MADE_BY_ANOTHER: [&str; 4] = ["42P06", "42P07", "42710", "23505"];

/// Makes what is missing.
pub(in crate::state) async fn install(session: &Session, schema: &StateSchema, part: Part) -> Result<(), Problem> {
    if !schema_exists(session, schema).await? {
        make(session, &format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\""), "make the state schema").await?;
    }
    make(session, &statement(SCHEMA_VERSION, schema, ""), "make the state tables").await?;
    for piece in part.pieces() {
        let from = retry::repeatable(|| async { version(session, schema, piece.name).await }).await?;
        for step in STEPS.iter().filter(|step| step.version > from) {
            for sql in (piece.ddl)(step) {
                make(session, &statement(sql, schema, ""), "make the state tables").await?;
            }
            retry::repeatable(|| async { record(session, schema, piece.name, step.version).await }).await?;
        }
    }
    if part == Part::Stream {
        forget_sooner(session, schema).await;
    }
    Ok(())
}

async fn make(session: &Session, sql: &str, doing: &str) -> Result<(), Problem> {
    let mut pauses = Pauses::new();
    loop {
        let Err(error) = session.batch_execute(sql).await else { return Ok(()) };
        let state = error.code().map_or("", |state| state.code());
        let again = [COLLIDED, AMBIGUOUS].contains(&state) || MADE_BY_ANOTHER.contains(&state);
        if !again || !pauses.another().await {
            return Err(failed(doing)(error));
        }
    }
}

/// A convenience that some installations refuse.
async fn forget_sooner(session: &Session, schema: &StateSchema) {
    for table in HOT {
        let sql = format!("ALTER TABLE {} CONFIGURE ZONE USING gc.ttlseconds = {GC_TTL_SECONDS}", schema.table(table));
        if let Err(error) = session.batch_execute(&sql).await {
            debug!(%error, table, "old versions of a state table are kept for longer");
        }
    }
}
