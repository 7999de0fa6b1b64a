//! `drain`: everything that the source has committed by now is durable at the target.
//!
//! A marker is written at the source, so that there is something to wait for even if nobody else writes. Whatever was
//! committed before it ends before it in the log; so once the checkpoint has passed it, all of that is at the target.

use std::time::Instant;

use serde_json::{Value, json};
use tidegate_model::{Lsn, Position, Problem, TableFilter};
use tidegate_source_postgres::{catalog, publication};
use tidegate_sql::requests::{self, DRAIN, Request};
use tidegate_sql::state::{self, OwnerRow, StateKey};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::cli::DrainArgs;
use crate::config::{Migration, PipelineOptions};
use crate::engine::{self, Before, Ends, Wishes, state_key};
use crate::output::{Exit, Failure, bytes, print_json};

pub async fn run(args: DrainArgs) -> Result<Exit, Failure> {
    let began = Instant::now();
    let migration = Migration::read(&args.migration, PipelineOptions::default()).map_err(Failure::unknown)?;
    let key = state_key(&migration).map_err(Failure::unknown)?;
    let ends = Ends::connect(&migration).await.map_err(Failure::unknown)?;
    let before = Before::read(&ends, &key).await.map_err(Failure::unknown)?;
    if before.checkpoint.is_none() {
        return Err(Failure::unknown(no_migration(&migration)));
    }
    let marker = write_marker(&ends).await.map_err(Failure::unknown)?;
    let result = timeout(args.timeout.0, until_applied(&migration, &ends, &key, &marker)).await;
    let Ok(drained) = result else {
        return Err(Failure::refused(timed_out(&ends, &key, &marker, args.timeout.0.as_secs_f64()).await));
    };
    let applied = drained?;
    verify_published(&migration, &ends, &key).await?;
    let not_carried = not_carried(&migration, &ends, &key).await.map_err(Failure::at_start)?;
    let seconds = began.elapsed().as_secs_f64();
    if args.migration.json {
        let (marker, applied) = (marker.to_string(), applied.to_string());
        print_json(
            &json!({ "marker": marker, "applied_position": applied, "seconds": seconds, "not_carried": not_carried }),
        );
    } else {
        println!("drained: the target is at {applied}, past the marker at {marker} ({:.0} ms)", seconds * 1000.0);
        for table in &not_carried {
            println!(
                "  warning: not carried: {table} appeared at the source after the migration began; --recopy {table} adds it"
            );
        }
    }
    Ok(Exit::Done)
}

/// Returns the tables that match what the migration began with, and came later.
async fn not_carried(migration: &Migration, ends: &Ends, key: &StateKey) -> Result<Vec<String>, Problem> {
    let now = Before::read(ends, key).await?;
    let filter = TableFilter::new(&now.globs("tables"), &now.globs("exclude"), &migration.state_schema)?;
    let carried = now.carried();
    let found = catalog::list_tables(&ends.source_session, &filter).await?;
    let missing = found.iter().filter(|table| carried.iter().all(|(id, _)| *id != table.table.id));
    Ok(missing.map(|table| table.name().to_string()).collect())
}

/// Emits the marker and returns the first position past its message. Its commit is later, and so is every other commit
/// that a checkpoint at or past this position can stand for.
async fn write_marker(ends: &Ends) -> Result<Position, Problem> {
    let sql = "SELECT pg_logical_emit_message(true, 'tidegate', 'drain')::text";
    let row = ends.source_session.query_one(sql, &[]).await.map_err(|error| {
        let why = tidegate_connect::describe_sql_error(&error);
        let next = "the source must be writable: a standby cannot take the marker";
        Problem::definite("MI008", "the marker could not be written at the source", why, next).caused_by(error)
    })?;
    let lsn: Lsn = row.get::<_, &str>(0).parse().map_err(|error: tidegate_model::InvalidPosition| {
        Problem::bug("MI008", "the marker has no position", error.to_string())
    })?;
    Ok(Position::postgres(Lsn(lsn.0 + 1)))
}

/// Asks the owner; where there is none, runs the migration up to the marker itself and gives it back.
async fn until_applied(
    migration: &Migration,
    ends: &Ends,
    key: &StateKey,
    marker: &Position,
) -> Result<Position, Failure> {
    let request = Request {
        id: requests::new_request_id(),
        kind: DRAIN.to_owned(),
        arguments: json!({ "position": marker.to_string() }),
    };
    requests::ask(&ends.target_session, key, &request).await.map_err(Failure::at_start)?;
    let answer = requests::wait_for_answer(&ends.target_session, key, &request.id);
    let answer = tokio::select! {
        answer = answer => answer.map_err(Failure::at_start)?,
        ended = without_owner(migration, ends, key, marker) => return ended,
    };
    read_answer(&answer).map_err(Failure::refused)
}

/// Refuses to say "drained" where the publication may have left out changes: those never come.
async fn verify_published(migration: &Migration, ends: &Ends, key: &StateKey) -> Result<(), Failure> {
    let now = Before::read(ends, key).await.map_err(Failure::at_start)?;
    let Some(history) = now.history().map_err(Failure::at_start)? else { return Ok(()) };
    let (source, name) = (&ends.source_session, &history.publication);
    let compared = publication::compare(source, name, history.published.as_ref(), &now.carried()).await;
    let gaps = compared.map_err(Failure::at_start)?.gaps;
    if gaps.is_empty() { Ok(()) } else { Err(Failure::refused(publication::changed(&migration.name, name, &gaps))) }
}

/// Waits while somebody owns the stream; then runs it up to the marker.
async fn without_owner(
    migration: &Migration,
    ends: &Ends,
    key: &StateKey,
    marker: &Position,
) -> Result<Position, Failure> {
    loop {
        let owner = state::read_owner(&ends.target_session, key).await.map_err(Failure::at_start)?;
        if !owner.as_ref().is_some_and(OwnerRow::seems_alive) {
            break;
        }
        sleep(std::time::Duration::from_millis(500)).await;
    }
    let wishes = Wishes { until: Some(marker.clone()), ..Wishes::default() };
    let ended = Box::pin(engine::run(migration, wishes, &CancellationToken::new())).await?;
    match ended.applied {
        Some(applied) if applied >= *marker => Ok(applied),
        _ => {
            Err(Failure::refused(Problem::bug("MI009", "the stream ended before it had drained", "nobody stopped it")))
        }
    }
}

fn read_answer(answer: &Value) -> Result<Position, Problem> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if let Some(error) = answer.get("error") {
        return Err(Problem::definite("MI009", text(&error["what"]), text(&error["why"]), text(&error["next"])));
    }
    text(&answer["applied_position"]).parse().map_err(|error: tidegate_model::InvalidPosition| {
        Problem::bug("MI009", "the owner's answer cannot be read", error.to_string())
    })
}

fn no_migration(migration: &Migration) -> Problem {
    Problem::definite(
        "MI010",
        format!("the target knows no migration \"{}\"", migration.name),
        format!("its state schema \"{}\" has no checkpoint of that name", migration.state_schema),
        "check --target, --name and --state-schema; tidegate migrate begins a migration",
    )
}

async fn timed_out(ends: &Ends, key: &StateKey, marker: &Position, seconds: f64) -> Problem {
    let checkpoint = state::read_checkpoint(&ends.target_session, key).await.ok().flatten();
    let why = match checkpoint.and_then(|checkpoint| checkpoint.position) {
        Some(at) => format!(
            "the target is at {at}, {} before the marker at {marker}",
            bytes(marker.bytes_since(&at).unwrap_or(0))
        ),
        None => "the tables are not copied yet".to_owned(),
    };
    let next = "see what it waits for: tidegate status; or give it longer: --timeout";
    Problem::definite("MI011", format!("not drained within {seconds} s"), why, next)
}
