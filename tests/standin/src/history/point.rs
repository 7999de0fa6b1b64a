//! Which time a text means.

use tokio_postgres::Client;

use super::Hlc;
use crate::error::SqlError;
use crate::knobs::go_duration;
use std::time::Duration;

/// How far behind a follower read is.
const FOLLOWER_LAG: Duration = Duration::from_millis(4200);

/// Returns the time of now: every commit at or below it is visible to new snapshots, and every later commit is above
/// it.
pub async fn now(client: &Client) -> Result<Hlc, SqlError> {
    Ok(Hlc(client.query_one("SELECT standin.settle(0)", &[]).await?.get(0)))
}

/// Returns the time that the argument of AS OF SYSTEM TIME means, `text` being the content of the string constant
/// (`-10s`, a decimal, a time) or the text of the function call. From the return on every commit at or below it is
/// visible to new snapshots and no later commit gets such a stamp. Refuses times in the future.
pub async fn read_point(client: &Client, text: &str) -> Result<Hlc, SqlError> {
    let now = now(client).await?;
    let at = meaning(client, text, now).await?.ok_or_else(|| {
        SqlError::new("22023", format!("AS OF SYSTEM TIME: value is neither timestamp, decimal, nor interval: {text}"))
    })?;
    if at > now {
        let text = format!("AS OF SYSTEM TIME: cannot specify timestamp in the future ({at} > {now})");
        return Err(SqlError::uncoded(text));
    }
    if at <= Hlc(0) {
        return Err(SqlError::uncoded(format!(
            "AS OF SYSTEM TIME: timestamp before 1970-01-01T00:00:00Z is invalid: {at}"
        )));
    }
    Ok(at)
}

/// Reads a time as `cursor`, `end_time` and AS OF SYSTEM TIME understand it; `None` if it is none.
pub async fn meaning(client: &Client, text: &str, now: Hlc) -> Result<Option<Hlc>, SqlError> {
    let text = text.trim();
    if text.starts_with("follower_read_timestamp") {
        return Ok(Some(now.minus(FOLLOWER_LAG)));
    }
    // Bounded staleness may always answer with what is freshest.
    if text.starts_with("with_max_staleness") || text.starts_with("with_min_timestamp") {
        return Ok(Some(now));
    }
    if let Some(hlc) = Hlc::parse(text) {
        return Ok(Some(hlc));
    }
    if let Some(back) = text.strip_prefix('-').and_then(go_duration) {
        return Ok(Some(now.minus(back)));
    }
    for sql in [
        "SELECT floor(extract(epoch FROM $1::text::timestamptz) * 1000000)::bigint * 1000",
        "SELECT $2::bigint + floor(extract(epoch FROM $1::text::interval) * 1000000)::bigint * 1000",
    ] {
        let wall = now.wall();
        let answer = if sql.contains("$2") {
            client.query_one(sql, &[&text, &wall]).await
        } else {
            client.query_one(sql, &[&text]).await
        };
        match answer {
            Ok(row) => return Ok(Some(Hlc(row.get(0)))),
            Err(error) if error.as_db_error().is_some() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}
