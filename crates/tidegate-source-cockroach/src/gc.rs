//! The garbage collection window: how long the server can still tell what was.
//!
//! A sinkless feed holds nothing back at the server. When the checkpoint is older than the tables' `gc.ttlseconds`, a
//! restart finds its cursor refused, and what was committed in between can no longer be told apart row by row.

use futures_util::{StreamExt, TryStreamExt, stream};
use tidegate_connect::{Session, describe_sql_error};
use tidegate_model::{Hlc, MigrationName, Position, Problem, TableName};
use tokio_postgres::{Error, SimpleQueryMessage};
use tracing::debug;

use crate::problem::{self, Asked, QUESTIONS_AT_ONCE};
use crate::statement;

/// What the server keeps unless it is told otherwise (CockroachDB docs, "Configure Replication Zones").
pub const TTL_SECONDS_DEFAULT: u64 = 14_400;

const PAST_WINDOW: &str = "CR010";
const CHECKPOINT_PAST_WINDOW: &str = "CR011";

/// How old the checkpoint is, and how old it may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GcWindow {
    /// The shortest `gc.ttlseconds` of the stream's tables.
    pub ttl_seconds: u64,
    /// Whether the server did not tell and its default was taken.
    pub ttl_assumed: bool,
    /// How far the acknowledged position lies behind the cluster's clock.
    pub age_seconds: u64,
}

/// How much of the window is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum GcLevel {
    /// Less than half.
    #[default]
    Normal,
    /// At least half: somebody should look.
    Half,
    /// All of it: a restart from the checkpoint would be refused.
    Past,
}

impl GcWindow {
    /// Asks how much of the window of `tables` is used by a stream that stands at `checkpoint`, by the cluster's clock.
    pub async fn read(
        session: &Session,
        tables: &[TableName],
        checkpoint: &Position,
        now: Hlc,
    ) -> Result<GcWindow, Problem> {
        Ok(Ttl::shortest(session, tables).await?.window(checkpoint, now))
    }

    /// Returns how much is used.
    pub fn level(&self) -> GcLevel {
        match self.age_seconds {
            age if age >= self.ttl_seconds => GcLevel::Past,
            age if age.saturating_mul(2) >= self.ttl_seconds => GcLevel::Half,
            _ => GcLevel::Normal,
        }
    }

    /// Returns how long a restart will still be possible if the checkpoint does not move.
    pub fn seconds_left(&self) -> u64 {
        self.ttl_seconds.saturating_sub(self.age_seconds)
    }
}

/// What tables keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ttl {
    pub(crate) seconds: u64,
    pub(crate) assumed: bool,
}

impl Ttl {
    const ASSUMED: Ttl = Ttl { seconds: TTL_SECONDS_DEFAULT, assumed: true };

    /// Returns how much is used by a stream that stands at `checkpoint`.
    pub(crate) fn window(self, checkpoint: &Position, now: Hlc) -> GcWindow {
        let at = checkpoint.hlc().unwrap_or_default();
        let age_seconds = now.wall.saturating_sub(at.wall) / 1_000_000_000;
        GcWindow { ttl_seconds: self.seconds, ttl_assumed: self.assumed, age_seconds }
    }

    /// Asks for the shortest `gc.ttlseconds` of the tables. What the server does not tell counts as its default.
    pub(crate) async fn shortest(session: &Session, tables: &[TableName]) -> Result<Ttl, Problem> {
        let ask = async |table: &TableName| of_table(session, table).await;
        let told: Vec<Option<u64>> =
            stream::iter(tables.iter().map(ask)).buffer_unordered(QUESTIONS_AT_ONCE).try_collect().await?;
        let ttls = told.into_iter().map(|seconds| match seconds {
            Some(seconds) => Ttl { seconds, assumed: false },
            None => Ttl::ASSUMED,
        });
        Ok(ttls.min_by_key(|ttl| ttl.seconds).unwrap_or(Ttl::ASSUMED))
    }
}

/// Returns the `gc.ttlseconds` of a table; `None` where the server does not say.
pub(crate) async fn of_table(session: &Session, table: &TableName) -> Result<Option<u64>, Problem> {
    let answer = match session.simple_query(&statement::zone_configuration(table)).await {
        Ok(answer) => answer,
        Err(error)
            if error.code().is_some_and(|code| !problem::is_transient(code.code()) || code.code() == "XXUUU") =>
        {
            debug!(%table, reason = describe_sql_error(&error), "gc window not told");
            return Ok(None);
        }
        Err(error) => return Err(Asked::new("asking for the garbage collection window").sql(error)),
    };
    let texts = answer.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).filter_map(|index| row.get(index))),
        _ => None,
    });
    Ok(texts.flatten().find_map(ttl_seconds))
}

/// Reads `gc.ttlseconds = 14400` out of the text of a zone configuration.
fn ttl_seconds(config: &str) -> Option<u64> {
    let (_, after) = config.split_once("gc.ttlseconds")?;
    let after = after.trim_start().strip_prefix('=')?.trim_start();
    let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    after[..end].parse().ok()
}

/// The server refuses to tell what came after `at`: an error that [`problem::is_past_gc`] knows.
pub(crate) fn passed(name: &MigrationName, at: Hlc, error: &Error) -> Problem {
    let message = error.as_db_error().map_or("", |server| server.message());
    given_up(name, at, problem::gc_threshold(message).unwrap_or_default())
}

/// What was committed after `at`, and up to `threshold`, is lost to the stream.
pub(crate) fn given_up(name: &MigrationName, at: Hlc, threshold: &str) -> Problem {
    let until =
        if threshold.is_empty() { "a later time".to_owned() } else { format!("{threshold} (seconds, logical)") };
    Problem::definite(
        PAST_WINDOW,
        format!("the source can no longer tell what was committed after {at}"),
        format!(
            "its history up to {until} was given up to garbage collection (gc.ttlseconds of the tables): changes \
             from {at} on are lost to the stream"
        ),
        format!(
            "raise gc.ttlseconds of the tables (ALTER TABLE ... CONFIGURE ZONE USING gc.ttlseconds = 90000), then {}",
            problem::recreate(name)
        ),
    )
}

/// The checkpoint stays behind the window while the stream runs.
pub(crate) fn checkpoint_passed(name: &MigrationName, checkpoint: &Position, window: &GcWindow, now: Hlc) -> Problem {
    let assumed = if window.ttl_assumed { ", the server's default: it did not tell" } else { "" };
    Problem::definite(
        CHECKPOINT_PAST_WINDOW,
        format!("the target has not followed for {} s, longer than the source keeps history", window.age_seconds),
        format!(
            "the checkpoint is at {checkpoint}, the source's clock at {now}, and gc.ttlseconds is {}{assumed}: the \
             stream cannot be taken up again at the checkpoint, and changes after it may be lost",
            window.ttl_seconds
        ),
        format!(
            "see why the target did not follow; start again, which goes on if the source still has the history; if it \
             is refused, {}",
            problem::recreate(name)
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_read_out_of_what_the_server_prints() {
        let printed = "ALTER RANGE default CONFIGURE ZONE USING\n\trange_min_bytes = 134217728,\n\t\
                       gc.ttlseconds = 90000,\n\tnum_replicas = 3";
        assert_eq!(ttl_seconds(printed), Some(90_000));
        assert_eq!(ttl_seconds("ALTER TABLE t CONFIGURE ZONE USING gc.ttlseconds=600"), Some(600));
        assert_eq!(ttl_seconds("RANGE default"), None);
        assert_eq!(ttl_seconds("gc.ttlseconds = "), None);
    }

    #[test]
    fn the_alarm_comes_at_half_and_the_end_at_all() {
        let level = |age_seconds| GcWindow { ttl_seconds: 100, ttl_assumed: false, age_seconds }.level();
        assert_eq!([level(0), level(49)], [GcLevel::Normal; 2]);
        assert_eq!([level(50), level(99)], [GcLevel::Half; 2]);
        assert_eq!([level(100), level(u64::MAX)], [GcLevel::Past; 2]);
    }
}
