//! A running server.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::builder::{Home, clear_libpq_environment};
use crate::reaper::Reaper;
use crate::{Binaries, Builder, processes};

/// A server that has not said that it is ready after this time is taken for broken. Recovery after a kill counts too.
const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(60);
const POLL_EVERY: Duration = Duration::from_millis(10);
const PORT_TRIES: usize = 20;
/// Below the range from which the kernel gives ports to outgoing connections, so that none takes ours during a restart.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// How a server is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Waits until every client has left.
    Smart,
    /// Ends the clients' sessions. Waits until walsenders have sent everything.
    Fast,
    /// Stops without a checkpoint: the next start recovers, as after a crash.
    Immediate,
}

/// A server of its own, gone with this value. Every method can be called while other threads use the server.
#[derive(Debug)]
pub struct Server {
    home: Home,
    configuration: String,
    password: String,
    port: AtomicU16,
    postmaster: Mutex<Option<Child>>,
    reaper: Reaper,
}

enum Launched {
    Ready(Child),
    PortTaken,
}

impl Server {
    /// Starts describing a server.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn launch(home: Home, configuration: String, password: String) -> anyhow::Result<Server> {
        let reaper = Reaper::watch(home.directory())?;
        let server =
            Server { home, configuration, password, port: AtomicU16::new(0), postmaster: Mutex::new(None), reaper };
        for _ in 0..PORT_TRIES {
            server.port.store(free_port()?, Ordering::Relaxed);
            if let Launched::Ready(child) = server.launch_postmaster()? {
                *server.postmaster() = Some(child);
                return Ok(server);
            }
        }
        bail!("no free port was found in {PORT_TRIES} tries")
    }

    fn launch_postmaster(&self) -> anyhow::Result<Launched> {
        self.write_configuration()?;
        let log_starts_at = fs::metadata(self.home.log_file()).map_or(0, |metadata| metadata.len());
        let log = fs::File::options().create(true).append(true).open(self.home.log_file()).context("no server log")?;
        let mut command = self.home.command("postgres");
        command.arg("-D").arg(self.data_dir()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Its own group: Ctrl-C ends us, and we or the reaper end the server.
        let mut child = command.process_group(0).spawn().context("could not run postgres")?;
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if self.is_ready(child.id()) {
                return Ok(Launched::Ready(child));
            }
            if let Some(status) = child.try_wait().context("could not wait for postgres")? {
                let log = self.log_since(log_starts_at);
                if log.contains("could not bind") || log.contains("could not create any TCP/IP sockets") {
                    return Ok(Launched::PortTaken);
                }
                bail!("the server did not start ({status}); its log ends with:\n{log}");
            }
            if Instant::now() > deadline {
                let log = self.log_since(log_starts_at);
                processes::signal_all(&self.data_dir(), Some(pid_of(&child)), Signal::SIGKILL);
                let _ = child.wait();
                bail!("the server was not ready after {START_LIMIT:?}; its log ends with:\n{log}");
            }
            std::thread::sleep(POLL_EVERY);
        }
    }

    fn write_configuration(&self) -> anyhow::Result<()> {
        let text = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = '{}'\n{}",
            self.port(),
            self.socket_dir().display(),
            self.configuration
        );
        self.home.write(&self.data_dir().join("postgresql.conf"), text.as_bytes())
    }

    /// The last line of the server's pid file says how far its start is; the first one, whose it is.
    fn is_ready(&self, pid: u32) -> bool {
        let text = fs::read_to_string(self.data_dir().join("postmaster.pid")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.first().is_some_and(|line| *line == pid.to_string()) && lines.get(7).is_some_and(|s| s.trim() == "ready")
    }

    /// Returns the URL of a database for the superuser, with its password.
    pub fn url(&self, database: &str) -> String {
        self.url_as("postgres", &self.password, database)
    }

    /// Returns the URL of a database for another user.
    pub fn url_as(&self, user: &str, password: &str, database: &str) -> String {
        format!("postgres://{user}:{password}@127.0.0.1:{}/{database}", self.port())
    }

    /// Returns the port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.load(Ordering::Relaxed)
    }

    /// Returns the superuser's password; its name is `postgres`.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Returns the directory of the Unix socket, over which everyone who can reach it is let in.
    pub fn socket_dir(&self) -> &Path {
        self.home.directory()
    }

    /// Returns the data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.home.data_dir()
    }

    /// Returns the programs of this server's version.
    pub fn binaries(&self) -> &Binaries {
        &self.home.binaries
    }

    /// Returns the process number of the postmaster; `None` while the server is down.
    pub fn pid(&self) -> Option<i32> {
        self.postmaster().as_ref().map(|child| pid_of(child).as_raw())
    }

    /// Returns the end of the server's log.
    pub fn log_tail(&self) -> String {
        self.log_since(0)
    }

    fn log_since(&self, start: u64) -> String {
        const TAIL_BYTES: u64 = 4096;
        let read = || -> std::io::Result<String> {
            let mut file = fs::File::open(self.home.log_file())?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(start.max(length.saturating_sub(TAIL_BYTES))))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().unwrap_or_default()
    }

    /// Stops the server and waits until it is down. A server that is down stays so.
    pub fn stop(&self, mode: StopMode) -> anyhow::Result<()> {
        let mut postmaster = self.postmaster();
        let Some(child) = postmaster.as_mut() else { return Ok(()) };
        let signal = match mode {
            StopMode::Smart => Signal::SIGTERM,
            StopMode::Fast => Signal::SIGINT,
            StopMode::Immediate => Signal::SIGQUIT,
        };
        kill(pid_of(child), signal).context("could not signal the server")?;
        let deadline = Instant::now() + STOP_LIMIT;
        while child.try_wait().context("could not wait for the server")?.is_none() {
            if Instant::now() > deadline {
                bail!("the server did not stop within {STOP_LIMIT:?}; its log ends with:\n{}", self.log_tail());
            }
            std::thread::sleep(POLL_EVERY);
        }
        *postmaster = None;
        Ok(())
    }

    /// Kills every process of the server at once, as a crash would, and waits until they are gone.
    pub fn kill9(&self) {
        let mut postmaster = self.postmaster();
        let first = postmaster.as_ref().map(pid_of);
        // The postmaster is halted first: it would start new children while the old ones die.
        if let Some(first) = first {
            let _ = kill(first, Signal::SIGSTOP);
        }
        processes::signal_all(&self.data_dir(), None, Signal::SIGKILL);
        if let Some(mut child) = postmaster.take() {
            let _ = kill(pid_of(&child), Signal::SIGKILL);
            let _ = child.wait();
        }
        while !processes::of(&self.data_dir()).is_empty() {
            std::thread::sleep(POLL_EVERY);
        }
    }

    /// Starts a server that is down, on the port it had.
    pub fn start(&self) -> anyhow::Result<()> {
        let mut postmaster = self.postmaster();
        if postmaster.is_some() {
            return Ok(());
        }
        let deadline = Instant::now() + START_LIMIT;
        while Instant::now() < deadline {
            if let Launched::Ready(child) = self.launch_postmaster()? {
                *postmaster = Some(child);
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("port {} stayed taken", self.port())
    }

    /// Stops (fast) and starts the server.
    pub fn restart(&self) -> anyhow::Result<()> {
        self.stop(StopMode::Fast)?;
        self.start()
    }

    /// Halts every process of the server: connections stay open and nothing is answered.
    pub fn pause(&self) {
        let first = self.postmaster().as_ref().map(pid_of);
        processes::signal_all(&self.data_dir(), first, Signal::SIGSTOP);
    }

    /// Lets a halted server go on.
    pub fn resume(&self) {
        processes::signal_all(&self.data_dir(), None, Signal::SIGCONT);
    }

    /// Makes a standby the primary of a new timeline, and waits until it is.
    pub fn promote(&self) -> anyhow::Result<()> {
        match self.psql("postgres", "SELECT pg_promote(true, 60)")?.as_str() {
            "t" => Ok(()),
            _ => bail!("the standby was not promoted within 60 s; its log ends with:\n{}", self.log_tail()),
        }
    }

    /// Returns a `psql` for this database that prints bare values and stops at the first error.
    pub fn psql_command(&self, database: &str) -> Command {
        let mut command = self.client("psql");
        command.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-d", database]);
        command
    }

    /// Returns a client program, such as `pgbench`, with its environment set to connect here as the superuser.
    pub fn client(&self, program: &str) -> Command {
        let mut command = Command::new(self.home.binaries.program(program));
        clear_libpq_environment(&mut command);
        command.env("PGHOST", self.socket_dir()).env("PGPORT", self.port().to_string()).env("PGUSER", "postgres");
        command
    }

    /// Runs SQL, each statement in a transaction of its own unless it says otherwise, and returns what it printed.
    pub fn psql(&self, database: &str, sql: &str) -> anyhow::Result<String> {
        let mut command = self.psql_command(database);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("could not run psql")?;
        let mut stdin = child.stdin.take().expect("stdin was asked for");
        let text = sql.to_owned();
        // In a thread of its own: psql may print more than a pipe holds before it has read everything. When it stops
        // early the write fails, and its exit code says why.
        let writer = std::thread::spawn(move || {
            let _ = stdin.write_all(text.as_bytes());
        });
        let output = child.wait_with_output().context("could not wait for psql")?;
        let _ = writer.join();
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            let shown: String = sql.trim().chars().take(300).collect();
            bail!("psql failed: {}\nin database {database}: {shown}", error.trim());
        }
        Ok(String::from_utf8(output.stdout).context("psql printed no UTF-8")?.trim_end().to_owned())
    }

    /// Makes an empty database.
    pub fn create_database(&self, name: &str) -> anyhow::Result<()> {
        self.psql("postgres", &format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\""))).map(drop)
    }

    fn postmaster(&self) -> MutexGuard<'_, Option<Child>> {
        self.postmaster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill9();
        self.home.remove();
        self.reaper.reap();
    }
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("process numbers are positive and small"))
}

/// Returns a port that nobody listens on at this moment.
fn free_port() -> anyhow::Result<u16> {
    static CALLS: AtomicU16 = AtomicU16::new(0);
    let width = PORTS.end - PORTS.start;
    // Processes that run side by side begin far from each other.
    let begin = (std::process::id().wrapping_mul(7919) % u32::from(width)) as u16;
    for _ in 0..width {
        let port = PORTS.start + (begin + CALLS.fetch_add(1, Ordering::Relaxed) % width) % width;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("every port from {} to {} is taken", PORTS.start, PORTS.end)
}
