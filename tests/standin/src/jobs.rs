//! Changefeed jobs, as far as they protect history: `CREATE CHANGEFEED ... INTO 'null://'`, and job control.
//!
//! Nothing runs: a job with the sink `null://` is where time is, less the lag of resolved timestamps. What a job has
//! come to is worked out when somebody looks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio_postgres::{Config, NoTls};

use crate::error::SqlError;
use crate::feed::{self, FeedRequest, InitialScan};
use crate::history::Hlc;
use crate::knobs::Settings;

mod description;
mod show;

pub use show::{show_changefeed_jobs, show_jobs};

/// The answer to a SHOW: names and PostgreSQL type numbers of the columns, and the values in text form.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pub columns: Vec<(&'static str, u32)>,
    pub rows: Vec<Vec<Option<String>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    Pause,
    Resume,
    Cancel,
}

/// Schemes of CockroachDB's sinks.
const SINKS: &[&str] = &[
    "kafka",
    "confluent-cloud",
    "azure-event-hub",
    "gcpubsub",
    "webhook-https",
    "s3",
    "gs",
    "azure",
    "azure-blob",
    "nodelocal",
    "file-http",
    "file-https",
    "http",
    "https",
    "pulsar",
    "external",
    "experimental-sql",
];

/// Returns whether a changefeed statement names a sink, so that it makes a job.
pub fn has_sink(sql: &str) -> bool {
    feed::words(sql).is_ok_and(|words| words.contains(&feed::Token::Word("into".to_owned())))
}

/// Makes the job of a CREATE CHANGEFEED with INTO; gives its number (column `job_id`, INT8; tag `CREATE CHANGEFEED`)
/// and the notices.
pub async fn create(request: &FeedRequest) -> Result<(i64, Vec<String>), SqlError> {
    let statement = feed::parse(&request.sql, &request.parameters)?;
    let sink = statement.sink.clone().unwrap_or_default();
    check_sink(&sink)?;
    let accepted = feed::accept(request, Some(&sink)).await?;
    let ends_at = match accepted.scan {
        InitialScan::Only => Some(accepted.start),
        _ => accepted.end,
    };
    let relations: Vec<u32> = accepted.followed.iter().map(|one| one.table.relation).collect();
    let name = |one: &feed::Followed| format!("{}.{}.{}", accepted.database, one.table.schema, one.table.name);
    let names: Vec<String> = accepted.followed.iter().map(name).collect();
    let expires =
        accepted.options.gc_protect_expires_after.map(|time| i64::try_from(time.as_micros()).unwrap_or(i64::MAX));
    let sql =
        "INSERT INTO standin.job (id, description, user_name, status, database, relations, names, sink, started_at,
            high_water, ends_at, expires_after_us)
        VALUES (nextval('standin.job_id'), $1, $2, 'running', $3, $4, $5, $6, $7, $7, $8, $9) RETURNING id";
    let description = description::of(&statement, &names);
    let ends = ends_at.map(|at| at.0);
    let store = request.settings.store().await?;
    let row = store
        .query_one(
            sql,
            &[
                &description,
                &request.user,
                &accepted.database,
                &relations,
                &names,
                &sink,
                &accepted.start.0,
                &ends,
                &expires,
            ],
        )
        .await?;
    Ok((row.get(0), accepted.notices))
}

fn check_sink(sink: &str) -> Result<(), SqlError> {
    if sink.is_empty() {
        return Err(SqlError::new("22023", "omit the SINK clause for inline results"));
    }
    let Some((scheme, _)) = sink.split_once("://") else {
        return Err(SqlError::new("22023", format!("no scheme found for sink URL \"{sink}\"")));
    };
    match scheme.strip_prefix("experimental-").unwrap_or(scheme) {
        "null" => Ok(()),
        "webhook-http" => Err(SqlError::new("22023", "this sink requires webhook-https")),
        scheme if SINKS.contains(&scheme) => {
            Err(SqlError::new("0A000", format!("stand-in: the sink {scheme} is not there, only null")))
        }
        scheme => Err(SqlError::new("22023", format!("unsupported sink: {scheme}"))),
    }
}

/// Time of now, by the clock of this machine.
fn now() -> Hlc {
    let micros = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_micros());
    Hlc(i64::try_from(micros).unwrap_or(i64::MAX / 1000) * 1000)
}

/// Brings the jobs up to now: how far they are, whether they have ended.
async fn refresh(backing: Option<&Config>, settings: &Settings) -> Result<(), SqlError> {
    let store = settings.store().await?;
    let reached = now().minus(settings.knobs().resolved_lag).0;
    let expired =
        "UPDATE standin.job SET status = 'canceled', finished = now(), modified = now() WHERE status = 'paused'
        AND expires_after_us IS NOT NULL AND high_water + expires_after_us * 1000 < $1";
    store.execute(expired, &[&reached]).await?;
    if let Some(backing) = backing {
        for row in store
            .query("SELECT id, database, relations, high_water FROM standin.job WHERE status = 'running'", &[])
            .await?
        {
            let (id, database, relations, high_water): (i64, String, Vec<u32>, i64) =
                (row.get(0), row.get(1), row.get(2), row.get(3));
            if let Some((at, error)) = ended(backing, &database, &relations, high_water).await? {
                let sql = "UPDATE standin.job SET status = 'failed', error = $2, high_water = $3, finished = now(),
                    modified = now() WHERE id = $1";
                store.execute(sql, &[&id, &error, &at]).await?;
            }
        }
    }
    let sql =
        "UPDATE standin.job SET high_water = greatest(high_water, least($1, coalesce(ends_at, $1))), modified = now()
        WHERE status = 'running'";
    store.execute(sql, &[&reached]).await?;
    let done = "UPDATE standin.job SET status = 'succeeded', finished = now(), modified = now()
        WHERE status = 'running' AND high_water >= ends_at";
    store.execute(done, &[]).await?;
    Ok(())
}

/// Returns what ended one of the tables after a time.
async fn ended(
    backing: &Config,
    database: &str,
    relations: &[u32],
    after: i64,
) -> Result<Option<(i64, String)>, SqlError> {
    let mut config = backing.clone();
    config.dbname(database);
    let (client, connection) = match config.connect(NoTls).await {
        Ok(connected) => connected,
        // With its database a table is gone too.
        Err(error) if error.as_db_error().is_some() => {
            return Ok(Some((after, format!("database \"{database}\" does not exist"))));
        }
        Err(error) => return Err(error.into()),
    };
    tokio::spawn(connection);
    let sql = "SELECT c.hlc, e.name, e.kind FROM standin.event e JOIN standin.commit c ON c.xid = e.xid
        WHERE e.relid = ANY ($1) AND e.kind IN ('truncate', 'drop') AND c.hlc > $2 ORDER BY c.hlc LIMIT 1";
    let row = client.query_opt(sql, &[&relations, &after]).await?;
    Ok(row.map(|row| {
        let (name, kind): (&str, &str) = (row.get(1), row.get(2));
        let how = if kind == "truncate" { "truncated" } else { "dropped" };
        (row.get::<_, i64>(0) - 1, format!("\"{name}\" was {how}"))
    }))
}

/// Returns the oldest time of a table that a job protects from collection. A running job moves its protection at
/// intervals, a paused one not at all.
pub(crate) async fn protected(
    settings: &Settings,
    database: &str,
    relation: u32,
    now: Hlc,
) -> Result<Option<Hlc>, SqlError> {
    let sql = "SELECT status, started_at, high_water FROM standin.job
        WHERE database = $1 AND $2 = ANY (relations) AND status IN ('running', 'paused')";
    let interval = settings.duration("changefeed.protect_timestamp_interval").max(Duration::from_millis(1));
    let step = i64::try_from(interval.as_nanos()).unwrap_or(i64::MAX);
    let mut oldest = None;
    for row in settings.store().await?.query(sql, &[&database, &relation]).await? {
        let (status, started, high_water): (&str, i64, i64) = (row.get(0), row.get(1), row.get(2));
        let at = if status == "paused" {
            Hlc(high_water)
        } else {
            let reached = now.minus(settings.knobs().resolved_lag).0.max(started);
            Hlc(started + (reached - started) / step * step)
        };
        oldest = Some(oldest.map_or(at, |oldest: Hlc| oldest.min(at)));
    }
    Ok(oldest)
}

/// PAUSE, RESUME or CANCEL JOB(S): tag `PAUSE JOBS n` and so on.
pub async fn control(backing: &Config, settings: &Settings, control: Control, ids: &[i64]) -> Result<(), SqlError> {
    refresh(Some(backing), settings).await?;
    let store = settings.store().await?;
    for id in ids {
        let row = store.query_opt("SELECT status FROM standin.job WHERE id = $1", &[id]).await?;
        let status: String = row.ok_or_else(|| SqlError::uncoded(format!("job with ID {id} does not exist")))?.get(0);
        let (becomes, word) = match (control, status.as_str()) {
            (Control::Pause, "running" | "paused") => ("paused", "paused"),
            (Control::Resume, "running" | "paused") => ("running", "resumed"),
            (Control::Cancel, "running" | "paused" | "canceled") => ("canceled", "canceled"),
            (Control::Pause, _) => ("", "requested to be paused"),
            (Control::Resume, _) => ("", "resumed"),
            (Control::Cancel, _) => ("", "requested to be canceled"),
        };
        if becomes.is_empty() {
            return Err(SqlError::new("55000", format!("job with status {status} cannot be {word}")));
        }
        let sql = "UPDATE standin.job SET status = $2, modified = now(),
            finished = CASE WHEN $2 = 'canceled' THEN now() ELSE NULL END WHERE id = $1";
        store.execute(sql, &[id, &becomes]).await?;
    }
    Ok(())
}
