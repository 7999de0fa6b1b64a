//! One module per command.

mod asking;
mod check;
mod config;
mod demo;
mod drain;
mod finish;
mod migrate;
mod status;
mod turn;
mod verify;

use tidegate_control::Direction;

use crate::cli::Command;
use crate::output::{Exit, show_failure};

/// Runs a command and returns its exit code. Shows the failure, if it is one: every other place only passes it on.
pub async fn run(command: Command) -> Exit {
    let (json, result) = match command {
        Command::Check(args) => (args.migration.json, check::run(args).await),
        Command::Migrate(args) => (args.migration.json, migrate::run(*args).await),
        Command::Status(args) => (args.migration.json, status::run(args).await),
        Command::Drain(args) => (args.migration.json, drain::run(args).await),
        Command::Cutover(args) => (args.migration.json, turn::run(args, Direction::Cutover).await),
        Command::Failback(args) => (args.migration.json, turn::run(args, Direction::Failback).await),
        Command::Finish(args) => (args.migration.json, finish::run(args).await),
        Command::Verify(args) => (args.migration.json, verify::run(args).await),
        Command::Config(command) => (false, config::run(command)),
        Command::Demo(args) => (false, demo::run(args).await),
    };
    result.unwrap_or_else(|failure| {
        show_failure(&failure, json);
        failure.exit
    })
}
