//! The two databases of a migration, reached.

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
        let (source_session, target_session) =
            tokio::try_join!(Session::connect(&source, &role), Session::connect(&target, &role))?;
        Ok(Ends { source, target, source_session, target_session })
    }
}
