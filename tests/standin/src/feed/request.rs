//! From a statement to a feed that may begin.

use std::time::Duration;

use tokio_postgres::{Client, NoTls};

use super::FeedRequest;
use super::options::{self, InitialScan, Options};
use super::statement;
use super::targets::{self, Asker, Followed};
use crate::error::SqlError;
use crate::history::{self, Hlc, meaning};

/// A cursor older than this is worth a notice.
const OLD_CURSOR: Duration = Duration::from_secs(5 * 3600);
const LOW_INTERVAL: Duration = Duration::from_millis(500);

/// Settings of a feed's session: texts as the encoder expects them, and plans that go through the transactions.
const SESSION_SQL: &str = "SET datestyle = 'ISO, MDY'; SET intervalstyle = 'postgres'; SET timezone = 'UTC';
    SET bytea_output = 'hex'; SET extra_float_digits = 1; SET enable_hashjoin = off; SET enable_mergejoin = off;
    SET jit = off; SET default_transaction_isolation = 'read committed'; SET work_mem = '32MB';
    SET statement_timeout = 0";

/// A feed whose statement is valid.
#[derive(Debug)]
pub struct Accepted {
    pub client: Client,
    pub database: String,
    pub options: Options,
    pub followed: Vec<Followed>,
    /// Changes at or below it are not wanted; a scan shows this time.
    pub start: Hlc,
    pub scan: InitialScan,
    pub end: Option<Hlc>,
    pub notices: Vec<String>,
}

/// Checks a statement. `sink` names the sink of a job.
pub async fn accept(request: &FeedRequest, sink: Option<&str>) -> Result<Accepted, SqlError> {
    let settings = &request.settings;
    let statement = statement::parse(&request.sql, &request.parameters)?;
    if sink.is_none() && statement.sink.is_some() {
        return Err(SqlError::new("22023", "omit the SINK clause for inline results"));
    }
    if !settings.is_on("feature.changefeed.enabled") {
        let text = "feature CHANGEFEED was disabled by the database administrator";
        return Err(SqlError::new("42809", text));
    }
    let options = options::read(&statement.options)?;
    let scan =
        options.initial_scan.unwrap_or(if options.cursor.is_some() { InitialScan::No } else { InitialScan::Yes });
    if scan != InitialScan::Only && !settings.is_on("kv.rangefeed.enabled") {
        let docs = "https://www.cockroachlabs.com/docs/v25.4/create-changefeed";
        let text = format!("rangefeeds require the kv.rangefeed.enabled setting. See {docs}");
        return Err(SqlError::uncoded(text));
    }
    let database = targets::database(&statement, &request.database)?.to_owned();
    let client = session(request, &database).await?;
    let now = history::now(&client).await?;
    let start = match &options.cursor {
        Some(cursor) => time(&client, "cursor", cursor, now).await?,
        None => now,
    };
    if start > now {
        let text = format!("timestamp '{}' is in the future", options.cursor.as_deref().unwrap_or_default());
        return Err(SqlError::new("22023", text));
    }
    let end = match &options.end_time {
        Some(end) => Some(time(&client, "end_time", end, now).await?),
        None => None,
    };
    if let Some(end) = end.filter(|end| *end < start) {
        let text = format!("specified end time {end} cannot be less than statement time {start}");
        return Err(SqlError::new("22023", text));
    }
    let asker = Asker { database: &database, search_path: &request.search_path, user: &request.user };
    let followed = targets::resolve(&client, &statement, &options, asker, start).await?;
    if options.cursor.is_some() {
        targets::in_window(&client, settings, &database, &followed, start).await?;
    }
    let notices = notices(&options, &followed, start, now, sink.is_some());
    Ok(Accepted { client, database, options, followed, start, scan, end, notices })
}

async fn session(request: &FeedRequest, database: &str) -> Result<Client, SqlError> {
    let mut config = request.backing.clone();
    config.dbname(database).application_name("tidegate-standin feed");
    let (client, connection) = match config.connect(NoTls).await {
        Ok(connected) => connected,
        Err(error) if error.as_db_error().is_some_and(|error| error.code().code() == "3D000") => {
            return Err(SqlError::new("3D000", format!("database \"{database}\" does not exist")));
        }
        Err(error) => return Err(error.into()),
    };
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::warn!(%error, "a feed lost its backing session");
        }
    });
    client.batch_execute(SESSION_SQL).await?;
    Ok(client)
}

async fn time(client: &Client, option: &str, text: &str, now: Hlc) -> Result<Hlc, SqlError> {
    let wrong = || SqlError::new("22023", format!("could not parse {option} '{text}' as a timestamp"));
    meaning(client, text, now).await?.ok_or_else(wrong)
}

fn notices(options: &Options, followed: &[Followed], start: Hlc, now: Hlc, job: bool) -> Vec<String> {
    let mut notices = Vec::new();
    if job {
        notices.extend(followed.iter().map(|one| format!("changefeed will emit to topic {}", one.topic.name)));
    }
    if options.resolved.is_some_and(|every| every < Duration::from_secs(30))
        && options.min_checkpoint_frequency.is_none()
    {
        let every = options.resolved.unwrap_or_default();
        notices.push(format!(
            "resolved ({}s by default) messages will not be emitted more frequently than the default \
             min_checkpoint_frequency (30s), but may be emitted less frequently",
            every.as_secs()
        ));
    }
    for (name, value) in
        [("resolved", options.resolved), ("min_checkpoint_frequency", options.min_checkpoint_frequency)]
    {
        if let Some(low) = value.filter(|value| !value.is_zero() && *value < LOW_INTERVAL) {
            let text = "is very low; consider increasing it to at least 500ms";
            notices.push(format!("the '{name}' timestamp interval ({}ms) {text}", low.as_millis()));
        }
    }
    if now.since(start) > OLD_CURSOR {
        let hours = now.since(start).as_secs() / 3600;
        let text = "older cursors can result in increased changefeed latency";
        notices.push(format!("the provided cursor is {hours} hours old; {text}"));
    }
    notices
}
