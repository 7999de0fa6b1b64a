//! `psql`, the client that runs the SQL of tests: every kind of server answers it.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use tidegate_throwaway::Binaries;

/// Returns a `psql` for this URL that prints bare values and stops at the first error.
pub(crate) fn command(url: &str) -> Command {
    let binaries = Binaries::find(None).expect("PostgreSQL's programs are installed: make setup");
    let mut command = Command::new(binaries.program("psql"));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("PG")) {
            command.env_remove(name);
        }
    }
    command.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-d", url]);
    command
}

/// Runs SQL, each statement in a transaction of its own unless it says otherwise, and returns what it printed.
pub(crate) fn run(mut command: Command, sql: &str) -> anyhow::Result<String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("could not run psql")?;
    let mut stdin = child.stdin.take().expect("stdin was asked for");
    let text = sql.to_owned();
    // In a thread of its own: psql may print more than a pipe holds before it has read everything. When it stops early
    // the write fails, and its exit code says why.
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(text.as_bytes());
    });
    let output = child.wait_with_output().context("could not wait for psql")?;
    let _ = writer.join();
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        let shown: String = sql.trim().chars().take(300).collect();
        bail!("psql failed: {}\n{shown}", error.trim());
    }
    Ok(String::from_utf8(output.stdout).context("psql printed no UTF-8")?.trim_end().to_owned())
}
