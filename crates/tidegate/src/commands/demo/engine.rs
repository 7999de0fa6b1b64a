//! The `tidegate` program, run as its users run it.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::until;

/// How long one step of the story may take before something must be wrong.
const STEP_LIMIT: Duration = Duration::from_secs(180);

#[derive(Debug, Clone)]
pub struct Urls {
    pub source: String,
    pub target: String,
}

/// What the story tells of a status.
#[derive(Debug)]
pub struct Status {
    state: String,
    pub applied: String,
    pub lag: String,
    pub tables: u64,
    copied: u64,
}

/// A running `tidegate migrate`.
#[derive(Debug)]
pub struct Engine {
    urls: Urls,
    process: Child,
    logs: TempDir,
}

impl Engine {
    pub async fn start(urls: &Urls) -> anyhow::Result<Engine> {
        let logs = tempfile::Builder::new().prefix("tidegate-demo-").tempdir()?;
        let log = File::create(logs.path().join("log"))?;
        let mut command = tidegate("migrate", urls)?;
        command.args(["--resolved-every", "200ms"]);
        let process = command.stdout(log.try_clone()?).stderr(log).kill_on_drop(true).spawn()?;
        Ok(Engine { urls: urls.clone(), process, logs })
    }

    /// Waits until every table is copied.
    pub async fn until_copied(&mut self) -> anyhow::Result<Status> {
        self.until("the copy", 0, |status| status.tables > 0 && status.copied == status.tables).await
    }

    /// Waits until a stream is where its source is: 0 is the forward one, 1 the reverse one.
    pub async fn until_streaming(&mut self, stream: usize) -> anyhow::Result<Status> {
        self.until("the stream", stream, |status| status.state == "streaming").await
    }

    async fn until(&mut self, what: &str, stream: usize, reached: impl Fn(&Status) -> bool) -> anyhow::Result<Status> {
        let log = self.log();
        let urls = self.urls.clone();
        let process = &mut self.process;
        until(what, STEP_LIMIT, || {
            let ended = process.try_wait();
            let (urls, log, reached) = (&urls, &log, &reached);
            async move {
                if let Some(exit) = ended? {
                    bail!("tidegate migrate ended ({exit}):\n{}", std::fs::read_to_string(log).unwrap_or_default());
                }
                Ok(status(urls, stream).await?.filter(|status| reached(status)))
            }
        })
        .await
    }

    pub async fn status(&self, stream: usize) -> anyhow::Result<Status> {
        status(&self.urls, stream).await?.context("tidegate status knows nothing of the migration")
    }

    /// Kills the program as a crash would.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.process.kill().await?)
    }

    /// Waits until the program has ended cleanly: there is nothing left to run.
    pub async fn until_ended(mut self) -> anyhow::Result<()> {
        let exit = tokio::time::timeout(STEP_LIMIT, self.process.wait()).await.context("it does not end")??;
        if !exit.success() {
            bail!("tidegate migrate did not end cleanly ({exit}):\n{}", std::fs::read_to_string(self.log())?);
        }
        Ok(())
    }

    fn log(&self) -> PathBuf {
        self.logs.path().join("log")
    }
}

/// Runs `tidegate check` and returns its verdict in a line.
pub async fn check(urls: &Urls) -> anyhow::Result<String> {
    let output = tidegate("check", urls)?.args(["--json", "--direction", "both"]).output().await?;
    let answer = json(&output)?;
    if !output.status.success() {
        bail!("tidegate check found what the demo did not expect:\n{answer:#}");
    }
    let findings = answer["findings"].as_array().context("check prints its findings")?;
    let count = |severity: &str| findings.iter().filter(|finding| finding["severity"] == severity).count();
    Ok(format!("no critical finding, {} warnings, {} notices", count("warning"), count("notice")))
}

/// Runs a command that prints JSON and has to succeed.
pub async fn run(command: &str, arguments: &[&str], urls: &Urls) -> anyhow::Result<Value> {
    let output = tidegate(command, urls)?.arg("--json").args(arguments).output().await?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("tidegate {command} failed ({}):\n{said}", output.status);
    }
    json(&output)
}

/// Runs `tidegate status` and takes one stream of it; `None` while the migration does not exist yet.
async fn status(urls: &Urls, stream: usize) -> anyhow::Result<Option<Status>> {
    let output = tidegate("status", urls)?.arg("--json").output().await?;
    if output.status.code() == Some(2) {
        return Ok(None);
    }
    let answer = json(&output)?;
    let stream = &answer["streams"][stream];
    let text = |key: &str| stream[key].as_str().unwrap_or_default().to_owned();
    let lag =
        stream["apply_lag_seconds"].as_f64().map_or("unknown".to_owned(), |lag| format!("{:.0} ms", lag * 1000.0));
    Ok(Some(Status {
        state: text("state"),
        applied: text("applied_position"),
        lag,
        tables: stream["tables"]["total"].as_u64().unwrap_or(0),
        copied: stream["tables"]["copied"].as_u64().unwrap_or(0),
    }))
}

fn tidegate(command: &str, urls: &Urls) -> anyhow::Result<Command> {
    let mut program = Command::new(std::env::current_exe().context("could not find the program itself")?);
    program.arg(command).args(["--source", &urls.source, "--target", &urls.target, "--name", "demo"]);
    program.stdin(Stdio::null());
    Ok(program)
}

fn json(output: &Output) -> anyhow::Result<Value> {
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("no JSON, but: {}", String::from_utf8_lossy(&output.stderr)))
}
