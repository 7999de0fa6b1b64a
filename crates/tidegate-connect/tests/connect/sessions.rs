//! SQL sessions: their settings, their end.

use std::time::Duration;

use tidegate_connect::{describe_sql_error, is_transient};
use tokio::time::timeout;

use crate::fixture::{SERVER, connect, connect_replication, settings};

/// What roles and databases may set and what both kinds of session must not see.
const ODD_SETTINGS: &[(&str, &str, &str)] = &[
    ("statement_timeout", "1s", "0"),
    ("lock_timeout", "1s", "0"),
    ("idle_in_transaction_session_timeout", "1s", "0"),
    ("idle_session_timeout", "1s", "0"),
    ("datestyle", "SQL, DMY", "ISO, MDY"),
    ("intervalstyle", "iso_8601", "postgres"),
    ("timezone", "Asia/Tokyo", "UTC"),
    ("extra_float_digits", "-15", "3"),
    ("bytea_output", "escape", "hex"),
    ("search_path", "public, elsewhere", ""),
    ("row_security", "on", "off"),
    ("xmloption", "document", "content"),
    ("standard_conforming_strings", "off", "on"),
    ("client_encoding", "LATIN1", "UTF8"),
    ("array_nulls", "off", "on"),
    ("default_transaction_isolation", "serializable", "read committed"),
    ("default_transaction_deferrable", "on", "off"),
];

/// What only sessions that write set.
const ODD_WRITER_SETTINGS: &[(&str, &str, &str)] =
    &[("default_transaction_read_only", "on", "off"), ("synchronous_commit", "off", "on")];

#[tokio::test]
async fn settings_of_roles_and_databases_are_neutralised() {
    SERVER.create_database("odd").unwrap();
    let mut sql = String::new();
    for (name, odd, _) in ODD_SETTINGS.iter().chain(ODD_WRITER_SETTINGS) {
        let odd = if *name == "search_path" { (*odd).to_owned() } else { format!("'{odd}'") };
        sql.push_str(&format!("ALTER ROLE odd_user SET {name} = {odd}; ALTER DATABASE odd SET {name} = {odd};"));
        sql.push_str(&format!("ALTER ROLE odd_user IN DATABASE odd SET {name} = {odd};"));
    }
    SERVER.psql("postgres", &sql).unwrap();
    // A serializable transaction that may write: a deferrable one would wait for its end before it reads anything.
    let open = connect(&settings("dbname=odd")).await.unwrap();
    open.batch_execute("BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT pg_catalog.count(*) FROM pg_class").await.unwrap();
    let settings = settings("user=odd_user dbname=odd options='-c statement_timeout=7 -c geqo=off'");
    let session = connect(&settings).await.unwrap();
    let mut replication = connect_replication(&settings).await.unwrap();
    for (name, _, expected) in ODD_SETTINGS {
        let found: String = session.query_one(&format!("SHOW {name}"), &[]).await.unwrap().get(0);
        // A list of one name that is empty, which SET makes of an empty text, names no schema either.
        let found = if found == "\"\"" { String::new() } else { found };
        assert_eq!(found, *expected, "{name} of the SQL session");
        let found = replication.query(&format!("SHOW {name}")).await.unwrap();
        assert_eq!(found, [[Some((*expected).to_owned())]], "{name} of the walsender session");
    }
    for (name, _, expected) in ODD_WRITER_SETTINGS {
        let found: String = session.query_one(&format!("SHOW {name}"), &[]).await.unwrap().get(0);
        assert_eq!(found, *expected, "{name}");
    }
    let found: String = session.query_one("SHOW geqo", &[]).await.unwrap().get(0);
    assert_eq!(found, "off", "the user's own options");
    let found: String = session.query_one("SHOW application_name", &[]).await.unwrap().get(0);
    assert_eq!(found, "tidegate/test/connect");
}

#[tokio::test]
async fn a_statement_can_be_cancelled() {
    for mode in ["disable", "require"] {
        let session = connect(&settings(&format!("sslmode={mode}"))).await.unwrap();
        let pid = session.query_one("SELECT pg_catalog.pg_backend_pid()", &[]).await.unwrap().get::<_, i32>(0);
        let sleep = session.batch_execute("SELECT pg_catalog.pg_sleep(600)");
        let cancel = async {
            until_sleeping(pid).await;
            session.cancel().await.unwrap();
        };
        let (slept, ()) = tokio::join!(sleep, cancel);
        let error = slept.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "57014");
        assert!(!is_transient(&error));
        session.batch_execute("SELECT 1").await.unwrap();
    }
}

async fn until_sleeping(pid: i32) {
    let watcher = connect(&settings("sslmode=disable")).await.unwrap();
    let sql = "SELECT wait_event = 'PgSleep' FROM pg_catalog.pg_stat_activity WHERE pid = $1";
    while watcher.query_one(sql, &[&pid]).await.unwrap().get::<_, Option<bool>>(0) != Some(true) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_session_notices_its_end() {
    let session = connect(&settings("")).await.unwrap();
    let pid = session.query_one("SELECT pg_catalog.pg_backend_pid()", &[]).await.unwrap().get::<_, i32>(0);
    assert!(!session.is_closed());
    let sleep = session.batch_execute("SELECT pg_catalog.pg_sleep(600)");
    let end = async {
        SERVER.psql("postgres", &format!("SELECT pg_terminate_backend({pid})")).unwrap();
        session.closed().await
    };
    let (slept, reason) = tokio::join!(sleep, end);
    let error = slept.unwrap_err();
    assert!(is_transient(&error), "{error:?}");
    assert!(session.is_closed());
    let later = session.batch_execute("SELECT 1").await.unwrap_err();
    assert!(is_transient(&later), "{later:?}, {reason}");
}

#[tokio::test]
async fn a_dropped_session_leaves_no_backend() {
    let session = connect(&settings("")).await.unwrap();
    let pid = session.query_one("SELECT pg_catalog.pg_backend_pid()", &[]).await.unwrap().get::<_, i32>(0);
    drop(session);
    until_gone(pid).await;
    let busy = connect(&settings("")).await.unwrap();
    let pid = busy.query_one("SELECT pg_catalog.pg_backend_pid()", &[]).await.unwrap().get::<_, i32>(0);
    busy.batch_execute("BEGIN").await.unwrap();
    busy.close().await;
    until_gone(pid).await;
}

async fn until_gone(pid: i32) {
    let watcher = connect(&settings("")).await.unwrap();
    let sql = "SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity WHERE pid = $1";
    let gone = async {
        while watcher.query_one(sql, &[&pid]).await.unwrap().get::<_, i64>(0) > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), gone).await.expect("the backend ends");
}

#[tokio::test]
async fn errors_are_told_in_one_line_without_row_values() {
    let session = connect(&settings("")).await.unwrap();
    session.batch_execute("CREATE TEMPORARY TABLE t (id int PRIMARY KEY, secret text NOT NULL)").await.unwrap();
    session.batch_execute("INSERT INTO pg_temp.t VALUES (1, 'x')").await.unwrap();
    for (sql, expected) in [
        ("INSERT INTO pg_temp.t VALUES (1, 'y')", {
            "duplicate key value violates unique constraint \"t_pkey\" (Key (id)=(1) already exists.) [SQLSTATE 23505]"
        }),
        ("INSERT INTO pg_temp.t VALUES (2)", {
            "null value in column \"secret\" of relation \"t\" violates not-null constraint [SQLSTATE 23502]"
        }),
        ("SELECT 'hidden'::int", "invalid input syntax for type integer: \"...\" [SQLSTATE 22P02]"),
    ] {
        let error = session.batch_execute(sql).await.unwrap_err();
        assert_eq!(describe_sql_error(&error), expected);
    }
}
