//! The `tidegate` program: command line, configuration file, wiring.

mod cli;
mod commands;
mod config;
mod engine;
mod logging;
mod output;
mod status;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;
use crate::output::Exit;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => {
            let asked_for_help = !usage.use_stderr();
            let _ = usage.print();
            return if asked_for_help { Exit::Done } else { Exit::Unknown }.into();
        }
    };
    logging::start(cli.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("the runtime starts");
    let exit = runtime.block_on(commands::run(cli.command));
    // Sessions that hang in a dead network must not keep the process from ending.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    exit.into()
}
