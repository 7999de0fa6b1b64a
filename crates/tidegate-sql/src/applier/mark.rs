//! How transactions that we apply are marked as ours, so that the reader of that database, in the other direction, does
//! not send them back. CockroachDB has a setting for it; the rest is about PostgreSQL.
//!
//! Where the role may, the session runs under a replication origin of the migration. Every transaction begins with a
//! logical message as well: of a large transaction the server takes the origin from the first thing that it decodes,
//! and one that begins with TRUNCATE has none there. The message needs no right that is not given to everyone, and
//! costs a hundred bytes of WAL for each batch.

use tidegate_connect::{Server, Session};
use tidegate_model::{MESSAGE_PREFIX, MigrationName, Problem};
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::server_error;
use crate::state::Lease;

/// How many origins a migration has at most. One is enough for a session; the one before it, which a crashed process
/// left behind, may hold another for a while. The server has few places for origins (`max_replication_slots`, from
/// version 18 on `max_active_replication_origins`), and one that was used once keeps its place until it is dropped.
const ORIGINS_MAX: u32 = 4;

const NEXT: &str = "grant EXECUTE on pg_logical_emit_message (which everyone has by default), or on \
                    pg_replication_origin_create and pg_replication_origin_session_setup, to the role of the URL";

/// The release of CockroachDB that first knew `disable_changefeed_replication`.
const HIDES_SINCE: (u32, u32) = (24, 1);

/// Returns SQL text that keeps what a session of CockroachDB writes out of changefeeds, for every session that writes
/// rows; `None` where the server cannot do that. A server that can must not refuse it.
pub fn hide_from_feeds(server: &Server) -> Option<&'static str> {
    let Server::Cockroach(version) = server else { return None };
    version.at_least(HIDES_SINCE.0, HIDES_SINCE.1).then_some("SET disable_changefeed_replication = true")
}

/// By what the transactions of a session are recognised.
#[derive(Clone, Debug)]
pub struct Mark {
    origin: Option<String>,
    first_statement: Option<String>,
}

/// What the role may use.
#[derive(Clone, Copy, Debug)]
struct Rights {
    message: bool,
    origin: bool,
    new_origin: bool,
}

impl Mark {
    /// Sets a session up: from now on its transactions run under an origin of the migration, where that can be had. It
    /// ends with the session, also when that is killed. Must not be called inside a transaction.
    pub async fn set_up(session: &Session, lease: &Lease) -> Result<Mark, Problem> {
        let failed = |error| {
            server_error::problem("AP080", "the session that writes to the target could not be marked", error, NEXT)
        };
        let rights = Rights::read(session).await.map_err(failed)?;
        let name = &lease.key.migration;
        let origin = match rights.origin {
            true => take_origin(session, name, rights.new_origin).await.map_err(failed)?,
            false => None,
        };
        if origin.is_none() && !rights.message {
            let what = "the role may not mark what it writes to the target";
            let why = "without a mark the other direction would send every change back";
            return Err(Problem::definite("AP080", what, why, NEXT));
        }
        tracing::debug!(origin, message = rights.message, "marked");
        let first_statement = rights.message.then(|| message(lease));
        Ok(Mark { origin, first_statement })
    }

    /// Marks by message alone, which needs no set-up: for sessions of which there are many, as those of a copy, and
    /// that would use up the origins of the server.
    pub fn by_message(lease: &Lease) -> Mark {
        Mark { origin: None, first_statement: Some(message(lease)) }
    }

    /// Returns SQL text to be sent before anything else in each transaction.
    pub fn first_statement(&self) -> Option<&str> {
        self.first_statement.as_deref()
    }

    /// Returns the origin that the session runs under.
    pub fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }
}

impl Rights {
    async fn read(session: &Session) -> Result<Rights, Error> {
        // By name: newer versions have more parameters.
        let sql = "
            SELECT coalesce(bool_or(may) FILTER (WHERE proname = 'pg_logical_emit_message'), false),
                   coalesce(bool_or(may) FILTER (WHERE proname = 'pg_replication_origin_session_setup'), false),
                   coalesce(bool_or(may) FILTER (WHERE proname = 'pg_replication_origin_create'), false)
              FROM (SELECT proname, has_function_privilege(oid, 'EXECUTE') AS may
                      FROM pg_catalog.pg_proc
                     WHERE pronamespace = 'pg_catalog'::regnamespace
                       AND (proname IN ('pg_replication_origin_session_setup', 'pg_replication_origin_create')
                            OR proname = 'pg_logical_emit_message' AND proargtypes[2] = 'text'::regtype)) AS functions";
        let row = session.query_one(sql, &[]).await?;
        Ok(Rights { message: row.get(0), origin: row.get(1), new_origin: row.get(2) })
    }
}

fn message(lease: &Lease) -> String {
    let content = lease.key.migration.applied_message(lease.key.stream, lease.epoch);
    format!("SELECT pg_catalog.pg_logical_emit_message(true, '{MESSAGE_PREFIX}', '{content}')")
}

/// Takes the first origin that no other session holds, and makes it where it is not there. `None` if there is none to
/// be had.
async fn take_origin(session: &Session, name: &MigrationName, may_create: bool) -> Result<Option<String>, Error> {
    let names: Vec<String> = (1..=ORIGINS_MAX).map(|number| name.origin_name(number)).collect();
    let sql = "SELECT roname FROM pg_catalog.pg_replication_origin WHERE roname = ANY ($1)";
    let found: Vec<String> = session.query(sql, &[&names]).await?.iter().map(|row| row.get(0)).collect();
    for name in names {
        let is_there = found.contains(&name) || (may_create && create(session, &name).await?);
        if !is_there {
            continue;
        }
        let Err(error) = session.query("SELECT pg_catalog.pg_replication_origin_session_setup($1)", &[&name]).await
        else {
            return Ok(Some(name));
        };
        match error.code() {
            // Another session has it, or somebody has just dropped it.
            Some(&SqlState::OBJECT_IN_USE | &SqlState::UNDEFINED_OBJECT) => {}
            // All places are taken, there are none at all, or a right was taken away.
            Some(
                &SqlState::CONFIGURATION_LIMIT_EXCEEDED
                | &SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE
                | &SqlState::INSUFFICIENT_PRIVILEGE,
            ) => {
                tracing::info!(reason = server_error::describe(&error), "no replication origin, messages are enough");
                return Ok(None);
            }
            _ => return Err(error),
        }
    }
    Ok(None)
}

/// Makes an origin; tells whether it is there now.
async fn create(session: &Session, name: &str) -> Result<bool, Error> {
    match session.query("SELECT pg_catalog.pg_replication_origin_create($1)", &[&name]).await {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => Ok(true),
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(false),
        Err(error) => Err(error),
    }
}
