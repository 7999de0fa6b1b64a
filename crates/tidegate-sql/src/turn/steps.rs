//! The steps of a turn, as they are taken.
//!
//! They are recorded on the side that closes, which is reachable before the turn and after it, and copied to the other
//! side when it is opened: either database alone can tell how the turn went.

use serde_json::Value;
use tidegate_connect::Session;
use tidegate_model::Problem;
use tokio_postgres::types::ToSql;

use super::problem::failed;
use crate::retry;
use crate::state::StateKey;

/// How far a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepState {
    /// It began, and may have had effects.
    Began,
    Done,
    Failed,
    /// Its effects were taken back.
    Undone,
}

impl StepState {
    /// Returns the word that the table uses.
    pub fn as_str(self) -> &'static str {
        match self {
            StepState::Began => "began",
            StepState::Done => "done",
            StepState::Failed => "failed",
            StepState::Undone => "undone",
        }
    }

    fn of(text: &str) -> StepState {
        match text {
            "done" => StepState::Done,
            "failed" => StepState::Failed,
            "undone" => StepState::Undone,
            _ => StepState::Began,
        }
    }
}

/// A step of a turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The turn that it belongs to.
    pub turn: String,
    /// The generation before the turn.
    pub generation: i64,
    /// Its name, unique in the turn.
    pub step: String,
    /// Its place in the turn.
    pub place: i32,
    /// How far it is.
    pub state: StepState,
    /// Since the epoch of 1970, in seconds, by the clock of the database that recorded it; 0 in one to be recorded.
    pub began_at: f64,
    /// The same, once it has ended.
    pub ended_at: Option<f64>,
    /// What it found, or what went wrong.
    pub detail: Value,
}

/// Records a step. The first record of a step says when it began, one with another state than `Began` when it ended.
pub async fn record_step(session: &Session, key: &StateKey, step: &Step) -> Result<(), Problem> {
    let sql = format!(
        "INSERT INTO {} AS s (migration, stream, turn, step, place, generation, state, detail, ended_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb, \
         CASE WHEN $9::bool THEN clock_timestamp() ELSE NULL END) \
         ON CONFLICT (migration, stream, turn, step) DO UPDATE \
         SET state = excluded.state, detail = excluded.detail, ended_at = excluded.ended_at",
        key.table("cutover_step")
    );
    let (migration, stream) = (key.migration.as_str(), key.stream.as_str());
    let (state, detail, ended) = (step.state.as_str(), step.detail.to_string(), step.state != StepState::Began);
    let params: [&(dyn ToSql + Sync); 9] =
        [&migration, &stream, &step.turn, &step.step, &step.place, &step.generation, &state, &detail, &ended];
    retry::repeatable(|| async { session.execute(&sql, &params).await.map_err(failed("record a step")) }).await?;
    Ok(())
}

/// A time as text is exact; a number of seconds is what is shown.
const COLUMNS: &str = "turn, generation, step, place, state, extract(epoch FROM began_at)::float8, \
                       extract(epoch FROM ended_at)::float8, coalesce(detail::text, 'null')";

/// Returns the steps of a turn, in order.
pub async fn read_steps(session: &Session, key: &StateKey, turn: &str) -> Result<Vec<Step>, Problem> {
    let sql = format!(
        "SELECT {COLUMNS} FROM {} WHERE migration = $1 AND stream = $2 AND turn = $3 ORDER BY place, step",
        key.table("cutover_step")
    );
    let (migration, stream) = (key.migration.as_str(), key.stream.as_str());
    let rows = retry::repeatable(|| async {
        session.query(&sql, &[&migration, &stream, &turn]).await.map_err(failed("read its steps"))
    });
    let step = |row: &tokio_postgres::Row| Step {
        turn: row.get(0),
        generation: row.get(1),
        step: row.get(2),
        place: row.get(3),
        state: StepState::of(row.get(4)),
        began_at: row.get(5),
        ended_at: row.get(6),
        detail: serde_json::from_str(row.get(7)).unwrap_or(Value::Null),
    };
    Ok(rows.await?.iter().map(step).collect())
}

/// Writes steps with their times into the other database. What is there of them already is replaced.
pub async fn copy_steps(session: &Session, key: &StateKey, steps: &[Step]) -> Result<(), Problem> {
    let sql = format!(
        "INSERT INTO {} AS s (migration, stream, turn, step, place, generation, state, detail, began_at, ended_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb, to_timestamp($9::float8), to_timestamp($10::float8)) \
         ON CONFLICT (migration, stream, turn, step) DO UPDATE \
         SET state = excluded.state, detail = excluded.detail, began_at = excluded.began_at, \
         ended_at = excluded.ended_at",
        key.table("cutover_step")
    );
    let (migration, stream) = (key.migration.as_str(), key.stream.as_str());
    for step in steps {
        let (state, detail) = (step.state.as_str(), step.detail.to_string());
        let params: [&(dyn ToSql + Sync); 10] = [
            &migration,
            &stream,
            &step.turn,
            &step.step,
            &step.place,
            &step.generation,
            &state,
            &detail,
            &step.began_at,
            &step.ended_at,
        ];
        retry::repeatable(|| async { session.execute(&sql, &params).await.map_err(failed("copy a step")) }).await?;
    }
    Ok(())
}
