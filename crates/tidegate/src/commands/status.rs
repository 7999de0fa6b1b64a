//! `status`: what the owner last said of itself, completed by what the source says now.

use std::time::Duration;

use tidegate_connect::Session;
use tidegate_model::{Position, Problem};
use tidegate_source_postgres::wal;
use tidegate_sql::copy::read_records;
use tidegate_sql::state::{self, OwnerRow, Part, StateKey};
use tokio::time::sleep;

use super::migrate::stop_on_signals;
use crate::cli::StatusArgs;
use crate::config::{Migration, PipelineOptions};
use crate::engine::{line, state_key};
use crate::output::{ErrorJson, Exit, Failure, print_json};
use crate::status::{Status, StreamState, StreamStatus, TableCounts};

const WATCH_EVERY: Duration = Duration::from_secs(1);

pub async fn run(args: StatusArgs) -> Result<Exit, Failure> {
    let migration = Migration::read(&args.migration, PipelineOptions::default()).map_err(Failure::unknown)?;
    let key = state_key(&migration).map_err(Failure::unknown)?;
    let stop = stop_on_signals();
    loop {
        let (status, unreached) = read(&migration, &key).await.map_err(Failure::unknown)?;
        if args.migration.json {
            print_json(&status);
        } else {
            print(&status);
        }
        let exit = match (&status.error, unreached) {
            (Some(_), _) => Exit::Negative,
            (None, true) => Exit::Unknown,
            (None, false) => Exit::Done,
        };
        if !args.watch || stop.run_until_cancelled(sleep(WATCH_EVERY)).await.is_none() {
            return Ok(exit);
        }
    }
}

/// Reads the status, and whether the source could not be asked. The target must be reached.
async fn read(migration: &Migration, key: &StateKey) -> Result<(Status, bool), Problem> {
    let role = migration.name.application_name("status");
    let target = Session::connect(&migration.target_settings()?, &role).await?;
    let known = state::is_installed(&target, &key.schema, Part::Stream).await?;
    let row = if known { state::read_migration(&target, &key.schema, &key.migration).await? } else { None };
    let Some(row) = row else {
        return Err(Problem::definite(
            "MI010",
            format!("the target knows no migration \"{}\"", migration.name),
            format!("its state schema \"{}\" has no migration of that name", migration.state_schema),
            "check --target, --name and --state-schema; tidegate migrate begins a migration",
        ));
    };
    let owner = state::read_owner(&target, key).await?;
    let checkpoint = state::read_checkpoint(&target, key).await?;
    let records = read_records(&target, key).await?;

    let mut stream = said_by(owner.as_ref(), key);
    let copied = records.iter().filter(|record| record.state.as_str() == "copied").count();
    stream.tables = TableCounts { total: records.len() as u64, copied: copied as u64 };
    let applied = checkpoint.and_then(|checkpoint| checkpoint.position);
    if let Some(applied) = &applied {
        // The checkpoint is newer than the owner's last word, and what is applied was received.
        let received = stream.received_position.as_ref().and_then(|text| text.parse::<Position>().ok());
        if received.is_none_or(|received| received.is_at_or_before(applied)) {
            stream.received_position = Some(applied.to_string());
        }
        stream.applied_position = Some(applied.to_string());
    }
    let source = ask_source(migration, &mut stream).await;
    let mut error = owner.and_then(|owner| owner.error).and_then(|error| serde_json::from_value(error).ok());
    if error.is_none() && source == Source::SlotMissing && applied.is_some() {
        error = Some(ErrorJson::from(&slot_missing(migration)));
    }
    let status = Status {
        name: migration.name.to_string(),
        phase: row.phase,
        generation: row.generation,
        streams: vec![stream],
        error,
    };
    Ok((status, source == Source::Unreached))
}

/// What the source answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Measured,
    SlotMissing,
    Unreached,
}

fn slot_missing(migration: &Migration) -> Problem {
    let (name, slot) = (&migration.name, migration.name.object_name());
    Problem::definite(
        "MI014",
        format!("replication slot \"{slot}\" does not exist"),
        "what the source writes from here on is not kept for this migration",
        format!("tidegate migrate --name {name} says what is lost and how to repair it"),
    )
}

/// Returns what the owner said last, as stopped where nobody runs the stream any more.
fn said_by(owner: Option<&OwnerRow>, key: &StateKey) -> StreamStatus {
    let said = owner.and_then(|owner| owner.status.clone()).and_then(|said| serde_json::from_value(said).ok());
    let mut stream = said.unwrap_or_else(|| StreamStatus::new(key.stream.as_str(), StreamState::Stopped));
    if !owner.is_some_and(OwnerRow::seems_alive) {
        stream.state = StreamState::Stopped;
        (stream.copy, stream.apply_lag_seconds, stream.source_lag_seconds) = (None, None, None);
        stream.waiting_for = match owner {
            Some(owner) if owner.stopped => None,
            Some(owner) => Some(format!(
                "an owner: process {} on {} ended without a word {:.0} s ago; tidegate migrate goes on",
                owner.pid, owner.host, owner.heartbeat_age_seconds
            )),
            None => None,
        };
    }
    stream
}

/// Completes what only the source knows; where it cannot be asked that is left unknown, and the reason is shown.
async fn ask_source(migration: &Migration, stream: &mut StreamStatus) -> Source {
    let asked = async {
        let role = migration.name.application_name("status");
        let session = Session::connect(&migration.source_settings()?, &role).await?;
        wal::measure(&session, &migration.name.object_name()).await
    };
    match asked.await {
        Ok(Some(retained)) => {
            stream.retained_wal_bytes = Some(retained.bytes());
            stream.source_position = Some(Position::postgres(retained.end).to_string());
            let received = stream.received_position.as_ref().and_then(|text| text.parse::<Position>().ok());
            stream.source_lag_bytes = received
                .and_then(|received| Position::postgres(retained.end).bytes_since(&received))
                .or(stream.source_lag_bytes);
            Source::Measured
        }
        Ok(None) => {
            stream.retained_wal_bytes = None;
            Source::SlotMissing
        }
        Err(problem) => {
            // What was measured earlier would look like the truth of now.
            (stream.source_position, stream.source_lag_bytes, stream.source_lag_seconds) = (None, None, None);
            stream.retained_wal_bytes = None;
            stream.waiting_for.get_or_insert(format!("the source: {} ({})", problem.what, problem.why));
            Source::Unreached
        }
    }
}

fn print(status: &Status) {
    println!("migration {}: phase {}, generation {}", status.name, status.phase, status.generation);
    for stream in &status.streams {
        println!("  {}: {}", stream.stream, line(stream));
        for table in &stream.not_carried {
            println!("  not carried: {table} appeared at the source after the migration began");
        }
        for table in &stream.dropped {
            println!("  dropped at the source: {table}; it stays at the target as it is");
        }
    }
    if let Some(error) = &status.error {
        println!("error[{}]: {}\n  why:  {}\n  next: {}", error.code, error.what, error.why, error.next);
    }
}
