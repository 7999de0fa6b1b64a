//! Making rows of the target what a comparison found at the source.
//!
//! A repair is written while the applier is held, and its transaction begins with the checkpoint: it stands exactly where
//! the comparison looked, or nothing is written. So nothing newer is ever written over, and what the stream brings next
//! finds the rows that it expects. The statements are the applier's own; each raises unless it finds as many rows as
//! were found by the comparison.

use tidegate_connect::{Session, Settings};
use tidegate_model::{Change, Hlc, Lsn, NewRow, OldRow, Position, Problem, TableName, TableRoute};
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use crate::applier::{ApplierConfig, Mark, session};
use crate::dialect::Dialect;
use crate::plan::{self, Plan, Planner, SessionRights, SliceLimit};
use crate::quote;
use crate::retry;
use crate::server_error::{self, DIVISION_BY_ZERO};
use crate::state::Lease;

/// All changes are one plan: whoever calls has bounded them.
const WHOLE: SliceLimit = SliceLimit { bytes: u64::MAX, changes: u64::MAX };

/// A row of a table with a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowOf {
    /// Which of the stream's routes.
    pub route: usize,
    /// The values of the key, in the order of its columns.
    pub key: Vec<String>,
}

/// Writes repairs of the tables of a stream.
#[derive(Debug)]
pub struct Repairer {
    session: Session,
    lease: Lease,
    dialect: Dialect,
    rights: SessionRights,
    routes: Vec<TableRoute>,
    /// Begins a transaction.
    begin: String,
}

impl Repairer {
    /// Connects. `mark`: a stream the other way reads what is written, and is to know that it is ours.
    pub async fn open(
        settings: &Settings,
        lease: &Lease,
        routes: &[TableRoute],
        mark: bool,
    ) -> Result<Repairer, Problem> {
        let session = Session::connect(settings, &lease.key.migration.application_name("repair")).await?;
        let dialect = Dialect::of(&session);
        let config = ApplierConfig::new(settings.clone(), lease.clone());
        let rights = session::set_up(&session, &config, None).await?.rights;
        let mark = (mark && !dialect.is_cockroach()).then(|| Mark::by_message(lease));
        let first = mark.as_ref().and_then(Mark::first_statement).map_or(String::new(), |first| format!("{first}; "));
        let deferred = match rights.foreign_keys_enforced && !dialect.is_cockroach() {
            true => "SET CONSTRAINTS ALL DEFERRED; ",
            false => "",
        };
        let begin = format!("BEGIN READ WRITE; {first}{deferred}");
        Ok(Repairer { session, lease: lease.clone(), dialect, rights, routes: routes.to_vec(), begin })
    }

    /// Returns the version of a row that is there now; `None`: there is none. PostgreSQL only. With `lock` nobody else
    /// changes it before the transaction ends.
    async fn version(&self, row: &RowOf, lock: bool) -> Result<Option<String>, Problem> {
        let map = &self.routes[row.route].map;
        let column = |(place, index): (usize, &usize)| {
            let column = &map.columns[*index];
            format!("t.{} = ${}::text::{}", quote::identifier(&column.target), place + 1, column.target_type)
        };
        let place = map.key.iter().enumerate().map(column).collect::<Vec<_>>().join(" AND ");
        let sql = format!(
            "SELECT t.xmin::text || ' ' || t.ctid::text FROM ONLY {} AS t WHERE {place}{}",
            quote::table(&map.target),
            if lock { " FOR UPDATE" } else { "" }
        );
        let params: Vec<&(dyn ToSql + Sync)> = row.key.iter().map(|value| value as _).collect();
        let found = self.session.query_opt(&sql, &params).await.map_err(|error| refused("look at a row", error))?;
        Ok(found.map(|row| row.get(0)))
    }

    /// Returns the versions of rows as they are now. Whatever changes one of them afterwards changes its version.
    pub async fn versions(&self, rows: &[RowOf]) -> Result<Vec<Option<String>>, Problem> {
        let mut versions = Vec::with_capacity(rows.len());
        for row in rows {
            versions.push(self.version(row, false).await?);
        }
        Ok(versions)
    }

    /// Writes changes as [`write`](Repairer::write) does, but only where these rows still have these versions: else
    /// `RP002`.
    pub async fn write_unchanged(
        &self,
        at: &Position,
        changes: &[Change],
        rows: &[(RowOf, Option<String>)],
    ) -> Result<(), Problem> {
        self.attempt(at, &[self.plan(at, changes.iter().cloned())?], rows).await
    }

    /// Writes changes in one transaction, in which the checkpoint stands at `at`; all of them or none. They are to be
    /// what a comparison at that position found. `RP001`: the target refuses them. `RP002`, which may pass: the
    /// checkpoint or the rows are not what they were. Not to be repeated after a problem without comparing again.
    pub async fn write(&self, at: &Position, changes: &[Change]) -> Result<(), Problem> {
        match self.attempt(at, &[self.plan(at, changes.iter().cloned())?], &[]).await {
            // Values change hands between rows: all go before any of them comes back.
            Err(problem) if retry::sqlstate(&problem) == Some(SqlState::UNIQUE_VIOLATION.code()) => {
                let (removals, arrivals) = apart(changes);
                self.attempt(at, &[self.plan(at, removals)?, self.plan(at, arrivals)?], &[]).await
            }
            done => done,
        }
    }

    fn plan(&self, at: &Position, changes: impl IntoIterator<Item = Change>) -> Result<Plan, Problem> {
        // Whatever the copy of a table has seen, it is to be what it is at the position.
        let beginning = if at.lsn().is_some() {
            Position::postgres(Lsn(0))
        } else {
            Position::cockroach(Hlc { wall: 0, logical: 0 })
        };
        let routes = self.routes.iter().map(|route| TableRoute { from: beginning.clone(), ..route.clone() }).collect();
        let mut planner = Planner::new(routes, self.rights, self.dialect);
        let mut changes = changes.into_iter().map(|change| Ok((at.clone(), change)));
        Ok(planner.slice(&mut changes, WHOLE)?.unwrap_or_default())
    }

    async fn attempt(&self, at: &Position, plans: &[Plan], rows: &[(RowOf, Option<String>)]) -> Result<(), Problem> {
        retry::collided(|| async {
            let done = self.transaction(at, plans, rows).await;
            if done.is_err() {
                // Its own failure says nothing new: the connection is gone, and the transaction with it.
                let _ = self.session.batch_execute("ROLLBACK").await;
            }
            done
        })
        .await
    }

    async fn transaction(
        &self,
        at: &Position,
        plans: &[Plan],
        rows: &[(RowOf, Option<String>)],
    ) -> Result<(), Problem> {
        let begin = format!("{}{}", self.begin, self.lease.guard_at_sql(self.dialect, at));
        self.session.batch_execute(&begin).await.map_err(|error| refused("begin", error))?;
        for (row, version) in rows {
            if self.version(row, true).await? != *version {
                return Err(changed_meanwhile());
            }
        }
        for statement in plans.iter().flat_map(|plan| &plan.statements) {
            let failed = |error| refused(&format!("{} of \"{}\"", statement.operation, statement.table), error);
            let prepared = self.session.prepare(&statement.sql).await.map_err(failed)?;
            self.session.execute_raw(&prepared, &statement.params).await.map_err(failed)?;
        }
        self.session.batch_execute("COMMIT").await.map_err(|error| refused("commit", error))
    }
}

/// Returns the tables of a stream so that each comes after those that it references.
pub fn parents_first(routes: &[TableRoute]) -> Vec<TableName> {
    let ordered = plan::parents_first(routes.to_vec());
    ordered.into_iter().map(|(route, _)| route.map.source.name).collect()
}

/// Takes changes apart into rows that go and rows that come.
fn apart(changes: &[Change]) -> (Vec<Change>, Vec<Change>) {
    let (mut removals, mut arrivals) = (Vec::new(), Vec::new());
    for change in changes {
        match change {
            Change::Update { table, new: NewRow::Full(new), .. } => {
                removals.push(Change::Delete { table: table.clone(), old: OldRow::Key(new.clone()) });
                arrivals.push(Change::Insert { table: table.clone(), new: new.clone() });
            }
            Change::Delete { .. } => removals.push(change.clone()),
            _ => arrivals.push(change.clone()),
        }
    }
    (removals, arrivals)
}

fn changed_meanwhile() -> Problem {
    let (what, why) = ("a row was changed before it could be written", "somebody else has written it meanwhile");
    Problem::transient("RP002", what, why, "nothing was changed; compare again")
}

fn refused(doing: &str, error: Error) -> Problem {
    if error.code().is_some_and(|state| state.code() == DIVISION_BY_ZERO) {
        let what = "the target is not what the comparison has seen any more";
        let why = format!("{doing}: the checkpoint has moved, or somebody else has written the rows");
        let next = "nothing was changed; compare again";
        return Problem::transient("RP002", what, why, next).caused_by(error);
    }
    let next = "see the reason: remove what is in the way, or repair the row by hand; then compare again";
    server_error::problem("RP001", format!("the target could not be repaired: {doing}"), error, next)
}
