//! A database session that stays open between statements.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use crate::database::Database;

/// A session, ended with its value; what it has not committed is then rolled back.
#[derive(Debug)]
pub struct Session {
    psql: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Session {
    /// Connects.
    pub fn open(database: &Database) -> Session {
        let mut command = database.psql_command();
        let mut psql = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("psql can be run");
        let stdin = psql.stdin.take();
        let lines = BufReader::new(psql.stdout.take().expect("stdout was asked for")).lines();
        Session { psql, stdin, lines }
    }

    /// Sends SQL without waiting for its end.
    pub fn send(&mut self, sql: &str) {
        let stdin = self.stdin.as_mut().expect("the session is open");
        writeln!(stdin, "{sql};").expect("psql reads");
    }

    /// Runs SQL, waits for its end, and returns what it printed.
    ///
    /// # Panics
    /// If it fails: the session is over then.
    pub fn sql(&mut self, sql: &str) -> String {
        const DONE: &str = "\u{1}done";
        self.send(&format!("{sql};\n\\echo {DONE}\n"));
        let mut printed = Vec::new();
        loop {
            match self.lines.next() {
                Some(Ok(line)) if line == DONE => return printed.join("\n"),
                Some(Ok(line)) => printed.push(line),
                other => panic!("the session ended ({other:?}) at: {sql}"),
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // At the end of its input psql ends.
        drop(self.stdin.take());
        let _ = self.psql.wait();
    }
}
