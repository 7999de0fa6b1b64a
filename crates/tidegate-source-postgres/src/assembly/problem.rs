//! What can be wrong with the order of messages.

use tidegate_model::{Lsn, Problem};

use crate::pgoutput::{DecodeError, Kind};

/// A message that does not fit.
#[derive(Debug, thiserror::Error)]
pub(super) enum AssemblyError {
    /// By itself.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Where it came.
    #[error("message {} came {place}", Kind(*.kind))]
    OutOfOrder { kind: u8, place: &'static str },
    /// To what its Begin announced.
    #[error("a transaction that announced its commit at {began} was committed at {committed}")]
    OtherCommit { began: Lsn, committed: Lsn },
    /// To what came before: the beginning of the transaction is missing.
    #[error("transaction {xid} goes on but did not begin in this stream")]
    MissingStream { xid: u32 },
    /// To the order of commits.
    #[error("a transaction ends at {end}, after everything up to {emitted} was announced complete")]
    Backwards { end: Lsn, emitted: Lsn },
    /// It has no room in the spool, or cannot be read back.
    #[error(transparent)]
    Spool(#[from] Problem),
}

impl AssemblyError {
    /// Returns what the user reads; `at` is where the message was in the WAL.
    pub(super) fn problem(self, at: Lsn) -> Problem {
        let next = "start again: the position was not moved; if it happens at the same place, report it";
        match self {
            AssemblyError::Decode(error) => error.problem(format_args!("near {at}")),
            AssemblyError::Spool(problem) => problem,
            error @ (AssemblyError::OutOfOrder { .. }
            | AssemblyError::OtherCommit { .. }
            | AssemblyError::MissingStream { .. }) => Problem::definite(
                "PG103",
                format!("logical replication stream is out of order near {at}: {error}"),
                "whole transactions cannot be told from parts of them any more",
                next,
            ),
            error @ AssemblyError::Backwards { .. } => Problem::definite(
                "PG106",
                format!("logical replication stream went back near {at}: {error}"),
                "its changes would be skipped as already applied",
                next,
            ),
        }
    }
}
