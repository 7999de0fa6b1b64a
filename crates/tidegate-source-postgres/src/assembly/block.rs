//! The place in the stream of messages.

use tidegate_model::Problem;

use super::plain::PlainTransaction;
use super::streamed::StreamedTransaction;
use crate::spool::Spool;

/// The brackets that messages come in. They do not nest.
#[derive(Debug, Default)]
pub(super) enum Block {
    /// Between them.
    #[default]
    None,
    /// Between Begin and Commit.
    Plain(PlainTransaction),
    /// Between Stream Start and Stream Stop.
    Streamed { xid: u32, transaction: StreamedTransaction },
}

impl Block {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Block::None => "between transactions",
            Block::Plain(_) => "inside a transaction",
            Block::Streamed { .. } => "inside a streamed block",
        }
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        match self {
            Block::None => 0,
            Block::Plain(transaction) => transaction.memory_bytes(),
            Block::Streamed { transaction, .. } => transaction.log.memory_bytes(),
        }
    }

    pub(super) fn spill(&mut self, spool: &Spool) -> Result<(), Problem> {
        match self {
            Block::None => Ok(()),
            Block::Plain(transaction) => transaction.spill(spool),
            Block::Streamed { transaction, .. } => transaction.log.spill(),
        }
    }
}
