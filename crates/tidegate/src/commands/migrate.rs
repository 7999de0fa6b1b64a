//! `migrate`: check, copy, stream, until stopped.

use tidegate_model::{Position, Problem, TableName};
use tidegate_sql::requests::Answers;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::cli::{Direction, MigrateArgs};
use crate::config::Migration;
use crate::engine::{self, NoCopy, Wishes};
use crate::output::{Exit, Failure, print_json, say};

pub async fn run(args: MigrateArgs) -> Result<Exit, Failure> {
    let wishes = wishes(&args).map_err(Failure::unknown)?;
    let json = args.migration.json;
    let migration = Migration::read(&args.migration, args.pipeline).map_err(Failure::unknown)?;
    let stop = stop_on_signals();
    let ended = Box::pin(engine::run(&migration, wishes, &stop)).await?;
    let applied = ended.applied.map(|position| position.to_string());
    if json {
        print_json(&serde_json::json!({ "name": migration.name.as_str(), "applied_position": applied }));
    } else {
        say!("stopped; the target is at {}", applied.as_deref().unwrap_or("no position yet"));
    }
    Ok(Exit::Done)
}

fn wishes(args: &MigrateArgs) -> Result<Wishes, Problem> {
    let start_at = args.start_at.as_ref().map(|text| text.parse::<Position>()).transpose();
    let no_copy_from =
        start_at.map_err(|error| bad_usage(error.to_string(), "give it as in --start-at 16/B374D848"))?;
    let recopy = args.recopy.iter().map(|text| table_name(text)).collect::<Result<_, _>>()?;
    Ok(Wishes {
        take_over: args.take_over,
        no_copy: no_copy_from.map(NoCopy::At),
        recopy,
        recreate_slot: args.recreate_slot,
        restart_reverse: args.restart_reverse,
        set_aside_triggers: args.set_aside_triggers,
        restore_triggers: args.restore_triggers,
        until: None,
        both: args.direction == Direction::Both,
        answers: Answers::All,
    })
}

fn table_name(text: &str) -> Result<TableName, Problem> {
    match text.split_once('.') {
        Some((schema, name)) if !schema.is_empty() && !name.is_empty() => Ok(TableName::new(schema, name)),
        _ => Err(bad_usage(format!("\"{text}\" does not name a table"), "write schema.table, without quotes")),
    }
}

fn bad_usage(what: String, next: &str) -> Problem {
    Problem::definite("CF005", what, "the flag takes something else", next)
}

/// Returns a token that is cancelled by SIGTERM and SIGINT. A second signal ends the process at once.
pub fn stop_on_signals() -> CancellationToken {
    let stop = CancellationToken::new();
    let cancel = stop.clone();
    tokio::spawn(async move {
        let mut terminate = signal(SignalKind::terminate()).expect("signals can be listened for");
        let mut interrupt = signal(SignalKind::interrupt()).expect("signals can be listened for");
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        info!("stopping: what is under way is finished first; a second signal does not wait");
        cancel.cancel();
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        // Nothing is lost: what is not durable is read again at the next start.
        std::process::exit(130);
    });
    stop
}
