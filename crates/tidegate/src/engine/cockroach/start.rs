//! The start point: a moment of the cluster's clock.

use tidegate_model::{Hlc, Position, Problem, TableName};
use tidegate_source_cockroach::{History, history, now};
use tidegate_sql::copy::{self, PlannedTable};
use tidegate_sql::state;

use super::super::upstream::{Start, stored_history};
use super::super::{Before, NoCopy, Run, Wishes};
use super::{Cockroach, as_stored};

/// Which cluster the stream reads, and as of when the tables that are to be copied are read.
#[derive(Debug)]
pub struct Begun {
    pub history: History,
    pub copy_at: Hlc,
    pub tables: Vec<TableName>,
}

impl Cockroach<'_> {
    pub(super) async fn verify_before(&self, before: &Before, wishes: &Wishes) -> Result<(), Problem> {
        let (session, name) = (&self.0.from().session, &self.0.migration.name);
        let stored = stored_history::<History>(before.history())?;
        match (before.position(), stored, &wishes.no_copy) {
            _ if wishes.recreate_slot => Ok(()),
            (Some(at), Some(stored), _) => history::verify(session, name, &stored, &at, &copied(before)).await,
            (None, _, Some(NoCopy::At(at))) => {
                let history = history::identify(session).await?;
                history::verify(session, name, &history, at, &[]).await
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn start_or_resume(
        &self,
        run: &Run<'_>,
        planned: &[PlannedTable],
    ) -> Result<Start<Begun>, Problem> {
        let session = &self.0.from().session;
        let identity = history::identify(session).await?;
        if run.wishes.recreate_slot {
            copy::recopy_all(run.target(), run.lease()).await?;
            state::forget_start(run.target(), run.lease(), &as_stored(&identity)).await?;
        }
        let checkpoint = state::read_checkpoint(run.target(), &run.lease().key).await?;
        let stored: Option<History> = stored_history(checkpoint.as_ref().and_then(|row| row.history.as_ref()))?;
        let copy_at = now(session).await?;
        let names: Vec<TableName> = planned.iter().map(|table| table.map.source.name.clone()).collect();
        match (checkpoint.and_then(|checkpoint| checkpoint.position), stored) {
            (Some(position), Some(history)) => {
                history::verify(session, &self.0.migration.name, &history, &position, &names).await?;
                run.note_recopies().await?;
                let tables = copy::plan(run.target(), run.lease(), planned.to_vec()).await?;
                Ok(Start { position, tables, begun: Begun { history, copy_at, tables: names } })
            }
            _ => self.begin(run, identity, copy_at, planned).await,
        }
    }

    async fn begin(
        &self,
        run: &Run<'_>,
        history: History,
        copy_at: Hlc,
        planned: &[PlannedTable],
    ) -> Result<Start<Begun>, Problem> {
        let stored = as_stored(&history);
        let position = match &run.wishes.no_copy {
            Some(NoCopy::At(position)) => position.clone(),
            Some(NoCopy::Now) | None => Position::cockroach(copy_at),
        };
        let tables = if run.wishes.no_copy.is_some() {
            run.begin_without_copy(&position, &stored, planned).await?
        } else {
            let tables = copy::plan(run.target(), run.lease(), planned.to_vec()).await?;
            state::store_start(run.target(), run.lease(), &position, &stored).await?;
            tables
        };
        let names = planned.iter().map(|table| table.map.source.name.clone()).collect();
        Ok(Start { position, tables, begun: Begun { history, copy_at, tables: names } })
    }
}

/// Returns the tables whose history the stream needs.
fn copied(before: &Before) -> Vec<TableName> {
    before.carried().into_iter().map(|(_, name)| name).collect()
}
