//! The server-side settings of our sessions.
//!
//! A SQL session sends them as its first statement, once it is known who answered: each kind of server refuses settings
//! that it does not know. `SET` beats what `ALTER ROLE ... SET`, `ALTER DATABASE ... SET` and the server's
//! configuration say, and as it takes no snapshot it works under any of them. A walsender session sends them in its
//! startup packet. Each list is one place to leave out what some server does not know.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::server::Server;

type Setting = (&'static str, &'static str);

/// What every session needs for values to mean the same on both sides, and not to be ended by a timeout that was meant
/// for an application.
const EVERY_SESSION: &[Setting] = &[
    // First: from then on it no longer counts for the rest.
    ("statement_timeout", "0"),
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("xmloption", "content"),
    ("standard_conforming_strings", "on"),
    ("array_nulls", "on"),
    // Values of type money are written and read by it.
    ("lc_monetary", "C"),
    ("search_path", ""),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    // An error instead of rows that a policy leaves out.
    ("row_security", "off"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_deferrable", "off"),
];

/// What sessions that write need as well.
const SQL_SESSION: &[Setting] = &[
    ("default_transaction_read_only", "off"),
    // "Committed" must mean durable, or a position would be acknowledged whose rows a crash of the target takes away.
    ("synchronous_commit", "on"),
];

/// Settings that newer servers have, with the first `server_version_num` that knows them.
const NEWER: &[(u32, Setting)] = &[(170_000, ("transaction_timeout", "0"))];

/// What a session at CockroachDB needs. Versions differ in what they know of it.
const COCKROACH: &[Setting] = &[
    ("statement_timeout", "0"),
    ("client_encoding", "UTF8"),
    ("datestyle", "ISO, MDY"),
    ("intervalstyle", "postgres"),
    ("timezone", "UTC"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("standard_conforming_strings", "on"),
    ("lock_timeout", "0"),
    ("transaction_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_in_session_timeout", "0"),
    ("default_transaction_isolation", "serializable"),
    ("default_transaction_read_only", "off"),
    // Reads of the past would miss our own writes.
    ("default_transaction_use_follower_reads", "off"),
    // One message or one COPY takes effect as a whole or not at all.
    ("enable_implicit_transaction_for_batch_statements", "on"),
    ("copy_from_atomic_enabled", "on"),
    // A guard for people at a prompt, which would refuse to empty a table.
    ("sql_safe_updates", "off"),
    ("transaction_rows_written_err", "0"),
];

/// Returns the startup parameters of a walsender session.
pub(crate) fn of_walsender_session() -> &'static [Setting] {
    EVERY_SESSION
}

/// Returns the statements that a walsender session of this version sends once connected, for a startup packet with a
/// setting that the server does not know is refused; empty if there are none.
pub(crate) fn once_connected(server_version: Option<&str>) -> String {
    match Server::of_parameters(None, server_version) {
        Some(Server::Postgres { version_num }) => newer(version_num).map(statement).collect(),
        _ => String::new(),
    }
}

/// Makes a SQL session independent of the settings of role, database and server.
pub(crate) async fn neutralise(client: &Client, server: &Server) -> Result<(), tokio_postgres::Error> {
    let settings = of_sql_session(server);
    let statements: String = settings.iter().map(|&setting| statement(setting)).collect();
    match client.batch_execute(&statements).await {
        Err(error) if server.is_cockroach() && is_unknown(&error) => {}
        decided => return decided,
    }
    for setting in settings {
        match client.batch_execute(&statement(setting)).await {
            Err(error) if is_unknown(&error) => tracing::debug!(setting = setting.0, "the server does not know it"),
            decided => decided?,
        }
    }
    Ok(())
}

/// Returns the statements that make a session independent of the settings of role, database and server, one by one.
pub(crate) fn statements_of(server: &Server) -> Vec<String> {
    of_sql_session(server).into_iter().map(statement).collect()
}

fn of_sql_session(server: &Server) -> Vec<Setting> {
    match server {
        Server::Postgres { version_num } => {
            EVERY_SESSION.iter().chain(SQL_SESSION).copied().chain(newer(*version_num)).collect()
        }
        Server::Cockroach(_) => COCKROACH.to_vec(),
    }
}

fn newer(version_num: u32) -> impl Iterator<Item = Setting> {
    NEWER.iter().filter(move |(since, _)| version_num >= *since).map(|(_, setting)| *setting)
}

/// Returns the statement of one setting. CockroachDB takes no numbers in quotes.
fn statement((name, value): Setting) -> String {
    let is_bare = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    if is_bare { format!("SET {name} = {value};") } else { format!("SET {name} = '{value}';") }
}

fn is_unknown(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::UNDEFINED_OBJECT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_bare_and_the_rest_is_quoted() {
        assert_eq!(statement(("statement_timeout", "0")), "SET statement_timeout = 0;");
        assert_eq!(statement(("DateStyle", "ISO, MDY")), "SET DateStyle = 'ISO, MDY';");
        assert_eq!(statement(("search_path", "")), "SET search_path = '';");
        assert!(EVERY_SESSION.iter().chain(SQL_SESSION).chain(COCKROACH).all(|(_, value)| !value.contains('\'')));
    }

    #[test]
    fn only_newer_servers_get_newer_settings() {
        assert_eq!(once_connected(Some("15.17 (Debian 15.17-0+deb12u1)")), "");
        assert_eq!(once_connected(Some("17beta1")), "SET transaction_timeout = 0;");
        assert_eq!(once_connected(None), "");
        let has =
            |version_num| of_sql_session(&Server::Postgres { version_num }).contains(&("transaction_timeout", "0"));
        assert!(has(170_000) && !has(160_009));
    }
}
