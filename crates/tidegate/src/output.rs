//! Exit codes, and how results and problems are shown.

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use serde::Serialize;
use tidegate_model::{Finding, Problem, Severity, Stream};

use crate::engine;

/// The exit codes of every command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done; equal; no critical finding; stopped cleanly.
    Done,
    /// A negative answer: critical finding, refusal, timeout.
    Negative,
    /// Could not tell: unreachable, bad usage, bad configuration.
    Unknown,
    /// A running pipeline was stopped by a definite error.
    Stopped,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Negative => 1,
            Exit::Unknown => 2,
            Exit::Stopped => 3,
        })
    }
}

/// A problem together with what it means for the exit code, which depends on when it happened and not on what it is.
#[derive(Debug)]
pub struct Failure {
    pub problem: Problem,
    pub exit: Exit,
}

impl Failure {
    /// The command could not be carried out: unreachable, bad usage, bad configuration.
    pub fn unknown(problem: Problem) -> Self {
        Failure { problem, exit: Exit::Unknown }
    }

    /// The command's answer is no.
    pub fn refused(problem: Problem) -> Self {
        Failure { problem, exit: Exit::Negative }
    }

    /// A running pipeline stopped.
    pub fn stopped(problem: Problem) -> Self {
        Failure { problem, exit: Exit::Stopped }
    }

    /// Says it in the words of the user, for whom the source is what `--source` names.
    pub fn told(self, stream: Stream) -> Self {
        Failure { problem: engine::told(stream, self.problem), ..self }
    }

    /// Before anything runs: what may pass later (a server that is not reached) could not be told, the rest is a refusal.
    pub fn at_start(problem: Problem) -> Self {
        // Wrong credentials, certificates and connection settings say nothing about the migration either.
        let unreached = problem.class == tidegate_model::Class::Transient || problem.code.starts_with("CN");
        if unreached { Failure::unknown(problem) } else { Failure::refused(problem) }
    }
}

/// The error object of JSON output.
#[derive(Debug, Clone, Serialize, serde::Deserialize)]
pub struct ErrorJson {
    pub code: String,
    pub what: String,
    pub why: String,
    pub next: String,
}

impl From<&Problem> for ErrorJson {
    fn from(problem: &Problem) -> Self {
        ErrorJson {
            code: problem.code.to_owned(),
            what: problem.what.clone(),
            why: problem.why.clone(),
            next: problem.next.clone(),
        }
    }
}

/// Prints a failure: as text on stderr, with `--json` also as an object on stdout.
pub fn show_failure(failure: &Failure, json: bool) {
    eprintln!("{}", failure.problem);
    if json {
        print_json(&serde_json::json!({ "error": ErrorJson::from(&failure.problem) }));
    }
}

/// Prints a line of a result, as `println!` does; but whoever reads it may have heard enough.
macro_rules! say {
    ($($line:tt)*) => { $crate::output::write_line(format_args!($($line)*)) };
}
pub(crate) use say;

/// What a shell calls the end of a program whose reader has gone.
const READER_GONE: i32 = 128 + 13;

/// Writes a line to standard output. Where nobody reads it any more the program ends, as others do.
pub fn write_line(line: fmt::Arguments<'_>) {
    match writeln!(std::io::stdout(), "{line}") {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(READER_GONE),
        Err(error) => panic!("standard output cannot be written: {error}"),
    }
}

/// Prints a result for machines.
pub fn print_json<T: Serialize>(value: &T) {
    say!("{}", serde_json::to_string_pretty(value).expect("results serialise"));
}

/// Prints findings for people, the most serious ones last, where the eye is.
pub fn print_findings(out: &mut dyn Write, findings: &[Finding]) {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| finding.severity);
    for finding in sorted {
        let severity = match finding.severity {
            Severity::Notice => "notice",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
            Severity::Unknown => "unknown",
        };
        let fix = finding.fix.replace('\n', "\n        ");
        // A reader that went away is not worth a complaint.
        let _ = writeln!(
            out,
            "{severity}[{}] {}: {}\n  why:  {}\n  fix:  {fix}",
            finding.code, finding.subject, finding.what, finding.why
        );
    }
}

/// Writes a number of bytes as people read it.
pub fn bytes(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}
