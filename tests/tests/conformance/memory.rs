//! Both suites without a database.

use std::sync::Arc;

use tidegate_model::{Position, SourceTable};
use tidegate_testkit::memory::{self, MemoryApplier, MemoryHistory, MemorySource, MemoryTarget, insert};
use tidegate_testkit::suites::{ApplierHarness, SourceHarness, applier_suite, source_suite};

struct InMemorySource {
    history: MemoryHistory,
    table: Arc<SourceTable>,
}

impl SourceHarness for InMemorySource {
    type Source = MemorySource;

    async fn commit(&mut self, ids: &[u64]) {
        self.history.commit(ids.iter().map(|id| insert(&self.table, *id)).collect());
    }

    async fn roll_back(&mut self, _ids: &[u64]) {
        self.history.idle();
    }

    async fn open(&mut self, from: Option<&Position>) -> MemorySource {
        self.history.open(from.unwrap_or(&MemoryHistory::start()))
    }
}

#[tokio::test]
async fn a_source_in_memory_keeps_the_promises() {
    source_suite(&mut InMemorySource { history: MemoryHistory::default(), table: memory::table("t") }).await;
}

struct InMemoryTarget {
    target: MemoryTarget,
    table: Arc<SourceTable>,
}

impl ApplierHarness for InMemoryTarget {
    type Applier = MemoryApplier;

    fn table(&self) -> Arc<SourceTable> {
        Arc::clone(&self.table)
    }

    async fn open(&mut self) -> MemoryApplier {
        self.target.open()
    }

    async fn position(&mut self) -> Position {
        self.target.position()
    }

    async fn ids(&mut self) -> Vec<u64> {
        self.target.ids(&self.table.name)
    }
}

#[tokio::test]
async fn a_target_in_memory_keeps_the_promises() {
    let target = MemoryTarget::at(MemoryHistory::start());
    applier_suite(&mut InMemoryTarget { target, table: memory::table("t") }).await;
}
