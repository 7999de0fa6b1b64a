//! `tidegate-standin`: the stand-in as a program of its own.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use tidegate_standin::{Standin, StandinOptions, Version};

/// A stand-in for CockroachDB, backed by PostgreSQL, for tests and demonstrations.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:26257")]
    listen: SocketAddr,
    /// URL of the superuser of a PostgreSQL server that keeps everything; otherwise one is started and thrown away.
    #[arg(long)]
    backing: Option<String>,
    /// The CockroachDB release to pass for.
    #[arg(long, default_value_t = tidegate_standin::VERSION)]
    version_of_cockroachdb: Version,
    /// Ask every client for this password.
    #[arg(long, env = "TIDEGATE_STANDIN_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// Folder of the reviewed statement shapes; others are refused.
    #[arg(long)]
    shapes: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let mut options = StandinOptions {
        backing_url: arguments.backing,
        listen: Some(arguments.listen),
        version: arguments.version_of_cockroachdb,
        password: arguments.password,
        ..StandinOptions::default()
    };
    if let Some(folder) = arguments.shapes {
        options.shapes = Some(tidegate_standin::ShapeList { folder, record: false });
    }
    let standin = Standin::start(options)?;
    println!("ready: {} (a stand-in for CockroachDB, backed by PostgreSQL)", standin.url("defaultdb"));
    wait_for_the_end()
}

/// Waits for Ctrl-C or a termination signal.
fn wait_for_the_end() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
            _ = terminated.recv() => Ok(()),
        }
    })
}
