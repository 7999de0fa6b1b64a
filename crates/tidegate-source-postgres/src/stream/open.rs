//! Opening the stream: who is there, may we go on, and from where.

use std::time::Duration;

use postgres_protocol::escape::escape_identifier;
use tidegate_connect::{CopyReader, CopyWriter, QueryError, ReplicationSession, Session, Settings};
use tidegate_model::{Lsn, MigrationName, Position, Problem};
use tracing::info;

use super::refusal;
use crate::history::{self, Observed};
use crate::pgoutput::{newest_protocol, options};
use crate::problem::OBJECT_IN_USE;
use crate::{History, slot};

/// An open stream.
#[derive(Debug)]
pub(super) struct Opened {
    /// The walsender.
    pub(super) pid: i32,
    pub(super) reader: CopyReader,
    pub(super) writer: CopyWriter,
    pub(super) protocol: u8,
    pub(super) wal_sender_timeout: Duration,
}

/// A verified session, before the stream has begun.
#[derive(Debug)]
pub(super) struct Greeted {
    session: ReplicationSession,
    observed: Observed,
}

impl Greeted {
    /// Connects and asks the server who it is.
    pub(super) async fn greet(
        settings: &Settings,
        name: &MigrationName,
        history: &History,
    ) -> Result<Greeted, Problem> {
        let mut session = ReplicationSession::connect(settings, &name.application_name(slot::ROLE_STREAM)).await?;
        let observed = history::observe(&mut session, history).await?;
        Ok(Greeted { session, observed })
    }

    /// Returns the timeline of the server.
    pub(super) fn timeline(&self) -> u32 {
        self.observed.timeline
    }

    /// Decides whether the stream may go on from `at`, and returns the history from now on.
    pub(super) fn verdict(&self, name: &MigrationName, history: &History, at: &Position) -> Result<History, Problem> {
        history::verdict(name, history, at, &self.observed)
    }

    /// Begins to stream from `acknowledged`; 0/0: from where the slot is. `earlier` is the walsender of this reader's last
    /// stream: only that one may still be in the way and be ended. At the first stream (`None`) it may be any of this
    /// migration. Afterwards another one is that of a successor, who has taken the migration over.
    pub(super) async fn begin(
        self,
        settings: &Settings,
        name: &MigrationName,
        history: &History,
        acknowledged: Lsn,
        earlier: Option<i32>,
    ) -> Result<Opened, Problem> {
        let Greeted { session, observed } = self;
        if let Some(pid) = observed.slot.as_ref().and_then(|slot| slot.active_pid) {
            if earlier.is_some_and(|earlier| earlier != pid) {
                return Err(slot::in_use(&history.slot, &format!("process {pid} streams from it now")));
            }
            let released_by = Session::connect(settings, &name.application_name("release")).await?;
            slot::release(&released_by, name, &history.slot, pid).await?;
        }
        let protocol = newest_protocol(observed.version.0);
        let command = format!(
            "START_REPLICATION SLOT {} LOGICAL {acknowledged} {}",
            escape_identifier(&history.slot),
            options(protocol, &history.publication)
        );
        let pid = session.backend_pid();
        let (reader, writer) = session.copy_both(&command).await.map_err(|error| refused(name, history, error))?;
        info!(slot = history.slot, from = %acknowledged, protocol, server = %observed.version, "stream opened");
        let wal_sender_timeout = Duration::from_millis(observed.wal_sender_timeout_ms);
        Ok(Opened { pid, reader, writer, protocol, wal_sender_timeout })
    }
}

/// Says why the stream did not begin. Somebody may have taken the slot since it was looked at: the next attempt says
/// who.
fn refused(name: &MigrationName, history: &History, error: QueryError) -> Problem {
    if error.sqlstate() == Some(OBJECT_IN_USE) {
        return slot::in_use(&history.slot, &error.to_string()).caused_by(error);
    }
    refusal::interrupted(name, history, error)
}
