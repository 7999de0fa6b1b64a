//! One stream of a migration, owned: prepare, copy, stream.

use std::sync::atomic::{AtomicBool, Ordering};

use tidegate_connect::Session;
use tidegate_model::{CopyTable, Position, Problem, TableName, TableRoute};
use tidegate_sql::check::session_rights;
use tidegate_sql::copy::{self, PlannedTable};
use tidegate_sql::state::{self, Lease, Ownership};
use tidegate_sql::triggers;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::upstream::Upstream;
use super::{Ended, Flow, Seat, Wishes};

/// A stream that this process owns.
#[derive(Debug)]
pub struct Run<'a> {
    pub flow: Flow<'a>,
    pub ownership: &'a Ownership,
    pub seat: &'a Seat,
    pub wishes: &'a Wishes,
    pub stop: &'a CancellationToken,
    /// The migration has a stream the other way, too.
    pub both: bool,
    /// Set when the start point is there, and with it all that was asked of a start is done or noted in the state.
    pub begun: &'a AtomicBool,
}

impl Run<'_> {
    /// Runs it to its end.
    pub async fn run<U: Upstream>(&self, upstream: &U, planned: &[PlannedTable]) -> Result<Ended, Problem> {
        let target = self.target();
        if self.wishes.set_aside_triggers {
            let tables: Vec<TableName> = planned.iter().map(|table| table.map.target.clone()).collect();
            triggers::put_aside(target, self.lease(), &tables, session_rights(target).await?).await?;
        }
        let starting = upstream.start(self, planned);
        let Some(start) = self.stop.run_until_cancelled(starting).await.transpose()? else {
            return Ok(Ended { applied: self.ownership.start().position.clone() });
        };
        self.begun.store(true, Ordering::Relaxed);
        let position = start.position.clone();
        let mut begun = start.begun;
        let copied = Box::pin(self.copy(upstream, &mut begun, &position, start.tables)).await?;
        let Some(routes) = copied else { return Ok(Ended { applied: Some(position) }) };
        self.seat.note_copied();
        self.stream(upstream, &begun, position, routes).await
    }

    pub fn lease(&self) -> &Lease {
        self.ownership.lease()
    }

    /// The session that asks the database that is written.
    pub fn target(&self) -> &Session {
        &self.flow.to().session
    }

    /// Takes the target's tables as they are, as of `position`, and stores the start point.
    pub async fn begin_without_copy(
        &self,
        position: &Position,
        history: &serde_json::Value,
        planned: &[PlannedTable],
    ) -> Result<Vec<CopyTable>, Problem> {
        let target = self.target();
        let mut tables = copy::plan(target, self.lease(), planned.to_vec()).await?;
        for table in &mut tables {
            let route = TableRoute { map: table.map.clone(), from: position.clone() };
            copy::mark_copied(target, self.lease(), &route).await?;
            table.state = tidegate_model::CopyState::Copied(route);
        }
        state::store_start(target, self.lease(), position, history).await?;
        info!(%position, tables = tables.len(), "tables taken as they are");
        Ok(tables)
    }

    /// Notes the tables that are to be emptied and copied again.
    pub async fn note_recopies(&self) -> Result<(), Problem> {
        let target = self.target();
        let known = copy::read_records(target, &self.lease().key).await?;
        for table in &self.wishes.recopy {
            if known.iter().any(|record| record.is_of(table)) {
                copy::recopy(target, self.lease(), table).await?;
                info!(%table, "table will be emptied and copied again");
            }
        }
        Ok(())
    }
}
