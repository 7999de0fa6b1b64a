//! The writes of a turn in one database.

use serde_json::Value;
use tidegate_connect::Session;
use tidegate_model::{MigrationName, Problem, Stream};
use tokio_postgres::types::ToSql;

use super::problem::{failed, moved_on};
use super::steps::{Recorded, StepRow, StepState};
use crate::dialect::Dialect;
use crate::retry;
use crate::state::{StateSchema, begin_sql};

/// What one database has written down of a migration's turns.
#[derive(Clone, Copy, Debug)]
pub struct Book<'a> {
    /// A session of the database, used by nobody else meanwhile.
    pub session: &'a Session,
    /// The state schema.
    pub schema: &'a StateSchema,
    /// The migration.
    pub name: &'a MigrationName,
}

/// The write that opens a database.
#[derive(Clone, Debug, PartialEq)]
pub struct Opening {
    /// The turn, and what `turning` says of it once it was refused here.
    pub turn: String,
    /// See above.
    pub refused: String,
    /// The generation before it.
    pub generation: i64,
    /// The phase from then on.
    pub phase: String,
    /// What whoever goes on from here must know.
    pub record: Value,
    /// The stream that the turn drains, and its steps as they stand at the closing side.
    pub recorded: Recorded,
}

/// What `turning` is compared with and becomes.
#[derive(Clone, Copy, Debug)]
struct Change<'a> {
    generation: i64,
    expects: Option<&'a str>,
    to: &'a str,
}

impl Book<'_> {
    /// Sets `turning`, from what was observed, and records steps as planned, the first of them as done where its detail
    /// is given; in one transaction. Repeating it changes nothing. `TN002`: the database has moved on.
    pub async fn begin(
        &self,
        (stream, turn): (Stream, &str),
        generation: i64,
        expects: Option<&str>,
        turning: &str,
        steps: &[&str],
        first_done: Option<&Value>,
    ) -> Result<(), Problem> {
        let change = Change { generation, expects, to: turning };
        let first = self.recorded(turn).await?.map_or(0, |known| known.steps.len());
        let rows: Vec<StepRow> = steps.iter().enumerate().map(|(index, name)| planned(name, first + index)).collect();
        self.transaction(|| async {
            self.change(change).await?;
            for row in &rows {
                self.plan(stream, turn, row).await?;
            }
            match (steps.first(), first_done) {
                (Some(step), Some(detail)) => self.write_step((stream, turn), step, StepState::Done, detail).await,
                _ => Ok(()),
            }
        })
        .await
    }

    /// Sets `turning`, from what was observed. Repeating it changes nothing. `TN002`: the database has moved on.
    pub async fn set(&self, generation: i64, expects: Option<&str>, turning: &str) -> Result<(), Problem> {
        let change = Change { generation, expects, to: turning };
        retry::repeatable(|| self.change(change)).await
    }

    /// Opens the database: the turn itself. In one transaction the generation grows, the record and the steps are
    /// written, and a fence that stands here ends. Repeating it changes nothing. `TN002`: it was refused here, or another
    /// one has taken place.
    pub async fn open(&self, opening: &Opening) -> Result<(), Problem> {
        self.transaction(|| self.open_in_transaction(opening)).await
    }

    /// Brings the side that was closed up to the turn. Repeating it changes nothing; a side that is further stays.
    pub async fn follow(&self, generation: i64, phase: &str, record: &Value) -> Result<(), Problem> {
        let sql = format!(
            "UPDATE {} SET generation = $2, phase = $3, turning = NULL, turned = $4::text::jsonb \
             WHERE migration = $1 AND generation < $2",
            self.schema.table("migration")
        );
        let record = record.to_string();
        let params: [&(dyn ToSql + Sync); 4] = [&self.name.as_str(), &generation, &phase, &record];
        retry::repeatable(|| async { self.session.execute(&sql, &params).await.map_err(failed("follow it")) }).await?;
        Ok(())
    }

    /// Records how far a step is. The first record that it has begun says when, `Done` when it ended.
    pub async fn step(
        &self,
        (stream, turn): (Stream, &str),
        step: &str,
        state: StepState,
        detail: &Value,
    ) -> Result<(), Problem> {
        retry::repeatable(|| self.write_step((stream, turn), step, state, detail)).await
    }

    async fn write_step(
        &self,
        (stream, turn): (Stream, &str),
        step: &str,
        state: StepState,
        detail: &Value,
    ) -> Result<(), Problem> {
        let sql = format!(
            "UPDATE {} SET state = $5, detail = $6::text::jsonb, \
             began_at = CASE WHEN state = 'planned' THEN clock_timestamp() ELSE began_at END, \
             ended_at = CASE WHEN $5 = 'done' THEN clock_timestamp() ELSE NULL END \
             WHERE migration = $1 AND stream = $2 AND turn = $3 AND step = $4",
            self.schema.table("cutover_step")
        );
        let (name, stream, detail) = (self.name.as_str(), stream.as_str(), detail.to_string());
        let params: [&(dyn ToSql + Sync); 6] = [&name, &stream, &turn, &step, &state.as_str(), &detail];
        match self.session.execute(&sql, &params).await.map_err(failed("record a step"))? {
            1 => Ok(()),
            _ => Err(moved_on(self.name, &format!("step {step} of turn {turn}"), "no such step")),
        }
    }

    /// Returns the turn that was begun last here; `None` before the first.
    pub async fn newest(&self) -> Result<Option<Recorded>, Problem> {
        Ok(self.turns().await?.into_iter().max_by_key(|recorded| numbers(&recorded.turn)))
    }

    /// Returns one turn; `None`: there is nothing of it here.
    pub async fn recorded(&self, turn: &str) -> Result<Option<Recorded>, Problem> {
        Ok(self.turns().await?.into_iter().find(|recorded| recorded.turn == turn))
    }

    /// Returns every turn that was begun here.
    pub async fn turns(&self) -> Result<Vec<Recorded>, Problem> {
        let table = self.schema.table("cutover_step");
        let sql = format!(
            "SELECT stream, turn, step, place, state, \
             CASE WHEN state = 'planned' THEN NULL ELSE extract(epoch FROM began_at)::float8 END, \
             extract(epoch FROM ended_at)::float8, coalesce(detail::text, 'null') \
             FROM {table} WHERE migration = $1 ORDER BY generation, turn, place"
        );
        let rows = retry::repeatable(|| async {
            self.session.query(&sql, &[&self.name.as_str()]).await.map_err(failed("read its steps"))
        });
        let mut turns: Vec<Recorded> = Vec::new();
        for row in rows.await? {
            let (stream, turn): (&str, String) = (row.get(0), row.get(1));
            if turns.last().is_none_or(|last| last.turn != turn) {
                let stream = if stream == Stream::Forward.as_str() { Stream::Forward } else { Stream::Reverse };
                turns.push(Recorded { stream, turn, steps: Vec::new() });
            }
            turns.last_mut().expect("one was just pushed").steps.push(StepRow {
                name: row.get(2),
                place: row.get(3),
                state: StepState::of(row.get(4)),
                began_at: row.get(5),
                ended_at: row.get(6),
                detail: serde_json::from_str(row.get(7)).unwrap_or(Value::Null),
            });
        }
        Ok(turns)
    }

    /// Returns the time by the clock that dates the steps, since 1970, in seconds.
    pub async fn now(&self) -> Result<f64, Problem> {
        let sql = "SELECT extract(epoch FROM clock_timestamp())::float8";
        let row =
            retry::repeatable(|| async { self.session.query_one(sql, &[]).await.map_err(failed("ask the time")) });
        Ok(row.await?.get(0))
    }

    /// Returns the record of the turn that led to this side's generation; null before the first.
    pub async fn turned(&self) -> Result<Value, Problem> {
        retry::repeatable(|| self.record()).await
    }

    async fn record(&self) -> Result<Value, Problem> {
        let sql = format!("SELECT turned::text FROM {} WHERE migration = $1", self.schema.table("migration"));
        let row = self.session.query_opt(&sql, &[&self.name.as_str()]).await.map_err(failed("read its record"))?;
        let text: Option<String> = row.and_then(|row| row.get(0));
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or(Value::Null))
    }

    async fn change(&self, change: Change<'_>) -> Result<(), Problem> {
        let migration = self.schema.table("migration");
        let sql = format!(
            "UPDATE {migration} SET turning = $4 \
             WHERE migration = $1 AND generation = $2 AND coalesce(turning, '') = $3"
        );
        let expects = change.expects.unwrap_or_default();
        let params: [&(dyn ToSql + Sync); 4] = [&self.name.as_str(), &change.generation, &expects, &change.to];
        if self.session.execute(&sql, &params).await.map_err(failed("write its state"))? == 1 {
            return Ok(());
        }
        let (generation, turning) = self.stands().await?;
        if generation == change.generation && turning.as_deref() == Some(change.to) {
            return Ok(());
        }
        let turning = turning.unwrap_or_else(|| "no turn".to_owned());
        Err(moved_on(self.name, change.to, &format!("generation {generation}, {turning}")))
    }

    async fn stands(&self) -> Result<(i64, Option<String>), Problem> {
        let sql = format!("SELECT generation, turning FROM {} WHERE migration = $1", self.schema.table("migration"));
        let row = self.session.query_opt(&sql, &[&self.name.as_str()]).await.map_err(failed("read its state"))?;
        let nothing = || moved_on(self.name, "a turn", "nothing about the migration");
        row.map(|row| (row.get(0), row.get(1))).ok_or_else(nothing)
    }

    async fn plan(&self, stream: Stream, turn: &str, row: &StepRow) -> Result<(), Problem> {
        let sql = format!(
            "INSERT INTO {} (migration, stream, turn, step, place, generation, state) \
             VALUES ($1, $2, $3, $4, $5, $6, 'planned') ON CONFLICT DO NOTHING",
            self.schema.table("cutover_step")
        );
        let (name, stream, generation) = (self.name.as_str(), stream.as_str(), numbers(turn).0);
        let params: [&(dyn ToSql + Sync); 6] = [&name, &stream, &turn, &row.name, &row.place, &generation];
        self.session.execute(&sql, &params).await.map(drop).map_err(failed("record its steps"))
    }

    async fn copy(&self, stream: Stream, turn: &str, row: &StepRow) -> Result<(), Problem> {
        let sql = format!(
            "INSERT INTO {} (migration, stream, turn, step, place, generation, state, detail, began_at, ended_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb, \
             to_timestamp($9::float8), to_timestamp($10::float8)) ON CONFLICT DO NOTHING",
            self.schema.table("cutover_step")
        );
        let (name, stream, generation) = (self.name.as_str(), stream.as_str(), numbers(turn).0);
        let (state, detail, began_at) = (row.state.as_str(), row.detail.to_string(), row.began_at.unwrap_or(0.0));
        let params: [&(dyn ToSql + Sync); 10] =
            [&name, &stream, &turn, &row.name, &row.place, &generation, &state, &detail, &began_at, &row.ended_at];
        self.session.execute(&sql, &params).await.map(drop).map_err(failed("copy its steps"))
    }

    async fn open_in_transaction(&self, opening: &Opening) -> Result<(), Problem> {
        let sql = format!(
            "UPDATE {} SET generation = $2, phase = $3, turning = NULL, turned = $4::text::jsonb \
             WHERE migration = $1 AND generation = $5 AND coalesce(turning, '') <> $6",
            self.schema.table("migration")
        );
        let (next, record) = (opening.generation + 1, record_of(opening).to_string());
        let params: [&(dyn ToSql + Sync); 6] =
            [&self.name.as_str(), &next, &opening.phase, &record, &opening.generation, &opening.refused];
        if self.session.execute(&sql, &params).await.map_err(failed("open the database"))? == 0 {
            return self.has_opened(opening).await;
        }
        let sql = format!("UPDATE {} SET state = 'down' WHERE migration = $1", self.schema.table("fence"));
        self.session.execute(&sql, &[&self.name.as_str()]).await.map_err(failed("end the fence"))?;
        for row in &opening.recorded.steps {
            self.copy(opening.recorded.stream, &opening.turn, row).await?;
        }
        Ok(())
    }

    /// An earlier attempt whose answer was lost has opened it, or nobody may any more. Reads without trying again: a
    /// transaction in which a statement collided is run again as a whole.
    async fn has_opened(&self, opening: &Opening) -> Result<(), Problem> {
        let ((generation, turning), record) = (self.stands().await?, self.record().await?);
        if generation == opening.generation + 1 && record["turn"] == opening.turn.as_str() {
            return Ok(());
        }
        let turning = turning.unwrap_or_else(|| "no turn".to_owned());
        let found = format!("generation {generation}, {turning}");
        Err(moved_on(self.name, &format!("turn {}", opening.turn), &found))
    }

    /// Runs a transaction again for as long as it collides or nobody knows how it ended.
    async fn transaction<F>(&self, work: impl Fn() -> F) -> Result<(), Problem>
    where
        F: Future<Output = Result<(), Problem>>,
    {
        let begin = match Dialect::of(self.session) {
            Dialect::Postgres => format!("{} READ WRITE", begin_sql(Dialect::Postgres)),
            Dialect::Cockroach => begin_sql(Dialect::Cockroach).to_owned(),
        };
        retry::repeatable(|| async {
            self.session.batch_execute(&begin).await.map_err(failed("begin"))?;
            let done = match work().await {
                Ok(()) => self.session.batch_execute("COMMIT").await.map_err(failed("commit")),
                Err(problem) => Err(problem),
            };
            if done.is_err() {
                // Its own failure says nothing new: the connection is gone, and the transaction with it.
                let _ = self.session.batch_execute("ROLLBACK").await;
            }
            done
        })
        .await
    }
}

fn planned(name: &str, place: usize) -> StepRow {
    let place = i32::try_from(place).expect("a turn has few steps");
    StepRow {
        name: name.to_owned(),
        place,
        state: StepState::Planned,
        began_at: None,
        ended_at: None,
        detail: Value::Null,
    }
}

/// The two numbers of a turn's id, which order turns: the generation that it leads to, and the attempt.
fn numbers(turn: &str) -> (i64, i64) {
    let (to, attempt) = turn.split_once('.').unwrap_or((turn, "0"));
    (to.parse().unwrap_or(0), attempt.parse().unwrap_or(0))
}

fn record_of(opening: &Opening) -> Value {
    let mut record = match &opening.record {
        Value::Object(record) => record.clone(),
        other => serde_json::Map::from_iter([("record".to_owned(), other.clone())]),
    };
    record.insert("turn".to_owned(), opening.turn.as_str().into());
    Value::Object(record)
}
