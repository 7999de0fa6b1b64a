//! The writes of a turn. Each is a compare-and-set that may be repeated: an answer that was lost is settled by reading
//! what stands.

use serde_json::Value;
use tidegate_connect::Session;
use tidegate_model::{MigrationName, Problem};
use tokio_postgres::types::ToSql;

use super::Turning;
use super::problem::{failed, moved_on, opened};
use crate::dialect::Dialect;
use crate::retry;
use crate::state::{StateSchema, begin_sql};

/// The write that opens a database.
#[derive(Clone, Debug, PartialEq)]
pub struct Opening {
    /// The turn.
    pub turn: String,
    /// The generation before it.
    pub generation: i64,
    /// The phase from then on.
    pub phase: String,
    /// What whoever goes on from here must know: the position C where the other stream starts, and so on.
    pub record: Value,
}

/// What came of trying to withdraw a turn that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withdrawal {
    /// Nothing was opened, and nothing will be.
    Withdrawn,
    /// The database was opened: the turn has taken place.
    Opened,
}

/// Says on one side that a turn begins; both sides need it, the opening one first. Repeating it changes nothing.
/// `TN002`: another turn is under way, or the generation is another one.
pub async fn begin(
    session: &Session,
    schema: &StateSchema,
    name: &MigrationName,
    generation: i64,
    turn: &str,
) -> Result<(), Problem> {
    let to = Turning::Prepared(turn.to_owned());
    set(session, schema, name, generation, "turning IS NULL OR turning LIKE 'aborted:%' AND turning <> $3", &to, "")
        .await
}

/// Says on the closing side that the opening is about to be sent. From now on it must not be unfenced before the other
/// side was asked. `TN002`: the turn was aborted.
pub async fn send(
    session: &Session,
    schema: &StateSchema,
    name: &MigrationName,
    generation: i64,
    turn: &str,
) -> Result<(), Problem> {
    set(session, schema, name, generation, "turning = $3", &Turning::Sent(turn.to_owned()), &format!("prepared:{turn}"))
        .await
}

/// Gives a turn up on the closing side, before its opening was sent: the other side need not be reachable. Repeating
/// it changes nothing. `TN002` where it was sent: then [`withdraw`] must decide, and `withdrawn` says that it has.
pub async fn abort(
    session: &Session,
    schema: &StateSchema,
    name: &MigrationName,
    generation: i64,
    turn: &str,
    withdrawn: bool,
) -> Result<(), Problem> {
    let when = if withdrawn { "turning = $3 OR turning = replace($3, 'prepared:', 'sent:')" } else { "turning = $3" };
    let from = format!("prepared:{turn}");
    set(session, schema, name, generation, when, &Turning::Aborted(turn.to_owned()), &from).await
}

/// Decides on the opening side that a turn is given up, unless it was opened already. An opening that is still on its
/// way finds nothing to open.
pub async fn withdraw(
    session: &Session,
    schema: &StateSchema,
    name: &MigrationName,
    generation: i64,
    turn: &str,
) -> Result<Withdrawal, Problem> {
    let to = Turning::Aborted(turn.to_owned());
    let from = format!("prepared:{turn}");
    match set(session, schema, name, generation, "turning = $3 OR turning IS NULL", &to, &from).await {
        Ok(()) => Ok(Withdrawal::Withdrawn),
        Err(problem) => match read_turned(session, schema, name).await? {
            Some((at, record)) if at == generation + 1 && record["turn"] == turn => Ok(Withdrawal::Opened),
            Some((at, _)) if at > generation => Err(opened(name)),
            _ => Err(problem),
        },
    }
}

/// Sets `turning` where it is as `when` says, `$3` being `from`.
async fn set(
    session: &Session,
    schema: &StateSchema,
    name: &MigrationName,
    generation: i64,
    when: &str,
    to: &Turning,
    from: &str,
) -> Result<(), Problem> {
    let migration = schema.table("migration");
    let sql = format!("UPDATE {migration} SET turning = $4 WHERE migration = $1 AND generation = $2 AND ({when})");
    let to = to.to_string();
    // A turn that begins may not be one that was aborted: that one's id stands where the others' state does.
    let aborted = format!("aborted:{}", to.split_once(':').map_or("", |(_, turn)| turn));
    let from = if from.is_empty() { aborted.as_str() } else { from };
    let params: [&(dyn ToSql + Sync); 4] = [&name.as_str(), &generation, &from, &to];
    let set = retry::repeatable(|| async { session.execute(&sql, &params).await.map_err(failed("write its state")) });
    if set.await? == 1 {
        return Ok(());
    }
    let sql = format!("SELECT generation, turning FROM {migration} WHERE migration = $1");
    let row = retry::repeatable(|| async {
        session.query_opt(&sql, &[&name.as_str()]).await.map_err(failed("read its state"))
    });
    let Some(row) = row.await? else { return Err(moved_on(name, &to, "nothing about it")) };
    let (at, turning): (i64, Option<String>) = (row.get(0), row.get(1));
    if at == generation && turning.as_ref() == Some(&to) {
        return Ok(());
    }
    let turning = turning.unwrap_or_else(|| "no turn".to_owned());
    Err(moved_on(name, &to, &format!("generation {at}, {turning}")))
}

/// Opens a database: the turn itself. In one transaction the generation grows, the record is written, and a fence that
/// stands here ends. Repeating it changes nothing, also where an earlier answer was lost. `TN002`: the turn was aborted
/// or withdrawn, or another one has taken place.
pub async fn open(
    session: &Session,
    schema: &StateSchema,
    name: &MigrationName,
    opening: &Opening,
) -> Result<(), Problem> {
    let opened = retry::collided(|| async { open_once(session, schema, name, opening).await }).await;
    match opened {
        Ok(true) => Ok(()),
        Ok(false) => settle(session, schema, name, opening, None).await,
        // Whether it took effect is read, never guessed.
        Err(problem) if retry::sqlstate(&problem) == Some(retry::AMBIGUOUS) => {
            settle(session, schema, name, opening, Some(problem)).await
        }
        Err(problem) => Err(problem),
    }
}

async fn settle(
    session: &Session,
    schema: &StateSchema,
    name: &MigrationName,
    opening: &Opening,
    unanswered: Option<Problem>,
) -> Result<(), Problem> {
    match read_turned(session, schema, name).await? {
        Some((at, record)) if at == opening.generation + 1 && record["turn"] == opening.turn.as_str() => Ok(()),
        // It did not take effect, and may still be tried.
        Some((at, _)) if at == opening.generation && unanswered.is_some() => {
            Box::pin(open(session, schema, name, opening)).await
        }
        Some((at, _)) => Err(moved_on(name, &format!("turn {}", opening.turn), &format!("generation {at}"))),
        None => Err(moved_on(name, &format!("turn {}", opening.turn), "nothing about it")),
    }
}

async fn open_once(
    session: &Session,
    schema: &StateSchema,
    name: &MigrationName,
    opening: &Opening,
) -> Result<bool, Problem> {
    let begin = match Dialect::of(session) {
        Dialect::Postgres => format!("{} READ WRITE", begin_sql(Dialect::Postgres)),
        Dialect::Cockroach => begin_sql(Dialect::Cockroach).to_owned(),
    };
    session.batch_execute(&begin).await.map_err(failed("begin"))?;
    let done = match open_in_transaction(session, schema, name, opening).await {
        Ok(true) => session.batch_execute("COMMIT").await.map(|()| true).map_err(failed("open the database")),
        other => other,
    };
    if !matches!(done, Ok(true)) {
        // Its own failure says nothing new: the connection is gone, and the transaction with it.
        let _ = session.batch_execute("ROLLBACK").await;
    }
    done
}

async fn open_in_transaction(
    session: &Session,
    schema: &StateSchema,
    name: &MigrationName,
    opening: &Opening,
) -> Result<bool, Problem> {
    let sql = format!(
        "UPDATE {} SET generation = $2, phase = $3, turning = NULL, turned = $4::text::jsonb \
         WHERE migration = $1 AND generation = $5 AND turning = $6",
        schema.table("migration")
    );
    let (next, record) = (opening.generation + 1, record_of(opening));
    let from = Turning::Prepared(opening.turn.clone()).to_string();
    let params: [&(dyn ToSql + Sync); 6] = [&name.as_str(), &next, &opening.phase, &record, &opening.generation, &from];
    if session.execute(&sql, &params).await.map_err(failed("open the database"))? == 0 {
        return Ok(false);
    }
    let sql = format!("UPDATE {} SET state = 'down' WHERE migration = $1", schema.table("fence"));
    session.execute(&sql, &[&name.as_str()]).await.map_err(failed("end the fence"))?;
    Ok(true)
}

fn record_of(opening: &Opening) -> String {
    let mut record = match &opening.record {
        Value::Object(record) => record.clone(),
        other => serde_json::Map::from_iter([("record".to_owned(), other.clone())]),
    };
    record.insert("turn".to_owned(), opening.turn.as_str().into());
    Value::Object(record).to_string()
}

/// Brings the side that was closed up to the turn. Repeating it changes nothing; a side that is further stays.
pub async fn follow(
    session: &Session,
    schema: &StateSchema,
    name: &MigrationName,
    opening: &Opening,
) -> Result<(), Problem> {
    let sql = format!(
        "UPDATE {} SET generation = $2, phase = $3, turning = NULL, turned = $4::text::jsonb \
         WHERE migration = $1 AND generation < $2",
        schema.table("migration")
    );
    let (next, record) = (opening.generation + 1, record_of(opening));
    let params: [&(dyn ToSql + Sync); 4] = [&name.as_str(), &next, &opening.phase, &record];
    retry::repeatable(|| async { session.execute(&sql, &params).await.map_err(failed("follow it")) }).await?;
    Ok(())
}

/// Reads a side's generation and the record of the turn that led to it (`null` before the first; `turn` is its id).
pub async fn read_turned(
    session: &Session,
    schema: &StateSchema,
    name: &MigrationName,
) -> Result<Option<(i64, Value)>, Problem> {
    let sql = format!("SELECT generation, turned::text FROM {} WHERE migration = $1", schema.table("migration"));
    let row = retry::repeatable(|| async {
        session.query_opt(&sql, &[&name.as_str()]).await.map_err(failed("read its record"))
    });
    Ok(row.await?.map(|row| {
        let record: Option<String> = row.get(1);
        (row.get(0), record.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or(Value::Null))
    }))
}
