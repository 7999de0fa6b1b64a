//! Whoever logs in as our own role: a revoke cannot tell them from the applier.

use tidegate_connect::Session;
use tidegate_model::Problem;

use super::problem::failed;
use crate::retry;

/// Every session of ours says so by its application name.
const OURS: &str = "tidegate/";

const AT_POSTGRES: &str = "
SELECT a.usename::text AS user_name, coalesce(a.application_name, '') AS application_name
FROM pg_catalog.pg_stat_activity a
WHERE a.usename = current_user AND a.datname = current_database() AND a.backend_type = 'client backend'";

/// Everybody may see the sessions of their own role.
const AT_COCKROACH: &str = "SHOW CLUSTER SESSIONS";

/// Returns the application names of sessions of others that use our role.
pub async fn sessions_of_our_role(session: &Session) -> Result<Vec<String>, Problem> {
    let failed = || failed("see who uses our role");
    let sql = if session.is_cockroach() { AT_COCKROACH } else { AT_POSTGRES };
    let me = if session.is_cockroach() { "SELECT current_user::STRING" } else { "SELECT current_user::text" };
    let me = retry::repeatable(|| async { session.query_one(me, &[]).await.map_err(failed()) }).await?;
    let me: &str = me.get(0);
    let rows = retry::repeatable(|| async { session.query(sql, &[]).await.map_err(failed()) }).await?;
    let mut found = Vec::new();
    for row in &rows {
        let text = |column: &str| row.try_get::<_, Option<&str>>(column).map(Option::unwrap_or_default);
        let (user, application) = (text("user_name").map_err(failed())?, text("application_name").map_err(failed())?);
        // CockroachDB's own work has such a name.
        if user == me && !application.starts_with(OURS) && !application.starts_with("$ internal") {
            found.push(if application.is_empty() {
                "(no application_name)".to_owned()
            } else {
                application.to_owned()
            });
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}
