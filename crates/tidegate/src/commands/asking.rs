//! Asking the owner of a stream for something. Where there is no owner, this process becomes it meanwhile.

use std::io::{IsTerminal, Write};
use std::pin::pin;
use std::time::Duration;

use serde_json::Value;
use tidegate_model::{Class, Problem, Stream};
use tidegate_sql::requests::{self, Answers, Request, RequestState};
use tidegate_sql::state::{self, OwnerRow, StateKey};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::Migration;
use crate::engine::{self, Ended, Ends, Flow, Wishes};
use crate::output::Failure;

/// How often the answer is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long what was owned meanwhile may take to be given back when this process is to end.
const GIVE_BACK_MAX: Duration = Duration::from_secs(5);
/// How often an owner is looked for.
const OWNER_EVERY: Duration = Duration::from_millis(500);

/// Returns the stream by which the migration flows now: that of the highest generation.
pub async fn flowing(migration: &Migration, ends: &Ends) -> Result<Stream, Failure> {
    let key = engine::state_key(migration, Stream::Forward).map_err(Failure::unknown)?;
    let mut generation = 0;
    for end in [&ends.source, &ends.target] {
        let row = state::read_migration(&end.session, &key.schema, &key.migration).await.map_err(Failure::unknown)?;
        generation = generation.max(row.map_or(0, |row| row.generation));
    }
    match generation {
        0 => Err(Failure::unknown(no_migration(migration))),
        odd if odd % 2 == 1 => Ok(Stream::Forward),
        _ => Ok(Stream::Reverse),
    }
}

/// Asks whoever sits there, who goes ahead by typing the word.
pub async fn confirmed(word: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        let what = format!("{word} was not confirmed");
        let problem = Problem::definite("CF007", what, "nobody can be asked", "read the plan, and say --yes");
        return Err(Failure::unknown(problem));
    }
    eprint!("type \"{word}\" to go ahead: ");
    let reading = spawn_blocking(|| {
        let mut line = String::new();
        std::io::stderr().flush().and_then(|()| std::io::stdin().read_line(&mut line)).map(|_bytes| line)
    });
    tokio::select! {
        read = reading => Ok(read.is_ok_and(|read| read.is_ok_and(|line| line.trim() == word))),
        () = signalled() => Ok(false),
    }
}

/// Leaves a request with the owner of a stream and waits for the answer, which may be an error.
pub async fn ask(
    flow: Flow<'_>,
    request: &Request,
    limit: Duration,
    mut on_progress: impl FnMut(&Value),
) -> Result<Value, Failure> {
    let key = flow.key().map_err(Failure::unknown)?;
    let session = &flow.to().session;
    requests::ask(session, &key, request).await.map_err(Failure::at_start)?;
    let stop = CancellationToken::new();
    let mut owning = pin!(without_owner(flow, &key, &request.id, &stop));
    let answering = timeout(limit, answer(flow, &key, &request.id, &mut on_progress));
    let answer = tokio::select! {
        answer = answering => answer,
        ended = &mut owning => return Err(ended.err().unwrap_or_else(|| Failure::unknown(ended_early()))),
        () = signalled() => {
            stop.cancel();
            let _ = timeout(GIVE_BACK_MAX, owning).await;
            return Err(Failure::unknown(interrupted()));
        }
    };
    stop.cancel();
    // What was owned meanwhile is given back in order; where somebody else is the owner this returns at once.
    let _ = owning.await;
    let answer = answer.map_err(|_elapsed| Failure::unknown(no_answer(limit)))?.map_err(Failure::at_start)?;
    match answer.get("error") {
        Some(error) => Err(Failure::refused(told(error))),
        None => Ok(answer),
    }
}

async fn answer(
    flow: Flow<'_>,
    key: &StateKey,
    id: &str,
    on_progress: &mut impl FnMut(&Value),
) -> Result<Value, Problem> {
    let mut said = None;
    loop {
        let state = match requests::request_state(&flow.to().session, key, id).await {
            Err(problem) if may_look_again(flow, &problem) => {
                sleep(LOOK_EVERY).await;
                continue;
            }
            state => state?,
        };
        match state {
            Some(RequestState::Done(answer)) => return Ok(answer),
            Some(RequestState::Running(progress)) if progress.is_some() && progress != said => {
                said = progress;
                said.iter().for_each(&mut *on_progress);
            }
            Some(_) => {}
            None => return requests::wait_for_answer(&flow.to().session, key, id).await,
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Waits while somebody owns the stream; then runs the migration until told to stop, for this one request.
async fn without_owner(
    flow: Flow<'_>,
    key: &StateKey,
    request: &str,
    stop: &CancellationToken,
) -> Result<Ended, Failure> {
    loop {
        match state::read_owner(&flow.to().session, key).await {
            Ok(owner) if !owner.as_ref().is_some_and(OwnerRow::seems_alive) => break,
            Ok(_alive) => {}
            Err(problem) if may_look_again(flow, &problem) => {}
            Err(problem) => return Err(Failure::at_start(problem)),
        }
        if stop.run_until_cancelled(sleep(OWNER_EVERY)).await.is_none() {
            return Ok(Ended { applied: None });
        }
    }
    let wishes = Wishes { answers: Answers::NoTurnBut { id: request.to_owned() }, ..Wishes::default() };
    Box::pin(engine::run(flow.migration, wishes, stop)).await
}

/// Waits until somebody wants this process to end.
async fn signalled() {
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be listened for");
    let mut interrupt = signal(SignalKind::interrupt()).expect("signals can be listened for");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Returns whether a look that failed may be repeated over the same session.
fn may_look_again(flow: Flow<'_>, problem: &Problem) -> bool {
    problem.class == Class::Transient && !flow.to().session.is_closed()
}

/// Returns the problem that an answer tells, under the code that its owner gave it.
pub fn told(error: &Value) -> Problem {
    let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
    // Codes are constants of a program; this one lives as long, for the command ends with it.
    let code: &'static str = if text("code").is_empty() { "MI009" } else { text("code").leak() };
    Problem::definite(code, text("what"), text("why"), text("next"))
}

fn interrupted() -> Problem {
    Problem::definite(
        "MI019",
        "stopped before the answer came",
        "what was asked is not taken back: whoever runs the streams goes on with it",
        "tidegate status says where it stands, and the same command waits again; a turn is undone with --abort",
    )
}

fn ended_early() -> Problem {
    Problem::bug("MI009", "the stream ended before it had answered", "nobody stopped it")
}

fn no_answer(limit: Duration) -> Problem {
    let why = "the owner of the stream is still at it, or waits for something";
    let what = format!("no answer within {} s", limit.as_secs());
    Problem::definite("MI018", what, why, "see tidegate status; give it longer: --timeout")
}

fn no_migration(migration: &Migration) -> Problem {
    Problem::definite(
        "MI010",
        format!("neither side knows a migration \"{}\"", migration.name),
        format!("the state schema \"{}\" has no migration of that name", migration.state_schema),
        "check --source, --target, --name and --state-schema; tidegate migrate begins a migration",
    )
}
