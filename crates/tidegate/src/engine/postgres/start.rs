//! The start point: made once, found again ever after.

use tidegate_model::{Position, Problem, RelationId, TableName};
use tidegate_source_postgres::slot::{self, CreatedSlot, SlotRequest};
use tidegate_source_postgres::{History, history, publication};
use tidegate_sql::copy::{self, PlannedTable};
use tidegate_sql::state;
use tracing::info;

use super::super::upstream::{Start, stored_history};
use super::super::{NoCopy, Run};
use super::{Postgres, as_stored};

/// What the slot is, and its snapshot.
#[derive(Debug)]
pub struct Begun {
    pub history: History,
    /// The slot, if it was made just now: its snapshot is the first one to read.
    pub slot: Option<CreatedSlot>,
}

impl Postgres<'_> {
    pub(super) async fn start_or_resume(
        &self,
        run: &Run<'_>,
        planned: &[PlannedTable],
    ) -> Result<Start<Begun>, Problem> {
        if run.wishes.recreate_slot {
            self.forget_start(run).await?;
        }
        let checkpoint = state::read_checkpoint(run.target(), &run.lease().key).await?;
        let stored: Option<History> = stored_history(checkpoint.as_ref().and_then(|row| row.history.as_ref()))?;
        match (checkpoint.and_then(|checkpoint| checkpoint.position), stored) {
            (Some(position), Some(history)) => self.resume(run, position, history, planned).await,
            (_, stored) => match &run.wishes.no_copy {
                Some(NoCopy::At(position)) => self.begin_at(run, position.clone(), planned).await,
                Some(NoCopy::Now) | None => self.begin(run, stored.is_some(), planned).await,
            },
        }
    }

    /// Makes publication, slot and start point, in the order that a crash between any two survives: what may exist is
    /// recorded before it is made, and what is found without a record of its point is made again.
    async fn begin(&self, run: &Run<'_>, intended: bool, planned: &[PlannedTable]) -> Result<Start<Begun>, Problem> {
        let history = self.history().await?;
        let (from, target, name) = (self.0.from(), run.target(), &self.0.migration.name);
        state::store_intention(target, run.lease(), &as_stored(&history)).await?;
        if (intended || run.wishes.recreate_slot) && slot::drop(&from.session, name, &history.slot).await? {
            info!(slot = %history.slot, "a slot without a stored start point was dropped");
        }
        let history = self.publish(history, &identities(planned)).await?;
        let request = SlotRequest { settings: &from.settings, name, slot: &history.slot, temporary: false };
        let slot = slot::create_with_snapshot(request, run.stop, |waiting| {
            let waits = waiting.transactions.len();
            let first = waiting.transactions.first().map(ToString::to_string).unwrap_or_default();
            run.seat.board.change(|status| {
                status.waiting_for = Some(format!("the slot waits for {waits} transactions to end: {first}"));
            });
        })
        .await?;
        run.seat.board.change(|status| status.waiting_for = None);
        let position = Position::postgres(slot.point);
        if run.wishes.no_copy.is_some() {
            let tables = run.begin_without_copy(&position, &as_stored(&history), planned).await?;
            return Ok(Start { position, tables, begun: Begun { history, slot: None } });
        }
        let tables = copy::plan(target, run.lease(), planned.to_vec()).await?;
        state::store_start(target, run.lease(), &position, &as_stored(&history)).await?;
        Ok(Start { position, tables, begun: Begun { history, slot: Some(slot) } })
    }

    /// Begins with the tables as they are. The slot was made by whoever imported the data, and must reach back to there.
    async fn begin_at(
        &self,
        run: &Run<'_>,
        position: Position,
        planned: &[PlannedTable],
    ) -> Result<Start<Begun>, Problem> {
        let history = self.history().await?;
        slot::verify_resume(&self.0.from().settings, &self.0.migration.name, &history, &position).await?;
        // A publication that is made or changed now says nothing about what was written before: the slot decodes with the
        // catalog of each transaction's time.
        let published = self.verify_publication(&history, &identities(planned)).await?;
        let history = History { published, ..history };
        let tables = run.begin_without_copy(&position, &as_stored(&history), planned).await?;
        Ok(Start { position, tables, begun: Begun { history, slot: None } })
    }

    /// Goes on where the target is, with the tables that the stream began with.
    async fn resume(
        &self,
        run: &Run<'_>,
        position: Position,
        history: History,
        planned: &[PlannedTable],
    ) -> Result<Start<Begun>, Problem> {
        let target = run.target();
        let verified =
            slot::verify_resume(&self.0.from().settings, &self.0.migration.name, &history, &position).await?;
        if verified != history {
            info!(timeline = verified.timeline, "the source was promoted after our checkpoint; going on");
        }
        self.verify_publication(&verified, &but_recopied(run, planned)).await?;
        run.note_recopies().await?;
        // Only now: whatever the publication missed of the tables to copy again is in their new copies.
        let verified = self.publish(verified, &identities(planned)).await?;
        if verified != history {
            state::store_history(target, run.lease(), &as_stored(&verified)).await?;
        }
        let tables = copy::plan(target, run.lease(), planned.to_vec()).await?;
        Ok(Start { position, tables, begun: Begun { history: verified, slot: None } })
    }

    /// Makes the publication list exactly the tables that exist, and notes what it is from now on.
    async fn publish(&self, history: History, tables: &[(RelationId, TableName)]) -> Result<History, Problem> {
        let source = &self.0.from().session;
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
        let source = &self.0.from().session;
        let compared = publication::compare(source, &history.publication, history.published.as_ref(), tables).await?;
        for table in &compared.dropped {
            info!(%table, "table was dropped at the source; it stays at the target as it is");
        }
        if !compared.gaps.is_empty() {
            return Err(publication::changed(&self.0.migration.name, &history.publication, &compared.gaps));
        }
        publication::mark(source, &history.publication).await
    }

    /// Forgets slot, start point and copies. The rows at the target are ours and are emptied table by table.
    async fn forget_start(&self, run: &Run<'_>) -> Result<(), Problem> {
        copy::recopy_all(run.target(), run.lease()).await?;
        state::forget_start(run.target(), run.lease(), &as_stored(&self.history().await?)).await
    }

    pub(super) async fn history(&self) -> Result<History, Problem> {
        let object = self.0.migration.name.object_name();
        history::identify(&self.0.from().settings, &self.0.migration.name, &object, &object).await
    }
}

/// Returns the tables that go on with the rows they have.
fn but_recopied(run: &Run<'_>, planned: &[PlannedTable]) -> Vec<(RelationId, TableName)> {
    let mut tables = identities(planned);
    tables.retain(|(_, name)| !run.wishes.recopy.contains(name));
    tables
}

fn identities(planned: &[PlannedTable]) -> Vec<(RelationId, TableName)> {
    planned.iter().map(|table| (table.map.source.id, table.map.source.name.clone())).collect()
}
