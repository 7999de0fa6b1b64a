//! The start point: made once, found again ever after.

use tidegate_model::{CopyTable, Position, Problem, RelationId, TableName};
use tidegate_source_postgres::slot::{self, CreatedSlot, SlotRequest};
use tidegate_source_postgres::{History, history, publication};
use tidegate_sql::check::session_rights;
use tidegate_sql::copy::{self, PlannedTable};
use tidegate_sql::state::{self, Lease, Ownership};
use tidegate_sql::triggers;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::before::history_of;
use super::{Board, Ended, Ends, Wishes};
use crate::config::Migration;

/// One stream of a migration, owned.
#[derive(Debug)]
pub struct Stream<'a> {
    pub migration: &'a Migration,
    pub ends: &'a Ends,
    pub ownership: &'a Ownership,
    pub board: &'a Board,
    pub wishes: &'a Wishes,
    pub stop: &'a CancellationToken,
}

/// Where a stream begins, or goes on.
#[derive(Debug)]
pub struct Start {
    pub position: Position,
    pub history: History,
    /// All tables of the stream, as the state knows them.
    pub tables: Vec<CopyTable>,
    /// The slot, if it was made just now: its snapshot is the first one to read.
    pub slot: Option<CreatedSlot>,
}

impl Stream<'_> {
    /// Runs it to its end.
    pub async fn run(&self, planned: &[PlannedTable]) -> Result<Ended, Problem> {
        let target = &self.ends.target_session;
        if self.wishes.set_aside_triggers {
            let tables: Vec<TableName> = planned.iter().map(|table| table.map.target.clone()).collect();
            triggers::put_aside(target, self.lease(), &tables, session_rights(target).await?).await?;
        }
        if self.wishes.recreate_slot {
            self.forget_start().await?;
        }
        let Some(start) = self.stop.run_until_cancelled(self.start(planned)).await.transpose()? else {
            return Ok(Ended { applied: self.ownership.start().position.clone() });
        };
        let applied = start.position.clone();
        let (position, history) = (start.position.clone(), start.history.clone());
        let Some(routes) = Box::pin(self.copy(start)).await? else { return Ok(Ended { applied: Some(applied) }) };
        self.stream(position, history, routes).await
    }

    pub fn lease(&self) -> &Lease {
        self.ownership.lease()
    }

    async fn start(&self, planned: &[PlannedTable]) -> Result<Start, Problem> {
        let target = &self.ends.target_session;
        let checkpoint = state::read_checkpoint(target, &self.lease().key).await?;
        let stored = history_of(checkpoint.as_ref())?;
        match (checkpoint.and_then(|checkpoint| checkpoint.position), stored) {
            (Some(position), Some(history)) => self.resume(position, history, planned).await,
            (_, stored) => match &self.wishes.no_copy_from {
                Some(position) => self.begin_at(position.clone(), planned).await,
                None => self.begin(stored.is_some(), planned).await,
            },
        }
    }

    /// Makes publication, slot and start point, in the order that a crash between any two survives: what may exist is
    /// recorded before it is made, and what is found without a record of its point is made again.
    async fn begin(&self, intended: bool, planned: &[PlannedTable]) -> Result<Start, Problem> {
        let history = self.history().await?;
        let (source, target) = (&self.ends.source_session, &self.ends.target_session);
        let stored = serde_json::to_value(&history).expect("a history is plain data");
        state::store_intention(target, self.lease(), &stored).await?;
        if (intended || self.wishes.recreate_slot) && slot::drop(source, &self.migration.name, &history.slot).await? {
            info!(slot = %history.slot, "a slot without a stored start point was dropped");
        }
        let history = self.publish(history, &identities(planned)).await?;
        let stored = serde_json::to_value(&history).expect("a history is plain data");
        let request = SlotRequest {
            settings: &self.ends.source,
            name: &self.migration.name,
            slot: &history.slot,
            temporary: false,
        };
        let slot = slot::create_with_snapshot(request, self.stop, |waiting| {
            let waits = waiting.transactions.len();
            let first = waiting.transactions.first().map(ToString::to_string).unwrap_or_default();
            self.board.change(|status| {
                status.waiting_for = Some(format!("the slot waits for {waits} transactions to end: {first}"));
            });
        })
        .await?;
        self.board.change(|status| status.waiting_for = None);
        let position = Position::postgres(slot.point);
        let tables = copy::plan(target, self.lease(), planned.to_vec()).await?;
        state::store_start(target, self.lease(), &position, &stored).await?;
        Ok(Start { position, history, tables, slot: Some(slot) })
    }

    /// Begins with the tables as they are. The slot was made by whoever imported the data, and must reach back to there.
    async fn begin_at(&self, position: Position, planned: &[PlannedTable]) -> Result<Start, Problem> {
        let history = self.history().await?;
        let target = &self.ends.target_session;
        slot::verify_resume(&self.ends.source, &self.migration.name, &history, &position).await?;
        // A publication that is made or changed now says nothing about what was written before: the slot decodes with the
        // catalog of each transaction's time.
        let published = self.verify_publication(&history, &identities(planned)).await?;
        let history = History { published, ..history };
        let stored = serde_json::to_value(&history).expect("a history is plain data");
        let mut tables = copy::plan(target, self.lease(), planned.to_vec()).await?;
        for table in &mut tables {
            let route = tidegate_model::TableRoute { map: table.map.clone(), from: position.clone() };
            copy::mark_copied(target, self.lease(), &route).await?;
            table.state = tidegate_model::CopyState::Copied(route);
        }
        state::store_start(target, self.lease(), &position, &stored).await?;
        info!(%position, tables = tables.len(), "tables taken as they are");
        Ok(Start { position, history, tables, slot: None })
    }

    /// Goes on where the target is, with the tables that the stream began with.
    async fn resume(&self, position: Position, history: History, planned: &[PlannedTable]) -> Result<Start, Problem> {
        let target = &self.ends.target_session;
        let verified = slot::verify_resume(&self.ends.source, &self.migration.name, &history, &position).await?;
        if verified != history {
            info!(timeline = verified.timeline, "the source was promoted after our checkpoint; going on");
        }
        self.verify_publication(&verified, &self.but_recopied(planned)).await?;
        let known = copy::read_records(target, &self.lease().key).await?;
        for table in &self.wishes.recopy {
            if known.iter().any(|record| record.is_of(table)) {
                copy::recopy(target, self.lease(), table).await?;
                info!(%table, "table will be emptied and copied again");
            }
        }
        // Only now: whatever the publication missed of the tables to copy again is in their new copies.
        let verified = self.publish(verified, &identities(planned)).await?;
        if verified != history {
            state::store_history(target, self.lease(), &serde_json::to_value(&verified).expect("plain data")).await?;
        }
        let tables = copy::plan(target, self.lease(), planned.to_vec()).await?;
        Ok(Start { position, history: verified, tables, slot: None })
    }

    /// Makes the publication list exactly the tables that exist, and notes what it is from now on.
    async fn publish(&self, history: History, tables: &[(RelationId, TableName)]) -> Result<History, Problem> {
        let source = &self.ends.source_session;
        let compared = publication::compare(source, &history.publication, None, tables).await?;
        let mut names: Vec<TableName> = tables.iter().map(|(_, name)| name.clone()).collect();
        names.retain(|name| !compared.dropped.contains(name));
        publication::ensure(source, &history.publication, &names).await?;
        let published = publication::mark(source, &history.publication).await?;
        Ok(History { published, ..history })
    }

    /// Refuses a publication that may have left out changes of these tables, and returns what it is now.
    async fn verify_publication(
        &self,
        history: &History,
        tables: &[(RelationId, TableName)],
    ) -> Result<Option<publication::Mark>, Problem> {
        let source = &self.ends.source_session;
        let compared = publication::compare(source, &history.publication, history.published.as_ref(), tables).await?;
        for table in &compared.dropped {
            info!(%table, "table was dropped at the source; it stays at the target as it is");
        }
        if !compared.gaps.is_empty() {
            return Err(publication::changed(&self.migration.name, &history.publication, &compared.gaps));
        }
        publication::mark(source, &history.publication).await
    }

    /// Returns the tables that go on with the rows they have.
    fn but_recopied(&self, planned: &[PlannedTable]) -> Vec<(RelationId, TableName)> {
        let mut tables = identities(planned);
        tables.retain(|(_, name)| !self.wishes.recopy.contains(name));
        tables
    }

    /// Forgets slot, start point and copies. The rows at the target are ours and are emptied table by table.
    async fn forget_start(&self) -> Result<(), Problem> {
        let target = &self.ends.target_session;
        copy::recopy_all(target, self.lease()).await?;
        let history = serde_json::to_value(self.history().await?).expect("a history is plain data");
        state::forget_start(target, self.lease(), &history).await
    }

    async fn history(&self) -> Result<History, Problem> {
        let object = self.migration.name.object_name();
        history::identify(&self.ends.source, &self.migration.name, &object, &object).await
    }
}

fn identities(planned: &[PlannedTable]) -> Vec<(RelationId, TableName)> {
    planned.iter().map(|table| (table.map.source.id, table.map.source.name.clone())).collect()
}
