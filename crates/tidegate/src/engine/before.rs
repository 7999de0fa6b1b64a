//! What both databases know of a stream before anything is written.

use serde_json::Value;
use tidegate_model::{CopyState, Position, Problem, RelationId, TableName};
use tidegate_sql::copy::{CopyRecord, read_records};
use tidegate_sql::state::{self, CheckpointRow, Pair, Part};

use super::{Flow, NoCopy, Wishes};
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
    pub async fn read(flow: Flow<'_>) -> Result<Before, Problem> {
        let (key, ends) = (flow.key()?, flow.ends);
        let pair = Pair {
            source: state::read_migration(&ends.source.session, &key.schema, &key.migration).await?,
            target: state::read_migration(&ends.target.session, &key.schema, &key.migration).await?,
        };
        let holder = &flow.to().session;
        if !state::is_installed(holder, &key.schema, Part::Stream).await? {
            return Ok(Before { pair, checkpoint: None, records: Vec::new() });
        }
        let checkpoint = state::read_checkpoint(holder, &key).await?;
        let records = read_records(holder, &key).await?;
        Ok(Before { pair, checkpoint, records })
    }

    /// Returns where the target is; `None` before a start point is known.
    pub fn position(&self) -> Option<Position> {
        self.checkpoint.as_ref().and_then(|checkpoint| checkpoint.position.clone())
    }

    /// Returns the history that the checkpoint, or the intention to make one, belongs to, as it is stored.
    pub fn history(&self) -> Option<&Value> {
        self.checkpoint.as_ref().and_then(|checkpoint| checkpoint.history.as_ref())
    }

    /// Returns the source tables that the stream carries and has copied.
    pub fn carried(&self) -> Vec<(RelationId, TableName)> {
        let route = |record: &CopyRecord| match &record.state {
            CopyState::Copied(route) => Some((route.map.source.id, route.map.source.name.clone())),
            CopyState::Planned | CopyState::Copying => None,
        };
        self.records.iter().filter_map(route).collect()
    }

    /// Returns a setting with which the migration began: `tables`, `exclude` or `direction`.
    pub fn setting<T: serde::de::DeserializeOwned + Default>(&self, which: &str) -> T {
        let stored = self.pair.target.as_ref().map(|row| row.settings[which].clone());
        stored.and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default()
    }

    /// Refuses wishes that contradict what has begun, and databases that contradict each other.
    pub fn verify(&self, migration: &Migration, wishes: &Wishes) -> Result<(), Problem> {
        // A start without a copy that was interrupted has no start point yet, and is simply done again.
        let begun = self.position().is_some() && self.records.iter().any(is_begun);
        if matches!(wishes.no_copy, Some(NoCopy::At(_))) && begun {
            return Err(begun_already(migration));
        }
        self.pair.verify(&migration.name, self.position().is_some())
    }
}

fn is_begun(record: &CopyRecord) -> bool {
    record.state != CopyState::Planned
}

fn begun_already(migration: &Migration) -> Problem {
    Problem::definite(
        "MI003",
        format!("migration \"{}\" has begun to copy already", migration.name),
        "--no-copy takes the target's tables as they are, but some of them hold a part of a copy",
        "go on without --no-copy, or begin anew under another --name",
    )
}
