//! What is expected of the backing session, in the order in which it was asked.

use std::sync::Arc;

use crate::dialect::Rewritten;
use crate::wire::Frame;

/// One expected answer.
#[derive(Clone, Debug)]
pub enum Pending {
    Parse,
    Bind,
    DescribeStatement,
    DescribePortal,
    Execute(Arc<Rewritten>),
    Close,
    /// Of a statement of the stand-in's own: rows are kept, nothing goes to the client.
    Own(Step),
}

/// The messages of a statement of the stand-in's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Parse,
    Bind,
    Execute,
    Close,
}

/// What has happened since the last Sync.
#[derive(Debug, Default)]
pub struct Group {
    /// An error was told: everything is passed over until the Sync.
    pub failed: bool,
    /// Messages to send again if the statement fails in a way that CockroachDB retries by itself.
    pub replay: Vec<(Frame, Pending)>,
    /// How much of the client's output comes before the answers to them; known with the first of these.
    pub replay_from: Option<usize>,
    /// Statements executed.
    pub executed: usize,
    /// After an error the backing session passes everything over until the Sync, too.
    pub passes_over: bool,
    /// The stand-in began a transaction of its own for a statement that reads the past.
    pub wrapped: bool,
    /// Not to be sent again: something went to the client, or something happened besides.
    pub settled: bool,
}
