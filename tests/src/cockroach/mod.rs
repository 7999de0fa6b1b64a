//! A CockroachDB for tests: a real one where there is one, else the stand-in.
//!
//! - `TIDEGATE_COCKROACH_URL` names a running cluster. It must be reachable as a user with the admin role and without
//!   TLS; tests make databases in it, and do not kill it.
//! - Otherwise `cockroach` on the `PATH` is started, one node of its own for each server that a test asks for.
//! - Otherwise `tidegate-standin` is started as a process over a throw-away PostgreSQL, with the reviewed list of
//!   statements: what the engine sends outside it is refused.

mod process;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use nix::sys::signal::Signal;
use tidegate_throwaway::{Server, StopMode};

use crate::database::start_server;
use crate::engine::program_named;
use crate::psql;
use process::{Process, free_port};

/// Where the reviewed statements are that the engine may send to CockroachDB, one shape in each file.
pub const REVIEWED_SQL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/cockroach-sql");

/// A server that speaks CockroachDB's dialect. Gone with its value, unless it runs by itself.
#[derive(Debug)]
pub struct Cockroach {
    kind: Kind,
    /// The URL of its database `postgres`, which every CockroachDB has.
    url: String,
}

#[derive(Debug)]
enum Kind {
    /// A cluster that was there before us.
    Running,
    /// A node of our own.
    Node(Mutex<Process>),
    /// What stands in for one.
    Standin { process: Mutex<Process>, backing: Arc<Server> },
}

/// Returns the server that all tests of this process share. Tests that kill it or turn its knobs start one of their
/// own.
pub fn cockroach_server() -> Arc<Cockroach> {
    static SERVER: OnceLock<Arc<Cockroach>> = OnceLock::new();
    Arc::clone(SERVER.get_or_init(Cockroach::start))
}

impl Cockroach {
    /// Starts a server, or finds the one that runs; says which kind it is.
    pub fn start() -> Arc<Cockroach> {
        let server = if let Ok(url) = std::env::var("TIDEGATE_COCKROACH_URL") {
            Cockroach { kind: Kind::Running, url: url.replace("//localhost", "//127.0.0.1") }
        } else if let Some(program) = on_path("cockroach") {
            Cockroach::start_node(&program)
        } else {
            Cockroach::start_standin()
        };
        server.run("SET CLUSTER SETTING kv.rangefeed.enabled = true");
        server.set_cadence();
        println!("CockroachDB of this run: {}", server.describe());
        Arc::new(server)
    }

    fn start_node(program: &Path) -> Cockroach {
        let (port, http_port) = (free_port(), free_port());
        let arguments = [
            "start-single-node".to_owned(),
            "--insecure".to_owned(),
            format!("--listen-addr=127.0.0.1:{port}"),
            format!("--http-addr=127.0.0.1:{http_port}"),
            "--store={directory}/store".to_owned(),
        ];
        let mut process = Process::new(program, &arguments, &[]);
        let url = url_at(port);
        process.start(&psql_url(&url));
        Cockroach { kind: Kind::Node(Mutex::new(process)), url }
    }

    fn start_standin() -> Cockroach {
        // Its sessions are SERIALIZABLE and it holds a connection for each of its clients.
        let settings =
            Server::builder().setting("max_connections", 200).setting("max_pred_locks_per_transaction", 1024);
        let backing = start_server(settings);
        let port = free_port();
        let arguments =
            ["--listen".to_owned(), format!("127.0.0.1:{port}"), "--backing".to_owned(), backing.url("postgres")];
        let reviewed = std::env::var("TIDEGATE_COCKROACH_SQL").unwrap_or_else(|_| REVIEWED_SQL.to_owned());
        let reviewed = [("TIDEGATE_COCKROACH_SQL".to_owned(), reviewed)];
        let mut process = Process::new(&program_named("tidegate-standin"), &arguments, &reviewed);
        let url = url_at(port);
        process.start(&psql_url(&url));
        Cockroach { kind: Kind::Standin { process: Mutex::new(process), backing }, url }
    }

    /// Resolved timestamps at the pace of a test instead of some seconds apart.
    fn set_cadence(&self) {
        if self.is_standin() {
            self.knob("resolved_lag", "'50ms'");
        } else {
            self.run("SET CLUSTER SETTING kv.closed_timestamp.target_duration = '200ms'");
            self.run("SET CLUSTER SETTING kv.rangefeed.closed_timestamp_refresh_interval = '200ms'");
        }
    }

    /// Says what it is.
    pub fn describe(&self) -> String {
        let version = self.run("SELECT version()");
        match &self.kind {
            Kind::Running => format!("TIDEGATE_COCKROACH_URL, {version}"),
            Kind::Node(_) => format!("a node started for the tests, {version}"),
            Kind::Standin { .. } => format!("the stand-in over PostgreSQL, NOT a CockroachDB ({version})"),
        }
    }

    /// Returns whether it is the stand-in, which alone has knobs.
    pub fn is_standin(&self) -> bool {
        matches!(self.kind, Kind::Standin { .. })
    }

    /// Returns whether tests may kill it.
    pub fn can_be_killed(&self) -> bool {
        !matches!(self.kind, Kind::Running)
    }

    /// Returns the URL of a database.
    pub fn url(&self, database: &str) -> String {
        let (start, rest) = self.url.split_once("://").expect("a URL has a scheme");
        let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
        let options = path.split_once('?').map_or("", |(_, options)| options);
        let options = if options.is_empty() { String::new() } else { format!("?{options}") };
        format!("{start}://{address}/{database}{options}")
    }

    /// Returns the URL of a database as PostgreSQL's own clients take it.
    pub(crate) fn psql_url(&self, database: &str) -> String {
        psql_url(&self.url(database))
    }

    /// Returns the port on 127.0.0.1.
    ///
    /// # Panics
    /// If the cluster is elsewhere.
    pub fn port(&self) -> u16 {
        let (_, rest) = self.url.split_once("127.0.0.1:").expect("a proxy stands before a server of this machine only");
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().expect("a port is a number")
    }

    /// Makes an empty database in place of one with this name, which an earlier run may have left.
    pub fn create_database(&self, name: &str) {
        self.drop_database(name);
        self.run(&format!("CREATE DATABASE \"{name}\""));
    }

    /// Removes a database.
    pub fn drop_database(&self, name: &str) {
        self.run(&format!("DROP DATABASE IF EXISTS \"{name}\" CASCADE"));
    }

    /// Runs SQL in the database `postgres`; returns what it printed.
    pub fn run(&self, sql: &str) -> String {
        let ran = psql::run(psql::command(&psql_url(&self.url)), sql);
        ran.unwrap_or_else(|error| panic!("{error:#}\n{}", self.log_tail()))
    }

    /// Sets a knob of the stand-in. Does nothing to a real CockroachDB, which misbehaves when it wants to.
    pub fn knob(&self, name: &str, value: &str) {
        if self.is_standin() {
            self.run(&format!("SET CLUSTER SETTING standin.{name} = {value}"));
        }
    }

    /// Kills the process that clients talk to. Of the stand-in its PostgreSQL stays.
    pub fn kill9(&self) {
        self.process().expect("a cluster that was there before is not killed").kill9();
    }

    /// Starts it again after [`Cockroach::kill9`], at the same address.
    pub fn start_again(&self) {
        let mut process = self.process().expect("a cluster that was there before is not started");
        process.start(&psql_url(&self.url));
    }

    /// Kills the PostgreSQL behind the stand-in, and starts it again after `between`. False: there is none.
    pub fn crash_backing(&self, between: impl FnOnce()) -> bool {
        let Kind::Standin { backing, .. } = &self.kind else { return false };
        backing.kill9();
        between();
        backing.start().unwrap_or_else(|error| panic!("{error:#}"));
        true
    }

    /// Halts the process that clients talk to, with its connections open, until [`Cockroach::resume`].
    pub fn pause(&self) {
        self.process().expect("a cluster that was there before is not paused").signal(Signal::SIGSTOP);
    }

    /// Goes on after [`Cockroach::pause`].
    pub fn resume(&self) {
        self.process().expect("a cluster that was there before is not paused").signal(Signal::SIGCONT);
    }

    /// Returns the end of its log.
    pub fn log_tail(&self) -> String {
        self.process().map_or_else(String::new, |process| process.log_tail())
    }

    fn process(&self) -> Option<MutexGuard<'_, Process>> {
        match &self.kind {
            Kind::Running => None,
            Kind::Node(process) | Kind::Standin { process, .. } => {
                Some(process.lock().unwrap_or_else(PoisonError::into_inner))
            }
        }
    }
}

impl Drop for Cockroach {
    fn drop(&mut self) {
        if let Some(mut process) = self.process() {
            process.kill9();
        }
        if let Kind::Standin { backing, .. } = &self.kind {
            let _ = backing.stop(StopMode::Immediate);
        }
    }
}

fn url_at(port: u16) -> String {
    format!("cockroach://root@127.0.0.1:{port}/postgres?sslmode=disable")
}

fn psql_url(url: &str) -> String {
    let (_, rest) = url.split_once("://").expect("a URL has a scheme");
    format!("postgres://{rest}")
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_of_a_database_keeps_address_and_options() {
        let at = |url: &str| Cockroach { kind: Kind::Running, url: url.to_owned() }.url("shop");
        assert_eq!(at("cockroach://root@h:1/postgres?sslmode=disable"), "cockroach://root@h:1/shop?sslmode=disable");
        assert_eq!(at("postgres://u@h:26257"), "postgres://u@h:26257/shop");
        assert_eq!(at("postgres://u@h:26257/"), "postgres://u@h:26257/shop");
    }
}
