//! The two databases of a migration, reached.

use std::time::{SystemTime, UNIX_EPOCH};

use tidegate_connect::{Session, Settings};
use tidegate_model::Problem;

use crate::config::Migration;

/// Settings and a session of each end. The sessions ask and prepare; they carry no rows.
#[derive(Debug)]
pub struct Ends {
    pub source: Settings,
    pub target: Settings,
    pub source_session: Session,
    pub target_session: Session,
}

impl Ends {
    /// Reaches both ends, within the connect timeout.
    pub async fn connect(migration: &Migration) -> Result<Ends, Problem> {
        let (source, target) = (migration.source_settings()?, migration.target_settings()?);
        let role = migration.name.application_name("control");
        let (source_session, target_session) = tokio::try_join!(
            async { Session::connect(&source, &role).await.map_err(|problem| of_side("source", problem)) },
            async { Session::connect(&target, &role).await.map_err(|problem| of_side("target", problem)) },
        )?;
        let ends = Ends { source, target, source_session, target_session };
        ends.are_two().await?;
        Ok(ends)
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
        self.source_session.execute("SELECT pg_advisory_lock($1)", &[&key]).await.map_err(failed)?;
        let free = self.target_session.query_one("SELECT pg_try_advisory_lock($1)", &[&key]).await;
        let free: bool = free.map_err(failed)?.get(0);
        for session in [&self.source_session, &self.target_session] {
            session.execute("SELECT pg_advisory_unlock_all()", &[]).await.map_err(failed)?;
        }
        if free {
            return Ok(());
        }
        Err(Problem::definite(
            "MI013",
            "source and target are the same database",
            format!("{} and {} lead to one database", self.source, self.target),
            "give another --target; nothing was changed",
        ))
    }
}

/// Says which end could not be reached.
fn of_side(side: &str, problem: Problem) -> Problem {
    Problem { what: format!("{side}: {}", problem.what), ..problem }
}
