//! The history a stream belongs to, and whether a server still tells the same one.
//!
//! A position means something only within one history. Before anything is written, and on each reconnection, the server
//! is asked who it is; everything that does not fit is refused, with the range that would be lost and the repair
//! command.

mod refusal;

use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use tidegate_connect::Session;
use tidegate_model::{Hlc, MigrationName, Position, Problem, TableName};

use crate::problem::{Asked, QUESTIONS_AT_ONCE, is_past_gc};
use crate::{gc, statement};

/// How far the clocks of a cluster's nodes may differ before it stops them (`--max-offset`, 500 ms), with room: a
/// position this little ahead of the node we ask is no sign of anything.
const CLOCKS_APART_SECONDS: u64 = 5;

/// The history a stream belongs to: stored with its checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The cluster's identifier; `None` where our role may not read it.
    pub cluster: Option<String>,
    /// The database of the tables.
    pub database: String,
}

/// Returns the history that a new stream from this server will belong to.
pub async fn identify(session: &Session) -> Result<History, Problem> {
    if !session.is_cockroach() {
        return Err(refusal::not_cockroach(session.server()));
    }
    let asked = Asked::new("asking the source which database it is");
    let row = session.query_one(statement::DATABASE_AND_ROLE, &[]).await.map_err(|error| asked.sql(error))?;
    Ok(History { cluster: cluster(session).await?, database: row.get(0) })
}

/// Refuses to go on from `at` at a server that tells another history, or that can no longer tell what any of `tables`
/// was after it. Nothing may be written before this has passed.
pub async fn verify(
    session: &Session,
    name: &MigrationName,
    history: &History,
    at: &Position,
    tables: &[TableName],
) -> Result<(), Problem> {
    let found = identify(session).await?;
    if let (Some(stored), Some(found)) = (&history.cluster, &found.cluster)
        && stored != found
    {
        return Err(refusal::another_cluster(stored, found));
    }
    if found.database != history.database {
        return Err(refusal::another_database(history, &found.database));
    }
    let from = resume_after(at)?;
    let now = now(session).await?;
    if from.wall > now.wall.saturating_add(CLOCKS_APART_SECONDS * 1_000_000_000) {
        return Err(refusal::ahead(name, at, now));
    }
    // The server is asked, not its settings: it decides by when it has really collected.
    let probe = async |table: &TableName| session.simple_query(&statement::probe(table, from.min(now))).await;
    let mut probed = stream::iter(tables.iter().map(probe)).buffer_unordered(QUESTIONS_AT_ONCE);
    while let Some(answer) = probed.next().await {
        // Whatever else is wrong with a table, the feed says better.
        if let Err(error) = answer
            && is_past_gc(&error)
        {
            return Err(gc::passed(name, from, &error));
        }
    }
    Ok(())
}

/// Returns the cluster's clock: later than everything that was committed before the question.
pub async fn now(session: &Session) -> Result<Hlc, Problem> {
    let asked = Asked::new("asking for the cluster's clock");
    let row = session.query_one(statement::NOW, &[]).await.map_err(|error| asked.sql(error))?;
    let text: String = row.get(0);
    text.parse().map_err(|_| asked.unexpected(&format!("\"{text}\", which is no timestamp")))
}

/// Returns the time after which everything is wanted again. In the middle of a transaction the whole of it comes again.
pub(crate) fn resume_after(position: &Position) -> Result<Hlc, Problem> {
    let at = position.hlc().ok_or_else(|| refusal::not_a_cockroach_position(position))?;
    Ok(if position.part == 0 { at } else { just_before(at) })
}

fn just_before(at: Hlc) -> Hlc {
    match at.logical.checked_sub(1) {
        Some(logical) => Hlc { logical, ..at },
        None => Hlc { wall: at.wall.saturating_sub(1), logical: i32::MAX.unsigned_abs() },
    }
}

/// Asks for the cluster's identifier; a server that does not tell is no obstacle.
async fn cluster(session: &Session) -> Result<Option<String>, Problem> {
    match session.query_one(statement::CLUSTER_ID, &[]).await {
        Ok(row) => Ok(row.get(0)),
        Err(error) if error.code().is_some() => Ok(None),
        Err(error) => Err(Asked::new("asking for the cluster's identifier").sql(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_the_middle_of_a_transaction_the_whole_of_it_comes_again() {
        let whole = |wall, logical| Position::cockroach(Hlc { wall, logical });
        assert_eq!(resume_after(&whole(7, 3)).unwrap(), Hlc { wall: 7, logical: 3 });
        let part = |wall, logical| Position { part: 9, ..whole(wall, logical) };
        assert_eq!(resume_after(&part(7, 3)).unwrap(), Hlc { wall: 7, logical: 2 });
        let before = resume_after(&part(7, 0)).unwrap();
        assert!(before < Hlc { wall: 7, logical: 0 } && before > Hlc { wall: 6, logical: 0 });
        assert_eq!(before.to_string().parse(), Ok(before));
    }

    #[test]
    fn a_position_of_postgres_is_refused() {
        assert!(resume_after(&Position::postgres(tidegate_model::Lsn(1))).is_err());
    }
}
