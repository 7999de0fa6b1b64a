//! The target's database as a whole: version, whether it can be written, and what the role may do.

use tidegate_model::{Finding, Problem, Severity};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};

use super::unknown;
use crate::plan::SessionRights;
use crate::server_error;
use crate::state::{Part, StateKey, is_installed};

/// The oldest server that is supported as a target, as `server_version_num`.
const OLDEST_VERSION: i32 = 140_000;

/// Looks at the database.
pub(super) async fn look(client: &Client, key: &StateKey, findings: &mut Vec<Finding>) {
    match version_and_recovery(client).await {
        Ok((version, recovery, read_only)) => {
            if version < OLDEST_VERSION {
                findings.push(too_old(version));
            }
            if recovery || read_only {
                findings.push(not_writable(recovery));
            }
        }
        Err(error) => findings.push(unanswered("CK051", "the target's version cannot be read", error)),
    }
    look_at_state(client, key, findings).await;
}

async fn version_and_recovery(client: &Client) -> Result<(i32, bool, bool), Error> {
    let sql = "SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), \
               current_setting('transaction_read_only')::bool";
    let row = client.query_one(sql, &[]).await?;
    Ok((row.get(0), row.get(1), row.get(2)))
}

/// The state schema must be there and writable, or the role must be able to make it.
pub(super) async fn look_at_state(client: &Client, key: &StateKey, findings: &mut Vec<Finding>) {
    match is_installed(client, &key.schema, Part::Stream).await {
        Ok(true) => return,
        Ok(false) => {}
        Err(problem) if problem.code == "ST001" => {
            let finding = unknown("ST001", "target", &problem);
            findings.push(Finding { severity: Severity::Critical, ..finding });
            return;
        }
        Err(problem) => {
            findings.push(unknown("CK053", "target", &problem));
            return;
        }
    }
    let sql = "SELECT current_user::text, current_database()::text, \
               CASE WHEN n.there = 0 THEN has_database_privilege(current_database(), 'CREATE') \
               ELSE has_schema_privilege($1, 'CREATE') END, n.there = 0 \
               FROM (SELECT count(*) AS there FROM pg_catalog.pg_namespace WHERE nspname = $1) AS n";
    let row = match client.query_one(sql, &[&key.schema.as_str()]).await {
        Ok(row) => row,
        Err(error) => {
            findings.push(unanswered("CK053", "the right to make the state schema cannot be read", error));
            return;
        }
    };
    let (role, database, may, missing): (String, String, bool, bool) = (row.get(0), row.get(1), row.get(2), row.get(3));
    if may {
        return;
    }
    let (role, database) = (crate::quote::identifier(&role), crate::quote::identifier(&database));
    let fix = match missing {
        true => format!(
            "GRANT CREATE ON DATABASE {database} TO {role}; or make it beforehand: \
             CREATE SCHEMA \"{}\" AUTHORIZATION {role}",
            key.schema
        ),
        false => format!("GRANT USAGE, CREATE ON SCHEMA \"{}\" TO {role}", key.schema),
    };
    findings.push(Finding {
        code: "CK053",
        severity: Severity::Critical,
        subject: "target".to_owned(),
        what: format!("the role may not make the state tables in schema \"{}\"", key.schema),
        why: "the checkpoint is kept in the target, in the same transactions as the rows".to_owned(),
        fix,
    });
}

/// Returns the role's name as SQL, for the GRANTs that findings print.
pub(super) async fn role(client: &Client) -> String {
    let row = client.query_one("SELECT quote_ident(current_user)", &[]).await;
    row.map_or_else(|_| "CURRENT_USER".to_owned(), |row| row.get(0))
}

/// Finds out by trying whether the role may turn triggers off; `None` where that could not be found out.
pub(super) async fn rights(client: &Client, findings: &mut Vec<Finding>) -> Option<SessionRights> {
    // In a transaction that is rolled back, so that the session stays what it was.
    let tried = client.batch_execute("BEGIN; SET LOCAL session_replication_role = replica").await;
    let back = client.batch_execute("ROLLBACK").await;
    match tried.and(back) {
        Ok(()) => return Some(SessionRights { foreign_keys_enforced: false }),
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {}
        Err(error) => {
            findings.push(unanswered("CK054", "whether triggers can be turned off cannot be found out", error));
            return None;
        }
    }
    findings.push(Finding {
        code: "CK054",
        severity: Severity::Warning,
        subject: "target".to_owned(),
        what: "the role may not set session_replication_role".to_owned(),
        why: "foreign keys and triggers of the target then work while the stream is applied: it is slower, and those \
              that change rows by themselves are refused"
            .to_owned(),
        fix: grant_set(client).await,
    });
    Some(SessionRights { foreign_keys_enforced: true })
}

/// Returns what gives the right; before 15 only superusers have it.
async fn grant_set(client: &Client) -> String {
    let sql = "SELECT current_setting('server_version_num')::int >= 150000, quote_ident(current_user)";
    match client.query_one(sql, &[]).await {
        Ok(row) if row.get(0) => {
            format!("GRANT SET ON PARAMETER session_replication_role TO {}", row.get::<_, String>(1))
        }
        _ => "connect to the target as a superuser: below PostgreSQL 15 this right cannot be granted".to_owned(),
    }
}

fn too_old(version: i32) -> Finding {
    Finding {
        code: "CK051",
        severity: Severity::Critical,
        subject: "target".to_owned(),
        what: format!("the target runs PostgreSQL {}", version / 10_000),
        why: "targets are supported from PostgreSQL 14 on".to_owned(),
        fix: "upgrade the target".to_owned(),
    }
}

fn not_writable(recovery: bool) -> Finding {
    let why = if recovery { "it is a standby in recovery" } else { "transactions there are read only" };
    Finding {
        code: "CK052",
        severity: Severity::Critical,
        subject: "target".to_owned(),
        what: "the target cannot be written".to_owned(),
        why: why.to_owned(),
        fix: "connect to the primary server".to_owned(),
    }
}

/// Makes the finding of a query that failed.
pub(super) fn unanswered(code: &'static str, what: &str, error: Error) -> Finding {
    let why = server_error::describe(&error);
    unknown(code, "target", &Problem::definite(code, what, why, "see the reason, and run the check again"))
}
