//! The two databases of a migration, reached, and the directions between them.

use std::time::{SystemTime, UNIX_EPOCH};

use tidegate_connect::{Session, Settings};
use tidegate_model::{Problem, Stream};
use tidegate_sql::state::{StateKey, StateSchema};

use super::state_key;
use crate::config::Migration;

/// One database: how to reach it, and a session that asks and prepares. It carries no rows.
#[derive(Debug)]
pub struct End {
    pub settings: Settings,
    pub session: Session,
}

impl End {
    async fn connect(settings: Settings, role: &str, side: &str) -> Result<End, Problem> {
        let session = Session::connect(&settings, role).await;
        let session = session.map_err(|problem| Problem { what: format!("{side}: {}", problem.what), ..problem })?;
        Ok(End { settings, session })
    }
}

/// Both databases, by the side that they are on for good.
#[derive(Debug)]
pub struct Ends {
    pub source: End,
    pub target: End,
    /// The schema of the state tables in both.
    pub schema: StateSchema,
}

impl Ends {
    /// Reaches both, within the connect timeout.
    pub async fn connect(migration: &Migration) -> Result<Ends, Problem> {
        let role = migration.name.application_name("control");
        let (source, target) = tokio::try_join!(
            End::connect(migration.source_settings()?, &role, "source"),
            End::connect(migration.target_settings()?, &role, "target"),
        )?;
        let schema = state_key(migration, Stream::Forward)?.schema;
        let ends = Ends { source, target, schema };
        match (ends.source.session.is_cockroach(), ends.target.session.is_cockroach()) {
            (true, true) => Err(both_cockroach(&ends)),
            (false, false) => ends.are_two().await.map(|()| ends),
            _ => Ok(ends),
        }
    }

    /// Refuses one database given as both ends. Addresses say nothing: so one end takes a lock that only a session of the
    /// same database can see.
    async fn are_two(&self) -> Result<(), Problem> {
        let failed = |error: tokio_postgres::Error| {
            let why = tidegate_connect::describe_sql_error(&error);
            let what = "it could not be found out whether source and target are two databases";
            Problem::transient("MI012", what, why, "try again").caused_by(error)
        };
        // Two of us at once must not meet: the process and the moment make the key.
        let moment = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos();
        let key = i64::from(std::process::id()) << 32 | i64::from(moment);
        let (source, target) = (&self.source.session, &self.target.session);
        source.execute("SELECT pg_advisory_lock($1)", &[&key]).await.map_err(failed)?;
        let free = target.query_one("SELECT pg_try_advisory_lock($1)", &[&key]).await;
        let free: bool = free.map_err(failed)?.get(0);
        for session in [source, target] {
            session.execute("SELECT pg_advisory_unlock_all()", &[]).await.map_err(failed)?;
        }
        if free {
            return Ok(());
        }
        Err(Problem::definite(
            "MI013",
            "source and target are the same database",
            format!("{} and {} lead to one database", self.source.settings, self.target.settings),
            "give another --target; nothing was changed",
        ))
    }
}

/// One direction of a migration.
#[derive(Clone, Copy, Debug)]
pub struct Flow<'a> {
    pub migration: &'a Migration,
    pub ends: &'a Ends,
    pub stream: Stream,
}

impl<'a> Flow<'a> {
    /// The database that is read.
    pub fn from(&self) -> &'a End {
        match self.stream {
            Stream::Forward => &self.ends.source,
            Stream::Reverse => &self.ends.target,
        }
    }

    /// The database that is written, which holds the state of the stream.
    pub fn to(&self) -> &'a End {
        match self.stream {
            Stream::Forward => &self.ends.target,
            Stream::Reverse => &self.ends.source,
        }
    }

    /// The name of the stream's rows in the state tables.
    pub fn key(&self) -> Result<StateKey, Problem> {
        state_key(self.migration, self.stream)
    }
}

fn both_cockroach(ends: &Ends) -> Problem {
    Problem::definite(
        "MI016",
        "source and target are both CockroachDB",
        format!("{} and {} both say so", ends.source.settings, ends.target.settings),
        "one of them has to be PostgreSQL: moving between two CockroachDB clusters is theirs to do (backup and restore)",
    )
}
