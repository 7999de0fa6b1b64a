//! The copy, seen from the outside: what it reads, what it writes, what it shows.

use std::time::Duration;

use tidegate_model::{CopyState, Problem, TableRoute};
use tidegate_pipeline::copy::{Copy, CopyConfig, CopyEnd, CopyProgress};
use tidegate_source_postgres::copy::{PostgresCopySource, ReadConfig};
use tidegate_sql::copy::{CopyTargetConfig, PostgresCopyTarget};
use tokio::sync::watch;
use tracing::info;

use super::start::{Start, Stream};
use super::watch::WalWatch;
use crate::status::{CopyStatus, TableCounts};

impl Stream<'_> {
    /// Copies what is not copied; `None` if told to stop.
    pub(super) async fn copy(&self, start: Start) -> Result<Option<Vec<TableRoute>>, Problem> {
        let total = start.tables.len() as u64;
        let open = start.tables.iter().filter(|table| !matches!(table.state, CopyState::Copied(_))).count() as u64;
        let tables = TableCounts { total, copied: total - open };
        self.board.change(|status| {
            status.tables = tables;
            status.applied_position = Some(start.position.to_string());
        });
        let options = &self.migration.pipeline;
        let mut config = CopyConfig::default();
        config.workers = options.copy_workers.unwrap_or(config.workers);
        let mut read = ReadConfig::default();
        read.chunk_bytes = options.copy_chunk_bytes.map_or(read.chunk_bytes, |bytes| bytes.0);
        read.lock_yield = options.copy_lock_yield.map_or(read.lock_yield, |interval| interval.0);
        let source = PostgresCopySource::new(self.ends.source.clone(), self.migration.name.clone(), read, start.slot);
        let copy = Copy::new(source, self.copy_target(), start.tables, config);
        let progress = copy.progress();
        let wal = WalWatch::new(self.ends.source.clone(), self.migration, start.history.slot);
        let ended = tokio::select! {
            ended = copy.run(self.stop.clone()) => ended?,
            spent = wal.watch(self.board) => return Err(spent),
            never = self.show_copy(progress) => match never {},
        };
        match ended {
            CopyEnd::Copied(routes) => {
                if open > 0 {
                    info!(tables = open, "every table is copied");
                }
                self.board.change(|status| {
                    status.tables.copied = total;
                    status.copy = None;
                    status.waiting_for = None;
                });
                Ok(Some(routes))
            }
            CopyEnd::Stopped => Ok(None),
        }
    }

    pub(super) fn copy_target(&self) -> PostgresCopyTarget {
        PostgresCopyTarget::new(CopyTargetConfig {
            settings: self.ends.target.clone(),
            name: self.migration.name.clone(),
            lease: self.lease().clone(),
            indexes_kept_below_bytes: CopyTargetConfig::INDEXES_KEPT_BELOW_BYTES,
        })
    }

    async fn show_copy(&self, mut progress: watch::Receiver<CopyProgress>) -> std::convert::Infallible {
        loop {
            let now = progress.borrow_and_update().clone();
            self.board.change(|status| {
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
