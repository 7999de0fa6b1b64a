//! What is written to a target in one go.

use crate::{Span, Transaction};

/// Consecutive transactions, written with the checkpoint `span.until` in one target transaction.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The stretch of history the batch covers. `span.until` is at or past the last transaction: a watermark may widen it.
    pub span: Span,
    /// In commit order, all inside the span. Empty for a batch that only moves the checkpoint.
    pub transactions: Vec<Transaction>,
}

impl Batch {
    /// Returns how many bytes of memory the rows of the batch hold.
    pub fn memory_bytes(&self) -> u64 {
        self.transactions.iter().map(|transaction| transaction.changes.memory_bytes()).sum()
    }
}
