//! How the client's transaction stands, which is not always how the backing session's stands.

use crate::history::Hlc;

/// The savepoint of CockroachDB's protocol for retries.
pub const RESTART_SAVEPOINT: &str = "cockroach_restart";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// No such savepoint.
    #[default]
    None,
    Open,
    /// RELEASE has committed: only COMMIT is left.
    Released,
    /// The commit at RELEASE failed: the backing session has no transaction any more, the client goes back to the
    /// savepoint.
    Failed,
}

#[derive(Debug)]
pub struct Transaction {
    /// The backing session's status: I, T or E.
    pub status: u8,
    pub restart: Restart,
    /// Reads are of this time.
    pub as_of: Option<Hlc>,
    /// How the backing session's transaction was begun.
    pub begin_sql: String,
    /// Statements were executed in it.
    pub used: bool,
    /// Schemas were changed in it.
    pub changed_schema: bool,
    /// How many errors `inject_retry_errors_enabled` has made since the savepoint was set.
    pub injected: u32,
}

impl Default for Transaction {
    fn default() -> Transaction {
        Transaction {
            status: b'I',
            restart: Restart::None,
            as_of: None,
            begin_sql: String::new(),
            used: false,
            changed_schema: false,
            injected: 0,
        }
    }
}

impl Transaction {
    /// What the client is told with ReadyForQuery.
    pub fn client_status(&self) -> u8 {
        match self.restart {
            Restart::Released => b'T',
            Restart::Failed => b'E',
            Restart::None | Restart::Open => self.status,
        }
    }

    /// Returns whether the backing session is in a transaction that an error would abort.
    pub fn is_open(&self) -> bool {
        self.status == b'T'
    }

    /// Takes over the status that the backing session reports.
    pub fn reported(&mut self, status: u8) {
        self.status = status;
        if status == b'I' && matches!(self.restart, Restart::None | Restart::Open) {
            *self = Transaction::default();
        }
    }
}
