//! `drain`: everything that the source has committed by now is durable at the target.
//!
//! A marker is written at the source, so that there is something to wait for even if nobody else writes. Whatever was
//! committed before it ends before it in the log; so once the checkpoint has passed it, all of that is at the target.

use std::time::Instant;

use serde_json::{Value, json};
use tidegate_model::{Position, Problem, Stream, TableFilter};
use tidegate_sql::requests::{self, Answers, DRAIN, Request};
use tidegate_sql::state::{self, OwnerRow};
use tokio::time::{sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::cli::DrainArgs;
use crate::config::{Migration, PipelineOptions};
use crate::engine::{Before, Ends, Flow, Upstream, Wishes, run_alone, with_upstream};
use crate::output::{Exit, Failure, bytes, print_json, say};

/// Writes a marker at the source of a stream and waits until it has passed it: by its owner, or as its owner.
pub(super) async fn drain(flow: Flow<'_>, limit: std::time::Duration) -> Result<Drained, Failure> {
    let until = tokio::time::Instant::now() + limit;
    let drain = Drain { flow, until, patience: limit.as_secs_f64() };
    with_upstream!(flow, upstream => drain.run(&upstream).await)
}

/// A stream that was drained.
pub(super) struct Drained {
    stream: Stream,
    marker: Position,
    applied: Position,
    not_carried: Vec<String>,
    seconds: f64,
}

pub async fn run(args: DrainArgs) -> Result<Exit, Failure> {
    let migration = Migration::read(&args.migration, PipelineOptions::default()).map_err(Failure::unknown)?;
    let ends = Ends::connect(&migration).await.map_err(Failure::unknown)?;
    let mut drained = Vec::new();
    for stream in [Stream::Forward, Stream::Reverse] {
        let flow = Flow { migration: &migration, ends: &ends, stream };
        let before = Before::read(flow).await.map_err(Failure::unknown)?;
        if before.checkpoint.is_some() {
            drained.push(drain(flow, args.timeout.0).await?);
        } else if stream == Stream::Forward {
            return Err(Failure::unknown(no_migration(&migration)));
        }
    }
    if args.migration.json {
        let shown: Vec<Value> = drained.iter().map(Drained::json).collect();
        let mut answer = shown[0].clone();
        answer["streams"] = shown.into();
        print_json(&answer);
    } else {
        drained.iter().for_each(Drained::print);
    }
    Ok(Exit::Done)
}

impl Drained {
    fn json(&self) -> Value {
        json!({
            "stream": self.stream.as_str(),
            "marker": self.marker.to_string(),
            "applied_position": self.applied.to_string(),
            "seconds": self.seconds,
            "not_carried": self.not_carried,
        })
    }

    fn print(&self) {
        let Drained { stream, marker, applied, .. } = self;
        let which = if *stream == Stream::Forward { "the target" } else { "the source (reverse stream)" };
        say!("drained: {which} is at {applied}, past the marker at {marker} ({:.0} ms)", self.seconds * 1000.0);
        for table in &self.not_carried {
            say!("  warning: not carried: {table} appeared after the migration began; --recopy {table} adds it");
        }
    }
}

/// One stream to drain.
struct Drain<'a> {
    flow: Flow<'a>,
    until: tokio::time::Instant,
    /// The whole limit in seconds, as it was given.
    patience: f64,
}

impl Drain<'_> {
    async fn run<U: Upstream>(&self, upstream: &U) -> Result<Drained, Failure> {
        let (began, flow) = (Instant::now(), self.flow);
        let marker = upstream.marker().await.map_err(Failure::unknown)?;
        let Ok(drained) = timeout_at(self.until, self.until_applied(&marker)).await else {
            return Err(Failure::refused(self.timed_out(&marker).await));
        };
        let applied = drained?;
        let now = Before::read(flow).await.map_err(Failure::at_start)?;
        upstream.verify_carried(&now).await.map_err(Failure::refused)?;
        let not_carried = not_carried(flow, upstream).await.map_err(Failure::at_start)?;
        Ok(Drained { stream: flow.stream, marker, applied, not_carried, seconds: began.elapsed().as_secs_f64() })
    }

    /// Asks the owner; where there is none, runs the stream up to the marker itself and gives it back.
    async fn until_applied(&self, marker: &Position) -> Result<Position, Failure> {
        let (session, key) = (&self.flow.to().session, self.flow.key().map_err(Failure::unknown)?);
        let request = Request {
            id: requests::new_request_id(),
            kind: DRAIN.to_owned(),
            arguments: json!({ "position": marker.to_string() }),
        };
        requests::ask(session, &key, &request).await.map_err(Failure::at_start)?;
        let answer = requests::wait_for_answer(session, &key, &request.id);
        let answer = tokio::select! {
            answer = answer => answer.map_err(Failure::at_start)?,
            ended = self.without_owner(marker, &request.id) => return ended,
        };
        read_answer(&answer).map_err(Failure::refused)
    }

    /// Waits while somebody owns the stream; then runs it up to the marker.
    async fn without_owner(&self, marker: &Position, request: &str) -> Result<Position, Failure> {
        let key = self.flow.key().map_err(Failure::unknown)?;
        loop {
            let owner = state::read_owner(&self.flow.to().session, &key).await.map_err(Failure::at_start)?;
            if !owner.as_ref().is_some_and(OwnerRow::seems_alive) {
                break;
            }
            sleep(std::time::Duration::from_millis(500)).await;
        }
        let answers = Answers::NoTurnBut { id: request.to_owned() };
        let wishes = Wishes { until: Some(marker.clone()), answers, ..Wishes::default() };
        let ended = Box::pin(run_alone(self.flow, wishes, &CancellationToken::new())).await?;
        match ended.applied {
            Some(applied) if applied >= *marker => Ok(applied),
            _ => {
                let what = "the stream ended before it had drained";
                Err(Failure::refused(Problem::bug("MI009", what, "nobody stopped it")))
            }
        }
    }

    async fn timed_out(&self, marker: &Position) -> Problem {
        let next = "see what it waits for: tidegate status; or give it longer: --timeout";
        let what = format!("not drained within {} s", self.patience);
        let position = match self.flow.key() {
            Ok(key) => state::read_checkpoint(&self.flow.to().session, &key).await.ok().flatten(),
            Err(_) => None,
        };
        let why = match position.and_then(|checkpoint| checkpoint.position) {
            Some(at) => match marker.bytes_since(&at) {
                Some(left) => format!("the target is at {at}, {} before the marker at {marker}", bytes(left)),
                None => format!("the target is at {at}, before the marker at {marker}"),
            },
            None => "the tables are not copied yet".to_owned(),
        };
        Problem::definite("MI011", what, why, next)
    }
}

/// Returns the tables that match what the migration began with, and came later.
async fn not_carried<U: Upstream>(flow: Flow<'_>, upstream: &U) -> Result<Vec<String>, Problem> {
    let now = Before::read(flow).await?;
    let globs = |which| now.setting::<Vec<String>>(which);
    let filter = TableFilter::new(&globs("tables"), &globs("exclude"), &flow.migration.state_schema)?;
    let carried = now.carried();
    let found = upstream.tables(&filter).await?;
    let missing = found.iter().filter(|table| carried.iter().all(|(id, _)| *id != table.id()));
    Ok(missing.map(|table| table.name().to_string()).collect())
}

fn read_answer(answer: &Value) -> Result<Position, Problem> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if let Some(error) = answer.get("error") {
        return Err(super::asking::told(error));
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
