//! What both databases know of a migration before anything is written, and the refusals that follow from it.

use tidegate_model::{CopyState, Position, Problem, RelationId, TableName};
use tidegate_source_postgres::{History, history, publication, slot};
use tidegate_sql::copy::{CopyRecord, read_records};
use tidegate_sql::state::{self, CheckpointRow, Pair, Part, StateKey};

use super::{Ends, Wishes};
use crate::config::Migration;

/// What is known before the start.
#[derive(Debug)]
pub struct Before {
    pub pair: Pair,
    pub checkpoint: Option<CheckpointRow>,
    pub records: Vec<CopyRecord>,
}

impl Before {
    /// Reads both databases.
    pub async fn read(ends: &Ends, key: &StateKey) -> Result<Before, Problem> {
        let pair = Pair {
            source: state::read_migration(&ends.source_session, &key.schema, &key.migration).await?,
            target: state::read_migration(&ends.target_session, &key.schema, &key.migration).await?,
        };
        if !state::is_installed(&ends.target_session, &key.schema, Part::Stream).await? {
            return Ok(Before { pair, checkpoint: None, records: Vec::new() });
        }
        let checkpoint = state::read_checkpoint(&ends.target_session, key).await?;
        let records = read_records(&ends.target_session, key).await?;
        Ok(Before { pair, checkpoint, records })
    }

    /// Returns where the target is; `None` before a start point is known.
    pub fn position(&self) -> Option<Position> {
        self.checkpoint.as_ref().and_then(|checkpoint| checkpoint.position.clone())
    }

    /// Returns the history that the checkpoint, or the intention to make one, belongs to.
    pub fn history(&self) -> Result<Option<History>, Problem> {
        history_of(self.checkpoint.as_ref())
    }

    /// Returns the source tables that the stream carries and has copied.
    pub fn carried(&self) -> Vec<(RelationId, TableName)> {
        let route = |record: &CopyRecord| match &record.state {
            CopyState::Copied(route) => Some((route.map.source.id, route.map.source.name.clone())),
            CopyState::Planned | CopyState::Copying => None,
        };
        self.records.iter().filter_map(route).collect()
    }

    /// Returns the globs that the migration began with: `tables` or `exclude`.
    pub fn globs(&self, which: &str) -> Vec<String> {
        let stored = self.pair.target.as_ref().map(|row| row.settings[which].clone());
        stored.and_then(|globs| serde_json::from_value(globs).ok()).unwrap_or_default()
    }

    /// Refuses what would lose, repeat or mix up rows. Nothing may be written before this has passed.
    pub async fn verify(&self, ends: &Ends, migration: &Migration, wishes: &Wishes) -> Result<(), Problem> {
        let name = &migration.name;
        match (self.position(), self.history()?) {
            (Some(at), Some(history)) if !wishes.recreate_slot => {
                slot::verify_resume(&ends.source, name, &history, &at).await?;
                self.verify_published(ends, migration, wishes, &history).await?;
            }
            (None, _) if wishes.no_copy_from.is_some() => self.verify_start(ends, migration, wishes).await?,
            _ if wishes.recreate_slot => {
                drop(slot::replaceable(&ends.source_session, name, &name.object_name()).await?);
            }
            (None, None) => {
                let found = slot::claimable(&ends.source_session, name, &name.object_name()).await?;
                if found.is_some() {
                    return Err(slot_of_another(migration));
                }
            }
            _ => drop(slot::claimable(&ends.source_session, name, &name.object_name()).await?),
        }
        if wishes.no_copy_from.is_some() && self.records.iter().any(|record| record.state != CopyState::Planned) {
            return Err(begun_already(migration));
        }
        self.pair.verify(name, self.position().is_some())
    }

    /// Refuses a publication that may have left out changes of a table that is not to be copied again.
    async fn verify_published(
        &self,
        ends: &Ends,
        migration: &Migration,
        wishes: &Wishes,
        history: &History,
    ) -> Result<(), Problem> {
        let mut tables = self.carried();
        tables.retain(|(_, name)| !wishes.recopy.contains(name));
        let (source, publication) = (&ends.source_session, &history.publication);
        let compared = publication::compare(source, publication, history.published.as_ref(), &tables).await?;
        if compared.gaps.is_empty() {
            return Ok(());
        }
        Err(publication::changed(&migration.name, publication, &compared.gaps))
    }

    /// Refuses a start without a copy that the slot does not reach back to.
    async fn verify_start(&self, ends: &Ends, migration: &Migration, wishes: &Wishes) -> Result<(), Problem> {
        let Some(at) = &wishes.no_copy_from else { return Ok(()) };
        let object = migration.name.object_name();
        let history = history::identify(&ends.source, &migration.name, &object, &object).await?;
        slot::verify_resume(&ends.source, &migration.name, &history, at).await.map(drop)
    }
}

/// Reads the history of a checkpoint row.
pub fn history_of(checkpoint: Option<&CheckpointRow>) -> Result<Option<History>, Problem> {
    let stored = checkpoint.and_then(|checkpoint| checkpoint.history.clone());
    stored.map(serde_json::from_value).transpose().map_err(|error| {
        let what = "the history of the checkpoint cannot be read";
        let next = "nothing but tidegate may write to the state tables: restore the row from a backup";
        Problem::definite("MI001", what, error.to_string(), next)
    })
}

fn slot_of_another(migration: &Migration) -> Problem {
    let (name, slot) = (&migration.name, migration.name.object_name());
    Problem::definite(
        "MI002",
        format!("the source has a replication slot \"{slot}\" that this target knows nothing of"),
        "it belongs to a migration of that name to another target, or the target's state was dropped",
        format!(
            "give another --name; or, if nobody needs the slot any more, take it and copy everything: \
             tidegate migrate --name {name} --recreate-slot"
        ),
    )
}

fn begun_already(migration: &Migration) -> Problem {
    Problem::definite(
        "MI003",
        format!("migration \"{}\" has begun to copy already", migration.name),
        "--no-copy takes the target's tables as they are, but some of them hold a part of a copy",
        "go on without --no-copy, or begin anew under another --name",
    )
}
