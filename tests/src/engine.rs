//! The engine as users run it: a process.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::wait::wait_for;

/// Returns the engine's program: it lies where the running test or scenario was built.
///
/// # Panics
/// If it was not built.
pub fn program() -> PathBuf {
    program_named("tidegate")
}

/// Returns a program of this workspace, as [`program`] does.
pub(crate) fn program_named(name: &str) -> PathBuf {
    let here = std::env::current_exe().expect("a running program has a path");
    let mut beside = here.ancestors().skip(1).take(3).map(|directory| directory.join(name));
    beside.find(|path| path.is_file()).unwrap_or_else(|| panic!("{name} is not built: cargo build -p {name}"))
}

/// A command of the engine under way. Killed with its value, and also when the test process dies.
#[derive(Debug)]
pub struct Engine {
    child: Child,
    output: TempDir,
    command_line: String,
}

/// How a command ended.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it logged.
    pub stderr: String,
}

impl Outcome {
    /// Returns stdout as JSON.
    ///
    /// # Panics
    /// If it is something else.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("stdout is not JSON ({error}): {self:#?}"))
    }

    /// Fails the test unless the command ended with this code.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Returns the code of the error that it ended with.
    pub fn error_code(&self) -> Option<String> {
        let (_, rest) = self.stderr.split_once("error[")?;
        Some(rest.split_once(']')?.0.to_owned())
    }

    /// Returns whether the output has this text, on either stream.
    pub fn says(&self, text: &str) -> bool {
        self.stdout.contains(text) || self.stderr.contains(text)
    }
}

impl Engine {
    /// Starts the engine with these arguments and variables, without the libpq variables of the test's own environment.
    pub fn start(arguments: &[String], environment: &[(String, String)]) -> Engine {
        let output = tempfile::tempdir().expect("a temporary directory");
        let file = |name: &str| File::create(output.path().join(name)).expect("an output file");
        let mut command = Command::new(program());
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("PG")) {
                command.env_remove(name);
            }
        }
        command.args(arguments).envs(environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
        let child = command.spawn().expect("the engine starts");
        end_with_us(&child, None);
        Engine { child, output, command_line: arguments.join(" ") }
    }

    /// Returns its process number.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("process numbers are small"))
    }

    /// Returns what it has logged until now.
    pub fn log(&self) -> String {
        self.read("stderr")
    }

    /// Returns what it has printed until now.
    pub fn stdout(&self) -> String {
        self.read("stdout")
    }

    fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&std::fs::read(self.output.path().join(name)).unwrap_or_default()).into_owned()
    }

    /// Returns how it ended; `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Fails the test if it has ended.
    #[track_caller]
    pub fn assert_running(&mut self) {
        if let Some(status) = self.ended() {
            panic!("the engine ended ({status}): {}\n{}", self.command_line, self.log());
        }
    }

    /// Kills it, as `kill -9` does, and waits until it is gone.
    pub fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("the engine is there");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When that takes longer than `limit`.
    pub fn wait(&mut self, limit: Duration) -> Outcome {
        let deadline = Instant::now() + limit;
        let status = loop {
            match self.ended() {
                Some(status) => break status,
                None if Instant::now() > deadline => {
                    panic!("not ended within {limit:?}: tidegate {}\n{}", self.command_line, self.log())
                }
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        Outcome { code: status.code(), stdout: self.stdout(), stderr: self.log() }
    }

    /// Asks it to stop with SIGTERM and expects a clean end.
    #[track_caller]
    pub fn stop(mut self) -> Outcome {
        self.signal(Signal::SIGTERM);
        self.wait(Duration::from_secs(60)).expect_code(0)
    }

    /// Waits until the log has this text.
    pub fn wait_for_log(&mut self, text: &str, limit: Duration) {
        wait_for(&format!("{text:?} in the log"), limit, || {
            let found = self.log().contains(text);
            if !found {
                self.assert_running();
            }
            found.then_some(())
        });
    }

    /// Returns its resident memory and the highest it ever was, in bytes.
    pub fn memory(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
        };
        (field("VmRSS:"), field("VmHWM:"))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.kill9();
        if std::env::var_os("TIDEGATE_SHOW").is_some() {
            eprintln!("--- tidegate {}\n{}", self.command_line, self.log());
        } else if std::thread::panicking() {
            eprintln!("--- tidegate {}\n{}", self.command_line, tail(&self.log(), 40));
        }
    }
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Kills what it was told about when our process ends in whatever way, and removes its directory. A process number may
/// be another's by then, even one of the same program, so the moment of the start counts too.
const WARDEN: &str = r#"
told=$(cat)
echo "$told" | while read -r pid started directory; do
    stat=$(cat "/proc/$pid/stat" 2>/dev/null)
    set -- ${stat##*) }
    [ "${20}" = "$started" ] && kill -9 "$pid"
    case $directory in */tidegate-crdb-*) rm -rf "$directory" ;; esac
done
"#;

/// Makes a process end at the latest when ours does, and its directory with it.
pub(crate) fn end_with_us(child: &Child, directory: Option<&Path>) {
    static WARDEN_INPUT: OnceLock<Mutex<ChildStdin>> = OnceLock::new();
    let input = WARDEN_INPUT.get_or_init(|| {
        let mut command = Command::new("sh");
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.args(["-c", WARDEN, "testkit-warden"]).current_dir(Path::new("/"));
        let warden = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Mutex::new(warden.expect("sh can be started").stdin.take().expect("stdin was asked for"))
    });
    let mut input = input.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = directory.unwrap_or(Path::new("")).display();
    writeln!(input, "{} {} {directory}", child.id(), started_at(child.id())).expect("the warden listens");
}

/// Returns when a process was started, in ticks since the machine was (proc(5), `starttime`).
fn started_at(pid: u32) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The second field is the program's name, which may have spaces in it.
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    after_name.split(' ').nth(19).unwrap_or("gone").to_owned()
}
