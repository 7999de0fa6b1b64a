//! The CockroachDB of the demonstration: a real one where there is one, else the stand-in, and it says which.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tempfile::TempDir;
use tidegate_connect::Session;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::{shop, until};

/// Names a CockroachDB that runs already.
const URL_VARIABLE: &str = "TIDEGATE_COCKROACH_URL";
const START_LIMIT: Duration = Duration::from_secs(60);

/// A server, and the database of the demonstration in it. The server ends with the value if it was started here.
#[derive(Debug)]
pub struct Cockroach {
    server_url: String,
    database: String,
    /// What it is, for people.
    pub what: String,
    _process: Option<Child>,
    _directory: Option<TempDir>,
}

impl Cockroach {
    /// Finds or starts a server, and makes the database in it.
    pub async fn start() -> anyhow::Result<Cockroach> {
        let mut cockroach = match (std::env::var(URL_VARIABLE), on_path("cockroach"), beside_us("tidegate-standin")) {
            (Ok(url), _, _) => Cockroach::at(url, None, None),
            (Err(_), Some(program), _) => start_real(program).await?,
            (Err(_), None, Some(program)) => start_stand_in(program).await?,
            (Err(_), None, None) => bail!(
                "there is no CockroachDB: set {URL_VARIABLE}, put cockroach on the PATH, or build the stand-in \
                 (cargo build --release -p tidegate-standin)"
            ),
        };
        let session = shop::session(&cockroach.server_url).await?;
        cockroach.what = version(&session).await?;
        session.batch_execute("SET CLUSTER SETTING kv.rangefeed.enabled = true").await?;
        session.batch_execute(&format!("CREATE DATABASE {}", cockroach.database)).await?;
        Ok(cockroach)
    }

    fn at(server_url: String, process: Option<Child>, directory: Option<TempDir>) -> Cockroach {
        let database = format!("shop_{}", std::process::id());
        Cockroach { server_url, database, what: String::new(), _process: process, _directory: directory }
    }

    /// Returns the URL of the demonstration's database.
    pub fn url(&self) -> String {
        let (rest, query) =
            self.server_url.split_once('?').map_or((&*self.server_url, ""), |(rest, query)| (rest, query));
        let host = rest.split_once("://").map_or(rest, |(_, host)| host);
        let host = host.split_once('/').map_or(host, |(host, _)| host);
        let query = if query.is_empty() { String::new() } else { format!("?{query}") };
        format!("cockroach://{host}/{}{query}", self.database)
    }

    /// Removes the database from a server that goes on.
    pub async fn discard(&self) -> anyhow::Result<()> {
        if self._process.is_none() {
            let session = shop::session(&self.server_url).await?;
            session.batch_execute(&format!("DROP DATABASE {} CASCADE", self.database)).await?;
        }
        Ok(())
    }
}

async fn version(session: &Session) -> anyhow::Result<String> {
    Ok(session.query_one("SELECT version()", &[]).await?.get(0))
}

/// A stand-in starts a PostgreSQL of its own and says in a line when it is ready.
async fn start_stand_in(program: PathBuf) -> anyhow::Result<Cockroach> {
    let mut command = Command::new(&program);
    command.args(["--listen", "127.0.0.1:0"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = command.kill_on_drop(true).spawn().context("the stand-in could not be started")?;
    let output = process.stdout.take().context("the stand-in has an output")?;
    let mut lines = BufReader::new(output).lines();
    let ready = async {
        while let Some(line) = lines.next_line().await? {
            if let Some(url) = line.strip_prefix("ready: ") {
                return anyhow::Ok(url.split_whitespace().next().unwrap_or_default().to_owned());
            }
        }
        bail!("the stand-in ended early")
    };
    let url = tokio::time::timeout(START_LIMIT, ready).await.context("the stand-in does not get ready")??;
    Ok(Cockroach::at(url, Some(process), None))
}

async fn start_real(program: PathBuf) -> anyhow::Result<Cockroach> {
    let directory = tempfile::Builder::new().prefix("tidegate-demo-").tempdir()?;
    let url_file = directory.path().join("url");
    let mut command = Command::new(program);
    command.args(["start-single-node", "--insecure", "--listen-addr=127.0.0.1:0", "--http-addr=127.0.0.1:0"]);
    command.arg(format!("--store={}", directory.path().join("data").display()));
    command.arg(format!("--listening-url-file={}", url_file.display()));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let process = command.kill_on_drop(true).spawn().context("cockroach could not be started")?;
    let url = until("cockroach to start", START_LIMIT, || async {
        Ok(std::fs::read_to_string(&url_file).ok().map(|url| url.trim().to_owned()).filter(|url| !url.is_empty()))
    })
    .await?;
    Ok(Cockroach::at(url, Some(process), Some(directory)))
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|program| program.is_file())
}

fn beside_us(name: &str) -> Option<PathBuf> {
    Some(std::env::current_exe().ok()?.with_file_name(name)).filter(|program| program.is_file())
}
