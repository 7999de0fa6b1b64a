//! The process of a server: a stand-in or one node of CockroachDB.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::engine::end_with_us;
use crate::psql;

const START_LIMIT: Duration = Duration::from_secs(60);
/// Below the range from which the kernel gives ports to outgoing connections, so that none takes ours during a restart;
/// PostgreSQL's throw-away servers use the range above.
const PORTS: std::ops::Range<u16> = 13_000..19_500;

/// A server's process with its directory. Killed with its value.
#[derive(Debug)]
pub(super) struct Process {
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    directory: TempDir,
    child: Option<Child>,
}

impl Process {
    /// Describes a process; it is not started yet. `{directory}` in an argument stands for a directory of its own.
    pub(super) fn new(program: &Path, arguments: &[String], environment: &[(String, String)]) -> Process {
        let directory = tempfile::Builder::new().prefix("tidegate-crdb-").tempdir().expect("a temporary directory");
        let path = directory.path().to_str().expect("temporary directories have plain names").to_owned();
        Process {
            program: program.to_owned(),
            arguments: arguments.iter().map(|argument| argument.replace("{directory}", &path)).collect(),
            environment: environment.to_vec(),
            directory,
            child: None,
        }
    }

    /// Starts it and waits until it answers at this URL.
    pub(super) fn start(&mut self, url: &str) {
        let log = File::options().create(true).append(true).open(self.log_file()).expect("a log file");
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log file")).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.program.display()));
        end_with_us(&child, Some(self.directory.path()));
        self.child = Some(child);
        let deadline = Instant::now() + START_LIMIT;
        while psql::run(psql::command(url), "SELECT 1").is_err() {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            assert!(ended.is_none(), "{} ended: {}", self.program.display(), self.log_tail());
            assert!(Instant::now() < deadline, "{} does not answer: {}", self.program.display(), self.log_tail());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills it, as `kill -9` does, and waits until it is gone.
    pub(super) fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Sends it a signal.
    pub(super) fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("the server runs");
        kill(Pid::from_raw(child.id().cast_signed()), signal).expect("the server is there");
    }

    fn log_file(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// Returns the end of what it logged.
    pub(super) fn log_tail(&self) -> String {
        let log = String::from_utf8_lossy(&std::fs::read(self.log_file()).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.program.display(), self.log_tail());
        }
    }
}

/// Returns a port that nobody listens on at this moment.
pub(super) fn free_port() -> u16 {
    static CALLS: AtomicU16 = AtomicU16::new(0);
    let width = PORTS.end - PORTS.start;
    // Processes that run side by side begin far from each other.
    let begin = (std::process::id().wrapping_mul(7919) % u32::from(width)) as u16;
    (0..width)
        .map(|_| PORTS.start + (begin.wrapping_add(CALLS.fetch_add(1, Ordering::Relaxed)) % width))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("some port is free")
}
