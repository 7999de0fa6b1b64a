//! Sessions of the copy.

use tidegate_connect::{Session, Settings};
use tidegate_model::{MigrationName, Problem};

/// Opens a session that the server ends soon after our process is gone, whatever it is doing: a long scan would
/// otherwise keep its lock on the table until it has something to send.
pub(super) async fn open(settings: &Settings, name: &MigrationName, role: &str) -> Result<Session, Problem> {
    let session = Session::connect(settings, &name.application_name(role)).await?;
    if let Err(error) = session.batch_execute("SET client_connection_check_interval = '1s'").await {
        // Not on every operating system; one that goes on without it only lets others wait longer after a crash.
        tracing::debug!(error = %error, "the server cannot notice closed connections");
    }
    Ok(session)
}
