//! Structured logs on stderr, so that stdout carries results only.

use std::io::{IsTerminal, Stderr, Write};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// What is logged unless `TIDEGATE_LOG` says otherwise. The driver logs notices of servers as events of its own, without
/// saying of which session, and ones that warn of nothing ("there is no transaction in progress").
const DEFAULT: &str = "info,tokio_postgres=warn";

/// How log lines look.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum LogFormat {
    /// One readable line per event.
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts logging. `TIDEGATE_LOG` sets the level, by default that of [`DEFAULT`]; `tidegate_sql=debug` and the like work too.
pub fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_env("TIDEGATE_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}

/// Clears the line of progress before a log line on a terminal.
fn writer() -> Line {
    Line { out: std::io::stderr(), clear: std::io::stderr().is_terminal() }
}

struct Line {
    out: Stderr,
    clear: bool,
}

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        if self.clear {
            self.out.write_all(b"\r\x1b[2K")?;
        }
        self.out.write(line)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}
