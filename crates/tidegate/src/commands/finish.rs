//! `finish`: the migration is over, and nothing of it stays behind but what is listed as kept.
//!
//! ```text
//!   list what is there --> drain what flows --> phase final on both sides --> the streams end --> remove, side by side
//! ```
//!
//! From `final` on only this command goes on, and finds what is left after a crash.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_control::Side;
use tidegate_model::{Problem, Stream};
use tidegate_sql::finish::{self, KEPT, Removal};
use tidegate_sql::requests::{self, FINISH, Request};
use tidegate_sql::state::{self, OwnerRow, Part};
use tokio::time::{Instant, sleep};

use super::{asking, drain};
use crate::cli::FinishArgs;
use crate::config::{Migration, PipelineOptions};
use crate::engine::{End, Ends, Flow, flowing_streams, unfinished_turn};
use crate::output::{Exit, Failure, print_json};

/// Between two looks at whether an owner has ended, and two attempts to remove what is still in use.
const AGAIN: Duration = Duration::from_millis(300);

pub async fn run(args: FinishArgs) -> Result<Exit, Failure> {
    let migration = Migration::read(&args.migration, PipelineOptions::default()).map_err(Failure::unknown)?;
    let ends = Ends::connect(&migration).await.map_err(Failure::unknown)?;
    let finish = Finish { migration: &migration, ends: &ends, limit: args.timeout.0 };
    let found = finish.inventory().await.map_err(Failure::at_start)?;
    let is_over = finish.is_over().await.map_err(Failure::at_start)?;
    if !is_over {
        finish.refuse_unfinished().await?;
    }
    let nothing = found.iter().all(|(_, removals)| removals.is_empty());
    if args.plan_only || nothing {
        show(&args, "to_remove", &found);
        return Ok(Exit::Done);
    }
    if !args.yes {
        eprint!("{}", text("to remove", &found));
        if !asking::confirmed("finish").await? {
            eprintln!("nothing was changed");
            return Ok(Exit::Negative);
        }
    }
    if !is_over && !args.undrained {
        finish.drain().await?;
    }
    finish.declare_over().await.map_err(Failure::at_start)?;
    finish.end_streams().await?;
    let removed = finish.remove().await.map_err(Failure::at_start)?;
    show(&args, "removed", &removed);
    Ok(Exit::Done)
}

/// What is removed, by side.
type Found = Vec<(Side, Vec<Removal>)>;

struct Finish<'a> {
    migration: &'a Migration,
    ends: &'a Ends,
    limit: Duration,
}

impl Finish<'_> {
    fn sides(&self) -> [(Side, &End); 2] {
        [(Side::Source, &self.ends.source), (Side::Target, &self.ends.target)]
    }

    async fn inventory(&self) -> Result<Found, Problem> {
        let mut found = Vec::new();
        for (side, end) in self.sides() {
            found.push((side, finish::inventory(&end.session, &self.ends.schema, &self.migration.name).await?));
        }
        Ok(found)
    }

    /// Returns whether it was ended before, and only the removal is left.
    async fn is_over(&self) -> Result<bool, Problem> {
        for (_, end) in self.sides() {
            let row = state::read_migration(&end.session, &self.ends.schema, &self.migration.name).await?;
            if row.is_some_and(|row| row.phase == "final") {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn refuse_unfinished(&self) -> Result<(), Failure> {
        match unfinished_turn(self.migration, self.ends).await.map_err(Failure::at_start)? {
            None => Ok(()),
            Some(direction) => {
                let command = format!("tidegate {direction} --name {}", self.migration.name);
                Err(Failure::refused(Problem::definite(
                    "CT003",
                    format!("a {direction} of this migration is unfinished"),
                    "which side is to stay is known once it has ended",
                    format!("go on with {command}, or undo it with {command} --abort"),
                )))
            }
        }
    }

    /// The side that is not open gets everything that the open one has.
    async fn drain(&self) -> Result<(), Failure> {
        let (migration, ends) = (self.migration, self.ends);
        for stream in flowing_streams(migration, ends).await.map_err(Failure::at_start)? {
            let flow = Flow { migration, ends, stream };
            if self.has_begun(flow).await.map_err(Failure::at_start)? {
                drain::drain(flow, self.limit).await?;
            }
        }
        Ok(())
    }

    async fn has_begun(&self, flow: Flow<'_>) -> Result<bool, Problem> {
        let (session, key) = (&flow.to().session, flow.key()?);
        Ok(state::is_installed(session, &key.schema, Part::Stream).await?
            && state::read_checkpoint(session, &key).await?.is_some_and(|checkpoint| checkpoint.position.is_some()))
    }

    async fn declare_over(&self) -> Result<(), Problem> {
        for (_, end) in self.sides() {
            finish::declare_over(&end.session, &self.ends.schema, &self.migration.name).await?;
        }
        Ok(())
    }

    /// Asks whoever runs the streams to end them, and waits until that is so. A new start is refused from here on.
    async fn end_streams(&self) -> Result<(), Failure> {
        let until = Instant::now() + self.limit;
        for stream in [Stream::Forward, Stream::Reverse] {
            let flow = Flow { migration: self.migration, ends: self.ends, stream };
            let mut asked = false;
            while let Some(owner) = self.owner(flow).await.map_err(Failure::at_start)? {
                if !asked {
                    self.ask_to_end(flow).await.map_err(Failure::at_start)?;
                    asked = true;
                }
                if Instant::now() > until {
                    return Err(Failure::refused(still_runs(stream, &owner)));
                }
                sleep(AGAIN).await;
            }
        }
        Ok(())
    }

    /// Returns who runs a stream.
    async fn owner(&self, flow: Flow<'_>) -> Result<Option<OwnerRow>, Problem> {
        let (session, key) = (&flow.to().session, flow.key()?);
        if !state::is_installed(session, &key.schema, Part::Stream).await? {
            return Ok(None);
        }
        Ok(state::read_owner(session, &key).await?.filter(OwnerRow::seems_alive))
    }

    async fn ask_to_end(&self, flow: Flow<'_>) -> Result<(), Problem> {
        let request = Request { id: requests::new_request_id(), kind: FINISH.to_owned(), arguments: Value::Null };
        requests::ask(&flow.to().session, &flow.key()?, &request).await
    }

    async fn remove(&self) -> Result<Found, Problem> {
        let mut removed = Vec::new();
        for (side, end) in self.sides() {
            removed.push((side, self.remove_at(end).await?));
        }
        Ok(removed)
    }

    /// A slot or an origin stays in use for a moment after its session has ended.
    async fn remove_at(&self, end: &End) -> Result<Vec<Removal>, Problem> {
        let (schema, name) = (&self.ends.schema, &self.migration.name);
        let until = Instant::now() + self.limit;
        let found = finish::inventory(&end.session, schema, name).await?;
        loop {
            match finish::remove(&end.settings, schema, name, until, &mut |_| {}).await {
                Ok(_) => return Ok(found),
                Err(problem) if Instant::now() > until => return Err(problem),
                Err(_) => sleep(AGAIN).await,
            }
        }
    }
}

fn still_runs(stream: Stream, owner: &OwnerRow) -> Problem {
    Problem::definite(
        "FI003",
        format!("the {stream} stream still runs"),
        format!("process {} on {} was asked to end it and has not", owner.pid, owner.host),
        "stop that process, and run the same command again: what is removed stays removed",
    )
}

fn show(args: &FinishArgs, what: &str, found: &Found) {
    if !args.migration.json {
        print!("{}", text(&what.replace('_', " "), found));
        return;
    }
    let removal = |removal: &Removal| json!({ "kind": removal.kind.to_string(), "name": removal.name });
    let side = |side: Side| {
        let removals = found.iter().filter(|(found, _)| *found == side).flat_map(|(_, removals)| removals);
        removals.map(removal).collect::<Vec<_>>()
    };
    let sides = json!({ "source": side(Side::Source), "target": side(Side::Target) });
    print_json(&json!({ what: sides, "kept": KEPT }));
}

fn text(what: &str, found: &Found) -> String {
    let mut lines = Vec::new();
    for (side, removals) in found {
        lines.push(format!("{what} at the {side}:{}", if removals.is_empty() { " nothing" } else { "" }));
        lines.extend(removals.iter().map(|removal| format!("  {}: {}", removal.kind, removal.name)));
    }
    lines.push("kept on purpose, at both:".to_owned());
    lines.extend(KEPT.iter().map(|kept| format!("  {kept}")));
    lines.join("\n") + "\n"
}
