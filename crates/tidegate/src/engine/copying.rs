//! The copy, seen from the outside: what it reads, what it writes, what it shows.

use std::time::Duration;

use tidegate_model::{CopyState, CopyTable, Position, Problem, TableRoute};
use tidegate_pipeline::copy::{Copy, CopyConfig, CopyEnd, CopyProgress};
use tidegate_sql::copy::{CopyTargetConfig, SqlCopyTarget};
use tokio::sync::watch;
use tracing::info;

use super::Run;
use super::upstream::Upstream;
use crate::status::{CopyStatus, TableCounts};

impl Run<'_> {
    /// Copies what is not copied; `None` if told to stop.
    pub(super) async fn copy<U: Upstream>(
        &self,
        upstream: &U,
        begun: &mut U::Begun,
        position: &Position,
        tables: Vec<CopyTable>,
    ) -> Result<Option<Vec<TableRoute>>, Problem> {
        let total = tables.len() as u64;
        let open = tables.iter().filter(|table| !matches!(table.state, CopyState::Copied(_))).count() as u64;
        self.seat.board.change(|status| {
            status.tables = TableCounts { total, copied: total - open };
            status.applied_position = Some(position.to_string());
        });
        let mut config = CopyConfig::default();
        config.workers = self.flow.migration.pipeline.copy_workers.unwrap_or(config.workers);
        let copy = Copy::new(upstream.copy_source(begun), self.copy_target(), tables, config);
        let progress = copy.progress();
        let ended = tokio::select! {
            ended = copy.run(self.stop.clone()) => ended?,
            problem = upstream.watch_copy(begun, position, &self.seat.board) => return Err(problem),
            never = self.show_copy(progress) => match never {},
        };
        match ended {
            CopyEnd::Copied(routes) => {
                if open > 0 {
                    info!(tables = open, "every table is copied");
                }
                self.seat.board.change(|status| {
                    status.tables.copied = total;
                    status.copy = None;
                    status.waiting_for = None;
                });
                Ok(Some(routes))
            }
            CopyEnd::Stopped => Ok(None),
        }
    }

    pub(super) fn copy_target(&self) -> SqlCopyTarget {
        SqlCopyTarget::new(CopyTargetConfig {
            settings: self.flow.to().settings.clone(),
            name: self.flow.migration.name.clone(),
            lease: self.lease().clone(),
            indexes_kept_below_bytes: CopyTargetConfig::INDEXES_KEPT_BELOW_BYTES,
        })
    }

    async fn show_copy(&self, mut progress: watch::Receiver<CopyProgress>) -> std::convert::Infallible {
        loop {
            let now = progress.borrow_and_update().clone();
            self.seat.board.change(|status| {
                status.tables.copied = now.copied() as u64;
                status.waiting_for = now.waiting_for.clone();
                status.copy = Some(CopyStatus {
                    rows: now.rows,
                    bytes: now.bytes,
                    bytes_estimated: now.tables.iter().map(|table| table.bytes_estimated).sum(),
                    bytes_per_second: now.bytes_per_second,
                    seconds_left: now.time_left.map(|left| left.as_secs_f64()),
                });
            });
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }
}
