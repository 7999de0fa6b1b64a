//! Making a slot with an exported snapshot.

use std::time::Duration;

use postgres_protocol::escape::escape_identifier;
use tidegate_connect::{ReplicationSession, Session, Settings};
use tidegate_model::{Lsn, MigrationName, Problem};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::waiting::{self, Waiting};
use super::{ROLE_SLOT, refusal, walsender};
use crate::problem::Asked;
use crate::{ServerVersion, problem, version};

/// How often the transactions that creation waits for are listed.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// The slot to make.
#[derive(Clone, Debug)]
pub struct SlotRequest<'a> {
    /// The source.
    pub settings: &'a Settings,
    /// The migration that will own it.
    pub name: &'a MigrationName,
    /// Its name.
    pub slot: &'a str,
    /// Whether it ends with its session: for reading tables again at a new point.
    pub temporary: bool,
}

/// A slot and the snapshot at its point. Both hold exactly: the snapshot has every commit that ends at or before the
/// point, the slot sends every other one.
#[derive(Debug)]
pub struct CreatedSlot {
    /// Where the stream begins.
    pub point: Lsn,
    /// For `SET TRANSACTION SNAPSHOT`, while `session` lives and has run nothing else.
    pub snapshot_name: String,
    /// Keeps the snapshot, and a temporary slot, alive.
    pub session: ReplicationSession,
}

/// Makes the slot. The caller has stored the intention before, and stores the point after.
///
/// The server waits for every transaction of the cluster that wrote and is still open; every second `on_wait` is told
/// which. On `cancel`, and when the future is dropped, the walsender is ended: by itself it would go on waiting, and
/// then keep a slot that nobody knows of. After a crash the next call with the same migration name does the same.
pub async fn create_with_snapshot(
    request: SlotRequest<'_>,
    cancel: &CancellationToken,
    mut on_wait: impl FnMut(&Waiting),
) -> Result<CreatedSlot, Problem> {
    let SlotRequest { settings, name, slot, temporary } = request;
    let watcher = Session::connect(settings, &name.application_name("slot-watch")).await?;
    let role = if temporary { "reread" } else { ROLE_SLOT };
    if !temporary {
        walsender::end_makers(&watcher, name).await?;
    }
    let command = command(version::of(&watcher).await?, is_standby(&watcher).await?, slot, temporary);

    let application = name.application_name(role);
    let mut session = ReplicationSession::connect(settings, &application).await?;
    let mut leftover = Leftover::of(&session, settings, application);

    let began = Instant::now();
    let answer = {
        let mut creation = std::pin::pin!(session.query(&command));
        let mut report = interval_at(began + REPORT_EVERY, REPORT_EVERY);
        report.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                answer = &mut creation => break answer,
                () = cancel.cancelled() => {
                    leftover.end(&watcher).await?;
                    return Err(refusal::creation_aborted(slot));
                }
                _ = report.tick() => tell(&watcher, leftover.pid, began.elapsed(), &mut on_wait).await,
            }
        }
    };
    leftover.is_wanted();
    let rows = answer.map_err(|error| refusal::creation_failed(slot, error))?;
    let created = read_answer(&rows)
        .ok_or_else(|| Asked::new("making the replication slot").unexpected("an answer without point or snapshot"))?;
    info!(slot, temporary, point = %created.0, waited_seconds = began.elapsed().as_secs_f64(), "replication slot made");
    Ok(CreatedSlot { point: created.0, snapshot_name: created.1, session })
}

/// Options by version: PostgreSQL manual, "Streaming Replication Protocol", `CREATE_REPLICATION_SLOT`. Never
/// `TWO_PHASE`. A standby cannot make failover slots, and neither can a slot that ends with its session be one.
fn command(version: ServerVersion, standby: bool, slot: &str, temporary: bool) -> String {
    let kind = if temporary { " TEMPORARY" } else { "" };
    let failover = version.has_failover_slots() && !temporary && !standby;
    let options = match (version.has_slot_option_list(), failover) {
        (false, _) => "EXPORT_SNAPSHOT",
        (true, false) => "(SNAPSHOT 'export')",
        (true, true) => "(SNAPSHOT 'export', FAILOVER true)",
    };
    format!("CREATE_REPLICATION_SLOT {}{kind} LOGICAL pgoutput {options}", escape_identifier(slot))
}

/// The answer is slot name, consistent point, snapshot name, plugin.
fn read_answer(rows: &[Vec<Option<String>>]) -> Option<(Lsn, String)> {
    let [_, point, snapshot, _] = rows.first()?.as_slice() else { return None };
    Some((point.as_deref()?.parse().ok()?, snapshot.clone()?))
}

async fn is_standby(session: &Session) -> Result<bool, Problem> {
    let row = session.query_one("SELECT pg_is_in_recovery()", &[]).await;
    Ok(row.map_err(|error| problem::sql("asking whether the server is a standby", error))?.get(0))
}

async fn tell(watcher: &Session, pid: i32, since: Duration, on_wait: &mut impl FnMut(&Waiting)) {
    match waiting::look(watcher, pid, since).await {
        Ok(waiting) => {
            for transaction in &waiting.transactions {
                info!(pid, waiting_seconds = since.as_secs(), %transaction, "slot waits for a transaction");
            }
            on_wait(&waiting);
        }
        Err(problem) => warn!(error = %problem, "cannot list what the slot waits for"),
    }
}

/// A walsender that must not outlive its purpose. Dropped before its time, it is ended from a session of its own.
struct Leftover {
    pid: i32,
    application: String,
    settings: Option<Settings>,
}

impl Leftover {
    fn of(session: &ReplicationSession, settings: &Settings, application: String) -> Self {
        Leftover { pid: session.backend_pid(), application, settings: Some(settings.clone()) }
    }

    async fn end(&mut self, session: &Session) -> Result<(), Problem> {
        let ended = walsender::end(session, self.pid, &self.application).await;
        self.is_wanted();
        ended
    }

    fn is_wanted(&mut self) {
        self.settings = None;
    }
}

impl Drop for Leftover {
    fn drop(&mut self) {
        let (Some(settings), Ok(runtime)) = (self.settings.take(), tokio::runtime::Handle::try_current()) else {
            return;
        };
        let (pid, application) = (self.pid, std::mem::take(&mut self.application));
        // Nobody is left to wait for it. Where the runtime ends first, the next start finds the walsender by its name.
        runtime.spawn(async move {
            let ended = async {
                let session = Session::connect(&settings, &application).await?;
                walsender::end(&session, pid, &application).await
            };
            if let Err(problem) = ended.await {
                warn!(pid, error = %problem, "a walsender that makes a slot was left behind");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_is_spoken_to_in_its_own_grammar() {
        let of = |version, standby, temporary| command(ServerVersion(version), standby, "a\"b", temporary);
        assert_eq!(of(140_000, false, false), r#"CREATE_REPLICATION_SLOT "a""b" LOGICAL pgoutput EXPORT_SNAPSHOT"#);
        assert_eq!(
            of(140_000, false, true),
            r#"CREATE_REPLICATION_SLOT "a""b" TEMPORARY LOGICAL pgoutput EXPORT_SNAPSHOT"#
        );
        assert_eq!(of(150_000, false, false), r#"CREATE_REPLICATION_SLOT "a""b" LOGICAL pgoutput (SNAPSHOT 'export')"#);
        let failover = r#"CREATE_REPLICATION_SLOT "a""b" LOGICAL pgoutput (SNAPSHOT 'export', FAILOVER true)"#;
        assert_eq!(of(170_000, false, false), failover);
        assert!(!of(170_000, true, false).contains("FAILOVER") && !of(170_000, false, true).contains("FAILOVER"));
    }

    #[test]
    fn an_answer_without_a_snapshot_is_not_taken() {
        let row = |snapshot: Option<&str>| {
            vec![vec![
                Some("s".to_owned()),
                Some("0/10".to_owned()),
                snapshot.map(str::to_owned),
                Some("pgoutput".to_owned()),
            ]]
        };
        assert_eq!(read_answer(&row(Some("0-1"))), Some((Lsn(0x10), "0-1".to_owned())));
        assert_eq!(read_answer(&row(None)), None);
        assert_eq!(read_answer(&[]), None);
    }
}
