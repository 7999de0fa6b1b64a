//! Asking a server which history it tells.

use tidegate_connect::{ReplicationSession, Settings};
use tidegate_model::{Lsn, MigrationName, Problem};

use super::{History, Observed};
use crate::ServerVersion;
use crate::problem::Asked;
use crate::slot::SlotRow;
use crate::timeline::Ancestry;

const ASKED: &str = "asking the server for its identity";

/// Returns the history that a new stream from this server will belong to.
pub async fn identify(
    settings: &Settings,
    name: &MigrationName,
    slot: &str,
    publication: &str,
) -> Result<History, Problem> {
    let mut session = ReplicationSession::connect(settings, &name.application_name("verify")).await?;
    let system = System::ask(&mut session).await?;
    Ok(History {
        system_identifier: system.identifier,
        database: system.database,
        timeline: system.timeline,
        slot: slot.to_owned(),
        publication: publication.to_owned(),
        published: None,
    })
}

/// Asks the server everything that [`verdict`](super::verdict()) needs to know about `history`. Changes nothing.
pub async fn observe(session: &mut ReplicationSession, history: &History) -> Result<Observed, Problem> {
    let system = System::ask(session).await?;
    let server = Server::ask(session).await?;
    let slot = ask_for_slot(session, server.version, &history.slot).await?;
    let left_at = if system.timeline > history.timeline {
        ask_where_left(session, system.timeline, history.timeline).await?
    } else {
        None
    };
    Ok(Observed {
        version: server.version,
        system_identifier: system.identifier,
        timeline: system.timeline,
        wal_end: system.wal_end,
        database: system.database,
        in_recovery: server.in_recovery,
        left_at,
        slot,
        max_slot_wal_keep_size: server.max_slot_wal_keep_size,
        wal_sender_timeout_ms: server.wal_sender_timeout_ms,
    })
}

/// The answer to `IDENTIFY_SYSTEM`.
struct System {
    identifier: u64,
    timeline: u32,
    wal_end: Lsn,
    database: String,
}

impl System {
    async fn ask(session: &mut ReplicationSession) -> Result<System, Problem> {
        let rows = ask(session, "IDENTIFY_SYSTEM").await?;
        let read = || {
            let [Some(identifier), Some(timeline), Some(wal_end), Some(database)] = rows.first()?.as_slice() else {
                return None;
            };
            Some(System {
                identifier: identifier.parse().ok()?,
                timeline: timeline.parse().ok()?,
                wal_end: wal_end.parse().ok()?,
                database: database.clone(),
            })
        };
        read().ok_or_else(|| Asked::new(ASKED).unexpected("IDENTIFY_SYSTEM with something else"))
    }
}

struct Server {
    version: ServerVersion,
    in_recovery: bool,
    max_slot_wal_keep_size: String,
    wal_sender_timeout_ms: u64,
}

impl Server {
    async fn ask(session: &mut ReplicationSession) -> Result<Server, Problem> {
        let sql = "SELECT current_setting('server_version_num'), pg_is_in_recovery(), \
                   current_setting('max_slot_wal_keep_size'), \
                   (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout')";
        let rows = ask(session, sql).await?;
        let read = || {
            let [Some(version), Some(in_recovery), Some(kept), Some(timeout)] = rows.first()?.as_slice() else {
                return None;
            };
            Some(Server {
                version: ServerVersion(version.parse().ok()?),
                in_recovery: in_recovery == "t",
                max_slot_wal_keep_size: kept.clone(),
                wal_sender_timeout_ms: timeout.parse().ok()?,
            })
        };
        read().ok_or_else(|| Asked::new(ASKED).unexpected("settings that cannot be read"))
    }
}

async fn ask_for_slot(
    session: &mut ReplicationSession,
    version: ServerVersion,
    slot: &str,
) -> Result<Option<SlotRow>, Problem> {
    let rows = ask(session, &SlotRow::sql(version, slot)).await?;
    let Some(cells) = rows.first() else { return Ok(None) };
    let row = SlotRow::from_cells(cells);
    row.map(Some).ok_or_else(|| Asked::new(ASKED).unexpected("a slot that cannot be read"))
}

/// Returns where the history of timeline `now` left timeline `before`; `None` if it does not descend from it.
async fn ask_where_left(session: &mut ReplicationSession, now: u32, before: u32) -> Result<Option<Lsn>, Problem> {
    let asked = Asked::new("asking the server for the history of its timeline");
    let rows = match session.query(&format!("TIMELINE_HISTORY {now}")).await {
        Ok(rows) => rows,
        // Its history file is gone, so nothing is proven.
        Err(error) if error.sqlstate() == Some("58P01") => return Ok(None),
        Err(error) => return Err(asked.replication(error)),
    };
    let content = rows.first().and_then(|row| row.get(1)).and_then(Option::as_deref);
    let content = content.ok_or_else(|| asked.unexpected("no timeline history"))?;
    let ancestry = Ancestry::parse(content).map_err(|error| asked.unexpected(&error.to_string()))?;
    Ok(ancestry.left_at(before))
}

async fn ask(session: &mut ReplicationSession, command: &str) -> Result<Vec<Vec<Option<String>>>, Problem> {
    session.query(command).await.map_err(|error| Asked::new(ASKED).replication(error))
}
