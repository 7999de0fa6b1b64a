//! SHOW CHANGEFEED JOBS and SHOW JOBS.

use tokio_postgres::{Config, SimpleQueryMessage};

use super::{Table, refresh};
use crate::error::SqlError;
use crate::history::Hlc;
use crate::knobs::Settings;

const INT8: u32 = 20;
const TEXT: u32 = 25;
const FLOAT8: u32 = 701;
const NUMERIC: u32 = 1700;
const TEXTS: u32 = 1009;
const TIMESTAMPTZ: u32 = 1184;

/// SHOW CHANGEFEED JOBS, or SHOW CHANGEFEED JOB `id`.
pub async fn show_changefeed_jobs(backing: &Config, settings: &Settings, id: Option<i64>) -> Result<Table, SqlError> {
    let columns = vec![
        ("job_id", INT8),
        ("description", TEXT),
        ("user_name", TEXT),
        ("status", TEXT),
        ("running_status", TEXT),
        ("created", TIMESTAMPTZ),
        ("started", TIMESTAMPTZ),
        ("finished", TIMESTAMPTZ),
        ("modified", TIMESTAMPTZ),
        ("high_water_timestamp", NUMERIC),
        ("readable_high_water_timestamptz", TIMESTAMPTZ),
        ("error", TEXT),
        ("sink_uri", TEXT),
        ("full_table_names", TEXTS),
        ("topics", TEXT),
        ("format", TEXT),
    ];
    let list = "id, description, user_name, status, high_water AS running_status, created, created, finished, modified,
        high_water AS hlc, to_timestamp(high_water / 1000 / 1000000.0), error, sink, names,
        (SELECT string_agg(split_part(name, '.', 3), ',') FROM unnest(names) AS n (name)), 'json'";
    let mut table = Table { columns, rows: rows(backing, settings, list, id).await? };
    for row in &mut table.rows {
        let high_water = Hlc(row[9].as_deref().and_then(|text| text.parse().ok()).unwrap_or_default());
        row[9] = Some(high_water.to_string());
        row[4] = Some(running_status(row[3].as_deref(), high_water));
    }
    Ok(table)
}

/// `running: resolved=1759246920563173000,0`
fn running_status(status: Option<&str>, high_water: Hlc) -> String {
    match status {
        Some("running") => format!("running: resolved={},{}", high_water.wall(), high_water.logical()),
        _ => String::new(),
    }
}

/// SHOW JOBS, or SHOW JOB `id`.
pub async fn show_jobs(backing: &Config, settings: &Settings, id: Option<i64>) -> Result<Table, SqlError> {
    let columns = vec![
        ("job_id", INT8),
        ("job_type", TEXT),
        ("description", TEXT),
        ("statement", TEXT),
        ("user_name", TEXT),
        ("status", TEXT),
        ("running_status", TEXT),
        ("created", TIMESTAMPTZ),
        ("started", TIMESTAMPTZ),
        ("finished", TIMESTAMPTZ),
        ("modified", TIMESTAMPTZ),
        ("fraction_completed", FLOAT8),
        ("error", TEXT),
        ("coordinator_id", INT8),
        ("trace_id", INT8),
        ("execution_errors", TEXTS),
    ];
    let list = "id, 'CHANGEFEED', description, '', user_name, status, high_water, created, created, finished, modified,
        CASE WHEN status = 'succeeded' THEN 1.0 ELSE 0.0 END, error, 1, 0, '{}'";
    let mut table = Table { columns, rows: rows(backing, settings, list, id).await? };
    for row in &mut table.rows {
        let high_water = Hlc(row[6].as_deref().and_then(|text| text.parse().ok()).unwrap_or_default());
        row[6] = Some(running_status(row[5].as_deref(), high_water));
    }
    Ok(table)
}

/// Reads the jobs that run or ended within the last 12 hours.
async fn rows(
    backing: &Config,
    settings: &Settings,
    list: &str,
    id: Option<i64>,
) -> Result<Vec<Vec<Option<String>>>, SqlError> {
    refresh(Some(backing), settings).await?;
    let of = id.map_or_else(
        || "finished IS NULL OR finished > now() - interval '12 hours'".to_owned(),
        |id| format!("id = {id}"),
    );
    let sql = format!("SELECT {list} FROM standin.job WHERE {of} ORDER BY id");
    let store = settings.store().await?;
    let mut rows = Vec::new();
    for message in store.simple_query(&sql).await? {
        if let SimpleQueryMessage::Row(row) = message {
            rows.push((0..row.len()).map(|index| row.get(index).map(str::to_owned)).collect());
        }
    }
    if let (Some(id), true) = (id, rows.is_empty()) {
        return Err(SqlError::uncoded(format!("job with ID {id} does not exist")));
    }
    Ok(rows)
}
