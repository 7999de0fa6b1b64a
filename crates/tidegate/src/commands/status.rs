//! `status`: what the owner last said of itself, completed by what the source says now.

use std::time::Duration;

use tidegate_connect::Session;
use tidegate_control::Turning;
use tidegate_model::{CopyState, Position, Problem, Stream, TableName};
use tidegate_source_cockroach::GcWindow;
use tidegate_source_postgres::wal;
use tidegate_sql::conflicts::{self, Conflict, Place};
use tidegate_sql::copy::{CopyRecord, read_records};
use tidegate_sql::state::{self, MigrationRow, OwnerRow, Part, StateKey};
use tokio::time::sleep;

use super::migrate::stop_on_signals;
use crate::cli::StatusArgs;
use crate::config::{Migration, PipelineOptions};
use crate::engine::{line, state_key};
use crate::output::{ErrorJson, Exit, Failure, print_json, say};
use crate::status::{Status, StreamState, StreamStatus, TableCounts};

const WATCH_EVERY: Duration = Duration::from_secs(1);

pub async fn run(args: StatusArgs) -> Result<Exit, Failure> {
    let migration = Migration::read(&args.migration, PipelineOptions::default()).map_err(Failure::unknown)?;
    state_key(&migration, Stream::Forward).map_err(Failure::unknown)?;
    let stop = stop_on_signals();
    loop {
        let (status, unreached) = read(&migration, args.conflicts).await.map_err(Failure::unknown)?;
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
async fn read(migration: &Migration, list_conflicts: bool) -> Result<(Status, bool), Problem> {
    let role = migration.name.application_name("status");
    let target = Session::connect(&migration.target_settings()?, &role).await?;
    let key = state_key(migration, Stream::Forward)?;
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
    let source = Session::connect(&migration.source_settings()?, &role).await;
    let (mut streams, mut error) = (Vec::new(), None);
    let forward = Asked { migration, key, holder: &target, read: source.as_ref() };
    forward.look(&mut streams, &mut error).await?;
    if let Ok(source) = &source {
        let key = state_key(migration, Stream::Reverse)?;
        let made = state::is_installed(source, &key.schema, Part::Stream).await?
            && state::read_checkpoint(source, &key).await?.is_some();
        if made {
            let reverse = Asked { migration, key, holder: source, read: Ok(&target) };
            reverse.look(&mut streams, &mut error).await?;
        }
    }
    let mut rows = vec![row];
    if let Ok(source) = &source {
        rows.extend(state::read_migration(source, &forward.key.schema, &migration.name).await?);
    }
    if error.is_none() && streams.iter().any(|stream| stream.breaches > 0) {
        error = Some(ErrorJson::from(&breached(migration)));
    }
    let (phase, generation) = standing(&rows);
    let conflicts =
        if list_conflicts { Some(conflicts_of(migration, &target, source.as_ref().ok()).await?) } else { None };
    let name = migration.name.to_string();
    Ok((Status { name, phase, generation, streams, conflicts, error }, source.is_err()))
}

/// Returns the rows that both sides have changed while both were open, as far as the sides can be asked.
async fn conflicts_of(
    migration: &Migration,
    target: &Session,
    source: Option<&Session>,
) -> Result<Vec<Conflict>, Problem> {
    let mut seen = Vec::new();
    for (stream, holder) in [(Stream::Forward, Some(target)), (Stream::Reverse, source)] {
        let (Some(holder), key) = (holder, state_key(migration, stream)?) else { continue };
        if state::is_installed(holder, &key.schema, Part::Stream).await? {
            seen.extend(conflicts::read(holder, &key).await?);
        }
    }
    Ok(conflicts::merged(&seen))
}

/// Returns phase and generation: the higher generation is the truth, and while a turn is unfinished neither side is.
fn standing(rows: &[MigrationRow]) -> (String, i64) {
    let newest = rows.iter().max_by_key(|row| row.generation).expect("the target's is there");
    let is_unfinished = |row: &MigrationRow| {
        let turning = row.turning.as_ref().and_then(|text| text.parse().ok());
        matches!(turning, Some(Turning::Begun(id) | Turning::Turning(id)) if id.to == newest.generation + 1)
    };
    let behind = rows.iter().any(|row| row.generation < newest.generation);
    let phase = if behind || rows.iter().any(is_unfinished) { "cutover" } else { newest.phase.as_str() };
    (phase.to_owned(), newest.generation)
}

fn breached(migration: &Migration) -> Problem {
    Problem::definite(
        "CT015",
        "somebody writes to the side that is not open",
        "BREACH: what was written there is not carried over, and the two sides are not equal any more",
        format!(
            "find the writer and stop it; tidegate verify --repair --name {} makes both sides equal and gives up what was \
             written there",
            migration.name
        ),
    )
}

/// A stream that is asked about.
struct Asked<'a> {
    migration: &'a Migration,
    key: StateKey,
    /// The database that holds its state.
    holder: &'a Session,
    /// The database that it reads, or why that cannot be asked.
    read: Result<&'a Session, &'a Problem>,
}

impl Asked<'_> {
    async fn look(&self, streams: &mut Vec<StreamStatus>, error: &mut Option<ErrorJson>) -> Result<(), Problem> {
        let owner = state::read_owner(self.holder, &self.key).await?;
        let checkpoint = state::read_checkpoint(self.holder, &self.key).await?;
        let records = read_records(self.holder, &self.key).await?;

        let mut stream = said_by(owner.as_ref(), &self.key);
        stream.conflicts = conflicts::count(self.holder, &self.key).await?;
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
        let missing = self.measure(&mut stream, &records).await;
        if error.is_none() {
            let told = owner.as_ref().and_then(|owner| owner.error.clone());
            *error = told.and_then(|error| serde_json::from_value(error).ok());
        }
        if error.is_none() && missing && applied.is_some() {
            *error = Some(ErrorJson::from(&slot_missing(self.migration)));
        }
        if error.is_none()
            && let Some(gone) = owner.filter(is_gone)
        {
            *error = Some(ErrorJson::from(&ended_without_a_word(self.migration, &self.key, &gone)));
        }
        streams.push(stream);
        Ok(())
    }

    /// Completes what only the database that is read knows, and returns whether it has lost the slot. Where it cannot be
    /// asked that is left unknown, and the reason is shown.
    async fn measure(&self, stream: &mut StreamStatus, records: &[CopyRecord]) -> bool {
        let measured = match self.read {
            Ok(session) if session.is_cockroach() => measure_cockroach(session, stream, records).await.map(|()| false),
            Ok(session) => measure_postgres(session, self.migration, stream).await,
            Err(problem) => Err(unreached(problem)),
        };
        measured.unwrap_or_else(|problem| {
            // What was measured earlier would look like the truth of now.
            (stream.source_position, stream.source_lag_bytes, stream.source_lag_seconds) = (None, None, None);
            (stream.retained_wal_bytes, stream.history_seconds_left) = (None, None);
            let read = stream.reads();
            stream.waiting_for.get_or_insert(format!("the {read}: {} ({})", problem.what, problem.why));
            false
        })
    }
}

/// Says again why a database could not be reached; problems are told once.
fn unreached(problem: &Problem) -> Problem {
    Problem::transient(problem.code, problem.what.clone(), problem.why.clone(), problem.next.clone())
}

/// Measures the slot; returns whether it is missing.
async fn measure_postgres(
    session: &Session,
    migration: &Migration,
    stream: &mut StreamStatus,
) -> Result<bool, Problem> {
    let Some(retained) = wal::measure(session, &migration.name.object_name()).await? else {
        stream.retained_wal_bytes = None;
        return Ok(true);
    };
    let end = Position::postgres(retained.end);
    stream.retained_wal_bytes = Some(retained.bytes());
    stream.source_position = Some(end.to_string());
    let received = stream.received_position.as_ref().and_then(|text| text.parse::<Position>().ok());
    stream.source_lag_bytes = received.and_then(|received| end.bytes_since(&received)).or(stream.source_lag_bytes);
    Ok(false)
}

/// Reads the cluster's clock, and of a stream that nobody runs how long the cluster still keeps what it will need.
async fn measure_cockroach(
    session: &Session,
    stream: &mut StreamStatus,
    records: &[CopyRecord],
) -> Result<(), Problem> {
    let now = tidegate_source_cockroach::now(session).await?;
    stream.source_position = Some(Position::cockroach(now).to_string());
    let received = stream.received_position.as_ref().and_then(|text| text.parse::<Position>().ok());
    if let Some(received) = received.and_then(|received| received.hlc()) {
        stream.source_lag_seconds = Some(now.wall.saturating_sub(received.wall) as f64 / 1e9);
    }
    let applied = stream.applied_position.as_ref().and_then(|text| text.parse::<Position>().ok());
    if let Some(applied) = applied.filter(|_| stream.state == StreamState::Stopped) {
        let copied = |record: &CopyRecord| match &record.state {
            CopyState::Copied(route) => Some(route.map.source.name.clone()),
            CopyState::Planned | CopyState::Copying => None,
        };
        let tables: Vec<TableName> = records.iter().filter_map(copied).collect();
        let window = GcWindow::read(session, &tables, &applied, now).await?;
        stream.history_seconds_left = Some(window.seconds_left() as f64);
    }
    Ok(())
}

/// Tells whether a process ran the stream and was killed, or is cut off.
fn is_gone(owner: &OwnerRow) -> bool {
    !owner.stopped && !owner.seems_alive()
}

fn ended_without_a_word(migration: &Migration, key: &StateKey, owner: &OwnerRow) -> Problem {
    let OwnerRow { pid, host, heartbeat_age_seconds, .. } = owner;
    Problem::definite(
        "MI032",
        format!("nobody runs the {} stream: its process gives no sign of life", key.stream),
        format!(
            "process {pid} on {host} was heard of {heartbeat_age_seconds:.0} s ago, and has not said that it stopped"
        ),
        format!("tidegate migrate --name {} goes on where it was", migration.name),
    )
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
        // Measured again: the history goes on being forgotten. And what was on disk went with the process.
        (stream.history_seconds_left, stream.spooled_bytes) = (None, 0);
        stream.waiting_for = match owner {
            Some(owner) if is_gone(owner) => Some("an owner: tidegate migrate goes on".to_owned()),
            Some(_) | None => None,
        };
    }
    stream
}

/// Says in one line what became of a row that both sides had changed.
fn told(conflict: &Conflict) -> String {
    let places = |places: &[Place]| {
        let place = |place: &Place| match (&place.operation, &place.found) {
            (Some(operation), Some(found)) => format!("{operation} at {} found {found}", place.position),
            _ => format!("at {}", place.position),
        };
        if places.is_empty() { "-".to_owned() } else { places.iter().map(place).collect::<Vec<_>>().join(", ") }
    };
    let (table, key, kept) = (&conflict.table, conflict.key_text(), &conflict.kept);
    let (source, target) = (places(&conflict.source), places(&conflict.target));
    let settled = if conflict.settled { "" } else { "; not yet looked at again" };
    format!("{table} {key}: source {source}; target {target}; kept the {kept}'s row{settled}")
}

fn print(status: &Status) {
    say!("migration {}: phase {}, generation {}", status.name, status.phase, status.generation);
    for stream in &status.streams {
        say!("  {}: {}", stream.stream, line(stream));
        for table in &stream.not_carried {
            say!("  not carried: {table} appeared at the {} after the migration began", stream.reads());
        }
        for table in &stream.dropped {
            say!("  dropped at the {}: {table}; it stays at the other side as it is", stream.reads());
        }
    }
    for conflict in status.conflicts.iter().flatten() {
        say!("  conflict: {}", told(conflict));
    }
    if let Some(error) = &status.error {
        say!("error[{}]: {}\n  why:  {}\n  next: {}", error.code, error.what, error.why, error.next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phase_is_cutover_while_a_turn_is_unfinished() {
        let row = |generation, phase: &str, turning: Option<&str>| MigrationRow {
            generation,
            phase: phase.to_owned(),
            turning: turning.map(str::to_owned),
            side: String::new(),
            settings: serde_json::Value::Null,
        };
        let phase = |rows: &[MigrationRow]| standing(rows).0;
        let plain = row(1, "initial", None);
        assert_eq!(standing(&[plain.clone(), plain.clone()]), ("initial".to_owned(), 1));
        assert_eq!(phase(&[plain.clone(), row(1, "initial", Some("begun 2.1"))]), "cutover");
        assert_eq!(phase(&[plain.clone(), row(1, "initial", Some("turning 2.3"))]), "cutover");
        assert_eq!(phase(&[plain.clone(), row(1, "initial", Some("aborted 2.1"))]), "initial");
        assert_eq!(standing(&[row(2, "reversed", None), plain]), ("cutover".to_owned(), 2));
        assert_eq!(phase(&[row(2, "reversed", None), row(2, "reversed", None)]), "reversed");
    }
}
