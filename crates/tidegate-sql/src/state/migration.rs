//! The `migration` row, which both databases hold.

use std::fmt;

use serde_json::Value;
use tidegate_model::{MigrationName, Problem};
use tokio_postgres::Client;

use super::{Part, StateSchema, failed, is_installed};
use crate::retry;

/// Which end of a migration a database is. Fixed for ever: a turn changes the direction, not the sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The database of `--source`.
    Source,
    /// The database of `--target`.
    Target,
}

impl Side {
    /// Returns the name that the state tables use.
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Source => "source",
            Side::Target => "target",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What one database says about a migration.
#[derive(Clone, Debug, PartialEq)]
pub struct MigrationRow {
    /// Grows by one with every turn; 1 before the first.
    pub generation: i64,
    /// `initial`, `cutover`, `reversed` or `final`.
    pub phase: String,
    /// The generation that a turn under way leads to, as text.
    pub turning: Option<String>,
    /// `source` or `target`.
    pub side: String,
    /// Settings that outlive the process; `pair` is equal on both sides.
    pub settings: Value,
}

/// What both databases say.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// The database of `--source`.
    pub source: Option<MigrationRow>,
    /// The database of `--target`.
    pub target: Option<MigrationRow>,
}

/// Reads what a database says about a migration. Writes nothing: a database without state tables knows none.
pub async fn read_migration(
    client: &Client,
    schema: &StateSchema,
    name: &MigrationName,
) -> Result<Option<MigrationRow>, Problem> {
    if !is_installed(client, schema, Part::Common).await? {
        return Ok(None);
    }
    let sql = format!(
        "SELECT generation, phase, turning, side, settings::text FROM {} WHERE migration = $1",
        schema.table("migration")
    );
    let row = retry::repeatable(|| async {
        client.query_opt(&sql, &[&name.as_str()]).await.map_err(failed("read the migration"))
    });
    let row = row.await?;
    Ok(row.map(|row| MigrationRow {
        generation: row.get(0),
        phase: row.get(1),
        turning: row.get(2),
        side: row.get(3),
        settings: serde_json::from_str(row.get(4)).unwrap_or(Value::Null),
    }))
}

impl Pair {
    /// Refuses two databases that contradict each other. `started`: the target has a checkpoint with a start point.
    pub fn verify(&self, name: &MigrationName, started: bool) -> Result<(), Problem> {
        let ends = [(Side::Source, &self.source), (Side::Target, &self.target)];
        for (side, row) in ends {
            let Some(row) = row else { continue };
            if row.side != side.as_str() {
                return Err(wrong_side(name, side, &row.side));
            }
            if row.phase == "final" {
                return Err(is_over(name, side));
            }
        }
        match (&self.source, &self.target) {
            (Some(source), Some(target)) if (source.generation - target.generation).abs() > 1 => {
                Err(apart(name, source.generation, target.generation))
            }
            (Some(source), Some(target)) if source.settings["pair"] != target.settings["pair"] => Err(strangers(name)),
            (Some(_), None) => Err(unknown_at_target(name)),
            (None, Some(_)) if started => Err(unknown_at_source(name)),
            _ => Ok(()),
        }
    }

    /// Returns the settings to write on both sides: those that are stored, or else `settings` with a new `pair`.
    pub fn settings(&self, settings: Value) -> Value {
        if let Some(stored) = self.target.as_ref().or(self.source.as_ref()) {
            return stored.settings.clone();
        }
        let mut settings = settings;
        if !settings.is_object() {
            settings = Value::Object(serde_json::Map::new());
        }
        settings["pair"] = super::process::unique().into();
        settings
    }
}

/// Writes generation 1 of a migration, where the database does not know it yet. The target is written first: a source
/// that knows a migration of which its target knows nothing is then another target's source.
pub async fn write_migration(
    client: &Client,
    schema: &StateSchema,
    name: &MigrationName,
    side: Side,
    settings: &Value,
) -> Result<(), Problem> {
    let sql = format!(
        "INSERT INTO {} (migration, generation, phase, side, settings) \
         VALUES ($1, 1, 'initial', $2, $3::text::jsonb) ON CONFLICT (migration) DO NOTHING",
        schema.table("migration")
    );
    let settings = settings.to_string();
    let written = retry::repeatable(|| async {
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 3] = [&name.as_str(), &side.as_str(), &settings];
        client.execute(&sql, &params).await.map_err(failed("write the migration"))
    });
    written.await.map(drop)
}

fn wrong_side(name: &MigrationName, asked: Side, stored: &str) -> Problem {
    Problem::definite(
        "ST004",
        format!("the database given as {asked} is the {stored} of migration \"{name}\""),
        "--source and --target are always those of the first direction",
        "exchange --source and --target, or give another --name",
    )
}

fn is_over(name: &MigrationName, side: Side) -> Problem {
    Problem::definite(
        "ST008",
        format!("migration \"{name}\" is over"),
        format!("its {side} says that it was finished"),
        format!("let finish remove the rest: tidegate finish --name {name}; or begin anew under another --name"),
    )
}

fn apart(name: &MigrationName, source: i64, target: i64) -> Problem {
    Problem::definite(
        "ST018",
        format!("the two databases of migration \"{name}\" contradict each other"),
        format!("the source says generation {source}, the target {target}, and a turn moves them by one at a time"),
        "one of them was restored from a backup or changed by hand: do not write to either before it is known which one \
         has the newer data",
    )
}

fn strangers(name: &MigrationName) -> Problem {
    Problem::definite(
        "ST007",
        format!("the source and the target belong to two migrations, both named \"{name}\""),
        "each was paired with another database when its migration began",
        "check --source and --target, or give another --name",
    )
}

fn unknown_at_target(name: &MigrationName) -> Problem {
    Problem::definite(
        "ST005",
        format!("the source knows migration \"{name}\", the target does not"),
        "it was begun with another target, or the target's state schema was dropped",
        format!(
            "check --target; to begin anew with this target give another --name, or remove the row of \"{name}\" from \
             the table \"migration\" in the source's state schema, and its slot"
        ),
    )
}

fn unknown_at_source(name: &MigrationName) -> Problem {
    Problem::definite(
        "ST006",
        format!("the target knows migration \"{name}\", the source does not"),
        "it was begun with another source, or the source's state schema was dropped",
        "check --source; going on from another source would lose rows",
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(side: Side, pair: &str) -> Option<MigrationRow> {
        Some(MigrationRow {
            generation: 1,
            phase: "initial".to_owned(),
            turning: None,
            side: side.to_string(),
            settings: json!({ "pair": pair }),
        })
    }

    fn code(source: Option<MigrationRow>, target: Option<MigrationRow>, started: bool) -> Option<&'static str> {
        let name = "orders".parse().unwrap();
        Pair { source, target }.verify(&name, started).err().map(|problem| problem.code)
    }

    #[test]
    fn databases_that_contradict_each_other_are_refused() {
        let (source, target) = (row(Side::Source, "a"), row(Side::Target, "a"));
        assert_eq!(code(None, None, false), None);
        assert_eq!(code(None, target.clone(), false), None);
        assert_eq!(code(source.clone(), target.clone(), true), None);
        assert_eq!(code(target.clone(), source.clone(), true), Some("ST004"));
        assert_eq!(code(source.clone(), None, false), Some("ST005"));
        assert_eq!(code(None, target.clone(), true), Some("ST006"));
        assert_eq!(code(source.clone(), row(Side::Target, "b"), true), Some("ST007"));
        let at = |generation| target.clone().map(|row| MigrationRow { generation, ..row });
        assert_eq!(code(source.clone(), at(2), true), None);
        assert_eq!(code(source.clone(), at(3), true), Some("ST018"));
        let over = target.clone().map(|row| MigrationRow { phase: "final".to_owned(), ..row });
        assert_eq!(code(source, over, true), Some("ST008"));
    }
}
