//! A transaction that comes in pieces, before its commit.

use std::sync::Arc;

use tidegate_model::{Problem, SourceTable};

use super::writer::Writer;
use crate::pgoutput::Relations;
use crate::spool::{Log, Spool};

/// What came so far of one top-level transaction.
#[derive(Debug)]
pub(super) struct StreamedTransaction {
    /// Its messages, each with the id of its subtransaction.
    pub(super) log: Log,
    /// Its tables as described to it; others learn of them when it commits.
    pub(super) relations: Relations,
    /// Subtransactions that were rolled back.
    pub(super) aborted: Vec<u32>,
    pub(super) writer: Writer,
}

impl StreamedTransaction {
    pub(super) fn new(spool: &Spool) -> Self {
        StreamedTransaction {
            log: Log::new(spool.clone()),
            relations: Relations::default(),
            aborted: Vec::new(),
            writer: Writer::default(),
        }
    }

    /// Takes whether its origin is one of ours; false where that contradicts what is known. Nothing is kept of one of
    /// our own but the descriptions of tables, which the server does not repeat.
    pub(super) fn came_from(&mut self, is_own: bool, spool: &Spool) -> bool {
        if is_own {
            self.log = Log::new(spool.clone());
        }
        self.writer.came_from(is_own)
    }

    /// Takes the description of a table. It shares the table with the others (`known`) where they see the same.
    pub(super) fn describe(&mut self, table: SourceTable, arrival: u64, known: &Relations) -> Result<(), Problem> {
        let table = self.relations.same(&table).or_else(|| known.same(&table)).unwrap_or_else(|| Arc::new(table));
        if self.writer != Writer::Us {
            self.log.describe(&table)?;
        }
        self.relations.describe(table, arrival);
        Ok(())
    }
}
