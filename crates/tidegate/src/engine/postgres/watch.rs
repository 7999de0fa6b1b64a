//! What may go wrong beside a running stream: WAL that piles up during the copy, tables that appear, a publication that
//! somebody changes.

use std::collections::HashSet;
use std::time::Duration;

use tidegate_connect::{Session, Settings};
use tidegate_model::{MigrationName, Problem, RelationId, TableFilter, TableName};
use tidegate_source_postgres::wal::{self, WalBudget, WalLevel, WhenSpent};
use tidegate_source_postgres::{History, catalog, publication};
use tokio::time::sleep;
use tracing::warn;

use super::super::Board;
use crate::cli::WalBudgetPolicy;
use crate::config::Migration;

const WAL_EVERY: Duration = Duration::from_secs(1);
/// A table created later is to be seen within ten seconds.
const TABLES_EVERY: Duration = Duration::from_secs(5);

/// Returns how much WAL the source may keep.
pub fn wal_budget(migration: &Migration) -> WalBudget {
    let when_spent = match migration.pipeline.wal_budget_policy {
        Some(WalBudgetPolicy::DropSlot) => WhenSpent::DropSlot,
        Some(WalBudgetPolicy::Stop) | None => WhenSpent::Stop,
    };
    WalBudget { bytes_max: migration.pipeline.wal_budget.map(|bytes| bytes.0), when_spent }
}

/// Measures the slot while nothing streams from it: during the copy it only grows.
#[derive(Debug)]
pub struct WalWatch {
    settings: Settings,
    name: MigrationName,
    slot: String,
    budget: WalBudget,
}

impl WalWatch {
    pub fn new(settings: Settings, migration: &Migration, slot: String) -> WalWatch {
        WalWatch { settings, name: migration.name.clone(), slot, budget: wal_budget(migration) }
    }

    /// Returns the problem when the budget is spent.
    pub async fn watch(&self, board: &Board) -> Problem {
        let mut warned = false;
        loop {
            match self.watch_over_one_session(board, &mut warned).await {
                Ok(spent) => return spent,
                Err(problem) => warn!(error = %problem.why, "the source's WAL cannot be measured"),
            }
            sleep(WAL_EVERY).await;
        }
    }

    async fn watch_over_one_session(&self, board: &Board, warned: &mut bool) -> Result<Problem, Problem> {
        let session = Session::connect(&self.settings, &self.name.application_name("wal")).await?;
        loop {
            if let Some(retained) = wal::measure(&session, &self.slot).await? {
                board.change(|status| {
                    status.retained_wal_bytes = Some(retained.bytes());
                    status.source_position = Some(tidegate_model::Position::postgres(retained.end).to_string());
                });
                match self.budget.level(&retained) {
                    WalLevel::Spent => {
                        let budget = self.budget.bytes(retained.keep_size_bytes_max).unwrap_or(0);
                        let when = self.budget.when_spent;
                        return Ok(wal::spend(&self.settings, &self.name, &self.slot, when, &retained, budget).await);
                    }
                    WalLevel::Half if !*warned => {
                        warn!(retained_bytes = retained.bytes(), "half of the WAL budget is used");
                        *warned = true;
                    }
                    WalLevel::Half | WalLevel::Normal => {}
                }
            }
            sleep(WAL_EVERY).await;
        }
    }
}

/// Looks for tables that match and are not carried, and for a publication that no longer carries what it should.
#[derive(Debug)]
pub struct TableWatch<'a> {
    pub settings: Settings,
    pub migration: &'a Migration,
    pub history: History,
    pub carried: Vec<(RelationId, TableName)>,
}

impl TableWatch<'_> {
    /// Returns the problem of a publication that was changed: from then on changes are missing in the stream.
    pub async fn watch(&self, board: &Board) -> Problem {
        loop {
            match self.watch_over_one_session(board).await {
                Ok(changed) => return changed,
                Err(problem) => warn!(error = %problem.why, "the source's tables cannot be listed"),
            }
            sleep(TABLES_EVERY).await;
        }
    }

    async fn watch_over_one_session(&self, board: &Board) -> Result<Problem, Problem> {
        let migration = self.migration;
        let filter = TableFilter::new(&migration.tables, &migration.exclude, &migration.state_schema)?;
        let session = Session::connect(&self.settings, &migration.name.application_name("tables")).await?;
        let mut said = Vec::new();
        let carried: HashSet<RelationId> = self.carried.iter().map(|(id, _)| *id).collect();
        loop {
            let found = catalog::list_tables(&session, &filter).await?;
            let missing = found.iter().filter(|table| !carried.contains(&table.table.id));
            let missing: Vec<String> = missing.map(|table| table.name().to_string()).collect();
            let (name, marked) = (&self.history.publication, self.history.published.as_ref());
            let compared = publication::compare(&session, name, marked, &self.carried).await?;
            if !compared.gaps.is_empty() {
                return Ok(publication::changed(&migration.name, name, &compared.gaps));
            }
            for table in missing.iter().filter(|table| !said.contains(*table)) {
                warn!(%table, "a table of the source appeared that this migration does not carry");
            }
            said.clone_from(&missing);
            let dropped: Vec<String> = compared.dropped.iter().map(ToString::to_string).collect();
            board.change(|status| (status.not_carried, status.dropped) = (missing, dropped));
            sleep(TABLES_EVERY).await;
        }
    }
}
